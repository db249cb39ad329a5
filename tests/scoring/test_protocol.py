import numpy as np
import pytest

from msnlan_jax.errors import InputError
from msnlan_jax.scoring.protocol import Protocol
from tests.samples import noise


@pytest.mark.parametrize("border", [0, 3])
def test_lpips_sees_what_is_inside_the_border(border):
    hr, seen = noise(0, 20, 24, 3), []

    def distance(sr, true):
        seen.append((sr, true))
        return 0.25

    protocol = Protocol(2, border=border, lpips=distance)
    assert protocol.score(255 - hr, hr).lpips == 0.25
    inside = hr[border : 20 - border, border : 24 - border]
    np.testing.assert_array_equal(seen[0][0], 255 - inside)
    np.testing.assert_array_equal(seen[0][1], inside)


def test_unknown_words_are_refused():
    with pytest.raises(InputError, match=r"^rounding: found 'up', expected one of uint8, none$"):
        Protocol(2, rounding="up")
    with pytest.raises(InputError, match=r"^channel: found 'lab', expected one of y, rgb$"):
        Protocol(2, channel="lab")
