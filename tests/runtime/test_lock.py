import json
import os
import re
import signal
import socket
import subprocess
import sys
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


def test_where_the_disk_has_no_locks_one_is_written(tmp_path, monkeypatch):
    import fcntl

    def refuse(*arguments):
        raise OSError(lock._NO_LOCKS[0], "no locks")

    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(fcntl, "lockf", refuse)
    with lock.holding(tmp_path, "--workdir"):
        assert json.loads((tmp_path / lock.NAME).read_bytes())["process"] == os.getpid()
        with (
            pytest.raises(InputError, match=rf"^--workdir: {tmp_path} is in use by "),
            lock.holding(tmp_path, "--workdir"),
        ):
            pass
