"""Features in the kernels' layout, which the network's layers take as they take plain ones."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from msnlan_jax.network.kernels import chip
from msnlan_jax.network.kernels.trunk.backward import working_bytes
from msnlan_jax.network.kernels.trunk.forms import GroupWeights
from msnlan_jax.network.kernels.trunk.group import residual_group
from msnlan_jax.network.kernels.trunk.packing import CHANNELS, Packing
from msnlan_jax.network.kernels.trunk.products import to_both, to_diagonal


@functools.partial(jax.tree_util.register_dataclass, data_fields=["array"], meta_fields=["packing"])
@dataclasses.dataclass(frozen=True)
class Packed:
    """Feature maps of 64 channels, or several behind one another, packed for kernels.

    Attributes:
        array: `[tiles, rows, pairs, sublanes, n·lanes]`.
        packing: how.
    """

    array: Array
    packing: Packing

    @classmethod
    def pack(cls, x: Float[Array, "b h w c"]) -> "Packed":
        """Pack plain feature maps."""
        packing = _choose_packing(x)
        return cls(packing.pack(x), packing)

    def unpack(self) -> Float[Array, "b h w c"]:
        """Return plain feature maps."""
        return self.packing.unpack(self.array)

    @classmethod
    def concat(cls, parts: "Sequence[Packed]") -> "Packed":
        """Put the channels of feature maps behind one another."""
        return cls(jnp.concatenate([part.array for part in parts], -1), parts[0].packing)

    def convolve(self, kernel: Float[Array, "1 1 n_c c"], bias: Float[Array, " c"], precision: str) -> "Packed":
        """Return a 1×1 convolution; what lies in the padding means nothing."""
        dtype = self.array.dtype
        matrix, added = to_diagonal(kernel[0, 0]).astype(dtype), to_both(bias).astype(dtype)
        return Packed(jnp.matmul(self.array, matrix, precision=precision) + added, self.packing)

    def residual_group(self, weights: GroupWeights) -> "Packed":
        """Return a residual group's output."""
        products = chip.products_dtype(self.array.dtype)
        return Packed(residual_group(self.packing, products, self.array, weights), self.packing)


def can_pack(x: Float[Array, "b h w c"]) -> bool:
    """Whether there are kernels for such features, which fit into the chip's fast memory."""
    if x.shape[-1] != CHANNELS:
        return False
    needed = working_bytes(_choose_packing(x), x.dtype, chip.products_dtype(x.dtype))
    return needed <= chip.usable_bytes()


def _choose_packing(x: Float[Array, "b h w c"]) -> Packing:
    batch, height, width, _ = x.shape
    return Packing(batch, height, width, chip.cores())
