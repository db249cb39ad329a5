import math

import numpy as np
import pytest

from msnlan_jax.report import strips
from msnlan_jax.report.strips import side_by_side
from msnlan_jax.scoring.metrics import Scores
from tests.samples import noise


def blurred(hr, top, left, side):
    """The picture, wrong everywhere but in one window."""
    sr = 255 - hr
    sr[top : top + side, left : left + side] = hr[top : top + side, left : left + side]
    return sr


@pytest.mark.parametrize(("top", "left"), [(0, 0), (37, 90), (104, 154)])
def test_the_most_improved_window_is_found(top, left):
    hr = noise(0, 200, 250, 3)
    assert strips._most_improved(hr, 255 - hr, blurred(hr, top, left, 96)) == (top, left)


def test_panels_show_the_window_by_every_method():
    hr = noise(0, 200, 250, 3)
    methods = {"bicubic": 255 - hr, "MSNLAN": blurred(hr, 40, 80, 96)}
    strip = side_by_side(hr, methods, {"bicubic": Scores(9.5, 0.5), "MSNLAN": Scores(20.25, math.nan, 0.125)})
    assert strip.dtype == np.uint8
    # Each window is enlarged three times; the last two, MSNLAN's and the true one, are equal.
    window = hr[40:136, 80:176].repeat(3, axis=0).repeat(3, axis=1)
    panels = [strip[:288, strip.shape[1] - 288 - 294 * i :][:, :288] for i in range(3)]
    for panel, expected in zip(panels, (window, window, 255 - window), strict=True):
        np.testing.assert_array_equal(panel, expected)
    assert strip.shape == (328, 360 + 3 * (288 + 6), 3)
    captions = strip[288:, 360:]
    assert captions.min() < 64
    assert (captions == 255).mean() > 0.5


def test_the_whole_picture_is_first_with_a_frame_around_the_window():
    hr = np.full((288, 300, 3), 90, np.uint8)
    strip = side_by_side(hr, {"a": hr - 5, "b": blurred(hr, 100, 50, 96)}, {})
    whole = strip[:288, :300].astype(int)
    framed = np.abs(whole - 90).sum(axis=2) > 60
    rows, columns = np.nonzero(framed)
    assert (rows.min(), columns.min()) == (100, 50)
    assert (rows.max() - 100, columns.max() - 50) == (96, 96)
    assert not framed[110:180, 60:130].any()


@pytest.mark.parametrize("size", [(1, 1), (10, 9), (9, 300), (300, 9), (96, 96), (97, 120)], ids=str)
def test_any_size(size):
    hr = noise(0, *size, 3)
    strip = side_by_side(hr, {"bicubic": noise(1, *size, 3), "MSNLAN": hr}, {"MSNLAN": Scores(math.inf, 1.0)})
    assert strip.shape[0] == 328
    assert strip.shape[2] == 3
