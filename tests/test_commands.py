"""The commands as a user types them, mostly without a process of their own."""

import json
import re
import sys
from pathlib import Path

import pytest

from msnlan_jax import weights
from msnlan_jax.pictures.images import read_image, write_image
from tests.jobs import held
from tests.samples import noise, save_noise, snapshot, tiny_config, tiny_parameters

ROOT = Path(__file__).parents[1]


@pytest.fixture
def files(tmp_path):
    """A data set, weights, and whatever else can be wrong with either."""
    save_noise(tmp_path / "data" / "tiny" / "HR", {"a.png": (30, 27, 3), "b.png": (24, 32, 3)})
    save_noise(tmp_path / "data" / "mismatch" / "HR", {"a.png": (24, 24, 3)})
    save_noise(tmp_path / "data" / "mismatch" / "LR_bicubic" / "X2", {"ax2.png": (10, 12, 3)})
    save_noise(tmp_path / "data" / "broken" / "HR", {"a.png": (24, 24, 3), "b.png": (24, 24, 3)})
    broken = tmp_path / "data" / "broken" / "HR" / "b.png"
    broken.write_bytes(broken.read_bytes()[:500])
    (tmp_path / "data" / "empty" / "HR").mkdir(parents=True)
    weights.write_safetensors(tmp_path / "x2.safetensors", tiny_config(2), tiny_parameters(2))
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "x2.safetensors").read_bytes()[:9999])
    (tmp_path / "renamed.pt").write_bytes((tmp_path / "x2.safetensors").read_bytes())
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04 and nothing more")
    (tmp_path / "file").write_bytes(b"precious")
    write_image(tmp_path / "rgba.png", noise(0, 6, 5, 4))
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "out").mkdir()
    for name in ("results.json", "results.md", "config.json", "a.png", "a.safetensors", "a.pt"):
        (tmp_path / "out" / name).write_bytes(b"precious")
    return tmp_path


SETS = "eval --data_dir data --datasets tiny"
SCORING = f"{SETS} --scale 2"
EVAL = f"{SCORING} --output out"
SCORE = "eval --sr_dir data/tiny/HR --hr_dir data/tiny/HR --scale 2 --output out"
RUN = "train --config {root}/configs/quickstart.py"
TRAIN = f"{RUN} --workdir new"
SMALL = "--config.batch_size=2 --config.patch_size=8 --config.data.source=folder --config.eval.data_dir=data/tiny"

# What is typed, and the pattern with which the one line on standard error begins.
MISTAKES = [
    ("eval --data_dir data --datasets broken --scale 2 --output out", "data/broken/HR/b.png: broken or unreadable"),
    ("eval --data_dir data --datasets mismatch --scale 2 --output out", "data/mismatch/HR/a.png: found 24×24 pixels"),
    (f"{EVAL} --lr_dir none", "--lr_dir: no such folder none, neither in data/tiny nor by itself"),
    (
        "eval --data_dir data/mismatch/LR_bicubic/X2 --scale 2 --output out",
        "data/mismatch/LR_bicubic/X2: found a folder",
    ),
    ("eval --lr_dir x --output out", "--lr_dir needs --data_dir"),
    ("eval --data_dir data --datasets empty --scale 2 --output out", "data/empty/HR: found no pictures"),
    ("eval --data_dir nothing --scale 2 --output out", "nothing: found no data sets or pictures"),
    (
        "eval --data_dir data --datasets tiny,Set5 --output out",
        "data: found no data set .*, expected one of broken, empty, mismatch, tiny",
    ),
    ("eval --data_dir none --output out", "none: no such folder, expected data sets"),
    ("eval --datasets Set5 --output out", "--datasets: found Set5, expected photos or held_out"),
    (f"{EVAL} --weights cut.safetensors", "cut.safetensors: not a readable safetensors file"),
    (f"{EVAL} --weights cut.pt", "cut.pt: not a readable PyTorch checkpoint"),
    (f"{EVAL} --weights none.pt", "none.pt: no such file or workdir, nor bundled weights"),
    (f"{EVAL} --weights nothing", "nothing/config.json: no such file"),
    ("eval --weights x2.safetensors --scale 3 --output out", "x2.safetensors: found weights for ×2, expected ×3"),
    (f"{SETS} --scale 0", "--scale: found 0, expected a positive number"),
    (f"{SETS} --scale two", "argument --scale: invalid int value: 'two'"),
    (f"{EVAL} --inference fast", "argument --inference: invalid choice: 'fast'"),
    (
        f"{EVAL} --inference tile --tile_size 8 --tile_overlap 5",
        "tile_overlap: found 5 with a tile_size of 8, expected 0 to 4",
    ),
    (f"{EVAL} --nope", "unrecognized arguments: --nope"),
    (f"{EVAL} --sr_dir data", "--sr_dir needs --hr_dir"),
    ("eval --sr_dir data/tiny/HR --hr_dir data/tiny/HR --output out", "--sr_dir needs --scale"),
    ("eval --sr_dir nothing --hr_dir data/tiny/HR --scale 2 --output out", "nothing: found no pictures"),
    ("eval --sr_dir data/tiny/HR --hr_dir data/mismatch/HR --scale 2 --output out", "data/mismatch/HR/a.png: found 24"),
    (f"{EVAL} --border -1", "--border: found -1, expected 0 or more"),
    *(
        (
            f"{program} --memory_limit={limit}",
            f"argument --memory_limit: found {limit}, expected a positive number of GB",
        )
        for program in (EVAL, "upscale rgba.png -o out/new.png")
        for limit in ("0", "-1", "nan", "inf", "much")
    ),
    (f"{EVAL} --channel lab", "argument --channel: invalid choice: 'lab'"),
    (f"{EVAL} --border 99", "data/tiny/HR/a.png: found 30×26 pixels, expected more than the border of 99"),
    (f"{EVAL} --compare x", "--compare: found x, expected NAME=results.json"),
    (f"{EVAL} --compare x=none.json", "none.json: no such file"),
    (f"{EVAL} --weights x2.safetensors --compare MSNLAN=out/a.json", "--compare: found the name MSNLAN, expected ano"),
    (f"{EVAL} --compare HR=out/results.json", "--compare: found the name HR, expected another than bicubic, HR"),
    (
        "eval --sr_dir out --hr_dir data/tiny/HR --scale 2 --name bicubic",
        "--name: found the name bicubic, expected ano",
    ),
    (f"{EVAL} --name mine", "--name needs --sr_dir"),
    (f"{EVAL} --compare x=text.png", "text.png: not a results.json of eval.py"),
    (f"{EVAL} --crop nope:1,2,30", "--crop: found nope, expected one of a, b"),
    (f"{EVAL} --crop 28,0,8", "--crop: found 28,0, expected inside a, 26×30"),
    (f"{SCORE} --crop 28,0,8", "--crop: found 28,0, expected inside a, 27×30"),
    (f"{SCORE} --weights none.pt", "--weights: found none.pt with --sr_dir, which only scores"),
    (f"{SCORE} --inference chop", "--inference: found chop with --sr_dir, which only scores"),
    ("upscale rgba.png -o out/new.png --weights x2.safetensors --memory_limit 0.001", "rgba.png: memory: a "),
    ("eval --data_dir data --datasets tiny --output file", "--output: file is a file, expected a folder"),
    (
        "eval --data_dir data --datasets tiny --output file/below",
        "--output: found file/below, expected a folder",
    ),
    ("convert_torch_weights --input cut.pt --output out/a.safetensors", "cut.pt: not a readable PyTorch checkpoint"),
    (
        "convert_torch_weights --input renamed.pt --output out/a.safetensors",
        "renamed.pt: found a safetensors file, exp",
    ),
    ("convert_torch_weights --input cut.safetensors --to_torch --output out/a.pt", "cut.safetensors: not a readable"),
    ("convert_torch_weights --input none.pt --output out/a.safetensors", "none.pt: no such file"),
    ("convert_torch_weights --input x2.safetensors --output out/a.pt", "--output: found out/a.pt, expected a name"),
    ("convert_torch_weights --input x2.safetensors --output file/a.safetensors", "file/a.safetensors: cannot be writ"),
    ("convert_torch_weights --output out/a.safetensors", "the following arguments are required: --input"),
    ("upscale none.png -o out/new.png", "none.png: no such file or folder"),
    ("upscale text.png -o out/new.png", "text.png: broken or unreadable picture: not a picture in a known format"),
    ("upscale data/broken/HR/b.png -o out/new.png", "data/broken/HR/b.png: broken or unreadable picture"),
    ("upscale rgba.png -o out/a.png", "--output: out/a.png is there already, expected a new name or --overwrite"),
    ("upscale rgba.png -o out/new.xyz", "--output: found out/new.xyz, expected a name that ends in .png"),
    ("upscale rgba.png -o out/new.jpg", "out/new.jpg: found a picture with alpha"),
    ("upscale rgba.png -o file/new.png", "--output: file is a file, expected a folder"),
    ("upscale rgba.png -o out/new.png --scale 0", "--scale: found 0, expected a positive number"),
    ("upscale rgba.png -o out/new.png --scale inf", "--scale: found inf, expected a positive number"),
    ("upscale rgba.png -o out/new.png --scale 1e6", "rgba.png: memory: a result of 5000000×6000000 pixels ne"),
    ("upscale rgba.png none.png -o out", "none.png: no such file or folder"),
    ("upscale rgba.png x2.safetensors -o file", "--output: file is a file, expected a folder"),
    (
        "upscale data/tiny/HR/a.png data/mismatch/HR/a.png -o out",
        "data/tiny/HR/a.png: would become out/a.png as data/mismatch/HR/a.png would, expected different names$",
    ),
    ("upscale rgba.png -o out/new.png --inference tile --tile_size 0", "tile_size: found 0"),
    ("upscale rgba.png data/tiny/HR/a.png -o new.png", r"--output: found new\.png for 2 inputs, expected a folder"),
    ("upscale data/tiny/HR -o new.png", r"--output: found new\.png for a folder of pictures, expected a folder"),
    ("upscale nothing -o out", "nothing: found no pictures, expected at least one"),
    ("upscale data/tiny/HR -o file", "--output: file is a file, expected a folder"),
    ("train --config none.py --workdir new", r"--config: none\.py: no such file, expected one such as configs/x4\.py"),
    ("train --workdir new", "flags: expected both --config"),
    ("train --config {root}/configs/quickstart.py", "flags: expected both --config"),
    ("convert_torch_weights --inspect x2.safetensors --output x.safetensors", "the following arguments are required"),
    ("train --config text.png --workdir new", r"--config: text\.png: found no configuration: "),
    (f"{TRAIN} --batch_size=4", r"flags: .*'batch_size'.*; fields of the configuration are set by --config\.FIELD"),
    (
        f"{TRAIN} --config.eval.datasets=Set5",
        r"config\.eval\.datasets: found Set5, expected config\.eval\.data_dir with",
    ),
    (f"{TRAIN} more", "flags: found 'more', expected only --flag=value"),
    (f"{TRAIN} --config.nope=1", "--config.nope: found an unknown field; configs/base.py lists them all"),
    (f"{TRAIN} --config.model.n_feats=8 --config.model.n_feat=1", "--config.model.n_feat: found an unknown field; "),
    (f"{TRAIN} --config.batchsize=1", "--config.batchsize: found an unknown field; did you mean batch_size?"),
    (f"{TRAIN} --config.scale=abc", "--config.scale: found 'abc', expected a whole number"),
    (f"{TRAIN} --config.model.n_feats=2.5", "--config.model.n_feats: found '2.5', expected a whole number"),
    (f"{TRAIN} --config.learning_rate=fast", "--config.learning_rate: found 'fast', expected a number"),
    (f"{TRAIN} --config.init_new_tail=perhaps", "--config.init_new_tail: found 'perhaps', expected True or False"),
    (f"{TRAIN} --config.remat=perhaps", "config.remat: found 'perhaps', expected one of auto, on, off"),
    (f"{TRAIN} --config.scale=5", "config: scale: found 5, expected one of 2, 3, 4"),
    (f"{TRAIN} --config.batch_size=0", "config.batch_size: found 0, expected at least 1"),
    (f"{TRAIN} --config.data.source=web {SMALL.replace('--config.data.source=folder', '')}", "config.data.source: "),
    (f"{TRAIN} --config.data.loader=none --config.eval.data_dir=data/tiny", "config.data.loader: found 'none'"),
    (f"{TRAIN} --config.eval.data_dir=data/mismatch", "data/mismatch/HR/a.png: found 24×24 pixels"),
    (
        f"{TRAIN} --config.eval.data_dir=data --config.eval.datasets=Set5",
        "data: found no data set Set5",
    ),
    (f"{TRAIN} {SMALL} --config.data.dir=none", "none: no such folder, expected a data set"),
    (f"{TRAIN} {SMALL} --config.data.dir=nothing", "nothing: found no pictures"),
    (f"{TRAIN} {SMALL} --config.data.dir=data/broken", "data/broken/HR/b.png: broken or unreadable picture"),
    (f"{TRAIN} {SMALL} --config.data.dir=data/tiny --config.patch_size=20", "data/tiny/HR/a.png: found 15×13 LR pix"),
    (
        f"{RUN} {SMALL} --config.data.dir=data/tiny --workdir file/below",
        "--workdir: found file/below, expected",
    ),
    (f"{RUN} {SMALL} --config.data.dir=data/tiny --workdir out", "out/config.json: not a readable configuration"),
    (
        f"{TRAIN} {SMALL} --config.data.dir=data/tiny --config.init_from=x2.safetensors --config.scale=3",
        "config.init_from: found weights for ×2 in x2.safetensors, expected ×3",
    ),
]


@pytest.mark.parametrize(("line", "message"), MISTAKES, ids=[line for line, _ in MISTAKES])
@pytest.mark.usefixtures("unchecked")
def test_mistakes_end_in_one_line(invoke, files, line, message):
    if "cut.pt" in line:
        pytest.importorskip("torch")
    if SMALL in line:
        pytest.importorskip("tensorflow")
    before = snapshot(files)
    result = invoke(*line.format(root=ROOT).split())
    assert re.fullmatch(f"error: {message}.*\n", result.err)
    assert result.code == 2
    assert {name: data for name, data in snapshot(files).items() if not name.endswith("/.lock")} == before


PROTOCOL = {"psnr": "luma", "ssim": "Y", "border": 2, "rounding": "uint8", "LR": "made by bicubic"}


def read_results(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("name", ["bicubic", "x2.safetensors"])
def test_eval_and_scoring_its_pictures_agree(invoke, files, name):
    result = invoke(*SCORING.split(), "--weights", name, "--save_images", "--output", "new/eval")
    assert (result.code, result.out.count("| tiny | 2 |")) == (0, 1 + (name != "bicubic"))
    found = read_results(files / "new" / "eval")
    assert (found["scale"], found["weights"], list(found["datasets"])) == (2, name, ["tiny"])
    assert list(found["bicubic"]) == ([] if name == "bicubic" else ["tiny"])
    assert found["protocol"] == PROTOCOL | {"inference": "whole", "self_ensemble": False}
    written = snapshot(files / "new" / "eval")
    figures = [f"figures/crops_tiny_{picture}{suffix}" for picture in "ab" for suffix in (".pdf", ".png")]
    assert sorted(written) == [
        ".lock",
        *figures,
        "images/tiny/ax2.png",
        "images/tiny/bx2.png",
        "report.html",
        "results.json",
        "results.md",
        "results.tex",
        "strips/tiny/a.png",
        "strips/tiny/b.png",
    ]
    assert read_image(files / "new/eval/images/tiny/ax2.png").shape == (30, 26, 3)
    assert read_image(files / "new/eval/images/tiny/bx2.png").shape == (24, 32, 3)
    flags = ["--sr_dir", "new/eval/images/tiny", "--hr_dir", "data/tiny/HR", "--scale", 2, "--output", "new/score"]
    assert invoke("eval", *flags).code == 0
    scored = read_results(files / "new" / "score")
    assert "LR" not in scored["protocol"]
    assert list(scored["datasets"]) == ["tiny"]
    for key in ("psnr", "ssim", "images"):
        assert scored["datasets"]["tiny"][key] == found["datasets"]["tiny"][key]


def test_eval_without_flags_scores_bicubic_on_the_built_in_photos(invoke, tmp_path):
    assert invoke("eval").code == 0
    found = read_results(tmp_path / "runs" / "eval-x4")
    assert (found["scale"], found["weights"]) == (4, "bicubic")
    assert len(found["datasets"]["photos"]["images"]) == 5
    assert 20 < found["datasets"]["photos"]["psnr"] < 40


def test_reports_say_where_lr_pictures_come_from(invoke, files):
    save_noise(files / "data" / "pairs", {"gt/a.png": (24, 24, 3), "lq/a.png": (12, 12, 3)})
    flags = ["eval", "--data_dir", "data", "--datasets", "pairs", "--scale", "2", "--weights", "bicubic", "--output"]
    scores = {}
    for lr_dir, said in (("lq", "read from lq"), ("made", "made by bicubic (as asked)")):
        assert invoke(*flags, f"new{lr_dir}", f"--lr_dir={lr_dir}").code == 0
        for name in ("results.md", "report.html", "results.tex"):
            assert f"LR: {said}" in (files / f"new{lr_dir}" / name).read_text()
        found = read_results(files / f"new{lr_dir}")
        assert found["protocol"]["LR"] == said
        scores[said] = found["datasets"]["pairs"]["psnr"]
    assert len(set(scores.values())) == 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--inference", "chop"], {"inference": "chop", "self_ensemble": False}),
        (["--self_ensemble"], {"inference": "whole", "self_ensemble": True}),
        (
            ["--inference", "tile", "--tile_size", "16", "--tile_overlap", "4"],
            {"inference": "tile", "self_ensemble": False, "tile_size": 16, "tile_overlap": 4},
        ),
    ],
)
def test_eval_runs_in_every_mode(invoke, files, options, expected):
    assert invoke(*SCORING.split(), "--weights", "x2.safetensors", *options, "--output", "new").code == 0
    found = {name: value for name, value in read_results(files / "new")["protocol"].items() if name not in PROTOCOL}
    assert found == expected
    assert {"report.html", "results.json", "results.md", "results.tex"} <= set(snapshot(files / "new"))


def test_protocol_choices_are_stored_and_printed(invoke, files):
    flags = ["--channel", "rgb", "--border", 3, "--rounding", "none", "--output", "new", "--weights", "bicubic"]
    result = invoke(*SCORING.split(), *flags)
    expected = {"psnr": "RGB", "ssim": "RGB", "border": 3, "rounding": "none"}
    assert expected.items() <= read_results(files / "new")["protocol"].items()
    assert "(psnr: RGB, ssim: RGB, border: 3, rounding: none, " in result.out
    for name in ("report.html", "results.tex"):
        assert "PSNR and SSIM on RGB, border of 3 left out, not rounded" in (files / "new" / name).read_text()


def test_without_the_lpips_library_it_is_left_out(invoke, files, monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    result = invoke(*SCORING.split(), "--lpips", "--output", "new")
    assert result.code == 0
    assert "LPIPS is left out: its library is not installed" in result.out
    assert "lpips" not in read_results(files / "new")["datasets"]["tiny"]


def test_other_methods_stand_beside_ours(invoke, files):
    assert invoke(*SCORING.split(), "--weights", "bicubic", "--save_images", "--output", "theirs").code == 0
    flags = ["--weights", "x2.safetensors", "--compare", "Keys=theirs/results.json", "--crop", "a:2,3,16"]
    result = invoke(*SCORING.split(), *flags, "--output", "new")
    assert (result.code, result.out.count("| tiny | 2 | Keys |")) == (0, 1)
    page = (files / "new" / "report.html").read_text()
    assert page.count('data-method="Keys"') == 2
    assert "x 2, y 3, 16×16" in page


def test_a_later_run_does_not_show_the_pictures_of_an_earlier_one_as_its_own(invoke, files):
    for flags in (["--weights", "x2.safetensors", "--save_images"], ["--weights", "bicubic"]):
        assert invoke(*SCORING.split(), *flags, "--output", "theirs").code == 0
    assert (files / "theirs" / "images" / "tiny" / "ax2.png").exists()
    flags = ["--weights", "x2.safetensors", "--compare", "Keys=theirs", "--output", "new"]
    result = invoke(*SCORING.split(), *flags)
    assert (result.code, result.out.count("| tiny | 2 | Keys |")) == (0, 1)
    assert 'data-method="Keys"' not in (files / "new" / "report.html").read_text()


def test_two_evaluations_in_one_folder_are_refused(invoke, files):
    with held(files / "new", "--output"):
        result = invoke(*SCORING.split(), "--weights", "bicubic", "--output", "new")
    assert (result.code, result.err.startswith("error: --output: new is in use by process ")) == (2, True)
    assert not (files / "new/results.json").exists()


def test_a_scale_without_weights_says_that_it_is_bicubic(invoke, files):
    result = invoke("eval", "--data_dir", "data", "--datasets", "tiny", "--scale", 5, "--output", "new")
    assert result.code == 0
    assert result.out.startswith("no weights for ×5 come with the package: bicubic is scored")


def test_a_picture_too_large_for_the_memory_is_named(invoke, files):
    result = invoke(*SCORING.split(), "--weights", "x2.safetensors", "--memory_limit", "0.001", "--output", "new")
    assert result.code == 2
    assert result.err.splitlines()[-1].startswith("error: data/tiny/HR/a.png: memory: a picture of 13×15 pixels needs ")
