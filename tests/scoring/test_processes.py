"""`eval.py` by two processes of a job: one report, and an error in either ends both."""

import json
from pathlib import Path

import pytest

from tests.jobs import run_pair
from tests.samples import save_noise, save_workdir, tiny_parameters

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_first_process_reports_what_both_have_scored(tmp_path):
    save_workdir(tmp_path / "run", (3, tiny_parameters(2), 30.0))
    save_noise(tmp_path / "photos", {"a.png": (24, 30, 3), "b.png": (32, 24, 3), "c.png": (20, 30, 3)})
    flags = ("--weights=run", "--data_dir=photos", "--save_images", "--output=eval")
    codes, outs, errs = run_pair("eval.py", tmp_path, *flags)
    assert codes == [0, 0], errs
    assert "on 2 devices of 2 processes: cpu\n" in outs[0]
    assert "written to eval: report.html" in outs[0]
    assert "3/3" in errs[0]  # the bar
    assert [line for line in outs[1].splitlines() if not line.startswith("[Gloo]")] == []  # which is JAX's own
    assert "picture" not in errs[1]
    found = json.loads((tmp_path / "eval" / "results.json").read_text())
    assert list(found["datasets"]["photos"]["images"]) == list(found["bicubic"]["photos"]["images"]) == ["a", "b", "c"]
    for folder, names in (("images", ["ax2.png", "bx2.png", "cx2.png"]), ("strips", ["a.png", "b.png", "c.png"])):
        assert sorted(path.name for path in (tmp_path / "eval" / folder / "photos").iterdir()) == names


@pytest.mark.slow
@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_in_one_process_ends_both_in_one_line(tmp_path, failing):
    """The first one cannot write its report; the second one has a broken picture."""
    save_noise(tmp_path / "photos", {"a.png": (24, 30, 3), "b.png": (32, 24, 3)})
    save_noise(tmp_path / "others", {"a.png": (24, 30, 3), "b.png": (32, 24, 3)})
    (tmp_path / "others" / "b.png").write_bytes(b"broken")
    (tmp_path / "file").write_text("")
    flags = ("--weights=bicubic", "--scale=2", f"--output={'eval' if failing else 'file'}")
    sets = [f"--data_dir={folder}" for folder in ("photos", "others" if failing else "photos")]
    codes, _, errs = run_pair("eval.py", tmp_path, *flags, sets[0], of_second=(*flags, sets[1]))
    lines = [[line for line in err.splitlines() if line.startswith("error: ")] for err in errs]
    own = "error: others/b.png: broken or unreadable picture: " if failing else "error: --output: file is a file, "
    assert codes == [2, 2], errs
    assert lines[failing][0].startswith(own)
    assert lines[1 - failing] == ["error: another process of the job has found an error, and tells it"]
    assert not any("Traceback" in err for err in errs)
