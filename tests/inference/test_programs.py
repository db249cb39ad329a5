"""How many programs pictures take, and that sharing them changes no result."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import monitoring

from msnlan_jax.inference import Options, Programs, predict, programs, upscale
from msnlan_jax.inference.tiling import CHOP_ARRAYS
from msnlan_jax.network import parameters
from msnlan_jax.pictures.bicubic import Bicubic
from tests.helpers import FORWARD, forward_shapes, picture, relative_l2
from tests.samples import Nearest, noise, tiny_config, tiny_parameters


@pytest.fixture(scope="module")
def network():
    return parameters.to_model(tiny_config(2), tiny_parameters(2))


@pytest.fixture
def compiled():
    """A list that holds an event for every program that is compiled, for pictures or else."""
    events = []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(seconds)

    monitoring.register_event_duration_secs_listener(listen)
    yield events
    monitoring.unregister_event_duration_listener(listen)


def test_equal_shapes_do_not_compile_again(compiled):
    first, second = Nearest(2), Nearest(2)
    upscale(first, noise(0, 31, 17, 3))
    compiled.clear()
    upscale(first, noise(1, 31, 17, 3))
    upscale(second, noise(2, 31, 17))
    upscale(second, noise(2, 31, 17, 4), inference="tile")
    assert compiled == []
    upscale(first, noise(1, 31, 18, 3))
    assert len(compiled) == 1


def test_pictures_of_similar_sizes_share_a_program_and_keep_their_results(network, compiled):
    pictures = [picture(1, *size, 3) for size in ((9, 16), (16, 9), (11, 13))]
    alone = [np.asarray(network(jnp.asarray(lr[None])))[0] for lr in pictures]
    predict(network, picture(0, 12, 16, 3))
    compiled.clear()
    for lr, expected in zip(pictures, alone, strict=True):
        assert relative_l2(predict(network, lr), expected) <= FORWARD
    assert compiled == []


def test_sizes_are_shared_by_whom_the_programs_belong_to(network, compiled):
    """With none given a picture is padded as if it were the first, and what is compiled is found all the same."""
    again = parameters.to_model(network.config, parameters.split(network)[1])
    large, small = picture(0, 16, 64, 3), picture(1, 16, 48, 3)
    own, other = Programs(), Programs()
    shared = [predict(network, large, programs=own), predict(again, small, programs=own)]
    assert own.count == 1
    compiled.clear()
    np.testing.assert_array_equal(predict(again, large), shared[0])
    assert compiled == []
    alone = predict(network, small)
    assert len(compiled) == 1
    assert relative_l2(shared[1], alone) <= FORWARD
    np.testing.assert_array_equal(predict(again, small, programs=other), alone)
    assert (own.count, other.count, len(compiled)) == (1, 1, 1)
    own.forget_sizes()
    np.testing.assert_array_equal(predict(network, small, programs=own), alone)
    assert (own.count, len(compiled)) == (2, 1)


def test_a_network_is_looked_up_once_and_not_for_every_batch(network, monkeypatch):
    """Hashing the graph of a large one takes as long as a small tile."""
    forward = Programs().forward(network)
    batch = picture(0, 1, 12, 16, 3)
    expected = forward(batch)
    monkeypatch.setattr(nnx.GraphDef, "__hash__", lambda graph: pytest.fail("it was looked up"))
    np.testing.assert_array_equal(forward(batch), expected)


def test_a_program_that_is_loaded_and_cannot_be_run_is_compiled(network, monkeypatch):
    """As one that came from the cache on disk, on a CPU's next device; the error comes with the result."""

    class Failed:
        def block_until_ready(self):
            raise RuntimeError("NOT_FOUND: Function fusion not found")

    made = Programs(jax.devices()[:1] * 2)
    forward, batch = made.forward(network), picture(0, 1, 12, 16, 3)
    expected = forward(batch)
    ((programs_of_shape,),) = (known.compiled.values() for known in made._networks.values())
    programs_of_shape["another device"] = programs_of_shape.pop(jax.devices()[0])
    loaded = []
    monkeypatch.setattr(
        programs.copies, "load_on", lambda *arguments: loaded.append(arguments) or (lambda *batch: Failed())
    )
    np.testing.assert_array_equal(forward(batch), expected)
    assert len(loaded) == 1


def test_networks_of_other_parameters_have_their_own_programs():
    class Sum(nnx.Module):
        def __init__(self, values):
            self.scale, self.values = 1, nnx.Param(values)

        def __call__(self, x):
            return x + jnp.sum(self.values[...])

    made, lr = Programs(), picture(0, 4, 5, 3)
    for values in (jnp.ones(2), jnp.ones(3), jnp.ones(3, jnp.int32), np.ones(3, np.float32)):
        np.testing.assert_array_equal(predict(Sum(values), lr, programs=made), lr + np.float32(values.sum()))


def test_buckets_waste_little():
    for side in range(1, 3000):
        assert side <= programs.bucket(side) <= max(side + 15, 9 * side // 8)
    assert len({programs.bucket(side) for side in range(257, 513)}) == 8


def test_a_program_for_a_little_larger_array_is_taken():
    made = []
    for size, expected in (
        ((64, 64), (64, 64)),
        ((56, 44), (64, 64)),
        ((40, 48), (48, 48)),
        ((44, 44), (48, 48)),
        ((52, 68), (64, 80)),
    ):
        assert Programs().array_size(made, *size) == expected
    assert made == [(64, 64), (48, 48), (64, 80)]
    assert Programs().array_size([], 56, 44) == (64, 48)


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
    made, needed, taken = [], 0, 0
    for (h, w), count in BENCHMARK_SIZES.items():
        for lr in (picture(0, h // scale, w // scale, 3), picture(0, w // scale, h // scale, 3)):
            for _, *tile in forward_shapes(Nearest(scale), lr, Options("chop")):
                size = Programs().array_size(made, *tile[:2], CHOP_ARRAYS[scale])
                assert size[0] >= tile[0] and size[1] >= tile[1]
                if lr.shape[:2] == (h // scale, w // scale):
                    needed, taken = needed + count * math.prod(tile[:2]) ** 2, taken + count * math.prod(size) ** 2
    assert len(CHOP_ARRAYS[scale]) == 4
    assert made == []
    # What attention costs, which grows with the square of the area.
    assert taken < 1.5 * needed


def test_other_tiles_are_not_run_in_arrays_much_too_large():
    for h, w, expected in [(12, 30, (16, 32)), (20, 180, (32, 192))]:
        made = []
        assert Programs().array_size(made, h, w, CHOP_ARRAYS[4]) == expected
        assert made == [expected]


def test_only_networks_are_counted(network):
    taken = Programs()
    upscale(Bicubic(2), noise(0, 5, 37, 3), programs=taken)
    assert taken.count == 0
    for size in ((37, 5), (37, 5), (36, 6)):
        predict(network, picture(0, *size, 3), programs=taken)
    assert taken.count == 1
    predict(network, picture(0, 70, 5, 3), programs=taken)
    assert taken.count == 2
