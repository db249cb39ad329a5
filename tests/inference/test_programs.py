"""How many programs pictures take, and that sharing them changes no result."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from msnlan_jax.inference import Options, Programs, predict, programs, upscale
from msnlan_jax.inference.tiling import CHOP_ARRAYS
from msnlan_jax.network import parameters
from msnlan_jax.pictures.bicubic import Bicubic
from tests.helpers import FORWARD, forward_shapes, picture, relative_l2
from tests.samples import Nearest, noise, tiny_config, tiny_parameters

GRAPH = parameters.split(Nearest(2))[0]


@pytest.fixture(scope="module")
def network():
    return parameters.to_model(tiny_config(2), tiny_parameters(2))


def compilations():
    """How many programs this process has compiled for pictures."""
    return programs._compiled()._cache_size()


def test_equal_shapes_do_not_compile_again():
    first, second = Nearest(2), Nearest(2)
    upscale(first, noise(0, 31, 17, 3))
    compiled = compilations()
    upscale(first, noise(1, 31, 17, 3))
    upscale(second, noise(2, 31, 17))
    upscale(second, noise(2, 31, 17, 4), inference="tile")
    assert compilations() == compiled
    upscale(first, noise(1, 31, 18, 3))
    assert compilations() == compiled + 1


def test_pictures_of_similar_sizes_share_a_program_and_keep_their_results(network):
    predict(network, picture(0, 12, 16, 3))
    compiled = compilations()
    for size in ((9, 16), (16, 9), (11, 13)):
        lr = picture(1, *size, 3)
        alone = np.asarray(network(jnp.asarray(lr[None])))[0]
        assert relative_l2(predict(network, lr), alone) <= FORWARD
    assert compilations() == compiled


def test_sizes_are_shared_by_whom_the_programs_belong_to(network):
    """Of pictures run by the same programs, or with none given by the same network."""
    own, other = Programs(), Programs()
    graph = parameters.split(network)[0]
    assert own.array_size(graph, 1, 64, 64) == (64, 64)
    assert (own.array_size(graph, 1, 56, 44), other.array_size(graph, 1, 56, 44)) == ((64, 64), (64, 48))
    again = parameters.to_model(network.config, parameters.split(network)[1])
    assert programs.programs_of(network) is programs.programs_of(network) is not programs.programs_of(again)


def test_buckets_waste_little():
    for side in range(1, 3000):
        assert side <= programs.bucket(side) <= max(side + 15, 9 * side // 8)
    assert len({programs.bucket(side) for side in range(257, 513)}) == 8


def test_a_program_for_a_little_larger_array_is_taken():
    made = Programs()
    assert made.array_size(GRAPH, 1, 64, 64) == (64, 64)
    assert made.array_size(GRAPH, 1, 56, 44) == (64, 64)
    assert made.array_size(GRAPH, 1, 40, 48) == (48, 48)
    assert made.array_size(GRAPH, 1, 44, 44) == (48, 48)
    assert made.array_size(GRAPH, 1, 52, 68) == (64, 80)
    assert made._made == {(GRAPH, 1): [(64, 64), (48, 48), (64, 80)]}


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
def test_four_arrays_serve_the_chop_of_the_benchmark_sets(scale):
    made, needed, taken = Programs(), 0, 0
    for (h, w), count in BENCHMARK_SIZES.items():
        for lr in (picture(0, h // scale, w // scale, 3), picture(0, w // scale, h // scale, 3)):
            for _, *tile in forward_shapes(Nearest(scale), lr, Options("chop")):
                size = made.array_size(GRAPH, 1, *tile[:2], CHOP_ARRAYS[scale])
                assert size[0] >= tile[0] and size[1] >= tile[1]
                if lr.shape[:2] == (h // scale, w // scale):
                    needed, taken = needed + count * math.prod(tile[:2]) ** 2, taken + count * math.prod(size) ** 2
    assert len(CHOP_ARRAYS[scale]) == 4
    assert made._made == {(GRAPH, 1): []}
    # What attention costs, which grows with the square of the area.
    assert taken < 1.5 * needed


def test_other_tiles_are_not_run_in_arrays_much_too_large():
    for h, w, expected in [(12, 30, (16, 32)), (20, 180, (32, 192))]:
        made = Programs()
        assert made.array_size(GRAPH, 1, h, w, CHOP_ARRAYS[4]) == expected
        assert made._made == {(GRAPH, 1): [expected]}


def test_only_networks_are_counted(network):
    taken = Programs()
    upscale(Bicubic(2), noise(0, 5, 37, 3), programs=taken)
    assert taken.count == 0
    for size in ((37, 5), (37, 5), (36, 6)):
        predict(network, picture(0, *size, 3), programs=taken)
    assert taken.count == 1
    predict(network, picture(0, 70, 5, 3), programs=taken)
    assert taken.count == 2
