"""The patch-based non-local attention operator, in exact forms behind one signature (SPEC.md §1, Branch k).

With P(i,j) = ⟨q_i, r_j⟩ and D_k the diagonal box filter (D_k P)(i,j) = Σ_{d in k×k} P(i+d, j+d), patch scores are
D_k P and pasting overlapping value patches is D_k again, so that

    out = D_k( softmax( λ · D_k(q rᵀ) / n ) ) · v

which needs k² fewer multiplications than unfolding patches. `unfold` is the definition, kept as the reference; `box`
(for CPU) and `hybrid` (for accelerators) hold one image's whole score matrix, on GPUs `hybrid` also those of many, and
`streamed` a part of one at a time.
`fused` is hand-written kernels for TPUs, which hold some rows of it in the chip's fast memory.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from msnlan_jax.errors import InputError
from msnlan_jax.network.attention import box, hybrid, streamed, unfold
from msnlan_jax.network.attention.operands import Operands, inside, make_operands
from msnlan_jax.network.kernels import attention as kernels

FORMS = ("auto", "unfold", "box", "hybrid", "streamed", "fused")
# Unless told otherwise, `auto` materialises one image's score matrix up to this many bytes, and above streams so many
# at a time.
SCORE_BYTES = 256 * 2**20
# And so much of several images' matrices at once, where that is asked for.
_BATCH_BYTES = 2**30
# Matrices as large as the scores that are alive at once; XLA for CPU says 5 (whole) to 8 (in bands).
_SCORE_MATRICES = 8


def patch_attention(
    query: Float[Array, "b h w d"],
    key: Float[Array, "b hk wk d"],
    value: Float[Array, "b hk wk c"],
    kernel_size: int,
    *,
    size: Int[Array, "b 2"] | None = None,
    form: str = "auto",
    precision: str = "highest",
    score_bytes: int | None = None,
    uses_kernels: bool = False,
    at_once: bool = False,
) -> Float[Array, "b h w c"]:
    """Attend from every k×k patch of `query` to all k×k patches of `key`, pasting the k×k patches of `value`.

    Patches have stride 1 and are zero-padded at the borders of their grid. Scores are cosine-like: the key patch is
    normalised (norm at least 1e-4), the query patch is not; temperature 10; softmax over all key positions, always in
    float32. Overlapping pasted patches add up and are not divided by k².

    Args:
        query: on the output's grid.
        key: on a grid of its own, which may differ in size from the query's.
        value: on the key's grid.
        kernel_size: patch side k, odd.
        size: height and width of the true part of each query grid, the rest being padding; the key grid's true part
            is larger by what its whole grid is larger. Features beyond the true parts must be zero.
        form: "unfold" (reference); "box" and "hybrid", which hold one image's score matrix, for CPU and for
            accelerators; "streamed", which never does; "fused", kernels for TPUs; or "auto" to choose by size and
            backend.
        precision: JAX matmul precision.
        score_bytes: how large a score matrix may be before "auto" streams it, and how large a part of it "streamed"
            holds; None for SCORE_BYTES.
        uses_kernels: whether "auto" takes "fused" where it can serve.
        at_once: whether "hybrid" holds the scores of as many images as memory allows, in fewer kernels, and not of one.

    Returns:
        float32, one vector per query position, zero beyond the true part.

    Raises:
        InputError: on an even kernel size, an unknown form, or "fused" where kernels cannot serve.

    Source: SPEC.md §1; the paper's non-local attention branch.
    """
    if kernel_size % 2 != 1:
        raise InputError(f"kernel_size: found {kernel_size}, expected an odd number")
    if form == "auto":
        (h, w), (hk, wk) = query.shape[1:3], key.shape[1:3]
        is_fused = uses_kernels and kernels.fits(query, value, kernel_size, precision)
        form = "fused" if is_fused else choose_form(h, w, hk, wk, score_bytes)
    elif form == "fused" and jax.default_backend() == "tpu" and not kernels.fits(query, value, kernel_size, precision):
        raise InputError(
            f"attention form: found 'fused' for queries {query.shape} and patches of {kernel_size}×{kernel_size}, "
            "expected features in multiples of 16 and sizes that fit a TPU's fast memory"
        )
    forms: dict[str, Callable[[Operands, int, str], Array]] = {
        "unfold": unfold.attend,
        "box": box.attend,
        "hybrid": functools.partial(hybrid.attend, at_once=count_images(query, key, score_bytes) if at_once else 1),
        "streamed": functools.partial(streamed.attend, score_bytes=limit_scores(score_bytes)),
        "fused": lambda operands, k, precision: kernels.attend(*operands, k, precision),
    }
    if form not in forms:
        raise InputError(f"attention form: found {form!r}, expected one of {', '.join(FORMS)}")
    output = forms[form](make_operands(query, key, value, kernel_size, size), kernel_size, precision)
    return output if size is None else jnp.where(inside(query.shape, size)[..., None], output, 0.0)


def choose_form(h: int, w: int, hk: int, wk: int, score_bytes: int | None = None) -> str:
    """Return the form that `auto` takes for grids of these sizes, kernels apart."""
    if 4 * h * w * hk * wk > limit_scores(score_bytes):
        return "streamed"
    return "box" if jax.default_backend() == "cpu" else "hybrid"


def count_images(query: Float[Array, "b h w d"], key: Float[Array, "b hk wk d"], score_bytes: int | None) -> int:
    """Return how many images' scores may be held at once, equally many each time: a divisor of B."""
    (b, h, w), (hk, wk) = query.shape[:3], key.shape[1:3]
    most = (_BATCH_BYTES if score_bytes is None else score_bytes) // (4 * h * w * hk * wk)
    return max(n for n in range(1, b + 1) if b % n == 0 and n <= max(most, 1))


def limit_scores(score_bytes: int | None) -> int:
    """Return how large scores may be at once."""
    return SCORE_BYTES if score_bytes is None else score_bytes


def working_bytes(h: int, w: int, kernel_size: int, score_bytes: int | None = None) -> int:
    """Estimate the memory of scores for a picture of h×w positions: several matrices, or parts of one."""
    hk, wk = h + kernel_size - 3, w + kernel_size - 3
    if choose_form(h, w, hk, wk, score_bytes) != "streamed":
        return _SCORE_MATRICES * 4 * h * w * hk * wk
    return _SCORE_MATRICES * 4 * w * wk * math.prod(streamed.split_rows(h, w, hk, wk, limit_scores(score_bytes)))


def smallest_block(w: int, kernel_size: int) -> int:
    """Return the bytes of scores of one row of w queries against one row of keys, below which nothing is cut."""
    return 4 * w * (w + kernel_size - 3)
