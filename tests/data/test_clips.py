"""Pictures in folders within a set's folder of HR ones, as frames of clips, and LR ones in places of no known name."""

import pytest

from data.folders import find_datasets, find_pairs
from data.prepare import prepare
from msnlan_jax.errors import InputError
from msnlan_jax.pictures.layouts import read_picture_name
from msnlan_jax.pictures.pairs import describe_lr
from tests.samples import save_noise

HR, LR = (16, 16, 3), (4, 4, 3)
# The clips' HR and LR folders, and what is said of the LR ones.
CLIPS = {
    "REDS": ("train_sharp/{}/{}.png", "train_sharp_bicubic/X4/{}/{}.png", "train_sharp_bicubic/X4"),
    "Vid4": ("GT/{}/{}.png", "BIx4/{}/{}.png", "BIx4"),
    "Vimeo": ("GT/00001/{}/{}.png", "LR/00001/{}/{}.png", "LR"),
    "LSDIR": ("HR/{}/{}.png", "X4/{}/{}x4.png", "X4"),
    "RCAN": ("HR/{}/x4/{}_HR_x4.png", "LR/LRBI/{}/x4/{}_LRBI_x4.png", "LR/LRBI/1/x4, LR/LRBI/2/x4"),
}


@pytest.mark.parametrize("name", CLIPS)
def test_frames_of_clips_are_paired_within_their_clip(tmp_path, name):
    hr, lr, said = CLIPS[name]
    for clip in ("1", "2"):
        for frame in ("00000000", "00000001"):
            save_noise(tmp_path / "S", {hr.format(clip, frame): HR, lr.format(clip, frame): LR})
    for folder in ("S",) if name == "RCAN" else ("S", f"S/{hr.partition('/')[0]}"):
        pairs = find_pairs(tmp_path / folder, 4, split="train")
        assert len(pairs) == 4
        assert describe_lr({"": pairs}) == f"read from {said}"
        for pair in pairs:
            clip, frame = pair.name.split("_")[-2:]
            assert pair.hr == tmp_path / "S" / hr.format(clip, frame)
            assert pair.lr == tmp_path / "S" / lr.format(clip, frame)
    assert prepare(tmp_path / "S", tmp_path / "arrays", (4,)).written == 4
    assert len(find_pairs(tmp_path / "arrays", 4, arrays=True)) == 4


def test_clips_are_scored_with_their_lr_wherever_they_are_given(tmp_path):
    save_noise(tmp_path, {f"GT/{clip}/0.png": HR for clip in ("000", "011")})
    save_noise(tmp_path, {f"LR/{clip}/0.png": LR for clip in ("000", "011")})
    for given, names in ((".", [tmp_path.name]), ("GT", ["000", "011"]), ("GT/000", ["000"])):
        found = find_datasets(tmp_path / given, [], 4)
        assert list(found) == names
        for pair in (pair for pairs in found.values() for pair in pairs):
            assert pair.lr == tmp_path / "LR" / pair.hr.parent.name / "0.png"


def test_a_clip_without_lr_pictures_beside_others_is_refused(tmp_path):
    save_noise(tmp_path, {"GT/000/0.png": HR, "GT/011/0.png": HR, "LR/000/0.png": LR})
    with pytest.raises(FileNotFoundError, match=r"LR/011: no such folder, expected the LR of 011$"):
        find_pairs(tmp_path, 4)


def test_folders_of_unzipped_archives_are_seen_through(tmp_path):
    lr = "DIV2K_train_LR_bicubic_X4/DIV2K_train_LR_bicubic/X4/0001x4.png"
    for hr in ("DIV2K_train_HR/0001.png", "DIV2K_train_HR/DIV2K_train_HR/0001.png"):
        root = tmp_path / str(len(hr))
        save_noise(root, {hr: HR, lr: LR})
        for folder, split in ((root, "train"), (root / "DIV2K_train_HR", "valid")):
            (pair,) = find_pairs(folder, 4, split=split)
            assert (pair.name, pair.hr, pair.lr) == ("0001", root / hr, root / lr)


@pytest.mark.parametrize("folder", ["thumbs", "source", "cond"])
def test_small_versions_in_folders_of_no_known_name_are_refused(tmp_path, folder):
    save_noise(tmp_path, {"HR/a.png": HR, "HR/b.png": HR, f"{folder}/a.png": LR, f"{folder}/b.png": LR})
    for split in ("valid", "train"):
        with pytest.raises(InputError, match=rf"found pictures in .*{folder} of the names of those in HR.*--lr_dir"):
            find_pairs(tmp_path, 4, split=split)
    assert [pair.lr for pair in find_pairs(tmp_path, 2)] == [None, None]  # not half as large


@pytest.mark.parametrize("folder", ["BI", "BD", "BIx4", "bicubicx4", "downx4", "downsample"])
def test_degradations_are_known_by_their_words(tmp_path, folder):
    save_noise(tmp_path, {"HR/a.png": HR, f"{folder}/a.png": LR})
    (pair,) = find_pairs(tmp_path, 4)
    assert pair.lr == tmp_path / folder / "a.png"


def test_pictures_called_hr_and_lr_alone(tmp_path):
    save_noise(tmp_path, {"a/HR.png": HR, "a/LRx4.png": LR, "b/gt.png": HR, "b/lq.png": LR, "c/lr.png": HR})
    pairs = find_pairs(tmp_path, 4, split="train")
    lr = [tmp_path / "a/LRx4.png", tmp_path / "b/lq.png", None]
    assert [(pair.name, pair.lr) for pair in pairs] == list(zip(("a_HR", "b_gt", "c_lr"), lr, strict=True))
    assert read_picture_name("LRx4").scale == 4


def test_a_folder_is_not_scored_that_another_set_reads(tmp_path):
    save_noise(tmp_path, {"DIV2K_train_HR/1.png": HR, "X4/1x4.png": LR})
    ((name, (pair,)),) = find_datasets(tmp_path, [], 4).items()
    assert (name, pair.lr) == ("DIV2K_train_HR", tmp_path / "X4/1x4.png")


def test_a_named_set_that_is_only_to_train_on_is_said_to_be_so(tmp_path):
    save_noise(tmp_path / "S", {"DIV2K_train_HR/1.png": HR, "DIV2K_train_LR_bicubic/X4/1x4.png": LR})
    with pytest.raises(InputError, match="S: found no pictures but those in DIV2K_train_HR, DIV2K_train_LR_bicubic,"):
        find_datasets(tmp_path, ["S"], 4)
