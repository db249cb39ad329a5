"""`convert_torch_weights.py`, there and back."""

import numpy as np
import pytest

from msnlan_jax.weights.torch_keys import to_torch
from tests.samples import tiny_config, tiny_parameters


@pytest.mark.parametrize("scale", [2, 4])
def test_convert_and_back(invoke, tmp_path, scale):
    torch = pytest.importorskip("torch")
    state = to_torch(tiny_config(scale), tiny_parameters(scale))
    torch.save({f"module.{key}": torch.from_numpy(value.copy()) for key, value in state.items()}, tmp_path / "a.pt")
    result = invoke("convert_torch_weights", "--input", "a.pt", "--output", "new/b.safetensors")
    assert result.code == 0
    assert result.out.startswith(f"a.pt: keys without module.\na.pt -> new/b.safetensors: ×{scale}, C=16, G=2, N=1, ")
    count = int(result.out.split()[-2].replace(",", ""))
    assert count == sum(value.size for key, value in state.items() if not key.endswith("escape_NaN"))
    assert invoke("convert_torch_weights", "--to_torch", "--input", "new/b.safetensors", "--output", "c.pt").code == 0
    found = torch.load(tmp_path / "c.pt", weights_only=True)
    assert list(found) == list(state)
    for key, value in state.items():
        np.testing.assert_array_equal(found[key].numpy(), value)
