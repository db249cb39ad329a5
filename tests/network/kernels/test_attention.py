import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from msnlan_jax.network.attention import patch_attention
from msnlan_jax.network.kernels import chip
from msnlan_jax.network.kernels.attention import fits
from msnlan_jax.network.kernels.attention.calls import Manner
from tests.helpers import normal, relative_l2

TOLERANCE = 1e-5


def inputs(k, b, h, w, d=4, c=6):
    """Query, key, value and the output's cotangent, with a softmax neither flat nor one-hot."""
    hk, wk = h + k - 3, w + k - 3
    arrays = 0.2 * normal(0, b, h, w, d), normal(1, b, hk, wk, d), normal(2, b, hk, wk, c), normal(3, b, h, w, c)
    return tuple(map(jnp.asarray, arrays))


def run(form, k, query, key, value, cotangent, size=None):
    """The output, and the gradients of query, key and value."""
    attend = functools.partial(patch_attention, kernel_size=k, form=form, size=size, precision="highest")
    y, vjp = jax.vjp(attend, query, key, value)
    return y, *vjp(cotangent)


with_gradients = jax.jit(run, static_argnums=(0, 1))


def errors(found, expected):
    return [relative_l2(np.asarray(x, np.float32), y) for x, y in zip(found, expected, strict=True)]


# Two blocks of rows or one; rows of keys that fill half a tile, a tile and more than one.
@pytest.mark.parametrize(("k", "b", "h", "w"), [(3, 3, 9, 7), (7, 1, 13, 17), (5, 1, 2, 62), (3, 1, 2, 130)])
def test_kernels_equal_the_definition_with_gradients(k, b, h, w):
    arrays = inputs(k, b, h, w)
    assert max(errors(with_gradients("fused", k, *arrays), with_gradients("unfold", k, *arrays))) <= TOLERANCE


def test_padding_changes_nothing():
    k, h, w = 5, 4, 5
    arrays = inputs(k, 1, h, w)
    padded = [jnp.pad(x, ((0, 0), (0, 2), (0, 3), (0, 0))) for x in arrays]
    found = with_gradients("fused", k, *padded, jnp.array([[h, w]]))
    assert not found[0][:, h:].any()
    assert not found[0][:, :, w:].any()
    expected = with_gradients("unfold", k, *arrays)
    found = [x[:, : y.shape[1], : y.shape[2]] for x, y in zip(found, expected, strict=True)]
    assert max(errors(found, expected)) <= TOLERANCE


def test_bfloat16_is_as_near_as_the_hybrid_forms():
    arrays = inputs(5, 1, 4, 6, 32, 64)
    rounded = [x.astype(jnp.bfloat16) for x in arrays[:3]]
    expected = with_gradients("unfold", 5, *(x.astype(jnp.float32) for x in rounded), arrays[3])
    found, allowed = (errors(with_gradients(form, 5, *rounded, arrays[3]), expected) for form in ("fused", "hybrid"))
    assert all(error <= bound for error, bound in zip(found, allowed, strict=True))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_what_is_made_is_used_while_the_next_is_made(n):
    buffers, used = [None, None], []
    with jax.disable_jit():
        Manner("default", interpret=False).alternate(
            n,
            lambda t, turn: buffers.__setitem__(turn, int(t)),
            lambda t, turn: used.append((int(t), buffers[turn])),
        )
    assert used == [(t, t) for t in range(n)]


def test_kernels_run_sharded():
    arrays = inputs(3, 1, 4, 5)
    mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
    spec = PartitionSpec("data")
    attend = jax.shard_map(
        functools.partial(run, "fused", 3), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
    )
    assert max(errors(jax.jit(attend)(*arrays), with_gradients("unfold", 3, *arrays))) <= TOLERANCE


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_kernels_are_lowered_for_a_tpu(dtype):
    shapes = [jax.ShapeDtypeStruct((2, h, w, f), dtype) for h, w, f in ((17, 33, 32), (19, 35, 32), (19, 35, 64))]

    def loss(*arrays):
        return jnp.sum(patch_attention(*arrays, 5, form="fused", precision="default"))

    with mock.patch("jax.default_backend", return_value="tpu"):
        program = jax.export.export(jax.jit(jax.grad(loss, (0, 1, 2))), platforms=["tpu"])(*shapes)
    assert program.mlir_module().count("tpu_custom_call") == 2


@pytest.mark.parametrize(
    ("size", "k", "d", "megabytes", "expected"),
    [
        (48, 7, 32, 120, True),
        (48, 7, 32, 64, False),
        (48, 5, 32, 64, True),
        (48, 3, 32, 120, True),
        (200, 3, 32, 120, False),
        (8, 3, 4, 120, False),
    ],
)
def test_kernels_say_what_fits(monkeypatch, size, k, d, megabytes, expected):
    monkeypatch.setattr(chip, "fast_memory", lambda: megabytes * 2**20)
    query, value = (jnp.zeros((1, n, n, f), jnp.bfloat16) for n, f in ((size, d), (size + k - 3, 2 * d)))
    assert fits(query, value, k, "default") is expected
