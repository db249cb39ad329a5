"""Damaged results of other methods by the thousand: each is refused in a line before the scoring, or can be shown."""

import json

from etils import epath

from msnlan_jax.report.comparison import read_compared
from msnlan_jax.report.writing import write_report
from tests import damage, fuzz
from tests.report.samples import PROTOCOL, RESULTS, SET5


def test_compared(tmp_path, fuzz_count, monkeypatch):
    images = {"images": {"a": {"psnr": 30.0, "ssim": 0.9, "lpips": 0.1}}}
    by_hand = {"scale": 4, "datasets": {"Set5": {"psnr": 30, "ssim": None, "seconds": 1.5} | images}}
    samples = [json.dumps(RESULTS.to_json()).encode(), json.dumps(by_hand).encode()]
    inputs = damage.damaged(samples, (*damage.TEXT, damage.change_json, damage.change_json), fuzz_count(150))
    ours = type(RESULTS)(4, "w.pt", PROTOCOL, {"Set5": SET5})
    shown = 0

    def read_and_show(path):
        nonlocal shown
        try:
            compared = read_compared([f"theirs={path}"], 4)
        except (ValueError, FileNotFoundError) as error:
            if str(error).startswith("--compare: found "):  # it names the file too
                return
            raise
        shown += 1
        write_report(epath.Path(tmp_path / "out"), ours, compared=compared)

    monkeypatch.setattr("msnlan_jax.report.figures.write_figures", lambda *arguments: [])  # the same of all of them
    assert fuzz.try_each(inputs, tmp_path / "results.json", read_and_show).faults == []
    assert shown
