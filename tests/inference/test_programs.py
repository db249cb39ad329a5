"""How many programs pictures take, and that sharing them changes no result."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from msnlan_jax.inference import programs
from msnlan_jax.inference.upscaling import predict, upscale
from msnlan_jax.network import parameters
from msnlan_jax.pictures.bicubic import Bicubic
from tests.helpers import FORWARD, forward_shapes, picture, relative_l2
from tests.samples import Nearest, noise, tiny_config, tiny_parameters


@pytest.fixture(scope="module")
def network():
    return parameters.to_model(tiny_config(2), tiny_parameters(2))


def test_equal_shapes_do_not_compile_again():
    first, second = Nearest(2), Nearest(2)
    upscale(first, noise(0, 31, 17, 3))
    compiled = programs.compilations(Nearest)
    upscale(first, noise(1, 31, 17, 3))
    upscale(second, noise(2, 31, 17))
    upscale(second, noise(2, 31, 17, 4), inference="tile")
    assert programs.compilations(Nearest) == compiled
    upscale(first, noise(1, 31, 18, 3))
    assert programs.compilations(Nearest) == compiled + 1


def test_pictures_of_similar_sizes_share_a_program_and_keep_their_results(network):
    predict(network, picture(0, 12, 16, 3))
    compiled = programs.compilations()
    for size in ((9, 16), (16, 9), (11, 13)):
        lr = picture(1, *size, 3)
        alone = np.asarray(network(jnp.asarray(lr[None])))[0]
        assert relative_l2(predict(network, lr), alone) <= FORWARD
    assert programs.compilations() == compiled


def test_buckets_waste_little():
    for side in range(1, 3000):
        assert side <= programs.bucket(side) <= max(side + 15, 9 * side // 8)
    assert len({programs.bucket(side) for side in range(257, 513)}) == 8


def test_a_program_for_a_little_larger_array_is_taken():
    made = [(64, 64)]
    assert programs._array_size((), made, 56, 44) == (64, 64)
    assert programs._array_size((), made, 40, 48) == (48, 48)
    assert programs._array_size((), made, 44, 44) == (48, 48)
    assert programs._array_size((), made, 52, 68) == (64, 80)
    assert made == [(64, 64), (48, 48), (64, 80)]


# How many HR pictures of each height and width the standard benchmark sets hold: Set5, Set14, B100.
BENCHMARK_SIZES = {
    (321, 480): 77,
    (480, 321): 23,
    (512, 512): 5,
    (288, 352): 2,
    **dict.fromkeys([(256, 256), (276, 276), (280, 280), (288, 288), (344, 228), (361, 250), (362, 500)], 1),
    **dict.fromkeys([(391, 586), (480, 500), (512, 768), (576, 720), (656, 529)], 1),
}


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_four_arrays_serve_the_chop_of_the_benchmark_sets(monkeypatch, scale):
    made, needed, taken = [], 0, 0
    for (h, w), count in BENCHMARK_SIZES.items():
        for lr in (picture(0, h // scale, w // scale, 3), picture(0, w // scale, h // scale, 3)):
            for _, *tile in forward_shapes(monkeypatch, model=Nearest(scale), lr=lr, inference="chop"):
                size = programs._array_size(programs.CHOP_ARRAYS[scale], made, *tile[:2])
                assert size[0] >= tile[0] and size[1] >= tile[1]
                if lr.shape[:2] == (h // scale, w // scale):
                    needed, taken = needed + count * math.prod(tile[:2]) ** 2, taken + count * math.prod(size) ** 2
    assert len(programs.CHOP_ARRAYS[scale]) == 4
    assert made == []
    # What attention costs, which grows with the square of the area.
    assert taken < 1.5 * needed


def test_other_tiles_are_not_run_in_arrays_much_too_large():
    for h, w, expected in [(12, 30, (16, 32)), (20, 180, (32, 192))]:
        made = []
        assert programs._array_size(programs.CHOP_ARRAYS[4], made, h, w) == expected
        assert made == [expected]


def test_only_networks_are_counted(network):
    compiled = programs.compilations()
    upscale(Bicubic(2), noise(0, 5, 37, 3))
    assert programs.compilations() == compiled
    predict(network, picture(0, 37, 5, 3))
    assert programs.compilations() == compiled + 1
