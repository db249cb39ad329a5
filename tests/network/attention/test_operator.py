from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from msnlan_jax.errors import InputError
from msnlan_jax.network.attention import box, hybrid, operator
from msnlan_jax.network.attention.operands import make_operands
from tests.helpers import FORWARD, GRADIENT, normal, record_forms, relative_l2

KERNELS = [3, 5, 7]
FAST_FORMS = ["box", "hybrid", "streamed"]
FORMS = ["unfold", *FAST_FORMS]


def inputs(b=1, h=5, w=4, extra=0, k=3, d=4, c=6):
    """Query, key and value with a softmax neither flat nor one-hot; keys' grid k − 3 + extra larger."""
    hk, wk = h + k - 3 + extra, w + k - 3 + extra
    arrays = 0.2 * normal(0, b, h, w, d), normal(1, b, hk, wk, d), normal(2, b, hk, wk, c)
    return tuple(map(jnp.asarray, arrays))


def attend(form, k, *arrays):
    """Run compiled, traced afresh: the size of a band is read while tracing."""
    return jax.jit(partial(operator.patch_attention, kernel_size=k, form=form))(*arrays)


def with_gradients(form, k):
    """Compiled function of query, key and value to the output and gradients of sum(output · cotangent)."""

    def outputs(*arrays):
        y, vjp = jax.vjp(partial(operator.patch_attention, kernel_size=k, form=form), *arrays)
        return y, *vjp(cotangent(y))

    return jax.jit(outputs)


def cotangent(y):
    return normal(3, *y.shape)


def limit_scores(monkeypatch, query, key, *, rows=1, key_rows=None):
    """Make bands hold `rows` query rows, and blocks all or `key_rows` key rows."""
    score_row = 4 * query.shape[2] * key.shape[2]
    monkeypatch.setattr(operator, "SCORE_BYTES", score_row * (key_rows or rows * key.shape[1]))


def assert_same(found, expected):
    for value, wanted, tolerance in zip(found, expected, [FORWARD, *[GRADIENT] * 3], strict=True):
        assert relative_l2(value, wanted) <= tolerance


def definition(query, key, value, k):
    """SPEC.md §1 in float64 NumPy: every query pastes its weighted mean value patch around itself."""
    r = k // 2

    def patches(x):
        padded = np.pad(np.asarray(x, np.float64), ((0, 0), (r, r), (r, r), (0, 0)))
        return sliding_window_view(padded, (k, k), (1, 2))

    queries, keys, values = map(patches, (query, key, value))
    (b, h, w), c = query.shape[:3], value.shape[3]
    out = np.zeros((b, h + 2 * r, w + 2 * r, c))
    for n, y, x in np.ndindex(b, h, w):
        norm = np.maximum(np.sqrt((keys[n] ** 2).sum((2, 3, 4))), 1e-4)
        scores = 10 * (keys[n] * queries[n, y, x]).sum((2, 3, 4)) / norm
        weights = np.exp(scores - scores.max())
        weights /= weights.sum()
        out[n, y : y + k, x : x + k] += np.einsum("yx,yxcij->ijc", weights, values[n])
    return out[:, r : r + h, r : r + w]


@settings(max_examples=8)
@given(
    k=st.sampled_from([1, *KERNELS]),
    b=st.integers(1, 2),
    h=st.integers(1, 8),
    w=st.integers(1, 8),
    extra=st.integers(2, 4),
    rows=st.integers(1, 8),
    key_rows=st.sampled_from([None, 1, 2, 3]),
)
def test_fast_forms_equal_the_definition_on_any_size(k, b, h, w, extra, rows, key_rows):
    arrays = inputs(b, h, w, extra, k)
    expected = definition(*arrays, k)
    with pytest.MonkeyPatch.context() as monkeypatch:
        limit_scores(monkeypatch, *arrays[:2], rows=rows, key_rows=key_rows)
        for form in FAST_FORMS:
            assert relative_l2(attend(form, k, *arrays), expected) <= FORWARD


@pytest.mark.parametrize(
    ("k", "b", "h", "w", "extra"),
    [(3, 2, 5, 9, 0), (3, 1, 4, 4, 3), (3, 1, 1, 1, 0), (5, 2, 5, 9, 0), (7, 1, 5, 9, 2), (7, 2, 2, 3, 0)],
)
def test_forms_agree_with_gradients(monkeypatch, k, b, h, w, extra):
    arrays = inputs(b, h, w, extra, k)
    limit_scores(monkeypatch, *arrays[:2], rows=2)
    expected = with_gradients("unfold", k)(*arrays)
    assert relative_l2(expected[0], definition(*arrays, k)) <= FORWARD
    for form in FAST_FORMS:
        assert_same(with_gradients(form, k)(*arrays), expected)


@pytest.mark.parametrize(("rows", "key_rows"), [(1, None), (3, None), (1, 4), (1, 1)])
def test_bands_and_blocks_of_any_height_agree_with_gradients(monkeypatch, rows, key_rows):
    arrays = inputs(b=2, h=7, w=4, k=5)
    expected = with_gradients("box", 5)(*arrays)
    limit_scores(monkeypatch, *arrays[:2], rows=rows, key_rows=key_rows)
    assert_same(with_gradients("streamed", 5)(*arrays), expected)


def test_scores_that_are_not_kept_are_computed_anew(monkeypatch):
    arrays = inputs(b=2, h=7, w=4, k=5)
    expected = with_gradients("box", 5)(*arrays)
    monkeypatch.setattr(box, "KEPT_BYTES", 0)
    assert_same(with_gradients("box", 5)(*arrays), expected)


@pytest.mark.parametrize(("form", "k"), [("unfold", 3), *[(form, k) for form in FAST_FORMS for k in KERNELS]])
def test_padding_changes_nothing(monkeypatch, form, k):
    """Two images of different true sizes on one larger grid, against each on its own, gradients included."""
    margin, sizes = k - 3, [(5, 4), (3, 6)]
    arrays = inputs(2, 7, 6, 0, k)
    limit_scores(monkeypatch, *arrays[:2], rows=2)
    ends = [(h, w) if x is arrays[0] else (h + margin, w + margin) for x in arrays for h, w in sizes]
    ends = [ends[i : i + 2] for i in (0, 2, 4)]
    zeroed = [
        jnp.stack([x[n].at[h:].set(0).at[:, w:].set(0) for n, (h, w) in enumerate(end)])
        for x, end in zip(arrays, ends, strict=True)
    ]
    size = jnp.array(sizes)

    given = jnp.stack(
        [jnp.asarray(normal(3, 2, 7, 6, 6))[n].at[h:].set(0).at[:, w:].set(0) for n, (h, w) in enumerate(sizes)]
    )

    @jax.jit
    def padded(*features):
        y, vjp = jax.vjp(partial(operator.patch_attention, kernel_size=k, size=size, form=form), *features)
        return y, *vjp(given)

    found = padded(*zeroed)
    for n, (h, w) in enumerate(sizes):
        assert not found[0][n, h:].any()
        assert not found[0][n, :, w:].any()
        alone = [x[n : n + 1, : end[n][0], : end[n][1]] for x, end in zip(zeroed, ends, strict=True)]
        expected, vjp = jax.jit(partial(jax.vjp, partial(operator.patch_attention, kernel_size=k, form="box")))(*alone)
        cut = [found[0][n : n + 1, :h, :w]]
        cut += [x[n : n + 1, : end[n][0], : end[n][1]] for x, end in zip(found[1:], ends, strict=True)]
        assert_same(cut, [expected, *vjp(given[n : n + 1, :h, :w])])


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_the_definitions_numerical_ones(form):
    arrays = inputs(h=3, w=2, d=2, c=2)
    y, *gradients = with_gradients(form, 3)(*arrays)

    def loss(n, step):
        moved = [np.asarray(x, np.float64) for x in arrays]
        moved[n] += step
        return (definition(*moved, 3) * cotangent(y)).sum()

    for n, gradient in enumerate(gradients):
        steps = 1e-5 * np.eye(gradient.size).reshape(-1, *gradient.shape)
        numerical = [(loss(n, step) - loss(n, -step)) / 2e-5 for step in steps]
        assert relative_l2(gradient.ravel(), numerical) <= GRADIENT


@pytest.mark.parametrize("form", FORMS)
def test_constant_input_is_finite_with_gradients(form):
    compiled = with_gradients(form, 3)
    for constant in (0.0, 1e-7, 200.0):
        arrays = [jnp.full_like(x, constant) for x in inputs()]
        y, *gradients = compiled(*arrays)
        assert relative_l2(y, definition(*arrays, 3)) <= FORWARD
        for gradient in gradients:
            assert np.isfinite(gradient).all()


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_weights_are_stored_but_not_summed(form):
    """What is lost is the rounding of weights and values to 8 bits, and in the hybrid form that of normalised keys."""
    arrays = [x.astype(jnp.bfloat16) for x in inputs(h=6, w=7)]
    found = attend(form, 3, *arrays)
    assert found.dtype == jnp.float32
    assert relative_l2(found, definition(*arrays, 3)) <= (FORWARD if form == "unfold" else 2**-8)


@pytest.mark.parametrize("form", ["box", "hybrid"])
@pytest.mark.parametrize("k", [3, 7])
def test_bfloat16_gradients_are_near_those_of_float32(form, k):
    arrays = [x.astype(jnp.bfloat16) for x in inputs(h=6, w=7, k=k)]
    cotangent = jnp.asarray(normal(9, *definition(*arrays, k).shape))

    def gradients(form, *arrays):
        return jax.grad(lambda *x: jnp.sum(cotangent * attend(form, k, *x)), argnums=(0, 1, 2))(*arrays)

    expected = gradients("unfold", *(x.astype(jnp.float32) for x in arrays))
    for found, true in zip(gradients(form, *arrays), expected, strict=True):
        assert found.dtype == jnp.bfloat16
        assert relative_l2(found.astype(jnp.float32), true) <= 2**-5


@pytest.mark.parametrize(("spare", "chosen"), [(0, "box"), (-1, "streamed")])
def test_auto_chooses_by_score_bytes(monkeypatch, spare, chosen):
    query, key, value = inputs(h=6)
    used = record_forms(monkeypatch)
    scores = query.shape[1] * query.shape[2] * key.shape[1] * key.shape[2]
    monkeypatch.setattr(operator, "SCORE_BYTES", 4 * scores + spare)
    assert relative_l2(attend("auto", 3, query, key, value), definition(query, key, value, 3)) <= FORWARD
    assert used == {chosen}


@pytest.mark.parametrize(("images", "at_once"), [(1, 1), (3, 2), (4, 4), (9, 4)])
def test_images_at_once_are_as_many_as_memory_allows(monkeypatch, images, at_once):
    query, key, _ = inputs(b=4, h=3)
    scores = 4 * query.shape[1] * query.shape[2] * key.shape[1] * key.shape[2]
    monkeypatch.setattr(operator, "_BATCH_BYTES", images * scores)
    assert operator.count_images(query, key, None) == at_once
    assert operator.count_images(query, key, scores) == 1


def test_images_at_once_are_those_of_one_by_one():
    arrays = inputs(b=4, h=3)

    def run(at_once):
        def attend(*arrays):
            return hybrid.attend(make_operands(*arrays, 3), 3, "highest", at_once=at_once)

        y, vjp = jax.vjp(attend, *arrays)
        return y, *vjp(cotangent(y))

    expected, *others = jax.jit(lambda: [run(at_once) for at_once in (1, 2, 4)])()
    for found in others:
        assert max(map(relative_l2, found, expected)) <= 1e-6


def test_accelerators_take_the_hybrid_form(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert operator.choose_form(48, 48, 52, 52) == "hybrid"
    assert operator.choose_form(200, 200, 204, 204) == "streamed"


@pytest.mark.parametrize(
    ("k", "form", "message"),
    [(4, "box", "kernel_size: found 4"), (3, "fast", "attention form: found 'fast'")],
)
def test_bad_arguments_are_refused(k, form, message):
    with pytest.raises(InputError, match=message):
        operator.patch_attention(*inputs(), k, form=form)
