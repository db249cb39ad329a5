import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msnlan_jax.errors import InputError
from msnlan_jax.pictures import resize
from msnlan_jax.pictures.images import read_rgb
from msnlan_jax.pictures.resize import imresize, keys_cubic
from tests.samples import noise

SCALES = [2, 3, 4, 1 / 2, 1 / 3, 1 / 4]
SIZES = st.tuples(st.integers(1, 13), st.integers(1, 13))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", ["baby", "bird", "butterfly", "head", "woman"])
def test_equals_true_matlab_output(shared_images, name, scale):
    hr = read_rgb(shared_images / "Set5" / "HR" / f"{name}.png")
    lr = read_rgb(shared_images / "Set5" / "LR_bicubic" / f"X{scale}" / f"{name}x{scale}.png")
    hr = hr[: lr.shape[0] * scale, : lr.shape[1] * scale]
    np.testing.assert_array_equal(imresize(hr, 1 / scale), lr, strict=True)


def matlab_kernel(x):
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def matlab_line(line, size_out, scale):
    """MATLAB's `imresize` of one row or column, in its own 1-based coordinates, sample by sample."""
    shrink = min(scale, 1)
    result = []
    for x in range(1, size_out + 1):
        centre = x / scale + 0.5 * (1 - 1 / scale)
        total = total_weight = 0.0
        for i in range(math.floor(centre - 2 / shrink), math.ceil(centre + 2 / shrink) + 1):
            mirrored = (i - 1) % (2 * len(line)) + 1
            mirrored = mirrored if mirrored <= len(line) else 2 * len(line) + 1 - mirrored
            weight = matlab_kernel(shrink * (centre - i))
            total += weight * line[mirrored - 1]
            total_weight += weight
        result.append(total / total_weight)
    return result


def matlab(image, sizes, scales, finish):
    """Both passes over a gray picture, the axis with the smaller scale first."""
    rows = image.tolist()
    for axis in (0, 1) if scales[0] <= scales[1] else (1, 0):
        lines = rows if axis else list(zip(*rows, strict=True))
        lines = [[finish(v) for v in matlab_line(line, sizes[axis], scales[axis])] for line in lines]
        rows = lines if axis else list(zip(*lines, strict=True))
    return np.array(rows)


def to_uint8(value):
    return min(max(math.floor(value + 0.5), 0), 255)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (7, 5), (12, 13)], ids=str)
@pytest.mark.parametrize("scale", SCALES)
def test_scale_equals_the_plain_rule(scale, size):
    image = noise(0, *size)
    sizes = tuple(math.ceil(side * scale) for side in size)
    np.testing.assert_allclose(
        imresize(image.astype(np.float32), scale), matlab(image, sizes, (scale, scale), float), atol=1e-9
    )
    np.testing.assert_array_equal(imresize(image, scale), matlab(image, sizes, (scale, scale), to_uint8))


@pytest.mark.parametrize("size", [(1, 1), (5, 12), (12, 5), (3, 20), (7, 9)], ids=str)
def test_output_shape_equals_the_plain_rule(size):
    image = noise(1, 7, 9)
    scales = (size[0] / 7, size[1] / 9)
    np.testing.assert_allclose(
        imresize(image / 255, output_shape=size), matlab(image / 255, size, scales, float), atol=1e-12
    )
    np.testing.assert_array_equal(imresize(image, output_shape=size), matlab(image, size, scales, to_uint8))


def test_uint8_is_rounded_between_the_passes():
    image = noise(2, 12, 12)
    rounded_once = [to_uint8(value) for value in imresize(image.astype(np.float64), 0.5).flat]
    assert imresize(image, 0.5).ravel().tolist() != rounded_once
    columns = imresize(imresize(image, output_shape=(6, 12)), output_shape=(6, 6))
    np.testing.assert_array_equal(imresize(image, 0.5), columns)


def test_float_output_is_neither_clipped_nor_rounded():
    edge = np.repeat([[0.0, 255.0]], 4, axis=0).repeat(4, axis=1)
    enlarged = imresize(edge, 2)
    assert enlarged.dtype == np.float64
    assert enlarged.min() < 0
    assert enlarged.max() > 255


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_constants_stay_constant(scale, dtype):
    result = imresize(np.full((7, 5, 3), 77, dtype), scale)
    assert result.shape == (math.ceil(7 * scale), math.ceil(5 * scale), 3)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, 77, rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("size", [(40, 9), (3, 30)], ids=str)
def test_strips_change_nothing(dtype, size, monkeypatch):
    image = noise(3, 17, 13, 2).astype(dtype)
    expected = imresize(image, output_shape=size)
    monkeypatch.setattr(resize, "_STRIP", 50)
    np.testing.assert_array_equal(imresize(image, output_shape=size), expected, strict=True)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_channels_are_resized_alone(channels):
    image = noise(3, 6, 8, channels)
    planes = [imresize(image[:, :, i], 1 / 3) for i in range(channels)]
    np.testing.assert_array_equal(imresize(image, 1 / 3), np.stack(planes, axis=2))


@given(SIZES, SIZES)
def test_mirroring_the_input_mirrors_the_output(size, output_shape):
    image = np.random.default_rng(0).random(size)
    expected = imresize(image, output_shape=output_shape)
    for axis in (0, 1):
        mirrored = np.flip(imresize(np.flip(image, axis), output_shape=output_shape), axis)
        np.testing.assert_allclose(mirrored, expected, atol=1e-12)


@given(SIZES, SIZES)
def test_resizing_is_linear_and_keeps_the_size_asked_for(size, output_shape):
    first, second = np.random.default_rng(1).random((2, *size))
    total = imresize(2 * first - second, output_shape=output_shape)
    assert total.shape == output_shape
    parts = [imresize(image, output_shape=output_shape) for image in (first, second)]
    np.testing.assert_allclose(total, 2 * parts[0] - parts[1], atol=1e-12)


@given(SIZES)
def test_scale_one_changes_nothing(size):
    image = noise(4, *size)
    np.testing.assert_array_equal(imresize(image, 1), image)


def test_kernel_interpolates():
    np.testing.assert_array_equal(keys_cubic(np.array([-3, -2, -1, 0, 1, 2, 2.5])), [0, 0, 0, 1, 0, 0, 0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "expected either scale or output_shape"),
        ({"scale": 2, "output_shape": (4, 4)}, "expected either scale or output_shape"),
        ({"scale": 0}, "found scale 0, expected a positive number"),
        ({"scale": -0.5}, "found scale -0.5, expected a positive number"),
        ({"scale": math.nan}, "found scale nan, expected a positive number"),
        ({"scale": math.inf}, "found scale inf, expected a positive number"),
        ({"output_shape": (0, 4)}, "found output_shape (0, 4), expected positive sizes"),
    ],
    ids=str,
)
def test_errors(arguments, message):
    with pytest.raises(InputError, match=f"^imresize: {re.escape(message)}$"):
        imresize(noise(0, 2, 2), **arguments)
