import os
import resource

import jax
import pytest

from msnlan_jax.runtime import machine


def test_most_of_the_accelerators_memory_is_taken(monkeypatch):
    class Device:
        def memory_stats(self):
            return {"bytes_limit": 1000}

    assert machine.free_bytes() > 0
    assert machine.limit_bytes(2.5) == 2.5 * machine.GB
    monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
    assert machine.limit_bytes(None) == 800


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")),
        ("sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
    ],
    ids=["v2", "v1"],
)
def test_free_memory_is_what_a_container_leaves(tmp_path, folder, names):
    bound, used, cached = names
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:  900 kB\nMemAvailable:  700 kB\n")
    assert machine.free_bytes(tmp_path) == 700 * 1024
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / used).write_text("400000\n")
    (tmp_path / folder / "memory.stat").write_text(f"anon 1\nin{cached} 7\n{cached} 50000\n")
    for text, expected in (("max\n", 700 * 1024), ("600000\n", 250_000), ("300000\n", 0)):
        (tmp_path / folder / bound).write_text(text)
        assert machine.free_bytes(tmp_path) == expected


def test_groups_within_groups_and_the_limit_of_addresses(tmp_path, monkeypatch):
    top = tmp_path / "sys/fs/cgroup"
    for folder, bound in (("", "max"), ("user", "500000"), ("user/run", "900000"), ("other", "1000")):
        (top / folder).mkdir(parents=True, exist_ok=True)
        (top / folder / "memory.max").write_text(f"{bound}\n")
        (top / folder / "memory.current").write_text("100000\n")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("3:cpu,cpuacct:/elsewhere\n0::/user/run\n")
    assert machine.free_bytes(tmp_path) == 400_000
    (tmp_path / "proc/self/statm").write_text("10 5 3 1 0 4 0\n")
    monkeypatch.setattr(resource, "getrlimit", lambda what: (300_000 + 18 * 2**23, 10**9))
    assert machine.free_bytes(tmp_path) == 300_000 - 10 * os.sysconf("SC_PAGE_SIZE")
