import itertools
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from msnlan_jax.errors import InputError
from msnlan_jax.inference import INFERENCE_MODES, Options, Programs, predict, tiling, upscale
from msnlan_jax.network import parameters
from msnlan_jax.pictures.bicubic import Bicubic
from msnlan_jax.pictures.images import to_rgb
from msnlan_jax.pictures.resize import imresize
from msnlan_jax.weights import read_weights
from tests.helpers import FORWARD, forward_shapes, nhwc, relative_l2
from tests.samples import Nearest, noise, tiny_config, tiny_parameters


def recorded(golden, scale, given, expected):
    """The recorded network, and recorded input and output NHWC."""
    pytest.importorskip("torch")
    config, values = read_weights(golden / f"tiny_x{scale}.pt")
    file = np.load(golden / f"chop_x{scale}.npz")
    if expected not in file.files:
        pytest.skip(f"no {expected} recorded at ×{scale}")
    return parameters.to_model(config, values), nhwc(file[given])[0].astype(np.float32), nhwc(file[expected])[0]


@pytest.mark.slow
@pytest.mark.usefixtures("full_optimisation")
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_chop_equals_the_released_tiling(golden, scale):
    model, lr, expected = recorded(golden, scale, "lr", "chop")
    found = predict(model, lr, Options("chop"), programs=Programs())
    assert relative_l2(found, expected) <= FORWARD


@pytest.mark.slow
@pytest.mark.usefixtures("full_optimisation")
@pytest.mark.parametrize("scale", [2, 4])
def test_self_ensemble_equals_the_released_one(golden, scale):
    model, lr, expected = recorded(golden, scale, "lr_small", "x8")
    found = predict(model, lr, Options(self_ensemble=True), programs=Programs())
    assert relative_l2(found, expected) <= FORWARD


@pytest.fixture(scope="module")
def network():
    return parameters.to_model(tiny_config(2), tiny_parameters(2))


def float_picture(seed, *shape):
    return noise(seed, *shape).astype(np.float32)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("size", [(1, 1), (3, 40), (20, 21), (24, 25), (47, 33), (130, 71), (150, 149)], ids=str)
def test_chop_of_a_local_method_changes_nothing(scale, size):
    """Bicubic looks at fewer pixels around than the tiles share."""
    picture = float_picture(0, *size, 3)
    expected = predict(Bicubic(scale), picture)
    np.testing.assert_array_equal(predict(Bicubic(scale), picture, Options("chop")), expected)


@pytest.mark.parametrize(
    ("scale", "size", "expected"),
    [
        # Halves 47 and 37, shave 10, then up to the next multiple: 58 × 48 = 2784 pixels, below the limit.
        (2, (94, 75), [(4, 58, 48, 3)]),
        (3, (94, 75), [(4, 60, 48, 3)]),
        (4, (94, 75), [(4, 60, 48, 3)]),
        # 60 × 62 = 3720 pixels are below 4000, but not below 3600: cut again.
        (2, (98, 100), [(4, 60, 62, 3)]),
        (4, (98, 100), [(4, 44, 44, 3)] * 4),
        # Too small for the geometry: run whole.
        (2, (21, 60), [(1, 21, 60, 3)]),
        (2, (22, 60), [(4, 22, 42, 3)]),
    ],
    ids=str,
)
def test_chop_geometry(scale, size, expected):
    lr = float_picture(0, *size, 3)
    assert forward_shapes(Nearest(scale), lr, Options("chop")) == expected


def test_tiles_are_equal_so_that_one_compilation_serves_all():
    lr = float_picture(0, 50, 33, 3)
    assert set(forward_shapes(Nearest(2), lr, Options("tile", tile_size=16, tile_overlap=4))) == {(4, 16, 16, 3)}


@settings(max_examples=60)
@given(st.data())
def test_tiles_of_a_pointwise_method_change_nothing(data):
    size = data.draw(st.tuples(st.integers(1, 30), st.integers(1, 30)))
    tile_size = data.draw(st.integers(1, 12))
    overlap = data.draw(st.integers(0, tile_size // 2))
    model, picture = Nearest(data.draw(st.sampled_from([2, 3]))), noise(0, *size, 3)
    expected = picture.repeat(model.scale, 0).repeat(model.scale, 1)
    options = Options("tile", tile_size, overlap)
    np.testing.assert_array_equal(upscale(model, picture, options=options), expected)
    np.testing.assert_allclose(predict(model, picture.astype(np.float32), options), expected, rtol=1e-6)


class Mixing(nnx.Module):
    """Every output pixel depends on its tile's mean and on where in the tile it is, so that blending shows."""

    def __init__(self, scale: int):
        self.scale = scale

    def __call__(self, x):
        h, w = (side * self.scale for side in x.shape[1:3])
        place = jnp.arange(h)[:, None, None] * 0.37 - jnp.arange(w)[None, :, None] * 0.21 + jnp.arange(3.0)
        return Nearest(self.scale)(1.1 * x + 0.3 * jnp.mean(x, axis=(1, 2, 3), keepdims=True)) + place - 40


def blended(model, lr, size, overlap):
    """Tiles blended in arrays of the whole output."""
    h, w = lr.shape[:2]
    s, tile_h, tile_w = model.scale, min(size, h), min(size, w)
    total, weight = np.zeros((h * s, w * s, 3), np.float32), np.zeros((h * s, w * s, 1), np.float32)
    blend = (tiling._ramp(tile_h * s, overlap * s)[:, None] * tiling._ramp(tile_w * s, overlap * s))[:, :, None]
    for y, x in itertools.product(tiling._starts(h, tile_h, overlap), tiling._starts(w, tile_w, overlap)):
        where = slice(y * s, (y + tile_h) * s), slice(x * s, (x + tile_w) * s)
        total[where] += blend * np.asarray(jax.jit(model)(lr[None, y : y + tile_h, x : x + tile_w])[0])
        weight[where] += blend
    return total / weight


@pytest.mark.parametrize("shape", [(37, 29), (29, 37, 1), (31, 18, 2), (1, 40, 3), (40, 5, 3), (33, 50, 4)], ids=str)
@pytest.mark.parametrize("tiles", [(8, 0), (8, 4), (13, 3), (16, 8), (64, 16)], ids=str)
def test_tiles_in_strips_are_those_blended_as_a_whole(shape, tiles):
    model, image = Mixing(3), noise(0, *shape)
    options = Options("tile", *tiles)
    lr = to_rgb(image).astype(np.float32)
    expected = blended(model, lr, *tiles)
    found = predict(model, lr, options)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-4)
    channels = 1 if len(shape) == 2 else shape[2]
    large = upscale(model, image, options=options)
    assert large.shape == (3 * shape[0], 3 * shape[1], *shape[2:])
    large = large.reshape(*large.shape[:2], channels)
    colours = found if channels >= 3 else (found @ [0.299, 0.587, 0.114])[:, :, None]
    np.testing.assert_array_equal(large[:, :, : colours.shape[2]], np.round(np.clip(colours, 0, 255)))
    if channels in (2, 4):
        np.testing.assert_array_equal(large[:, :, -1], imresize(image[:, :, -1], 3))


def stitched(model, lr):
    """The chop as it is released: corner by corner, each of them cut again."""
    (h, w), s = lr.shape[:2], model.scale
    if not (levels := tiling.chop_levels(h, w, s)):
        return np.asarray(jax.jit(model)(lr[None])[0])
    tile_h, tile_w = levels[0]
    rows, columns = (slice(0, tile_h), slice(h - tile_h, h)), (slice(0, tile_w), slice(w - tile_w, w))
    inner = (lambda x: stitched(model, x)) if len(levels) > 1 else lambda x: np.asarray(jax.jit(model)(x[None])[0])
    result, middle_h, middle_w = np.zeros((h * s, w * s, 3), np.float32), h // 2 * s, w // 2 * s
    corners = [[inner(lr[row, column]) for column in columns] for row in rows]
    result[:middle_h, :middle_w] = corners[0][0][:middle_h, :middle_w]
    result[:middle_h, middle_w:] = corners[0][1][:middle_h, middle_w - w * s :]
    result[middle_h:, :middle_w] = corners[1][0][middle_h - h * s :, :middle_w]
    result[middle_h:, middle_w:] = corners[1][1][middle_h - h * s :, middle_w - w * s :]
    return result


@pytest.mark.parametrize("size", [(20, 21), (28, 28), (29, 150), (47, 33), (98, 100), (130, 71), (64, 260)], ids=str)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_chop_is_stitched_at_the_halves(scale, size):
    model, lr = Mixing(scale), float_picture(0, *size, 3)
    expected = stitched(model, lr)
    np.testing.assert_allclose(predict(model, lr, Options("chop")), expected, rtol=1e-6, atol=1e-4)


def test_only_a_strip_of_tiles_is_held_as_floats():
    """By the bytes that NumPy allocates: fewer than half of what the output would take as float32."""
    model, image = Nearest(4), noise(0, 512, 128, 3)
    options = {"inference": "tile", "tile_size": 16, "tile_overlap": 4}
    upscale(model, image[:32], **options)
    tracemalloc.start()
    try:
        large = upscale(model, image, **options)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert large.nbytes < peak < 2 * large.nbytes


@pytest.mark.parametrize("overlap", [0, 4, 8])
def test_tiles_share_the_overlap_asked_for(overlap):
    for length in range(1, 60):
        size = min(16, length)
        starts = tiling._starts(length, size, overlap)
        assert (starts[0], starts[-1]) == (0, length - size)
        assert all(0 < b - a <= size - overlap for a, b in itertools.pairwise(starts))


@pytest.mark.parametrize(("size", "overlap"), [(16, 9), (16, -1), (16, 40)])
def test_other_tiles_are_refused(size, overlap):
    with pytest.raises(
        InputError, match=f"^tile_overlap: found {overlap} with a tile_size of {size}, expected 0 to 8$"
    ):
        upscale(Nearest(2), noise(0, 8, 8, 3), inference="tile", tile_size=size, tile_overlap=overlap)
    for size in (0, -4):
        with pytest.raises(InputError, match=f"^tile_size: found {size}, expected at least 1$"):
            upscale(Nearest(2), noise(0, 8, 8, 3), inference="tile", tile_size=size, tile_overlap=0)


def turns(picture):
    for transpose, rows, columns in itertools.product((False, True), (1, -1), (1, -1)):
        yield (picture.swapaxes(0, 1) if transpose else picture)[::rows, ::columns]


def test_self_ensemble_turns_with_the_picture(network):
    picture = float_picture(0, 7, 5, 3)
    expected = predict(network, picture, Options(self_ensemble=True))
    alone = predict(network, picture)
    assert relative_l2(alone, expected) > 1e-3
    for found, turned in zip(turns(picture), turns(expected), strict=True):
        assert (
            relative_l2(predict(network, np.ascontiguousarray(found), Options(self_ensemble=True)), turned) <= FORWARD
        )


def test_self_ensemble_is_the_mean_over_flips_and_transposes(network):
    picture = float_picture(0, 7, 5, 3)
    outputs = [predict(network, np.ascontiguousarray(turned)) for turned in turns(picture)]
    back = [
        (turned[::rows, ::columns].swapaxes(0, 1) if transpose else turned[::rows, ::columns])
        for turned, (transpose, rows, columns) in zip(
            outputs, itertools.product((False, True), (1, -1), (1, -1)), strict=True
        )
    ]
    assert relative_l2(predict(network, picture, Options(self_ensemble=True)), np.mean(back, axis=0)) <= FORWARD


@pytest.mark.parametrize("mode", INFERENCE_MODES)
@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 2), (6, 5, 3), (6, 5, 4)], ids=str)
def test_every_kind_of_picture(shape, mode):
    image = noise(0, *shape)
    found = upscale(Bicubic(3), image, inference=mode)
    assert found.shape == (18, 15, *shape[2:])
    np.testing.assert_array_equal(found, imresize(image, 3), strict=True)


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_enlarged_bicubically(channels):
    image = noise(0, 6, 5, channels)
    found = upscale(Nearest(2), image)
    np.testing.assert_array_equal(found[..., :-1], image[..., :-1].repeat(2, axis=0).repeat(2, axis=1))
    np.testing.assert_array_equal(found[..., -1], imresize(image[..., -1], 2))


def test_gray_is_run_as_rgb(network):
    image = noise(0, 7, 5)
    rgb = upscale(network, to_rgb(image)).astype(float)
    np.testing.assert_allclose(upscale(network, image), rgb @ [0.299, 0.587, 0.114], atol=1)


class Shift(nnx.Module):
    """Adds a number to every pixel."""

    scale = 1

    def __init__(self, shift):
        self.shift = shift

    def __call__(self, x):
        return x + self.shift


@pytest.mark.parametrize(("shift", "expected"), [(-100.0, 0), (0.4, 50), (0.6, 51), (1e6, 255), (-50.4, 0)])
def test_output_is_clipped_and_rounded(shift, expected):
    assert (upscale(Shift(shift), np.full((2, 3, 3), 50, np.uint8)) == expected).all()


@pytest.mark.slow
def test_the_smallest_pictures_run_whole_in_every_mode(network):
    for size in ((1, 1), (1, 4), (5, 2)):
        expected = predict(network, float_picture(0, *size, 3))
        assert expected.shape == (2 * size[0], 2 * size[1], 3)
        assert np.isfinite(expected).all()
        for mode in INFERENCE_MODES:
            found = predict(network, float_picture(0, *size, 3), Options(mode))
            assert relative_l2(found, expected) <= FORWARD


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.int64),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0), np.uint8),
        np.zeros((4, 4, 0), np.uint8),
    ],
    ids=lambda image: f"{image.dtype}-{image.shape}",
)
@pytest.mark.usefixtures("unchecked")
def test_other_arrays_are_refused(image):
    with pytest.raises(InputError, match=r"^image: found .*, expected "):
        upscale(Nearest(2), image)


def test_other_modes_are_refused():
    with pytest.raises(InputError, match=r"^inference: found 'fast', expected one of auto, whole, chop, tile$"):
        upscale(Nearest(2), noise(0, 2, 2, 3), inference="fast")


def test_options_are_the_keywords_as_one_value():
    image, keywords = noise(0, 37, 29, 3), {"tile_size": 16, "tile_overlap": 4, "self_ensemble": True}
    expected = upscale(Mixing(2), image, inference="tile", **keywords)
    np.testing.assert_array_equal(upscale(Mixing(2), image, options=Options("tile", **keywords)), expected)
    with pytest.raises(InputError, match=r"^options: found other keywords besides, expected either$"):
        upscale(Mixing(2), image, inference="tile", options=Options())
