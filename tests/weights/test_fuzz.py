"""Damaged weights by the thousand: `pytest tests/weights/test_fuzz.py --fuzz=10000`."""

import io
import json
import pickle
import random
import shutil
import warnings
import zlib

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from msnlan_jax import weights
from msnlan_jax.network import MSNLANConfig, parameters
from msnlan_jax.weights import inspection
from msnlan_jax.weights.checkpoints import Checkpoints
from msnlan_jax.weights.torch_keys import to_torch
from msnlan_jax.weights.workdir import claim_workdir
from tests import damage, fuzz

SIZES = {"n_feats": 4, "n_groups": 2, "n_blocks": 1}
CONFIG = MSNLANConfig(2, **SIZES)
SEED = 0


@pytest.fixture(scope="module")
def values():
    draw = np.random.default_rng(0)
    _, leaves = parameters.abstract_parameters(CONFIG)
    return {path: draw.uniform(-0.1, 0.1, leaf.shape).astype(np.float32) for path, leaf in leaves.items()}


def pt_bytes(content, **options):
    torch = pytest.importorskip("torch")
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(content, buffer, **options)
    return buffer.getvalue()


def read_or_inspect(path):
    """Read every file, and look into every tenth, which reads it twice more."""
    if zlib.crc32(path.read_bytes()) % 10 == 0:
        inspection.inspect(path)
    weights.read_weights(path)


PICKLE = (damage.change_pickle, damage.change_pickle)
ZIP = (*damage.BYTES, *(damage.in_zip(way, "data.pkl") for way in PICKLE), damage.in_zip(damage.change_text))
HEADER = tuple(damage.in_header(way, 0, 8) for way in (damage.change_json, damage.change_json, damage.change_text))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_damaged_files(tmp_path, values, fuzz_count, kind):
    if kind == "safetensors":
        stored = json.dumps({"scale": 2, **SIZES})
        samples = [safetensors.numpy.save(values, {"msnlan_config": stored})]
        samples += [safetensors.numpy.save(dict(to_torch(CONFIG, values)))]
        path, ways = tmp_path / "w.safetensors", (*damage.BYTES, *HEADER)
    else:
        torch = pytest.importorskip("torch")
        state = {key: torch.from_numpy(value.copy()) for key, value in to_torch(CONFIG, values).items()}
        content = {"params_ema": state, "epoch": 3, "optimizer": {"state": {0: {"step": 7}}}}
        samples = [pt_bytes(it, _use_new_zipfile_serialization=kind == "zip") for it in (state, content)]
        path, ways = tmp_path / "w.pt", ZIP if kind == "zip" else (*damage.BYTES, *PICKLE)
    inputs = damage.damaged(samples, ways, fuzz_count(25), SEED)
    assert fuzz.try_each(inputs, path, read_or_inspect).faults == []


def odd_contents(state, count):
    """Checkpoints that are whole files, of what is no network."""
    torch = pytest.importorskip("torch")
    plain = torch.zeros(4)
    odd = (
        *(None, 3, 2.5, True, "x", b"x", [], (), {}, [plain], {"a": plain}, set(), 10**30, complex(1, 2)),
        *(plain.to_sparse(), torch.zeros(4, device="meta"), torch.zeros(0), torch.tensor(1.0), torch.zeros(4, 0, 3)),
        *(torch.zeros(4, dtype=torch.complex64).conj(), torch.zeros(4, dtype=torch.int64), torch.zeros(4) > 0),
        *(
            torch.full((4,), float("nan")),
            torch.nn.Parameter(plain),
            plain.expand(10**7, 4),
            plain[::2],
            plain.double(),
        ),
        *(torch.full((4,), 1e300, dtype=torch.float64), torch.zeros(1).expand(4, 4, 3, 3), torch.zeros(4).half()),
        *(torch.zeros(4, dtype=torch.float8_e4m3fn), torch.zeros((1,) * 30), np.float64(3), np.zeros(4), torch.float32),
        *(
            torch.Size([3]),
            torch.device("cpu"),
        ),
    )
    names = ("", ".", "x", "\n", "\x1b[31m", "é\ud800", "a" * 10**5, 3, (1, 2), None, "body.99999999.atten1.x", "ema")
    names += ("body.0.body.99999999.branch1.0.bias", "module.", "head.0.weight", "body." + "9" * 5000 + ".atten1.x")
    for number in range(count):
        draw = random.Random(f"{SEED}/{number}")
        content = dict(state)
        for _ in range(draw.choice((1, 1, 2, 30))):
            key = draw.choice(list(content) or [""])
            match draw.randrange(5):
                case 0:
                    content.pop(key, None)
                case 1:
                    content[draw.choice(names)] = content.get(key, draw.choice(odd))
                case 2:
                    content[draw.choice(names)] = draw.choice(odd)
                case _:
                    content[key] = draw.choice(odd)
        for _ in range(draw.choice((0, 0, 1, 2, 12))):
            content = {draw.choice((*names, "params", "params_ema")): content, draw.choice(names): draw.choice(odd)}
        yield pt_bytes(draw.choice((content, content, content, draw.choice(odd))))


@pytest.mark.usefixtures("unchecked")
def test_odd_contents(tmp_path, values, fuzz_count):
    torch = pytest.importorskip("torch")
    state = {key: torch.from_numpy(value.copy()) for key, value in to_torch(CONFIG, values).items()}
    inputs = odd_contents(state, fuzz_count(25))
    assert fuzz.try_each(inputs, tmp_path / "w.pt", read_or_inspect).faults == []


DEEP = b")" + b"\x85" * 100_000  # more than C code can follow
NESTED = {
    "tuples in tuples": DEEP[:2000],
    "tuples that share": b")" + b"q\x09h\x09\x86" * 200,
    "lists in lists": b"]" * 2000 + b"a" * 1999,
}
ORDERED = b"ccollections\nOrderedDict\n"
STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\n%sX\x03\0\0\0cpuK\x01NtQ"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\x00%sK\x01\x85\x89" + ORDERED + b")RtR"
KEY, SHAPE = b"X\x01\0\0\x000", b"K\x01\x85"
# One that is in the next as its hooks.
PARAMETER = b"ctorch._utils\n_rebuild_parameter\n(h\x00\x89h\x01tRq\x01"
BYTES = b"c_codecs\nencode\n%sX\x06\0\0\0latin1\x86R"
PLACES = {
    "in place of all": b"%s.",
    "as a value": b"}K\x01%ss.",
    "as a key": b"}%sK\x01s.",
    "among keys": b"}(%sK\x01K\x02K\x02u.",
    "in a key": b"}%s\x85K\x01s.",
    "in a set": b"}K\x01c__builtin__\nset\n](%se\x85Rs.",
    "in a dictionary": ORDERED + b"]](%sK\x01ea\x85R.",
    "counted": b"}K\x01ccollections\nCounter\n%s\x85Rs.",
    "as a storage": b"}K\x01" + STORAGE + b"s.",
    "as a shape": b"}K\x01" + TENSOR.replace(b"%s", KEY, 1) + b"s.",
    "as hooks": b"}(K\x01" + TENSOR % (KEY, SHAPE) + b"q\0K\x02%sq\x01K\x03" + PARAMETER + b"u.",
    "in sizes": b"}K\x01ctorch\nSize\n%s\x85Rs.",
    "in a sparse tensor": b"}K\x01ctorch._utils\n_rebuild_sparse_tensor\nN%s\x85\x86Rs.",
}


def odd_pickles():
    """Files in the format before PyTorch 1.6, of pickles that no program writes."""
    head = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {}))
    for nested in NESTED.values():
        yield from (head + place % nested + b"]." for place in PLACES.values())
        yield head + b"}.]" + nested + b"a."  # among the names of storages
        yield head + b"}.}" + nested + b"K\x01s."
    yield head + PLACES["as a key"] % DEEP + b"]."
    yield head + b"}.}" + DEEP + b"K\x01s."
    hooks = ORDERED + b")Rq\x01"
    tensor = TENSOR % (KEY, SHAPE) + b"q\0"
    yield head + b"}(K\x01" + tensor + b"K\x02" + hooks + b"K\x03](" + PARAMETER * 20 + b"eu.]."
    hexadecimal = BYTES.replace(b"X\x06\0\0\0latin1", b"X\x03\0\0\0hex")
    text = b"X\x04\0\0\0abcd"
    for _ in range(40):  # each twice as long
        text = hexadecimal % text
    yield head + b"}K\x01" + text + b"s.]."
    yield head + b"}(K\x01X\x50\xc3\0\0" + b"x" * 50_000 + b"q\0K\x02](" + BYTES % b"h\0" * 100_000 + b"eu.]."


@pytest.mark.usefixtures("unchecked")
def test_odd_pickles(tmp_path):
    pytest.importorskip("torch")
    found = fuzz.try_each(odd_pickles(), tmp_path / "w.pt", weights.read_weights)
    assert (found.accepted, found.faults) == (0, [])


@pytest.mark.usefixtures("unchecked")
def test_dictionaries_that_share(tmp_path):
    content = {}
    for _ in range(8):
        content = {str(number) * 190: content for number in range(9)}
    found = fuzz.try_each([pt_bytes(content), pt_bytes({"x": [content]})], tmp_path / "w.pt", read_or_inspect)
    assert (found.accepted, found.faults) == (0, [])


STATE = {"params": {"w": jnp.arange(6.0).reshape(2, 3)}, "opt_state": {"count": jnp.zeros((), int)}}
LIKE = {name: dict(item) for name, item in STATE.items()}


@pytest.mark.usefixtures("unchecked")
def test_damaged_checkpoints(tmp_path, fuzz_count):
    """One file of a checkpoint is damaged: it is read as it was, or passed over for the one before."""
    whole = tmp_path / "whole"
    claim_workdir(whole, {"scale": 2, "model": SIZES})
    checkpoints = Checkpoints(whole)
    for step in (1, 2):
        checkpoints.save(step, STATE)
        checkpoints.add_score(step, 30.0 + step)
    checkpoints.close()
    newest = whole / "checkpoints" / "2"
    targets = sorted(path.relative_to(whole) for path in newest.rglob("*") if path.is_file())
    workdir = tmp_path / "run"

    def restore(path):
        draw = random.Random(path.read_bytes())
        target = workdir / draw.choice(targets)
        shutil.rmtree(workdir, ignore_errors=True)
        shutil.copytree(whole, workdir)
        way = draw.choice((*damage.TEXT, damage.change_json, damage.change_json, lambda draw, data: None))
        if (changed := way(draw, target.read_bytes())) is None:
            target.unlink()
        else:
            target.write_bytes(changed)
        checkpoints = Checkpoints(workdir)
        try:
            step, state = checkpoints.restore_latest(LIKE)
        finally:
            checkpoints.close()
        assert step in (1, 2)
        assert state["params"]["w"].tolist() == STATE["params"]["w"].tolist()

    inputs = (f"{SEED}/{number}".encode() for number in range(fuzz_count(10)))
    assert fuzz.try_each(inputs, tmp_path / "seed", restore).faults == []
