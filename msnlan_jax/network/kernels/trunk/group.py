"""A residual group on packed features, with its gradient."""

import functools
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from msnlan_jax.network.kernels import chip
from msnlan_jax.network.kernels.trunk.backward import Gradients, backward
from msnlan_jax.network.kernels.trunk.forms import GroupWeights, backward_forms, forward_forms
from msnlan_jax.network.kernels.trunk.forward import Kept, forward
from msnlan_jax.network.kernels.trunk.packing import CHANNELS, Packing
from msnlan_jax.network.kernels.trunk.products import to_both, to_diagonal, to_tiles

PackedArray = Float[Array, "tiles rows pairs sublanes lanes"]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def residual_group(packing: Packing, products: str, x: PackedArray, weights: GroupWeights) -> PackedArray:
    """Run a residual group (SPEC.md §1) on packed features."""
    return forward(packing, x, forward_forms(weights, products), keeps=False, interpret=chip.interprets())[0]


def _forward(
    packing: Packing, products: str, x: PackedArray, weights: GroupWeights
) -> tuple[PackedArray, tuple[Kept | None, GroupWeights]]:
    out, kept = forward(packing, x, forward_forms(weights, products), keeps=True, interpret=chip.interprets())
    return out, (kept, weights)


def _backward(
    packing: Packing, products: str, residuals: tuple[Kept, GroupWeights], cotangent: PackedArray
) -> tuple[PackedArray, GroupWeights]:
    kept, weights = residuals
    to_input, found = backward(packing, cotangent, kept, backward_forms(weights, products), interpret=chip.interprets())
    return to_input, _fold(found, kept, weights, packing)


residual_group.defvjp(_forward, _backward)


def _fold(found: Gradients, kept: Kept, weights: GroupWeights, packing: Packing) -> GroupWeights:
    """Return the gradients of parameters from those of the matrices that kernels multiply with."""

    def undo(layout: Callable[[Array], Array], gradient: Array, like: Array, *, transposed: bool = True) -> Array:
        total = gradient.sum(0)
        total = total.swapaxes(-1, -2) if transposed else total
        (folded,) = jax.linear_transpose(layout, like)(total)
        return cast(Array, folded)

    def add_pictures(gradient: Array) -> Array:
        return gradient.sum(-2, keepdims=True)

    # What gates are made of is the same in both columns of a pair and in all strips of a picture: one of each.
    to_squeeze, to_excite = (found.gate[:, :, i, : packing.pictures] for i in range(2))
    to_squeeze = to_squeeze[..., : weights.squeeze.shape[-1]]
    to_excite = to_excite[..., :CHANNELS]
    mean, variance = (kept.statistics[:, :, i, : packing.pictures, :CHANNELS] for i in range(2))
    statistic = jnp.sqrt(variance) + mean
    products = functools.partial(jnp.einsum, precision="highest")
    inner = products("tnpc,ncr->tnpr", statistic, weights.squeeze) + weights.squeeze_bias[:, None]
    return GroupWeights(
        undo(to_tiles, found.convs, weights.convs),
        undo(to_both, add_pictures(found.conv_biases), weights.conv_biases, transposed=False),
        undo(to_diagonal, found.fusion, weights.fusion),
        undo(to_both, add_pictures(found.fusion_bias), weights.fusion_bias, transposed=False),
        products("tnpc,tnpr->ncr", statistic, to_squeeze),
        to_squeeze.sum((0, 2)),
        products("tnpr,tnpc->nrc", jnp.maximum(inner, 0), to_excite),
        to_excite.sum((0, 2)),
        undo(to_tiles, found.closing, weights.closing),
        undo(to_both, add_pictures(found.closing_bias), weights.closing_bias, transposed=False),
    )
