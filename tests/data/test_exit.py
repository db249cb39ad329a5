"""tf.data's threads call into Python: a program that ends amid a run must not wait for them for ever."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.samples import save_noise

PROGRAM = """
import itertools, sys
from data.loaders import make_loader
from tests.samples import experiment

data = {"source": "folder", "dir": sys.argv[1], "loader": "tfdata"}
loader = make_loader(experiment(data=data, patch_size=48, batch_size=64, total_steps=10**6))
batches = loader.batches(0)
print(len(list(itertools.islice(batches, 20))), flush=True)
if sys.argv[2] == "fail":
    raise SystemExit(2)
"""


@pytest.mark.parametrize(("ending", "code"), [("end", 0), ("fail", 2)])
def test_a_program_may_end_amid_its_batches(tmp_path, ending, code):
    pytest.importorskip("tensorflow")
    save_noise(tmp_path, {"a.png": (300, 300, 3), "b.png": (300, 400, 3)})
    command = [sys.executable, "-c", PROGRAM, tmp_path, ending]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (code, "20\n", "")
