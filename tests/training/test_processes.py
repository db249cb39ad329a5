"""What one process of a training job cannot do ends all of them, in one line each."""

import pytest

from tests.jobs import ROOT, run_pair
from tests.samples import save_noise


@pytest.mark.slow
def test_pictures_that_one_process_lacks_end_both(tmp_path):
    save_noise(tmp_path / "photos", {"a.png": (24, 30, 3)})
    flags = [f"--config={ROOT / 'configs/quickstart.py'}", "--workdir=run", "--config.data.source=folder"]
    codes, _, errs = run_pair(
        "train.py",
        tmp_path,
        *(*flags, "--config.data.dir=photos"),
        of_second=(*flags, "--config.data.dir=elsewhere"),
    )
    assert codes == [2, 2], errs
    assert errs[0].splitlines()[-1] == "error: another process of the job has found an error, and tells it"
    assert errs[1].startswith("error: elsewhere: no such ")
    assert not (tmp_path / "run").exists()
