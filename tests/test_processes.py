"""Commands in processes of their own, as a user starts them."""

import json
import platform
import re
import subprocess
import sys

import pytest

from tests.jobs import ROOT, on_cpu
from tests.samples import SIZES, save_noise, save_workdir, tiny_parameters


def start(folder, *arguments, code=0):
    """Run Python in a process of its own; return what it prints, and standard error."""
    command = [sys.executable, *map(str, arguments)]
    result = subprocess.run(
        command, cwd=folder, env=on_cpu(folder / "xla"), capture_output=True, text=True, check=False
    )
    assert result.returncode == code, result.stderr
    return result.stdout, result.stderr


def test_help_of_the_module_command(tmp_path):
    out, err = start(tmp_path, "-W", "error", "-m", "msnlan_jax.upscale", "--help")
    assert out.startswith("usage: python -m msnlan_jax.upscale ")
    assert err == ""


KEPT = """
import sys
import numpy as np
from msnlan_jax.runtime import command
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096
if "keep" in sys.argv:
    command.keep_memory()
before = resident()
many = [np.ones(2**20) for _ in range(4)]
del many
print((resident() - before) // 2**20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_freed_memory_is_kept(tmp_path):
    """32 MiB in arrays of 8, each of which would otherwise be mapped apart."""
    assert int(start(tmp_path, "-c", KEPT)[0]) < 16
    assert int(start(tmp_path, "-c", KEPT, "keep")[0]) > 24


IMPORTS = """
import sys
import msnlan_jax
import msnlan_jax.upscale
from msnlan_jax import upscale
assert msnlan_jax.upscale is upscale is msnlan_jax.inference.upscale
loaded = {name.split(".")[0] for name in sys.modules}
print(sorted(loaded & {"tensorflow", "torch", "data", "configs", "ml_collections_config", "tensorboard"}))
"""


def test_the_library_imports_neither_tensorflow_nor_data_nor_torch(tmp_path):
    assert start(tmp_path, "-W", "error", "-c", IMPORTS) == ("[]\n", "")


@pytest.mark.slow
def test_train_then_eval(tmp_path):
    pytest.importorskip("tensorflow")
    save_noise(tmp_path / "photos", {"a.png": (24, 30, 3), "b.png": (32, 24, 3)})
    changes = {
        "model.n_feats": 16,
        "model.n_groups": 2,
        "model.n_blocks": 1,
        "total_steps": 3,
        "batch_size": 2,
        "patch_size": 8,
        "log_every": 2,
        "data.source": "folder",
        "data.dir": "photos",
        "eval.data_dir": "photos",
    }
    flags = [f"--config.{name}={value}" for name, value in changes.items()]
    out, _ = start(tmp_path, ROOT / "train.py", "--config", ROOT / "configs/quickstart.py", "--workdir", "run", *flags)
    assert out.splitlines()[-1] == "finished 3 steps; checkpoints, metrics.jsonl and curves.png are in run"
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], "loss" in line, "psnr" in line) for line in lines] == [
        (2, True, False),
        (3, True, False),
        (3, False, True),
    ]
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (stored["scale"], stored["model"]["n_feats"], stored["data"]["dir"]) == (2, 16, "photos")

    evaluation = ["--weights", "run", "--data_dir", "photos", "--inference", "tile", "--output", "eval"]
    start(tmp_path, ROOT / "eval.py", *evaluation)
    found = json.loads((tmp_path / "eval" / "results.json").read_text())
    assert (found["scale"], found["weights"]) == (2, "run")
    assert found["datasets"]["photos"]["psnr"] == pytest.approx(lines[-1]["psnr"], abs=0.01)


def cut_arrays(workdir):
    for path in (workdir / "checkpoints" / "3" / "params").rglob("d/*"):
        path.write_bytes(path.read_bytes()[:10])


def change_sizes(workdir):
    config = {"scale": 2, "model": SIZES | {"n_feats": 32}}
    (workdir / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("damage", [cut_arrays, change_sizes])
def test_a_damaged_checkpoint_ends_in_one_line(tmp_path, damage):
    damage(save_workdir(tmp_path / "run", (3, tiny_parameters(2), 30.0)))
    out, err = start(
        tmp_path, ROOT / "convert_torch_weights.py", "--input", "run", "--output", "new.safetensors", code=2
    )
    assert re.fullmatch(r"error: .*/run/checkpoints/3: damaged checkpoint: .+\n", err)
    assert out == ""
    assert not (tmp_path / "new.safetensors").exists()
