"""Convolutions of one picture in strips, against the plain ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from msnlan_jax.network.compute import EXACT, Compute
from msnlan_jax.network.kernels import strips
from msnlan_jax.network.layers import Conv
from tests.helpers import normal

CASES = {(1, 16, 5): 16, (1, 50, 6): 2, (1, 12, 4): 4, (1, 1, 3): 1, (1, 7, 3): 1, (2, 16, 4): 1}


@pytest.mark.parametrize("margin", [0, 2])
@pytest.mark.parametrize("shape", CASES, ids=str)
def test_a_convolution_in_strips_is_the_plain_one_with_every_gradient(shape, margin):
    def run(compute):
        layer = Conv(3, 4, 3, margin=margin, compute=compute, rngs=nnx.Rngs(0))
        graph, values = nnx.split(layer)
        x = jnp.asarray(normal(0, *shape, 3))
        y, vjp = jax.vjp(lambda values, x: nnx.merge(graph, values)(x), values, x)
        return [y, *jax.tree.leaves(vjp(jnp.asarray(normal(1, *y.shape))))]

    in_strips, plain = run(Compute(precision="default", implementation="kernels")), run(EXACT)
    assert len(in_strips) == len(plain) == 4
    for one, other in zip(in_strips, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", CASES, ids=str)
def test_strips_are_equally_high_and_no_more_than_fill_the_sublanes(shape):
    assert strips.count(jnp.zeros((*shape, 1))) == CASES[shape]
