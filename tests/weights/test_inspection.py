import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from msnlan_jax import weights
from msnlan_jax.errors import InputError
from msnlan_jax.network import parameters
from msnlan_jax.runtime import machine
from msnlan_jax.weights import inspection
from msnlan_jax.weights.torch_keys import to_torch
from tests.samples import noise, save_workdir, tiny_config, tiny_parameters

USABLE = "usable: an MSNLAN, ×2, C=16, G=2, N=1, "


@pytest.fixture(scope="module")
def state():
    return to_torch(tiny_config(2), tiny_parameters(2))


def save_pt(path, content, **options):
    torch = pytest.importorskip("torch")
    torch.save(content, path, **options)
    return path


def tensors(state):
    torch = pytest.importorskip("torch")
    return {key: torch.from_numpy(value.copy()) for key, value in state.items()}


def usable(path):
    found = inspection.inspect(path)
    assert found.refusal is None
    return found.lines


def unusable(path, refusal):
    """The lines of a file that cannot be used, for a reason that names it."""
    found = inspection.inspect(path)
    assert re.match(f"{re.escape(str(path))}: {refusal}", found.refusal)
    assert "\n" not in found.refusal
    return found.lines


def test_our_own_files(tmp_path):
    for dtype, stored in (("bfloat16", "BF16"), ("float32", "F32")):
        path = tmp_path / f"{dtype}.safetensors"
        weights.write_safetensors(path, tiny_config(2), tiny_parameters(2), dtype=dtype)
        lines = usable(path)
        assert lines[0] == f"{path}: safetensors, {path.stat().st_size:,} bytes"
        assert lines[1].startswith('metadata msnlan_config: {"scale": 2, ')
        assert re.fullmatch(rf"\d+ tensors \(\d+ {stored}\), [\d,]+ numbers", lines[2])
        assert lines[3].startswith(USABLE)
    assert (tmp_path / "bfloat16.safetensors").stat().st_size < 0.7 * path.stat().st_size


def test_bfloat16_files_round_to_nearest(tmp_path):
    values = tiny_parameters(2)
    weights.write_safetensors(tmp_path / "a.safetensors", tiny_config(2), values, dtype="bfloat16")
    _, found = weights.read_weights(tmp_path / "a.safetensors")
    for key, value in values.items():
        assert np.all(np.abs(found[key] - value) <= np.abs(value) * 2.0**-8)
    with pytest.raises(InputError, match=r"^dtype: found 'int8', expected float32 or bfloat16$"):
        weights.write_safetensors(tmp_path / "b.safetensors", tiny_config(2), values, dtype="int8")


def test_a_file_cut_short_still_says_what_it_was_to_hold(tmp_path):
    path = tmp_path / "a.safetensors"
    weights.write_safetensors(path, tiny_config(2), tiny_parameters(2))
    data = path.read_bytes()
    path.write_bytes(data[:-1000])
    lines = unusable(path, "not a readable safetensors file, damaged or cut short: ")
    assert f"damaged: found {len(data) - 1000:,} bytes, expected {len(data):,} as its header says" in lines


def test_a_folder_that_is_no_workdir_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=r": found no config\.json, expected a training workdir, or a checkpoint file$"
    ):
        inspection.inspect(tmp_path)


@pytest.mark.parametrize("legacy", [False, True])
def test_pytorch_files(tmp_path, state, legacy):
    content = {f"module.{key}": value for key, value in tensors(state).items()}
    path = save_pt(tmp_path / "a.pt", content, _use_new_zipfile_serialization=not legacy)
    lines = usable(path)
    assert f"PyTorch, {'pre-1.6' if legacy else 'zip'} format" in lines[0]
    assert lines[-2] == "keys without module."
    assert lines[-1].startswith(USABLE)


def test_what_is_wrong_with_a_checkpoint_is_listed(tmp_path, state):
    content = tensors(state)
    content["step"] = content.pop("head.0.bias")
    content["tail.1.bias"] = content["tail.1.bias"][:2]
    lines = unusable(save_pt(tmp_path / "a.pt", content), "key head.0.bias is missing")
    assert any(line.startswith("read as an MSNLAN, ×2, C=16") for line in lines)
    assert lines[-3:] == [
        "unknown key step",
        "missing key head.0.bias",
        "key tail.1.bias: found shape (2,), expected (3,)",
    ]


def test_foreign_files_in_clear_lines(tmp_path, state):
    torch = pytest.importorskip("torch")
    nested = {"epoch": 3, "model": {f"conv{i}.weight": torch.zeros(2, 3, dtype=torch.float16) for i in range(12)}}
    lines = unusable(save_pt(tmp_path / "a.pt", nested), "key epoch: found a int, expected a tensor")
    assert "epoch: int" in lines
    assert "12 tensors (12 float16), 72 numbers" in lines
    assert "key model.conv0.weight: 2 × 3" in lines
    assert lines[-1] == "… and 4 more like these"
    path = tmp_path / "b.safetensors"
    path.write_bytes(safetensors.numpy.save({"x": np.zeros(3, np.int64)}))
    assert "1 tensors (1 I64), 3 numbers" in unusable(path, "not an MSNLAN checkpoint: key ")
    path = save_pt(tmp_path / "e.pt", {"x": torch.eye(3).to_sparse()})
    unusable(path, "key x: found a sparse or quantised tensor, expected a dense one")
    for name, content, kind in (
        ("cut.pt", b"PK\x03\x04 and nothing more", "PyTorch checkpoint"),
        ("short.pt", b"\x80\x02", "PyTorch checkpoint"),  # the pre-1.6 format, cut short
        ("c.bin", b"anything at all", "PyTorch checkpoint"),
        ("d.safetensors", header({"__metadata__": 3}), "safetensors file"),
        ("f.safetensors", header({"x": {"dtype": "F32", "shape": ["a"], "data_offsets": [0, 4]}}), "safetensors file"),
        ("g.safetensors", header({"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}), "safetensors file"),
    ):
        (tmp_path / name).write_bytes(content)
        unusable(tmp_path / name, f"not a readable {kind}, damaged or cut short: .")
    with pytest.raises(FileNotFoundError, match=r"none\.pt: no such file or workdir"):
        inspection.inspect(tmp_path / "none.pt")


def header(content):
    """A safetensors file of four bytes that says this of itself."""
    text = json.dumps(content).encode()
    return len(text).to_bytes(8, "little") + text + bytes(4)


def test_what_a_header_claims_is_not_made(tmp_path):
    """Keys and shapes of a network of millions of blocks and channels, in a file of no numbers."""
    for name in ("body.99999998.atten1.x", "body.0.body.99999999.branch1.0.bias", "body." + "9" * 5000 + ".atten1.x"):
        entries = {name: [4], "body.0.body.0.branch1.0.bias": [10**12], "body.1.atten1.x": [4]}
        entries["tail.0.0.weight"] = [4 * 10**12, 10**12, 3, 3]
        content = {key: {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]} for key, shape in entries.items()}
        (tmp_path / "a.safetensors").write_bytes(header(content))
        unusable(tmp_path / "a.safetensors", "not a readable safetensors file")


def test_workdirs(tmp_path):
    lines = usable(save_workdir(tmp_path / "run", (3, tiny_parameters(2), 30.0)))
    assert lines[:3] == [
        f"{tmp_path / 'run'}: training workdir",
        f"config: ×2, {json.dumps({'n_feats': 16, 'n_groups': 2, 'n_blocks': 1})}",
        "checkpoints at steps 3",
    ]
    assert lines[-1].startswith(USABLE)


def test_both_networks_agree_and_a_wrong_one_does_not(tmp_path, state, monkeypatch):
    path = save_pt(tmp_path / "a.pt", tensors(state))
    found = inspection.verify(path, noise(0, 9, 8, 3))
    assert 0 <= found.mean <= found.largest < 1e-2
    assert found.psnr > 90
    monkeypatch.setattr(parameters, "merge", lambda graph, values: lambda x: jnp.zeros((1, 18, 16, 3)))
    wrong = inspection.verify(path, noise(0, 9, 8, 3))
    assert wrong.largest > 10
    assert wrong.psnr < 40


def test_a_picture_too_large_for_pytorch_is_refused(tmp_path, state, monkeypatch):
    path = save_pt(tmp_path / "a.pt", tensors(state))
    monkeypatch.setattr(machine, "free_bytes", lambda: 1e9)
    with pytest.raises(
        InputError, match=r"^--picture: found 120×90 pixels, whose attention takes PyTorch about 1\.[0-9]"
    ):
        inspection.verify(path, noise(0, 90, 120, 3))


def test_verify_and_inspect_as_commands(invoke, tmp_path, state):
    save_pt(tmp_path / "a.pt", tensors(state))
    result = invoke("convert_torch_weights", "--verify", "--input", "a.pt")
    assert (result.code, result.out.startswith("a.pt on a built-in photo, 48×48: here and in PyTorch, ")) == (0, True)
    assert float(re.search(r"differ by (\S+) at most", result.out)[1]) < 1e-2
    result = invoke("convert_torch_weights", "--inspect", "a.pt")
    assert (result.code, result.out.splitlines()[-1].startswith(USABLE)) == (0, True)
    (tmp_path / "cut.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:-5000])
    result = invoke("convert_torch_weights", "--inspect", "cut.pt")
    assert (result.code, result.out) == (
        2,
        f"cut.pt: PyTorch, zip format, {(tmp_path / 'cut.pt').stat().st_size:,} bytes\n",
    )
    assert re.fullmatch(r"error: cut\.pt: not a readable PyTorch checkpoint, damaged or cut short: .+\n", result.err)
    result = invoke("convert_torch_weights", "--input", "a.pt", "--output", "b.safetensors", "--dtype", "bfloat16")
    assert result.code == 0
    assert (tmp_path / "b.safetensors").stat().st_size < 0.7 * (tmp_path / "a.pt").stat().st_size
    for line, message in (
        ("", "the following arguments are required: --input, or --inspect"),
        ("--input a.pt", "the following arguments are required: --output, or --verify"),
        ("--input a.pt --output c.pt --to_torch --dtype bfloat16", "--dtype: found bfloat16 with --to_torch"),
    ):
        result = invoke("convert_torch_weights", *line.split())
        assert (result.code, result.err.startswith(f"error: {message}")) == (2, True)
