"""TensorBoard events: read back, and no reason for a run to end."""

import errno

import numpy as np
import pytest

from msnlan_jax.training.tensorboard import Events

writer = pytest.importorskip("tensorboardX.event_file_writer")


def read(folder):
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    events = []
    for path in folder.iterdir():
        data = path.read_bytes()
        while data:  # each record: length (8 bytes), its checksum (4), the event, its checksum (4)
            length = int.from_bytes(data[:8], "little")
            events.append(event_pb2.Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return events


def test_what_is_written_can_be_read(tmp_path):
    events = Events(tmp_path / "new", 4, pytest.fail)
    events.scalars(5, {"loss": 2.5, "psnr": float("nan"), "rate": 0.5})
    events.pictures(5, {"Set5/baby": np.zeros((4, 6, 3), np.uint8)})
    found = read(tmp_path / "new")  # before it is closed: a run that is killed has its events
    assert [event.step for event in found] == [0, 5, 5, 5]
    assert found[0].file_version == "brain.Event:2"
    assert found[1].session_log.status == 1
    assert [(value.tag, value.simple_value) for value in found[2].summary.value] == [("loss", 2.5), ("rate", 0.5)]
    (value,) = found[3].summary.value
    assert (value.tag, value.image.height, value.image.width) == ("Set5/baby", 4, 6)
    events.close()


def test_a_full_disk_is_told_once(tmp_path, monkeypatch):
    said = []
    events = Events(tmp_path, 0, said.append)

    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer.EventsWriter, "write_event", fail)
    for step in range(1, 4):
        events.scalars(step, {"loss": 1.0})
    events.close()
    assert said == ["no TensorBoard events from here on: [Errno 28] No space left on device"]
