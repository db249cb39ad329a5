import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from data import memory
from data.loaders import make_loader
from msnlan_jax.errors import InputError
from tests.samples import experiment, save_noise


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of several sizes, portrait and landscape, gray and with alpha."""
    folder = tmp_path_factory.mktemp("photos")
    save_noise(folder, {"a.png": (40, 33, 3), "b.png": (32, 50), "c.png": (61, 36, 4), "d.bmp": (36, 90, 3)})
    return folder


def settings(folder, loader, **fields):
    return experiment(data={"source": "folder", "dir": str(folder), "loader": loader}, **fields)


def patches(loader, start=0):
    """What the steps see."""
    crops, resident = jax.jit(loader.crops), jax.tree.map(np.asarray, loader.resident)
    return [jax.device_get(crops(resident, batch)) for batch in loader.batches(start)]


def assert_same(found, expected):
    assert len(found) == len(expected) > 0
    for step, (a, b) in enumerate(zip(found, expected, strict=True)):
        for name, x, y in zip(("lr", "hr"), a, b, strict=True):
            np.testing.assert_array_equal(x, y, err_msg=f"{name} of batch {step}", strict=True)


@pytest.mark.parametrize("scale", [2, 3])
def test_both_loaders_give_the_same_batches(folder, scale):
    pytest.importorskip("tensorflow")
    fields = {"scale": scale, "total_steps": 100, "batch_size": 8}
    tfdata, memory_loader = (make_loader(settings(folder, name, **fields)) for name in ("tfdata", "memory"))
    expected = patches(tfdata)
    assert len(expected) == 100
    assert (expected[0][0].shape, expected[0][1].shape) == ((8, 8, 8, 3), (8, 8 * scale, 8 * scale, 3))
    assert_same(patches(memory_loader), expected)
    assert_same(patches(memory_loader, 60), expected[60:])
    assert_same(patches(tfdata, 60), expected[60:])


@pytest.mark.parametrize("name", ["tfdata", "memory"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_slices_of_processes_make_up_the_batch(folder, name, count):
    if name == "tfdata":
        pytest.importorskip("tensorflow")
    config = settings(folder, name, batch_size=8)
    parts = [patches(make_loader(config, index, count)) for index in range(count)]
    joined = [tuple(np.concatenate(arrays) for arrays in zip(*step, strict=True)) for step in zip(*parts, strict=True)]
    assert_same(joined, patches(make_loader(config)))


def test_the_memory_loader_needs_no_tensorflow(folder):
    program = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "from data.loaders import make_loader; from tests.samples import experiment\n"
        f"fields = {{'source': 'folder', 'dir': {str(folder)!r}}}\n"
        "print(len(list(make_loader(experiment(data=fields | {'loader': 'memory'})).batches(0))))\n"
        "make_loader(experiment(data=fields | {'loader': 'tfdata'}))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout == "4\n"
    assert (
        "InputError: config.data: the loader tfdata and TFDS data sets need TensorFlow: pip install"
        in done.stderr.splitlines()[-1]
    )


class SmallDevice:
    def memory_stats(self):
        return {"bytes_limit": 10_000}


def test_a_set_larger_than_the_device_is_refused(folder, monkeypatch):
    memory.Batches(settings(folder, "memory"))
    monkeypatch.setattr(memory.jax, "local_devices", lambda: [SmallDevice()])
    with pytest.raises(InputError, match=r"^config\.data\.loader: found memory .*, expected at most 80% .* tfdata"):
        memory.Batches(settings(folder, "memory"))


def test_unknown_loaders_are_refused(folder):
    with pytest.raises(InputError, match=r"^config\.data\.loader: found 'fast', expected one of tfdata, memory$"):
        make_loader(settings(folder, "fast"))
