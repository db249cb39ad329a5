"""How a network computes, which no weights file holds: any network may be run in any of these ways."""

import dataclasses

import jax

from msnlan_jax.errors import InputError
from msnlan_jax.network.attention import FORMS

DTYPES = ("float32", "bfloat16")
PRECISIONS = ("default", "high", "highest")
IMPLEMENTATIONS = ("auto", "plain", "kernels")


@dataclasses.dataclass(frozen=True)
class Compute:
    """How a network computes; by default in exact float32, and the rest as it is best here.

    Attributes:
        dtype: of the activations, "float32" or "bfloat16". Parameters are float32.
        precision: of matrix products, "highest" for exact float32 on every backend; "default" is faster on TPU and
            GPU, and there means bf16 or TF32.
        attention: form of the patch attention, "auto", "box", "hybrid", "streamed", "fused" or "unfold".
        score_bytes: how many bytes of attention scores are held at once; None for 256 MiB.
        loops: run a group's blocks as a loop over their stacked parameters, which compiles several times faster, or
            one after the other; None for a loop on accelerators only: gradients of convolutions in a loop are many
            times slower on CPU. Parameters are the same either way.
        remat: compute a block's inner activations anew for the gradient, for less memory; None for on TPU only, where
            by its compiler's estimate it is also faster.
        implementation: of residual groups and attention: "plain" layers, or, at precision "default", "kernels": on TPUs
            those written in Pallas, where there are some for the sizes at hand; on GPUs the form of which XLA makes few
            kernels, with blocks one after the other, their gradient written by hand, and the scores of as many pictures
            at once as memory allows. "auto" for kernels in training on either, if they prove themselves there first
            (`training`), and plain layers elsewhere. Kernels keep eight maps of each block for the gradient; where
            `remat` is True the groups stay plain.

    Raises:
        InputError: on a value outside these.
    """

    dtype: str = "float32"
    precision: str = "highest"
    attention: str = "auto"
    score_bytes: int | None = None
    loops: bool | None = None
    remat: bool | None = None
    implementation: str = "auto"

    def __post_init__(self) -> None:
        for name, choices in (
            ("dtype", DTYPES),
            ("precision", PRECISIONS),
            ("implementation", IMPLEMENTATIONS),
            ("attention", FORMS),
        ):
            if getattr(self, name) not in choices:
                raise InputError(f"{name}: found {getattr(self, name)!r}, expected one of {', '.join(choices)}")
        for name in ("loops", "remat"):
            if getattr(self, name) not in (None, True, False):
                raise InputError(f"{name}: found {getattr(self, name)!r}, expected None, True or False")
        if self.score_bytes is not None and not (isinstance(self.score_bytes, int) and self.score_bytes > 0):
            raise InputError(f"score_bytes: found {self.score_bytes!r}, expected None or a positive whole number")

    @property
    def uses_kernels(self) -> bool:
        """Whether what is made for the chip takes what it can."""
        return self.implementation == "kernels" and self.precision == "default"

    @property
    def uses_gpu_form(self) -> bool:
        """Whether that is the form for GPUs, on the backend there is."""
        return self.uses_kernels and jax.default_backend() == "gpu"

    @property
    def uses_tpu_form(self) -> bool:
        """Whether that is the form for TPUs, Pallas kernels, which off a TPU are interpreted."""
        return self.uses_kernels and not self.uses_gpu_form

    @property
    def uses_loops(self) -> bool:
        """Whether blocks are run as a loop, on the backend there is."""
        return jax.default_backend() != "cpu" if self.loops is None else self.loops

    @property
    def uses_remat(self) -> bool:
        """Whether a block's inner activations are computed anew for the gradient, on the backend there is."""
        return jax.default_backend() == "tpu" if self.remat is None else self.remat


EXACT = Compute()
