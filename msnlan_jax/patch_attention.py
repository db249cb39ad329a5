"""The patch-based non-local attention operator, in three exact forms behind one signature (SPEC.md §1, Branch k).

With P(i,j) = ⟨q_i, r_j⟩ and D_k the diagonal box filter (D_k P)(i,j) = Σ_{d in k×k} P(i+d, j+d), patch scores are
D_k P and pasting overlapping value patches is D_k again, so that

    out = D_k( softmax( λ · D_k(q rᵀ) / n ) ) · v

which needs k² fewer multiplications than unfolding patches. `unfold` below is the definition, kept as the reference;
`box` is the identity on materialised score matrices; `banded` is the identity on bands of query rows, so that the
matrix of the whole picture is never held.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from msnlan_jax.errors import InputError

TEMPERATURE = 10.0
NORM_FLOOR = 1e-4
FORMS = ("auto", "unfold", "box", "banded")
# `auto` materialises one image's score matrix up to this many bytes; above, it works in bands of about this size.
SCORE_BYTES = 256 * 2**20


def patch_attention(
    query: Float[Array, "b h w d"],
    key: Float[Array, "b hk wk d"],
    value: Float[Array, "b hk wk c"],
    kernel_size: int,
    *,
    form: str = "auto",
    precision: str = "highest",
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
        form: "unfold" (reference), "box", "banded", or "auto" to choose between the last two by size.
        precision: JAX matmul precision.

    Returns:
        float32, one vector per query position.

    Raises:
        InputError: on an even kernel size or an unknown form.

    Source: SPEC.md §1; the paper's non-local attention branch.
    """
    if kernel_size % 2 != 1:
        raise InputError(f"kernel_size: found {kernel_size}, expected an odd number")
    if form == "auto":
        h, w = query.shape[1:3]
        form = "box" if 4 * h * w * key.shape[1] * key.shape[2] <= SCORE_BYTES else "banded"
    implementations = {"unfold": _unfold, "box": _box, "banded": _banded}
    if form not in implementations:
        raise InputError(f"attention form: found {form!r}, expected one of {', '.join(FORMS)}")
    # One image at a time, recomputed in the gradient: its score matrices stay in cache, and no batch of them is kept.
    attend = jax.checkpoint(functools.partial(implementations[form], k=kernel_size))
    with jax.default_matmul_precision(precision):
        return jax.lax.map(lambda image: attend(*image), (query, key, value))


def working_bytes(h: int, w: int, kernel_size: int) -> int:
    """Estimate the memory of a picture of h×w positions: about twelve score matrices, or bands, as measured."""
    margin = kernel_size - 3
    row = w * (h + margin) * (w + margin)
    rows = h if 4 * h * row <= SCORE_BYTES else _band_rows(h, row, kernel_size) + 4 * (kernel_size // 2)
    return 12 * 4 * rows * row


def _band_rows(h: int, row: int, k: int) -> int:
    """Return how many output rows a band has when one row of queries has `row` scores."""
    return min(h, max(1, SCORE_BYTES // (4 * row) - 4 * (k // 2)))


def _patches(x: Float[Array, "h w c"], k: int) -> Float[Array, "h w kk c"]:
    """All zero-padded k×k patches, offsets in row-major order."""
    r = k // 2
    h, w = x.shape[:2]
    padded = jnp.pad(x, ((r, r), (r, r), (0, 0)))
    return jnp.stack([padded[dy : dy + h, dx : dx + w] for dy in range(k) for dx in range(k)], axis=2)


def _unfold(
    query: Float[Array, "h w d"], key: Float[Array, "hk wk d"], value: Float[Array, "hk wk c"], k: int
) -> Float[Array, "h w c"]:
    """Compute the definition, patch by patch: k² times the memory and arithmetic of `_box`."""
    h, w = query.shape[:2]
    r = k // 2
    key_patches = _patches(key.astype(jnp.float32), k)
    norm = jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(key_patches), axis=(2, 3)), NORM_FLOOR**2))
    scores = jnp.einsum("hwkd,xykd->hwxy", _patches(query.astype(jnp.float32), k), key_patches)
    weights = _softmax(TEMPERATURE * scores / norm)
    pasted = jnp.einsum("hwxy,xykc->hwkc", weights, _patches(value.astype(jnp.float32), k))
    # The query at p − d pastes its offset d onto p.
    padded = jnp.pad(pasted, ((r, r), (r, r), (0, 0), (0, 0)))
    shifts = [(2 * r - dy, 2 * r - dx) for dy in range(k) for dx in range(k)]
    return sum(
        (padded[y : y + h, x : x + w, n] for n, (y, x) in enumerate(shifts)), start=jnp.zeros_like(pasted[:, :, 0])
    )


def _box(
    query: Float[Array, "h w d"], key: Float[Array, "hk wk d"], value: Float[Array, "hk wk c"], k: int
) -> Float[Array, "h w c"]:
    """Compute the diagonal-box form on a whole `[H,W,H',W']` score matrix."""
    scores = _diagonal_box(_dot_products(query, key), k)
    weights = _softmax(scores * _inverse_norm(key, k))
    return _weighted_values(_diagonal_box(weights, k), value)


def _banded(
    query: Float[Array, "h w d"], key: Float[Array, "hk wk d"], value: Float[Array, "hk wk c"], k: int
) -> Float[Array, "h w c"]:
    """Compute the diagonal-box form one band of query rows at a time.

    An output row needs the attention weights of the k//2 rows around it, and each of those the products of k//2 rows
    further out: a halo of 2·(k//2) query rows on both sides of the band.
    """
    r = k // 2
    h, w = query.shape[:2]
    rows = _band_rows(h, w * key.shape[0] * key.shape[1], k)
    n_bands = -(-h // rows)
    padded = jnp.pad(query, ((2 * r, 2 * r + n_bands * rows - h), (0, 0), (0, 0)))
    inverse_norm = _inverse_norm(key, k)

    @jax.checkpoint
    def band(start: Array) -> Array:
        band_query = jax.lax.dynamic_slice_in_dim(padded, start, rows + 4 * r)
        scores = _diagonal_rows(_diagonal_columns(_dot_products(band_query, key), k), k, halo=True)
        weights = _softmax(scores * inverse_norm)
        row = start - r + jnp.arange(rows + 2 * r)
        weights = jnp.where(((row >= 0) & (row < h))[:, None, None, None], weights, 0.0)
        return _weighted_values(_diagonal_rows(_diagonal_columns(weights, k), k, halo=True), value)

    bands = jax.lax.map(band, rows * jnp.arange(n_bands))
    return bands.reshape(n_bands * rows, w, value.shape[-1])[:h]


def _dot_products(query: Float[Array, "h w d"], key: Float[Array, "hk wk d"]) -> Float[Array, "h w hk wk"]:
    return jnp.einsum("hwd,xyd->hwxy", query, key, preferred_element_type=jnp.float32)


def _inverse_norm(key: Float[Array, "hk wk d"], k: int) -> Float[Array, "hk wk"]:
    """λ over the norm of every key patch: the k×k box sum of ‖key‖², floored before the root."""
    squares = jnp.sum(jnp.square(key.astype(jnp.float32)), axis=-1)
    sums = jax.lax.reduce_window(squares, 0.0, jax.lax.add, (k, k), (1, 1), "SAME")
    return TEMPERATURE / jnp.sqrt(jnp.maximum(sums, NORM_FLOOR**2))


def _softmax(scores: Float[Array, "h w hk wk"]) -> Float[Array, "h w hk wk"]:
    return jax.nn.softmax(scores, axis=(2, 3))


def _weighted_values(weights: Float[Array, "h w hk wk"], value: Float[Array, "hk wk c"]) -> Float[Array, "h w c"]:
    return jnp.einsum("hwxy,xyc->hwc", weights, value, preferred_element_type=jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _diagonal_box(scores: Float[Array, "h w hk wk"], k: int) -> Float[Array, "h w hk wk"]:
    """D_k: Σ over the k×k offsets d of `scores[i + d, j + d]`, zero outside the grids; separable in dy and dx."""
    return _diagonal_rows(_diagonal_columns(scores, k), k)


# D_k is its own transpose. Transposing its slices instead would make the gradient several times slower.
_diagonal_box.defvjp(
    lambda scores, k: (_diagonal_box(scores, k), None), lambda k, _, cotangent: (_diagonal_box(cotangent, k),)
)


def _diagonal_rows(x: Float[Array, "h w hk wk"], k: int, *, halo: bool = False) -> Float[Array, "h_out w hk wk"]:
    """Sum along dy. With `halo` the rows around the wanted ones are there already: k//2 are used up at each end."""
    r = k // 2
    h, hk = x.shape[0] - (2 * r if halo else 0), x.shape[2]
    x = jnp.pad(x, ((0, 0) if halo else (r, r), (0, 0), (r, r), (0, 0)))
    return sum((x[o : o + h, :, o : o + hk] for o in range(1, k)), start=x[:h, :, :hk])


def _diagonal_columns(x: Float[Array, "h w hk wk"], k: int) -> Float[Array, "h w hk wk"]:
    """Sum along dx."""
    r = k // 2
    w, wk = x.shape[1], x.shape[3]
    x = jnp.pad(x, ((0, 0), (r, r), (0, 0), (r, r)))
    return sum((x[:, o : o + w, :, o : o + wk] for o in range(1, k)), start=x[:, :w, :, :wk])
