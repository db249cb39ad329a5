import json
import os
import re
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from etils import epath

from msnlan_jax import weights
from msnlan_jax.errors import InputError
from msnlan_jax.network import Compute, parameters
from msnlan_jax.pictures.bicubic import Bicubic
from msnlan_jax.weights import bundled
from msnlan_jax.weights.torch_keys import to_torch
from tests.samples import (
    SIZES,
    assert_same_arrays,
    noise,
    save_workdir,
    snapshot,
    tiny_config,
    tiny_parameters,
)

CONFIG = tiny_config(2)


@pytest.fixture(scope="module")
def values():
    return tiny_parameters(2)


@pytest.fixture(scope="module")
def state(values):
    return to_torch(CONFIG, values)


def save_pt(path, state, **options):
    torch = pytest.importorskip("torch")
    torch.save({key: torch.from_numpy(value.copy()) for key, value in state.items()}, path, **options)
    return path


def save_safetensors(path, arrays, metadata=None):
    path.write_bytes(safetensors.numpy.save(dict(arrays), metadata))
    return path


SOURCES = {
    "zip": lambda folder, values, state: save_pt(folder / "a.pt", state),
    "legacy": lambda folder, values, state: save_pt(folder / "a.pth", state, _use_new_zipfile_serialization=False),
    "module.": lambda folder, values, state: save_pt(folder / "a.pt", {f"module.{k}": v for k, v in state.items()}),
    "torch keys": lambda folder, values, state: save_safetensors(folder / "a.safetensors", state),
    "ours": lambda folder, values, state: save_safetensors(
        folder / "a.safetensors", values, {"msnlan_config": json.dumps({"scale": 2, **SIZES})}
    ),
    "workdir": lambda folder, values, state: save_workdir(folder / "a", (3, values, 30.0)),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same_network(tmp_path, values, state, source):
    path = SOURCES[source](tmp_path, values, state)
    for name in (path, str(path)):
        model = weights.load_model(name, scale=2)
        assert (model.config, model.scale) == (CONFIG, 2)
        assert_same_arrays(parameters.split(model)[1], values)


def test_options_reach_the_network(tmp_path, values):
    path = tmp_path / "a.safetensors"
    weights.write_safetensors(path, CONFIG, values)
    model = weights.load_model(path, dtype="bfloat16", precision="default", attention="box")
    y = model(jnp.asarray(noise(0, 1, 5, 4, 3), jnp.float32))
    assert (y.shape, y.dtype) == ((1, 10, 8, 3), np.float32)
    assert (model.config, model.compute) == (CONFIG, Compute("bfloat16", "default", attention="box"))
    with pytest.raises(InputError, match=r"^dtype: found 'float16', expected"):
        weights.load_model(path, dtype="float16")


def test_bicubic_fits_every_scale():
    assert isinstance(weights.load_model("bicubic", scale=3), Bicubic)
    assert weights.load_model("bicubic").scale == 4


def test_bfloat16_safetensors_are_read_as_float32(tmp_path, values):
    rounded = {key: value.astype(jnp.bfloat16) for key, value in values.items()}
    path = save_safetensors(tmp_path / "a.safetensors", rounded, {"msnlan_config": json.dumps({"scale": 2, **SIZES})})
    assert_same_arrays(weights.read_weights(path)[1], {key: value.astype(np.float32) for key, value in rounded.items()})


def keys_and_bytes(path):
    torch = pytest.importorskip("torch")
    state = torch.load(path, weights_only=True)
    return [(key, str(value.dtype), tuple(value.shape), value.numpy().tobytes()) for key, value in state.items()]


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_conversion_and_back_is_exact(tmp_path, scale, suffix):
    config, values = tiny_config(scale), tiny_parameters(scale, seed=1)
    source = save_pt(tmp_path / "a.pt", to_torch(config, values))
    assert weights.convert(source, tmp_path / "new" / "b.safetensors") == config
    assert_same_arrays(safetensors.numpy.load((tmp_path / "new" / "b.safetensors").read_bytes()), values)
    assert weights.convert(tmp_path / "new" / "b.safetensors", tmp_path / f"c{suffix}", to_torch=True) == config
    assert keys_and_bytes(tmp_path / f"c{suffix}") == keys_and_bytes(source)


@pytest.mark.parametrize("name", ["x2", "x3", "x4", "x4_legacy", "x4_dataparallel"])
def test_recorded_checkpoints_convert_and_come_back(golden, tmp_path, name):
    source, middle, back = golden / f"tiny_{name}.pt", tmp_path / "b.safetensors", tmp_path / "c.pt"
    assert weights.convert(source, middle).scale == int(name[1])
    weights.convert(middle, back, to_torch=True)
    expected = [(key.removeprefix("module."), *rest) for key, *rest in keys_and_bytes(source)]
    assert keys_and_bytes(back) == expected


def refusal(path, error=InputError):
    """The message with which a file is refused: one line that begins with the file's name, and no file made."""
    output = path.parent / "out.safetensors"
    output.write_bytes(b"precious")
    with pytest.raises(error) as raised:
        weights.convert(path, output)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert output.read_bytes() == b"precious"
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("kept", [0.01, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("source", ["zip", "legacy", "torch keys"])
def test_files_cut_short_are_refused(tmp_path, values, state, source, kept):
    path = SOURCES[source](tmp_path, values, state)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    assert re.match("not a readable .*, damaged or cut short: .", refusal(path))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"not weights at all", bytes(64), b"\xff" * 64])
def test_other_content_is_refused(tmp_path, suffix, content):
    if suffix != ".safetensors":
        pytest.importorskip("torch")
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    assert re.match("not a readable .*, damaged or cut short: .", refusal(path))


class Attack:
    """A pickle of it runs a program where it is opened carelessly."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_code_in_a_pickle_does_not_run(tmp_path, zipped, nested):
    torch = pytest.importorskip("torch")
    attack = Attack(tmp_path / "marker")
    content = {"head.0.weight": attack} if nested else attack
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    assert refusal(tmp_path / "a.pt").startswith("refused: it asks to run posix.system, expected tensors only, as ")
    assert not (tmp_path / "marker").exists()


def torch_module():
    return pytest.importorskip("torch").nn.Conv2d(3, 4, 3)


def itself():
    content = {}
    content["a"] = content
    return content


OBJECTS = {
    "list": (lambda tensor: [tensor], "found a list, expected a state_dict"),
    "tensor": (lambda tensor: tensor, "found a Tensor, expected a state_dict"),
    "number": (lambda tensor: {"epoch": 3}, "key epoch: found a int, expected a tensor"),
    "nested": (lambda tensor: {"model": {"head.0.weight": tensor}}, "not an MSNLAN checkpoint: .* found head"),
    "module": (lambda tensor: torch_module(), r"refused: it asks to run torch\.nn\.modules\..*state_dict"),
    "repeated": (lambda tensor: {"head.0.weight": tensor.expand(10**9, 3)}, "key .*: found shape .* too large"),
    "itself": (lambda tensor: itself(), "not a readable .* nested more than 8 deep"),
    "sparse": (lambda tensor: {"x": tensor.to_sparse()}, "key x: found a sparse or quantised tensor"),
    "integers": (lambda tensor: {"head.0.weight": tensor.int()}, "not an MSNLAN checkpoint"),
    "empty": (lambda tensor: {}, "not an MSNLAN checkpoint: .* found no keys"),
    "foreign": (lambda tensor: {"conv.weight": tensor}, r"not an MSNLAN checkpoint: .* found conv\.weight"),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_other_objects_are_refused(tmp_path, name):
    torch = pytest.importorskip("torch")
    content, message = OBJECTS[name]
    torch.save(content(torch.zeros(3)), tmp_path / "a.pt")
    assert re.match(message, refusal(tmp_path / "a.pt"))


KEY = "body.0.body.0.fusion.weight"
DAMAGE = {
    "missing": (lambda state: state.pop(KEY), f"key {KEY} is missing"),
    "unexpected": (lambda state: state.update({"step": np.zeros(1, np.float32)}), "key step is not one of"),
    "misshapen": (lambda state: state.update({KEY: state[KEY][:, 1:]}), rf"key {KEY}: found shape \(16, 47, 1, 1\)"),
    "empty": (lambda state: state.update({KEY: state[KEY][:0]}), rf"key {KEY}: found shape \(0, 48, 1, 1\)"),
    "integers": (
        lambda state: state.update({KEY: state[KEY].astype(np.int32)}),
        f"key {KEY}: found (int32|I32), expected ",
    ),
    "NaN": (lambda state: state.update({KEY: state[KEY] * np.float32(np.nan)}), f"key {KEY} holds NaN"),
    "other mean": (
        lambda state: state.update({"sub_mean.bias": state["sub_mean.bias"] + 1}),
        r"key sub_mean\.bias: found .*, expected the released constant",
    ),
}


@pytest.mark.parametrize("source", ["zip", "legacy", "torch keys"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_checkpoints_are_refused_by_key(tmp_path, values, state, source, damage):
    state, (change, message) = dict(state), DAMAGE[damage]
    change(state)
    assert re.match(message, refusal(SOURCES[source](tmp_path, values, state)))


PATH = "groups_before.0.blocks.0.fusion.kernel"
OWN_DAMAGE = {
    "missing": (lambda values: values.pop(PATH), f"key {PATH} is missing"),
    "unexpected": (lambda values: values.update(step=np.zeros(1, np.float32)), "key step is not one of"),
    "misshapen": (lambda values: values.update({PATH: values[PATH][0]}), f"key {PATH}: found shape"),
    "float16": (
        lambda values: values.update({PATH: values[PATH].astype(np.float16)}),
        f"key {PATH}: found (float16|F16), expected ",
    ),
    "infinite": (
        lambda values: values.update({PATH: values[PATH] * np.float32(np.inf)}),
        f"key {PATH} holds NaN or inf",
    ),
}


@pytest.mark.parametrize("damage", OWN_DAMAGE)
def test_damaged_files_of_ours_are_refused_by_key(tmp_path, values, damage):
    values, (change, message) = dict(values), OWN_DAMAGE[damage]
    change(values)
    weights.write_safetensors(tmp_path / "a.safetensors", CONFIG, values)
    assert re.match(message, refusal(tmp_path / "a.safetensors"))


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ("{", "metadata msnlan_config is not a network's configuration: ."),
        ("[]", "metadata msnlan_config is not a network's configuration: ."),
        ('"x2"', "metadata msnlan_config is not a network's configuration: ."),
        (json.dumps(SIZES), "metadata msnlan_config is not a network's configuration: 'scale'"),
        (json.dumps({"scale": 7, **SIZES}), "metadata msnlan_config is .*: scale: found 7, expected one of 2, 3, 4"),
        (json.dumps({"scale": 2, **SIZES, "n_feats": "16"}), "metadata msnlan_config is .*: n_feats: found '16'"),
        (json.dumps({"scale": 4, **SIZES}), r"key upsampler\.1\.(kernel|bias) is missing .*; its metadata says"),
        (json.dumps({"scale": 2, **SIZES, "n_feats": 32}), "key .*: found shape .*; its metadata says"),
        (json.dumps({"scale": 2, **SIZES, "n_feats": 10**9}), "says it has 1000000000 channels, found no array as"),
        (json.dumps({"scale": 2, **SIZES, "n_blocks": 10**8}), r"says it holds 2 groups of 100000000 blocks, found \d"),
        (json.dumps({"scale": 2, **SIZES, "n_groups": 2 * 10**6}), "says it holds 2000000 groups of 1 blocks, found"),
        ("[" * 99999, "metadata msnlan_config is not a network's configuration: ."),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_damaged_metadata_is_refused(tmp_path, values, stored, message):
    path = save_safetensors(tmp_path / "a.safetensors", values, {"msnlan_config": stored})
    assert re.match(message, refusal(path))


def test_missing_files_and_other_suffixes_are_refused(tmp_path):
    assert re.match("no such file or workdir, nor bundled weights", refusal(tmp_path / "a.pt", FileNotFoundError))
    (tmp_path / "a.onnx").write_bytes(b"?")
    expected = "expected .pt, .pth, .ckpt, .pth.tar, .bin or .safetensors"
    assert refusal(tmp_path / "a.onnx") == f"found suffix '.onnx', {expected}"
    for suffix in (".pt", ".safetensors"):
        (tmp_path / f"a{suffix}").touch()
        assert re.match("found an empty file, expected a ", refusal(tmp_path / f"a{suffix}"))


def test_another_scale_is_refused(tmp_path, values):
    path = tmp_path / "a.safetensors"
    weights.write_safetensors(path, CONFIG, values)
    with pytest.raises(InputError, match=rf"^{path}: found weights for ×2, expected ×4$"):
        weights.load_model(path, scale=4)


@pytest.mark.parametrize(
    ("name", "to_torch", "expected"),
    [("b.pt", False, r"\.safetensors"), ("b", False, r"\.safetensors"), ("b.safetensors", True, r"\.pt or \.pth")],
)
def test_conversion_into_another_suffix_is_refused(tmp_path, values, name, to_torch, expected):
    weights.write_safetensors(tmp_path / "a.safetensors", CONFIG, values)
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match=f"^--output: found .*{name}, expected a name that ends in {expected}$"):
        weights.convert(tmp_path / "a.safetensors", tmp_path / name, to_torch=to_torch)
    assert snapshot(tmp_path) == before


def test_without_pytorch_one_is_told_how_to_get_it(tmp_path, values, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "a.pt").write_bytes(b"?")
    assert "PyTorch files need PyTorch: pip install -e '.[torch]'" in refusal(tmp_path / "a.pt")
    weights.write_safetensors(tmp_path / "a.safetensors", CONFIG, values)
    with pytest.raises(InputError, match=r"b\.pt: PyTorch files need PyTorch"):
        weights.convert(tmp_path / "a.safetensors", tmp_path / "b.pt", to_torch=True)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_weights_that_come_with_the_package(scale, monkeypatch):
    monkeypatch.setattr(bundled, "_FOLDER", epath.Path(bundled.__file__).parent)
    config, values = weights.read_weights(bundled.find("small")[scale])
    assert config.scale == scale
    assert all(np.isfinite(np.asarray(value, np.float32)).all() for value in values.values())
