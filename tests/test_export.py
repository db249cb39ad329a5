import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from msnlan_jax import weights
from msnlan_jax.errors import InputError
from msnlan_jax.export import export, main
from msnlan_jax.pictures.bicubic import Bicubic
from tests.helpers import relative_l2
from tests.samples import noise, tiny_config, tiny_parameters

# What a user of the file has: JAX, and not this package.
LOADER = """
import sys
import traceback
sys.modules["msnlan_jax"] = None
import jax.export
import numpy as np
exported = jax.export.deserialize(open("net.stablehlo", "rb").read())
for name in ("a", "b", "c"):
    np.save(f"{name}_y.npy", exported.call(np.load(f"{name}.npy")))
try:
    exported.call(np.zeros((1, 3, 9, 3), np.float32))
except Exception:
    assert "symbolic shape constraint h >= 4" in traceback.format_exc()
else:
    raise SystemExit("a picture below the least size was taken")
"""
SHAPES = {"a": (1, 7, 9, 3), "b": (3, 12, 8, 3), "c": (1, 4, 4, 3)}


def test_the_file_runs_without_this_package_at_any_size(tmp_path, monkeypatch, capsys):
    from msnlan_jax import export as module

    weights.write_safetensors(tmp_path / "w.safetensors", tiny_config(3), tiny_parameters(3))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["export", "--weights", "w.safetensors", "--output", "net.stablehlo"])
    module.main()
    assert capsys.readouterr().out.startswith("w.safetensors -> net.stablehlo: ×3, ")
    inputs = {name: noise(0, *shape).astype(np.float32) for name, shape in SHAPES.items()}
    for name, x in inputs.items():
        np.save(f"{name}.npy", x)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", LOADER], env=environment | {"JAX_PLATFORMS": "cpu"}, check=True, timeout=300)
    model = weights.load_model("w.safetensors")
    for name, x in inputs.items():
        found = np.load(f"{name}_y.npy")
        assert found.shape == (x.shape[0], 3 * x.shape[1], 3 * x.shape[2], 3)
        assert relative_l2(found, jax.jit(model)(x)) <= 1e-6


def test_bicubic_is_refused():
    with pytest.raises(InputError, match=r"^export: found Bicubic, expected a network"):
        export(Bicubic(2))


@pytest.mark.parametrize(
    ("flags", "found"),
    [(["--weights", "bicubic"], "--weights: found bicubic"), (["--scale", "5"], "--scale: found 5 wi")],
)
def test_what_is_no_network_is_refused_by_its_flag(monkeypatch, capsys, flags, found):
    monkeypatch.setattr(sys, "argv", ["export", *flags, "--output", "new"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert f"error: {found}" in capsys.readouterr().err
