import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from msnlan_jax.errors import InputError
from msnlan_jax.runtime import lock
from tests import object_store

ROOT = Path(__file__).parents[2]
HOLD = """import sys, time
from msnlan_jax.runtime import lock
with lock.holding(sys.argv[1], "--workdir"):
    print("held", flush=True)
    time.sleep(600)"""


def test_a_folder_is_held_by_one_process_until_it_ends_however_it_does(tmp_path):
    for number in (signal.SIGKILL, signal.SIGTERM):
        other = subprocess.Popen(
            [sys.executable, "-c", HOLD, tmp_path], env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
        )
        try:
            assert other.stdout.readline() == b"held\n"
            with pytest.raises(InputError) as raised, lock.holding(tmp_path, "--workdir"):
                pass
        finally:
            other.send_signal(number)
            other.communicate()
        assert re.fullmatch(
            rf"--workdir: {tmp_path} is in use by process {other.pid} on {re.escape(socket.gethostname())}, since "
            r"[-\d]+ [:\d]+; expected a folder that no other job writes into",
            str(raised.value),
        )
        for _ in range(2):
            with lock.holding(tmp_path, "--workdir"):
                assert json.loads((tmp_path / lock.NAME).read_bytes())["process"] == os.getpid()


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    object_store.use(tmp_path, monkeypatch)
    return tmp_path


def test_an_object_store_is_held_by_what_is_written_again_and_again(store, capsys):
    with lock.holding("gs://bucket", "--workdir"):
        (store / "other").write_bytes((store / lock.NAME).read_bytes())
        with (
            pytest.raises(InputError, match=r"^--workdir: gs://bucket is in use by process \d+ on "),
            lock.holding("gs://bucket", "--workdir"),
        ):
            pass
        assert "gs://bucket was left by process" in capsys.readouterr().out
    assert not (store / lock.NAME).exists()
    (store / lock.NAME).write_bytes((store / "other").read_bytes())  # as a killed job leaves it
    with lock.holding("gs://bucket", "--workdir"):
        pass
    (store / lock.NAME).write_bytes(b"\xff")
    with lock.holding("gs://bucket", "--workdir"):
        pass


def test_of_two_that_come_at_once_the_last_to_write_has_it(store, monkeypatch):
    def come_too(seconds):
        other = json.loads((store / lock.NAME).read_bytes()) | {"host": "elsewhere", "job": "2"}
        (store / lock.NAME).write_text(json.dumps(other))

    monkeypatch.setattr(lock.time, "sleep", come_too)
    with (
        pytest.raises(InputError, match=r"^--workdir: gs://bucket is in use by process \d+ on elsewhere, since "),
        lock.holding("gs://bucket", "--workdir"),
    ):
        pass
    assert json.loads((store / lock.NAME).read_bytes())["host"] == "elsewhere"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP])
def test_where_the_disk_has_no_locks_one_is_written(tmp_path, monkeypatch, number):
    import fcntl

    def refuse(*arguments):
        raise OSError(number, "no locks")

    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(fcntl, "lockf", refuse)
    with lock.holding(tmp_path, "--workdir"):
        assert json.loads((tmp_path / lock.NAME).read_bytes())["process"] == os.getpid()
        with (
            pytest.raises(InputError, match=rf"^--workdir: {tmp_path} is in use by "),
            lock.holding(tmp_path, "--workdir"),
        ):
            pass


def test_a_job_whose_folder_was_taken_over_stops_and_leaves_it(store):
    other = b"{}"
    with (
        pytest.raises(InputError, match=r"^--workdir: gs://bucket was taken over by process 7 on elsewhere, since "),
        lock.holding("gs://bucket", "--workdir"),
    ):
        other = json.dumps(
            json.loads((store / lock.NAME).read_bytes()) | {"host": "elsewhere", "process": 7, "job": "2"}
        )
        (store / lock.NAME).write_text(other)
        for _ in range(2000):
            time.sleep(0.01)
    assert (store / lock.NAME).read_text() == other


def test_what_was_taken_over_is_left_at_the_end(store, monkeypatch):
    monkeypatch.setattr(lock, "_interrupt", lambda thread: None)
    with lock.holding("gs://bucket", "--workdir"):
        other = json.dumps(json.loads((store / lock.NAME).read_bytes()) | {"job": "2"})
        (store / lock.NAME).write_text(other)
    assert (store / lock.NAME).read_text() == other


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EACCES, "--workdir: {} is in use by "),
        (errno.EAGAIN, "--workdir: {} is in use by "),
        (errno.EIO, "{}/.lock: cannot be locked: Input/output error"),
    ],
)
def test_only_a_lock_that_is_held_is_in_use(tmp_path, monkeypatch, number, message):
    import fcntl

    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with (
        pytest.raises(InputError, match="^" + re.escape(message.format(tmp_path))),
        lock.holding(tmp_path, "--workdir"),
    ):
        pass
