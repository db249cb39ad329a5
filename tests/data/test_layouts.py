"""Every layout of `tests.layouts`: the LR pictures that lie there are those that are scored, trained on and kept."""

import json

import numpy as np
import pytest

from data import sources
from data.arrays import open_picture
from data.folders import Choice, find_datasets, find_pairs
from data.prepare import prepare
from msnlan_jax.errors import InputError
from msnlan_jax.pictures.layouts import read_folder_name, read_picture_name, set_name
from msnlan_jax.pictures.pairs import Pair, describe_lr, read_pair
from msnlan_jax.scoring import match_folders
from tests.layouts import LAYOUTS, SCALE, lay_out, psnr, shrink
from tests.samples import experiment, noise, save_noise


@pytest.fixture
def pictures():
    return {"img_001": noise(0, 16, 20, 3), "b": noise(1, 20, 16, 3)}


def assert_given_pairs(pairs, pictures):
    found = [read_pair(pair, SCALE, open_picture) for pair in pairs]
    assert len(found) == len(pictures)
    for lr, hr in found:
        assert any(np.array_equal(hr, picture) and np.array_equal(lr, shrink(picture)) for picture in pictures.values())


@pytest.mark.parametrize("name", LAYOUTS)
def test_given_lr_pictures_are_scored(tmp_path, pictures, name):
    layout = LAYOUTS[name]
    lay_out(tmp_path / "Set", layout, pictures)
    for given in layout.given:
        ((found, pairs),) = find_datasets(tmp_path / "Set" / given, [], SCALE).items()
        assert found == (given if given in ("Test", "test") else "Set")
        assert_given_pairs(pairs, pictures)
        assert describe_lr({found: pairs}).startswith("read from ")
    ((found, pairs),) = find_datasets(tmp_path, [], SCALE).items()
    assert found == "Set"
    assert_given_pairs(pairs, pictures)
    read, made = psnr(pairs), psnr([Pair(pair.name, pair.hr) for pair in pairs])
    assert abs(read - made) > 0.1
    folder = layout.lr.rpartition("/")[0] or "Set"
    assert describe_lr({found: pairs}).removeprefix("read from ") in folder


@pytest.mark.parametrize("name", LAYOUTS)
def test_given_lr_pictures_are_trained_on_and_kept_by_prepare(tmp_path, pictures, name):
    as_trained = [
        path.replace("valid", "train").replace("Test", "Train").replace("test", "train")
        for path in (LAYOUTS[name].hr, LAYOUTS[name].lr)
    ]
    lay_out(tmp_path / "Set", LAYOUTS[name]._replace(hr=as_trained[0], lr=as_trained[1]), pictures)
    data = {"source": "folder", "loader": "memory"}
    for folder in (tmp_path / "Set", tmp_path):
        config = experiment(data=data | {"dir": str(folder)}, scale=SCALE, patch_size=4)
        assert_given_pairs(sources.training_pairs(config), pictures)
    assert prepare(tmp_path / "Set", tmp_path / "arrays", (SCALE,)) == (2, 0, [])
    config = experiment(data=data | {"dir": str(tmp_path / "arrays")}, scale=SCALE, patch_size=4)
    assert_given_pairs(sources.training_pairs(config), pictures)
    (origin,) = json.loads((tmp_path / "arrays/prepared.json").read_text()).values()
    assert origin.startswith("read from ")
    (line, _) = sources.describe(config, sources.find_training_set(config), {"held_out": []})
    assert line == f"training on 2 pairs of pictures, LR: read from LR_bicubic/X4, prepared from LR {origin}"


# Files, what is given and asked for, and what the refusal says.
REFUSED = {
    "two folders of LR": (
        ["HR/a.png", "LR_bicubic/X4/ax4.png", "LR_unknown/X4/ax4.png"],
        r"found LR pictures for ×4 in LR_bicubic/X4 and in LR_unknown/X4, expected --lr_dir to name one, or made$",
    ),
    "two of one": (["HR/a.png", "LR/X4/ax4.png", "LR/x4/ax4.png"], r"×4 in LR/X4 and in LR/x4, expected --lr_dir"),
    "two folders of HR": (
        ["HR/a.png", "gt/a.png", "LR/a.png"],
        r"two folders of HR pictures, HR and gt, expected --hr_dir",
    ),
    "two LR files": (["HR/a.png", "LR/a.png", "LR/ax4.png"], r"found a\.png and ax4\.png, expected one LR picture of"),
    "wild": (["HR/a.png", "LR_wild/ax4w1.png", "LR_wild/ax4w2.png"], r"found ax4w1\.png and ax4w2\.png, expected one"),
    "two kinds": (["HR/a.png", "LR/a.png", "LR/a.bmp"], r"LR: found a\.bmp and a\.png, expected one LR picture of"),
    "LR alone": (["lq/a.png"], r"lq: found a folder of LR pictures, expected one of their HR"),
    "LR files alone": (["a_LR.png"], r"a_LR\.png: found by its name an LR picture, expected its HR picture beside it"),
    "another scale, mixed": (
        ["a_HR.png", "a_LR2.png"],
        r"a_LR2\.png: found LR pictures for ×2 only, expected some for",
    ),
    "another scale, sorted": (["2/a_HR.png", "2/a_LR2.png"], r"found pairs in 2, expected a folder for ×4$"),
    "no LR of one": (["HR/a.png", "HR/b.png", "LR/a.png"], r"LR/b\.png: no such file, expected the LR of .*HR/b\.png"),
    "neither": (["a_HR.png", "a_LR.png", "c.png"], r"c\.png: found neither _HR nor _LR in its name, expected one as"),
    "HR and others": (["a.png", "gt/b.png"], r"found pictures, and HR pictures in gt besides, expected --hr_dir"),
    "parts of a set": (["test/x4/HR/a.png", "valid/x4/HR/a.png"], r"found a data set in test/x4 and another in valid"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_ambiguous_is_refused(tmp_path, name):
    names, message = REFUSED[name]
    for path in names:
        is_lr = read_picture_name(path).role == "lr" or path.lower().startswith(("lr", "lq")) or "_LR" in path
        save_noise(tmp_path, {path: (4, 4, 3) if is_lr else (16, 16, 3)})
    with pytest.raises((InputError, FileNotFoundError), match=message) as refusal:
        find_pairs(tmp_path, SCALE)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("side", "message"),
    [
        (8, r"lq/a\.png: found an LR picture for ×2, 8×8 pixels where .*gt/a\.png has 16×16, expected one for ×4$"),
        (16, r"lq/a\.png: found an LR picture for ×1"),
    ],
)
def test_lr_pictures_of_another_size_are_refused(tmp_path, side, message):
    save_noise(tmp_path, {"gt/a.png": (16, 16, 3), "lq/a.png": (side, side, 3)})
    for split in ("valid", "train"):
        with pytest.raises(InputError, match=message):
            find_pairs(tmp_path, SCALE, split=split)


def test_lr_pictures_of_other_scales_are_said_not_to_be_used(tmp_path):
    save_noise(tmp_path, {"HR/a.png": (16, 16, 3), "LR_bicubic/X2/ax2.png": (8, 8, 3), "LRx3/a.png": (5, 5, 3)})
    pairs = find_pairs(tmp_path, SCALE)
    assert describe_lr({"": pairs}) == "made by bicubic (LR_bicubic/X2 is for ×2, LRx3 is for ×3)"
    assert describe_lr({"": find_pairs(tmp_path, 2)}) == "read from LR_bicubic/X2"


def test_flags_decide(tmp_path):
    shapes = {"HR/a.png": (16, 16, 3), "HR_sharp/a.png": (16, 16, 3)}
    lr = dict.fromkeys(("LR_bicubic/X4/ax4.png", "LR_unknown/X4/ax4.png"), (4, 4, 3))
    save_noise(tmp_path / "S", shapes | lr)
    save_noise(tmp_path, {"mine/a_mine.png": (4, 4, 3), "elsewhere/a.png": (4, 4, 3)})
    for lr_dir, expected in (
        ("LR_unknown", "S/LR_unknown/X4/ax4.png"),
        ("LR_bicubic/X4", "S/LR_bicubic/X4/ax4.png"),
        (str(tmp_path / "elsewhere"), "elsewhere/a.png"),
        ("made", None),
    ):
        (pair,) = find_pairs(tmp_path / "S", SCALE, choice=Choice("HR_sharp", lr_dir))
        assert pair.hr == tmp_path / "S/HR_sharp/a.png"
        assert pair.lr == (expected and tmp_path / expected)
    for choice, scale, message in (
        (Choice("HR", "none"), 4, r"^--lr_dir: no such folder none, neither in .*S nor by itself$"),
        (
            Choice("HR", "LR_unknown"),
            2,
            r"^--lr_dir: found LR pictures for ×4 only in .*LR_unknown, expected some for ×2$",
        ),
        (Choice("HR", flag="config.data."), 4, r"expected config\.data\.lr_dir to name one"),
        (Choice(flag="config.eval."), 4, r"expected config\.eval\.hr_dir to name one"),
    ):
        with pytest.raises((InputError, FileNotFoundError), match=message):
            find_pairs(tmp_path / "S", scale, choice=choice)


def test_parts_are_taken_where_there_are_no_whole_pictures(tmp_path):
    lr = {"DIV2K_train_LR_bicubic/X4/ax4.png": (4, 4, 3), "DIV2K_train_LR_bicubic/X4_sub/a_s001.png": (4, 4, 3)}
    save_noise(tmp_path, lr | {"DIV2K_train_HR/a.png": (16, 16, 3), "DIV2K_train_HR_sub/a_s001.png": (16, 16, 3)})
    for hr_dir, name in (("", "ax4.png"), ("DIV2K_train_HR_sub", "a_s001.png")):
        (pair,) = find_pairs(tmp_path, SCALE, split="train", choice=Choice(hr_dir))
        assert pair.lr.name == name


def test_results_of_methods_beside_pairs_are_no_pictures_of_the_set(tmp_path, pictures):
    lay_out(tmp_path / "Set", LAYOUTS["SelfExSR"], pictures)
    save_noise(tmp_path / "Set/image_SRF_4", {"img_001_SRF_4_SRCNN.png": (16, 20, 3)})
    assert [pair.name for pair in find_pairs(tmp_path / "Set", SCALE)] == ["b", "img_001"]


def test_pictures_twice_the_size_are_no_lr(tmp_path):
    """As `upscale` leaves them beside a picture."""
    save_noise(tmp_path, {"a.png": (16, 16, 3), "a_x4.png": (64, 64, 3), "matrix4.png": (4, 4, 3)})
    assert [(pair.name, pair.lr) for pair in find_pairs(tmp_path, SCALE)] == [
        ("a", None),
        ("a_x4", None),
        ("matrix4", None),
    ]


def test_splits_and_scales_of_one_set_are_kept_apart(tmp_path, pictures):
    for part in ("Train", "Test"):
        for scale in (2, 3, 4):
            hr = {f"{part}{scale}_HR.png": (12 * scale, 12, 3)}
            lr = {f"{part}{scale}_LR{scale}.png": (12, 12 // scale, 3)}
            save_noise(tmp_path / "Canon" / part / str(scale), hr | lr)
    assert [pair.name for pair in find_pairs(tmp_path / "Canon", 3)] == ["Test3"]
    assert [pair.name for pair in find_pairs(tmp_path / "Canon", 2, split="train")] == ["Train_2_Train2"]
    assert [pair.name for pair in find_pairs(tmp_path, 4, split="train")] == ["Canon_Train_4_Train4"]


def test_pictures_left_for_scores_are_named(tmp_path):
    save_noise(tmp_path, {"S/Test_x4/test_HR/a.png": (16, 16, 3), "S/Test_x4/test_LR/a.png": (4, 4, 3)})
    save_noise(tmp_path, {"D/DIV2K_valid_HR/a.png": (16, 16, 3), "D/DIV2K_valid_LR_mild/ax4m.png": (4, 4, 3)})
    for name, said in (("S", "Test_x4"), ("D", "DIV2K_valid_HR, DIV2K_valid_LR_mild")):
        with pytest.raises(
            InputError, match=f": found no pictures but those in {said}, which are not to train on, exp"
        ):
            find_pairs(tmp_path / name, SCALE, split="train")
        assert [pair.name for pair in find_pairs(tmp_path / name, SCALE)] == ["a"]


def test_a_folder_of_several_sets_is_trained_on_whole(tmp_path):
    save_noise(tmp_path, {"A/HR/a.png": (16, 16, 3), "A/LR_bicubic/X4/ax4.png": (4, 4, 3)})
    save_noise(tmp_path, {"B/gt/b.png": (16, 16, 3), "B/lq/b.png": (4, 4, 3), "photos/2/c.png": (16, 16, 3)})
    pairs = find_pairs(tmp_path, SCALE, split="train")
    assert [pair.name for pair in pairs] == ["A_a", "B_b", "photos_2_c"]
    assert describe_lr({"": pairs}) == "read from LR_bicubic/X4, lq, made by bicubic for 1 of 3"


def test_lr_pictures_that_prepare_cannot_place_are_refused(tmp_path):
    save_noise(tmp_path / "S", {"HR/a.png": (16, 16, 3), "LR/X4/other.png": (4, 4, 3)})
    with pytest.raises(InputError, match=r"other\.png: found the LR picture of no HR picture, and none of .*HR/a\.png"):
        prepare(tmp_path / "S", tmp_path / "arrays", (SCALE,))


def test_prepare_keeps_kinds_of_lr_pictures_apart(tmp_path, pictures):
    for name in ("EDSR", "unknown"):
        lay_out(tmp_path / "S", LAYOUTS[name], pictures)
    prepare(tmp_path / "S", tmp_path / "arrays", (SCALE,), choice=Choice(lr_dir="LR_unknown"))
    message = r"^--output: found LR pictures X4 in .*arrays that were read from LR_unknown/X4, expected another folder"
    with pytest.raises(InputError, match=message):
        prepare(tmp_path / "S", tmp_path / "arrays", (SCALE,), choice=Choice(lr_dir="LR_bicubic"))
    lay_out(tmp_path / "T", LAYOUTS["SelfExSR"], pictures)
    save_noise(tmp_path / "T/image_SRF_2", {"c_SRF_2_HR.png": (16, 16, 3), "c_SRF_2_LR.png": (8, 8, 3)})
    with pytest.raises(
        InputError, match=r"^--scale: found other HR pictures for ×4, in .*_4, than for ×2, in .*_2, exp"
    ):
        prepare(tmp_path / "T", tmp_path / "more", (2, SCALE))


def test_names_are_read():
    for name, role, scale in (
        ("GTmod12", "hr", None),
        ("DIV2K_train_HR", "hr", None),
        ("image_SRF_4HR", "hr", 4),
        ("LRbicx3", "lr", 3),
        ("DIV2K_valid_LR_wild", "lr", None),
        ("B100", "", None),
        ("Set5", "", None),
        ("are_lr_pictures_kept_or_made", "", None),
        ("RealSR(V3)", "", None),
        ("x4", "", 4),
    ):
        found = read_folder_name(name)
        assert (found.role, found.scale) == (role, scale), name
    for stem, base, role, scale in (
        ("0801x4m", "0801", "", 4),
        ("baby_LRBI_x4", "baby", "lr", 4),
        ("img_001_SRF_4_HR", "img_001", "hr", 4),
        ("Canon_001_LR4", "Canon_001", "lr", 4),
        ("lr_5", "5", "lr", None),
        ("colr", "colr", "", None),
    ):
        said = read_picture_name(stem)
        assert (said.base, said.role, said.scale) == (base, role, scale), stem
    assert [set_name(path) for path in ("/d/Set5/HR", "/d/Canon/Test/4", "/d/train", "/d/U/image_SRF_2")] == [
        "Set5",
        "Canon",
        "train",
        "U",
    ]


def test_sets_that_differ_are_each_named(tmp_path):
    save_noise(tmp_path, {"A/HR/a.png": (16, 16, 3), "A/LR/a.png": (4, 4, 3), "B/b.png": (16, 16, 3)})
    assert describe_lr(find_datasets(tmp_path, [], SCALE)) == "read from LR (A); made by bicubic (B)"


# HR and LR of layouts whose names the table knows, and of some that it does not.
KNOWN = """high/a low/a|high_res/a low_res/a|HighResolution/a LowResolution/a|high_quality/a low_quality/a
hires/a lores/a|trainHR/a trainLR/a|HRtrain/a LRtrain/a|large/a small/a|sharp/a blur/a|label/a input/a|clean/a input/a
reference/a input/a|a_HR a_LR_bicubic|a_HR a_x4|a a_4x|a.HR a.LR|a_(HR) a_(LR)|imHR imLR|a_hr_0 a_lr_0"""


@pytest.mark.parametrize("layout", KNOWN.replace("\n", "|").split("|"))
def test_lr_pictures_of_other_names_are_found(tmp_path, layout):
    hr, lr = (f"{name}.png".replace("_(", " (") for name in layout.split())
    save_noise(tmp_path, {hr: (16, 20, 3), lr: (4, 5, 3)})
    for split in ("train",) if "train" in layout else ("valid", "train"):
        (pair,) = find_pairs(tmp_path, SCALE, split=split)
        assert (pair.hr, pair.lr) == (tmp_path / hr, tmp_path / lr)


@pytest.mark.parametrize(
    ("hr", "lr"), [("images", "LR"), ("Set5", "Set5_LR"), ("pictures", "lq/x4"), ("ref", "lq"), ("HRtrain", "LRtrain")]
)
def test_lr_pictures_beside_a_set_are_its_own(tmp_path, hr, lr):
    save_noise(tmp_path, {f"{hr}/1.png": (16, 16, 3), f"{lr}/1.png": (4, 4, 3)})
    for given in (tmp_path, tmp_path / hr):
        ((pair,),) = find_datasets(given, [], SCALE).values()
        assert pair.lr == tmp_path / lr / "1.png"
    (pair,) = find_pairs(tmp_path / hr, SCALE, split="train")
    assert pair.lr == tmp_path / lr / "1.png"


def test_lr_pictures_beside_sets_are_of_one_or_refused(tmp_path):
    save_noise(tmp_path, {"Set5/1.png": (16, 16, 3), "Set14/1.png": (16, 16, 3), "Set14_LR/1.png": (4, 4, 3)})
    found = find_datasets(tmp_path, [], SCALE)
    assert [found[name][0].lr for name in ("Set5", "Set14")] == [None, tmp_path / "Set14_LR/1.png"]
    save_noise(tmp_path, {"LR_more/7.png": (4, 4, 3)})
    with pytest.raises(InputError, match=r"found LR pictures in LR_more that none of Set14, Set5 has .*--lr_dir"):
        find_datasets(tmp_path, [], SCALE)
    save_noise(tmp_path / "S", {"HR/1.png": (16, 16, 3), "train_LR/1.png": (4, 4, 3)})
    with pytest.raises(InputError, match=r"found LR pictures in train_LR beside it.*--lr_dir"):
        find_pairs(tmp_path / "S", SCALE)


def test_one_folder_is_not_scored_as_two_sets(tmp_path):
    save_noise(tmp_path, {f"{folder}/9.png": (16, 16, 3) for folder in ("Set5", "Set14", "HR")})
    with pytest.raises(FileNotFoundError, match=r"--hr_dir: no such folder HR, neither in .*Set5 nor by itself"):
        find_datasets(tmp_path, ["Set5", "Set14"], SCALE, choice=Choice("HR"))
    with pytest.raises(InputError, match=r"--hr_dir: found .*HR for Set5 and for Set14, expected a folder in each set"):
        find_datasets(tmp_path, ["Set5", "Set14"], SCALE, choice=Choice(str(tmp_path / "HR")))


def test_links_that_lead_back_are_passed_over(tmp_path):
    save_noise(tmp_path, {"HR/1.png": (16, 16, 3), "LR/1.png": (4, 4, 3)})
    (tmp_path / "LR/loop").symlink_to(tmp_path / "LR")
    assert [pair.lr for pair in find_pairs(tmp_path, SCALE)] == [tmp_path / "LR/1.png"]


def test_only_sure_names_of_lr_folders_are_refused_as_hr(tmp_path):
    save_noise(tmp_path, {"input/1.png": (16, 16, 3), "lq/1.png": (16, 16, 3), "sr/1.png": (16, 16, 3)})
    assert len(match_folders(tmp_path / "sr", tmp_path / "input", SCALE)) == 1
    with pytest.raises(InputError, match="found a folder of LR pictures"):
        match_folders(tmp_path / "sr", tmp_path / "lq", SCALE)


def test_photos_left_for_scores_are_not_trained_on(tmp_path):
    save_noise(tmp_path, {f"{part}/{part}.png": (16, 16, 3) for part in ("train", "val", "test", "trip")})
    assert [pair.hr.stem for pair in find_pairs(tmp_path, SCALE, split="train")] == ["train", "trip"]


@pytest.mark.parametrize("field", ["hr_dir", "lr_dir"])
def test_a_choice_where_there_are_no_folders_is_refused(tmp_path, field):
    with pytest.raises(InputError, match=rf"^config\.data\.{field}: found LR, expected none, as .* is photos$"):
        sources.training_pairs(experiment(data={field: "LR"}))
    with pytest.raises(InputError, match=rf"^config\.eval\.{field}: found LR, expected none, as .* is not given$"):
        sources.validation_sets(experiment(eval={field: "LR"}))
    (tmp_path / "dataset_info.json").touch()
    config = experiment(data={"source": "folder", "dir": str(tmp_path), field: "LR"})
    with pytest.raises(InputError, match=rf"^config\.data\.{field}: found LR, expected none, as .* TFDS data set$"):
        sources.open_pictures(config)
