import json

import pytest

from msnlan_jax.training.metrics_log import MetricsLog


def test_metrics_log(tmp_path):
    path = tmp_path / "new" / "metrics.jsonl"
    log = MetricsLog(path, last_step=0)
    for count, step in enumerate((1, 2, 3, 3), 1):
        log.write(step, {"loss": step / 3})
        assert len(path.read_text().splitlines()) == count
    kept = path.read_text().splitlines(keepends=True)
    with path.open("a") as file:
        file.write('{"step": 1, "loss"')
    MetricsLog(path, last_step=2).write(7, {"psnr": 30.5})
    assert path.read_text() == "".join(kept[:2]) + '{"step": 7, "psnr": 30.5}\n'
    MetricsLog(path, last_step=0)
    assert path.read_text() == ""


def test_losses_that_are_no_number_stay_strict_json(tmp_path):
    MetricsLog(tmp_path / "metrics.jsonl", last_step=0).write(1, {"loss": float("nan"), "psnr": float("inf")})
    json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=lambda name: pytest.fail(f"found {name}"))


@pytest.mark.parametrize("damage", [b'{"step": 1, "lo\xffs": 2}', b"\xff\xfe", b"[" * 99999, b'{"step": "1"}', b"7"])
def test_a_damaged_line_is_left_out_and_the_others_are_kept(tmp_path, capsys, damage):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, last_step=0)
    for step in (1, 2, 3):
        log.write(step, {"loss": step / 3})
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + damage + b"\n" + second + third)
    assert [line["step"] for line in MetricsLog(path, last_step=2).lines] == [1, 2]
    assert path.read_bytes() == first + second
    assert capsys.readouterr().out == f"{path}: 1 damaged line left out, 2 kept\n"
