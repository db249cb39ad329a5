import math

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from msnlan_jax.network.compute import EXACT
from msnlan_jax.network.layers import Conv, pixel_shuffle
from msnlan_jax.network.model import MSNLANConfig
from tests.helpers import (
    PARTS,
    assert_same_run,
    nchw,
    nhwc,
    normal,
    run,
    torch_network,
    torch_run,
)

SMALL = MSNLANConfig(2, n_feats=32, n_groups=2, n_blocks=1)


@pytest.mark.parametrize("factor", [2, 3])
def test_pixel_shuffle_is_pytorchs(factor):
    torch = pytest.importorskip("torch")
    x = normal(0, 2, 5 * factor**2, 3, 4)
    expected = torch.nn.PixelShuffle(factor)(torch.from_numpy(x))
    np.testing.assert_array_equal(nchw(pixel_shuffle(jnp.asarray(nhwc(x)), factor)), expected)


@pytest.mark.parametrize("kernel", [1, 3])
def test_conv_is_initialised_as_in_pytorch(kernel):
    layer = Conv(16, 200, kernel, compute=EXACT, rngs=nnx.Rngs(0))
    bound = 1 / math.sqrt(16 * kernel**2)
    for values in (layer.kernel[...], layer.bias[...]):
        sorted_values = np.sort(values, axis=None)
        assert -bound <= sorted_values[0] <= -0.95 * bound
        assert 0.95 * bound <= sorted_values[-1] <= bound
        # Uniform: the mean of |x| is half the bound, its standard error bound / sqrt(12 n).
        assert abs(np.abs(sorted_values).mean() - bound / 2) <= 4 * bound / math.sqrt(12 * values.size)
    assert not np.array_equal(layer.kernel[0, 0, 0], layer.bias[...])


@pytest.mark.parametrize("kernel", [1, 3])
def test_conv_keeps_the_size(kernel):
    layer = Conv(2, 3, kernel, compute=EXACT, rngs=nnx.Rngs(0))
    assert layer(jnp.zeros((1, 5, 4, 2))).shape == (1, 5, 4, 3)


@pytest.mark.parametrize("name", ["cca", "ca"])
def test_channel_attention_equals_the_reference(name):
    network, parameters = torch_network(SMALL)
    theirs, ours = PARTS[name]
    x, cotangent = normal(0, 2, 32, 7, 5), normal(1, 2, 32, 7, 5)
    assert_same_run(run(SMALL, parameters, ours, x, cotangent), torch_run(network, theirs, x, cotangent))


@pytest.mark.parametrize("constant", [0.0, 0.1, 255.0])
def test_contrast_attention_at_zero_variance(constant):
    network, parameters = torch_network(SMALL)
    theirs, ours = PARTS["cca"]
    x, cotangent = normal(0, 2, 32, 4, 4), normal(1, 2, 32, 4, 4)
    x[:, ::2] = constant
    found, expected = run(SMALL, parameters, ours, x, cotangent), torch_run(network, theirs, x, cotangent)
    # The reference's plain root makes NaN gradients of the constant channels, and only of those.
    assert np.isnan(expected.grad_x[:, ::2]).all()
    assert np.isfinite(found.grad_x).all()
    varying = [run._replace(grad_x=run.grad_x[:, 1::2]) for run in (found, expected)]
    assert_same_run(*varying)
