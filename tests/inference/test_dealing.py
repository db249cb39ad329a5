"""Calls dealt out to devices: how many are under way, in what order their outputs come, and what errors lose."""

import math

import jax
import numpy as np
import pytest

from msnlan_jax.inference import Options, Programs, plan_picture, planning
from msnlan_jax.inference.dealing import Call, calls_ahead, deal, taken
from msnlan_jax.network import parameters
from msnlan_jax.runtime import machine
from tests.samples import tiny_config


class Devices:
    """Notes what is started where, and what is fetched."""

    def __init__(self):
        self.events, self.under_way, self.most = [], 0, 0

    def call(self, number, picture=None, held=0.0, running=0.0):
        def start(device):
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            self.events.append(f"{number} on {device}")

            def fetch():
                self.under_way -= 1
                return np.asarray(number)

            return fetch

        return Call(start, number if picture is None else picture, held, running)


@pytest.mark.parametrize(("n_devices", "ahead"), [(1, 0), (1, 1), (1, 2), (3, 3), (3, 6), (8, 16)])
def test_outputs_come_in_order_and_a_bounded_number_is_under_way(n_devices, ahead):
    devices = Devices()
    busy = []
    for number, output in enumerate(deal(map(devices.call, range(40)), n_devices, ahead)):
        assert output == number
        busy.append(devices.under_way)
    assert devices.events == [f"{number} on {number % n_devices}" for number in range(40)]
    # While one output is used, as many calls as allowed are under way, until there are no more.
    assert busy == [min(ahead, 39 - number) for number in range(40)]
    assert devices.most == max(1, ahead)


def test_the_next_call_is_asked_for_while_those_before_run():
    devices, asked = Devices(), []

    def calls():
        for number in range(6):
            asked.append(devices.under_way)
            yield devices.call(number)

    assert list(deal(calls(), 3, 3)) == [0, 1, 2, 3, 4, 5]
    assert asked == [0, 1, 2, 3, 3, 3]


@pytest.mark.parametrize("ahead", [0, 4])
@pytest.mark.parametrize("where", ["asked for", "started"])
def test_an_error_loses_nothing_that_was_made_before(ahead, where):
    devices = Devices()

    def fail(device):
        raise ValueError("broken")

    def calls():
        yield from map(devices.call, range(3))
        if where == "asked for":
            raise ValueError("broken")
        yield Call(fail)
        pytest.fail("the next one was asked for")

    came = []
    with pytest.raises(ValueError, match="broken"):
        for output in deal(calls(), 4, ahead):
            came += [output]  # an `extend` would lose them
    assert came == [0, 1, 2]


@pytest.mark.parametrize("ahead", [0, 2, 4, 9])
def test_no_output_stands_in_for_one_that_is_lost(ahead):
    devices, came = Devices(), []

    def fail():
        raise ValueError("broken")

    calls = [*map(devices.call, range(3)), Call(lambda device: fail), *map(devices.call, range(4, 9))]
    with pytest.raises(ValueError, match="broken"):
        for output in deal(calls, 4, ahead):
            came += [output]
    assert came == [0, 1, 2]


def test_what_shares_the_memory_waits_for_room():
    """Pictures count once, however many of their calls are under way; one alone may take more than there is."""
    devices = Devices()
    calls = [devices.call(number, picture=number // 4, held=10.0, running=5.0) for number in range(12)]
    assert taken(*calls[:4]) == 30.0
    assert taken(*calls[3:5]) == 30.0
    assert list(deal(calls, 8, 8, room=25.0)) == list(range(12))
    assert devices.most == 3
    devices = Devices()
    assert list(deal((devices.call(number, held=30.0) for number in range(5)), 8, 8, room=25.0)) == list(range(5))
    assert devices.most == 1


def test_only_a_single_cpu_works_alone(monkeypatch):
    assert [calls_ahead(count) for count in (1, 2, 8)] == [0, 2, 8]
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert [calls_ahead(count) for count in (1, 8)] == [2, 16]


def test_pictures_are_planned_as_for_one_device_and_fewer_are_under_way(monkeypatch):
    network = parameters.abstract_model(tiny_config(2))
    limit = 2.0
    plans = [
        plan_picture(network, (60, 50), Options(memory_limit=limit), programs=Programs(jax.local_devices() * count))
        for count in (1, 8)
    ]
    assert plans[0] == plans[1]
    room = planning.shared_bytes(network, limit)
    assert room == limit * machine.GB - planning.program_bytes(network)
    assert 0 < plans[0].held_bytes < room
    needed = planning.program_bytes(network) + plans[0].held_bytes + plans[0].running_bytes
    output = planning.Output(60, 50, 2, 0)
    assert needed == pytest.approx(planning.estimate_bytes(network.config, (64, 64), 1, output, plans[0].score_bytes))
    assert (
        planning.shared_bytes(network, math.inf) < math.inf
    )  # what is planned without a limit has to fit all the same
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert planning.shared_bytes(network, limit) == math.inf


def test_devices_of_their_own_cores_take_tiles_at_once(monkeypatch):
    network = parameters.abstract_model(tiny_config(2))
    eight = Programs(jax.local_devices() * 8)
    options = Options("tile", 16, 4, memory_limit=2.0)
    assert plan_picture(network, (60, 50), options, programs=eight).at_once == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    alone, all_at_once = (plan_picture(network, (60, 50), options, programs=made) for made in (Programs(), eight))
    assert (alone.at_once, all_at_once.at_once) == (1, min(8, math.ceil(alone.parts / 4)))
    assert alone.seconds == all_at_once.seconds
