import argparse
import collections
import datetime
import gzip
import io
import os
import re
import types
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from msnlan_jax import weights
from msnlan_jax.errors import InputError
from msnlan_jax.weights.torch_keys import to_torch
from msnlan_jax.weights.wrappers import flatten, pick
from tests.samples import assert_same_arrays, tiny_config, tiny_parameters

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def values():
    return tiny_parameters(2)


@pytest.fixture(scope="module")
def state(values):
    return tensors(values)


@pytest.fixture(scope="module")
def other():
    """Another network."""
    return tensors(tiny_parameters(2, seed=1))


def tensors(values):
    return {key: torch.from_numpy(value.copy()) for key, value in to_torch(tiny_config(2), values).items()}


def prefixed(prefix, state):
    return {f"{prefix}{key}": value for key, value in state.items()}


EMA = ", the averaged weights, beside params"
SAVED = {
    "module": (lambda s, o: prefixed("module.", s), "keys without module."),
    "compiled": (lambda s, o: prefixed("_orig_mod.", s), "keys without _orig_mod."),
    "both": (lambda s, o: prefixed("module._orig_mod.", s), "keys without _orig_mod., module."),
    "Lightning": (lambda s, o: prefixed("model.", s), "took model"),
    "net_g.module": (lambda s, o: prefixed("net_g.module.", s), "took net_g; keys without module."),
    "one compiled part": (
        lambda s, o: {key.replace("body.0.", "body.0._orig_mod."): value for key, value in s.items()},
        "keys without _orig_mod.",
    ),
    "params": (lambda s, o: {"params": s}, "took params"),
    "params_ema": (lambda s, o: {"params_ema": s}, "took params_ema, the averaged weights"),
    "params and params_ema": (lambda s, o: {"params": o, "params_ema": s}, f"took params_ema{EMA}"),
    "ema": (lambda s, o: {"ema": {"params": s}, "params": o}, f"took ema.params{EMA}"),
    "state_dict_ema": (
        lambda s, o: {"state_dict_ema": s, "state_dict": o, "epoch": 3},
        "took state_dict_ema, the averaged weights, beside state_dict, epoch",
    ),
    "ema_state_dict": (lambda s, o: {"ema_state_dict": s}, "took ema_state_dict, the averaged weights"),
    "trainer": (
        lambda s, o: {"state_dict": prefixed("model.", s), "epoch": 3, "optimizer": {"state": {0: {"step": 1}}}},
        "took state_dict.model, beside epoch, optimizer",
    ),
    "beside a loss": (
        lambda s, o: {"state_dict": prefixed("net.", s) | {"vgg.0.weight": torch.zeros(3)}},
        "took state_dict.net, beside state_dict",
    ),
    "model_state_dict": (lambda s, o: {"model_state_dict": prefixed("module.", s)}, "took model_state_dict; keys with"),
    "GAN": (
        lambda s, o: {"generator": s, "discriminator": {"conv.weight": o["tail.1.bias"]}},
        "took generator, beside",
    ),
    "AveragedModel": (
        lambda s, o: prefixed("module.", s) | {"n_averaged": torch.tensor(5)},
        "the averaged weights of an AveragedModel; keys without module.",
    ),
    "scores and flags": (
        lambda s, o: {
            "state_dict": s,
            "best": np.float64(31.5),
            "args": argparse.Namespace(lr=1e-4),
            "history": np.arange(3),
        },
        "took state_dict, beside best, args, history",
    ),
    "other things of Python's": (
        lambda s, o: {
            "state_dict": s,
            "seen": {1, "x"},
            "value": complex(1, 2),
            "date": datetime.datetime(2024, 1, 2),
            "counts": collections.defaultdict(list, {"a": [1]}),
            "last": collections.deque([1, 2], 3),
            "more": [types.SimpleNamespace(a=1), frozenset([1]), range(3), bytearray(b"x"), b"y", {(1, "x"): 2}],
            "count": collections.Counter("aab"),
        },
        "took state_dict, beside seen, value, date, counts, last, more, …",
    ),
    "swa": (
        lambda s, o: {"model": o, "swa_model": prefixed("module.", s) | {"n_averaged": torch.tensor(5)}},
        "took swa_model, the averaged weights, beside model",
    ),
    "modelEma": (lambda s, o: {"model": o, "modelEma": s}, "took modelEma, the averaged weights, beside model"),
    "MODEL_EMA": (lambda s, o: {"MODEL": o, "MODEL_EMA": s}, "took MODEL_EMA, the averaged weights, beside MODEL"),
    "schema": (lambda s, o: {"schema": s}, "took schema"),
    "averages under other names": (
        lambda s, o: {"state_dict": prefixed("model.", s) | {"model_ema.headbias": o["head.0.bias"]}},
        "took state_dict.model, beside state_dict.model_ema",
    ),
    "optimiser by names": (
        lambda s, o: {"model": s, "optim": {"state": {key: {"exp_avg": o[key], "exp_avg_sq": o[key]} for key in s}}},
        "took model, beside optim",
    ),
    "DeepSpeed": (
        lambda s, o: {"optimizer": {"exp_avg": o, "exp_avg_sq": o}, "module": s, "dp_world_size": 8},
        "took what is in module, beside optimizer, dp_world_size; keys without module.",
    ),
    "tensors of new types": (
        lambda s, o: {
            "state_dict": s,
            "scale": torch.zeros(4, dtype=torch.float8_e4m3fn),
            "palette": torch.zeros(3, 5, dtype=torch.uint16)[:, 1:],
        },
        "took state_dict, beside scale, palette",
    ),
}


@pytest.mark.parametrize("name", SAVED)
def test_what_others_save_is_read_and_said(tmp_path, capsys, values, state, other, name):
    content, note = SAVED[name]
    torch.save(content(state, other), tmp_path / "w.pth")
    assert_same_arrays(weights.read_weights(tmp_path / "w.pth")[1], values)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{tmp_path / 'w.pth'}: {note}")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".pth.tar", ".bin", ".PTH"])
def test_every_suffix(tmp_path, capsys, values, state, suffix):
    torch.save(state, tmp_path / f"w{suffix}")
    assert_same_arrays(weights.read_weights(tmp_path / f"w{suffix}")[1], values)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_another_precision_is_said(tmp_path, capsys, values, state, dtype):
    torch.save({key: value.to(getattr(torch, dtype)) for key, value in state.items()}, tmp_path / "w.pt")
    rounded = {key: value.astype(jnp.dtype(dtype)).astype(np.float32) for key, value in values.items()}
    assert_same_arrays(weights.read_weights(tmp_path / "w.pt")[1], rounded)
    assert capsys.readouterr().out == f"{tmp_path / 'w.pt'}: {dtype} made float32\n"


def test_of_two_networks_none_is_chosen(state, other):
    for content in ({"a": state, "b": other}, {"ema": state, "params_ema": other, "params": other}):
        with pytest.raises(InputError, match=r"^w\.pt: found 2 networks, \w+, \w+, expected one, saved alone$"):
            pick(flatten(content), "w.pt")


def test_a_key_set_twice_is_refused(state):
    with pytest.raises(InputError, match=r"^w\.pt: key module\.head\.0\.bias is set twice"):
        pick(state | {"module.head.0.bias": state["head.0.bias"]}, "w.pt")


def refusal(path):
    with pytest.raises(InputError) as raised:
        weights.read_weights(path)
    assert str(raised.value).startswith(f"{path}: ")
    return str(raised.value).removeprefix(f"{path}: ")


OTHERS = {
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "found a pointer of Git LFS, .*"),
    "HTML": (b"\n<!DOCTYPE html><html>", "found a web page"),
    "gzip": (gzip.compress(b"x"), r"found a packed file \(gzip, .*"),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_what_is_no_checkpoint_is_said_to_be_what_it_is(tmp_path, name, suffix):
    data, said = OTHERS[name]
    (tmp_path / f"w.{suffix}").write_bytes(data)
    kind = "PyTorch checkpoint" if suffix == "pt" else "safetensors file"
    assert re.fullmatch(f"{said}, expected a {kind}", refusal(tmp_path / f"w.{suffix}"))


def test_a_checkpoint_of_the_other_kind_is_said_to_be_that(tmp_path, state):
    torch.save(state, tmp_path / "w.safetensors")
    assert refusal(tmp_path / "w.safetensors").startswith("found a PyTorch checkpoint, expected a safetensors file")
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.write(tmp_path / "w.safetensors", "best.pt")
    assert refusal(tmp_path / "w.pt").startswith("found a zip archive without data.pkl, expected one as torch.save")


def test_a_changed_number_is_found_by_its_checksum(tmp_path, values, state):
    torch.save(state, tmp_path / "w.pt")
    data = bytearray((tmp_path / "w.pt").read_bytes())
    data[data.find(state["head.0.weight"].numpy().tobytes()) + 1] ^= 64
    (tmp_path / "w.pt").write_bytes(data)
    assert re.match("not a readable .*: the checksum of .*/data/.* is not that of", refusal(tmp_path / "w.pt"))
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, tmp_path / "v.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert_same_arrays(weights.read_weights(tmp_path / "v.pt")[1], values)


def test_counters_in_safetensors_are_passed_over(tmp_path, capsys, values, state):
    arrays = {f"model.{key}": value.numpy() for key, value in state.items()} | {"step": np.int64([3])}
    safetensors.numpy.save_file(arrays, tmp_path / "w.safetensors")
    assert_same_arrays(weights.read_weights(tmp_path / "w.safetensors")[1], values)
    assert "took model, beside step" in capsys.readouterr().out
    safetensors.numpy.save_file(arrays | {"model.head.0.bias": np.zeros(16, np.int64)}, tmp_path / "v.safetensors")
    assert refusal(tmp_path / "v.safetensors").startswith("key head.0.bias: found int64, expected float32")


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_a_torchscript_archive_is_told_from_damage(tmp_path):
    module = torch.jit.trace(torch.nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8))
    torch.jit.save(module, tmp_path / "w.pt")
    assert re.match(r"found a TorchScript archive, expected a state_dict, as torch\.save\(", refusal(tmp_path / "w.pt"))


def claim(state, folder, number):
    """Have the first storage of a legacy file claim that it is of another length."""
    buffer = io.BytesIO()
    first = state["head.0.weight"].numel()
    torch.save({"head.0.weight": state["head.0.weight"]}, buffer, _use_new_zipfile_serialization=False)
    data = buffer.getvalue().replace(b"M" + first.to_bytes(2, "little"), b"J" + number.to_bytes(4, "little"), 1)
    (folder / "w.pt").write_bytes(data)


def test_a_claimed_size_is_not_made(tmp_path, state):
    claim(state, tmp_path, 2**31 - 1)
    assert re.match(
        "not a readable .*: its tensors take 8589934588 bytes, and the file has", refusal(tmp_path / "w.pt")
    )
    claim(state, tmp_path, 3)
    assert re.match(
        "not a readable .*: a tensor of shape .* lies in a storage of 3 numbers", refusal(tmp_path / "w.pt")
    )


def test_a_claim_in_another_type_is_not_made(tmp_path):
    data = io.BytesIO()
    torch.save({"x": torch.zeros(3, dtype=torch.uint16)}, data, _use_new_zipfile_serialization=False)
    (tmp_path / "w.pt").write_bytes(data.getvalue().replace(b"uint16", b"uint64"))
    assert re.match(
        "not a readable .*: a tensor of shape .* lies in a storage of 0 numbers", refusal(tmp_path / "w.pt")
    )


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")]
)
def test_a_file_is_not_to_blame_for_the_memory(tmp_path, monkeypatch, state, error):
    def run_out(*arguments, **options):
        raise error

    torch.save(state, tmp_path / "w.pt")
    monkeypatch.setattr(torch, "load", run_out)
    with pytest.raises(MemoryError):
        weights.read_weights(tmp_path / "w.pt")


def test_names_are_told_without_control_characters(tmp_path, capsys, state):
    torch.save({"params": state}, tmp_path / "\x1b[2J.pt")
    weights.read_weights(tmp_path / "\x1b[2J.pt")
    assert "\\x1b[2J.pt: took params" in capsys.readouterr().out


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "w.pt")
    (tmp_path / "v.safetensors").symlink_to("/dev/zero")
    (tmp_path / "u.ckpt").symlink_to("w.pt")
    for name in ("w.pt", "v.safetensors", "u.ckpt"):
        assert refusal(tmp_path / name).startswith("found a pipe, a socket or a device, expected a ")


@pytest.mark.parametrize("length", [0x8080, 0x8B1F, 0x6820])
def test_a_safetensors_file_that_begins_as_other_files_do_is_read(tmp_path, values, length):
    """Its first bytes are a length: here those of a pickle, of gzip, and of a space."""
    weights.write_safetensors(tmp_path / "w.safetensors", tiny_config(2), values)
    data = (tmp_path / "w.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + size].ljust(length)
    assert len(header) == length
    (tmp_path / "w.safetensors").write_bytes(length.to_bytes(8, "little") + header + data[8 + size :])
    assert_same_arrays(weights.read_weights(tmp_path / "w.safetensors")[1], values)
