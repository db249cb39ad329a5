import re

import pytest

from data.folders import find_datasets, find_pairs
from msnlan_jax.errors import InputError
from tests.samples import save_noise

# HR folder, LR folder and ending of LR names at ×4.
LAYOUTS = {
    "EDSR": ("HR", "LR_bicubic/X4", "x4"),
    "EDSR, lower case": ("HR", "LR_bicubic/x4", "x4"),
    "BasicSR": ("GTmod12", "LRbicx4", ""),
    "BasicSR, long names": ("GTmod12", "LRbicx4", "x4"),
    "BasicSR, nested": ("GTmod12", "LRbicx4/x4", "x4"),
    "DIV2K valid": ("DIV2K_valid_HR", "DIV2K_valid_LR_bicubic/X4", "x4"),
    "DIV2K valid, lower case": ("DIV2K_valid_HR", "DIV2K_valid_LR_bicubic/x4", "x4"),
    "DIV2K train": ("DIV2K_train_HR", "DIV2K_train_LR_bicubic/X4", "x4"),
    "DIV2K train, lower case": ("DIV2K_train_HR", "DIV2K_train_LR_bicubic/x4", "x4"),
}


def save(folder, *names):
    save_noise(folder, dict.fromkeys(names, (4, 4, 3)))


def relative(pairs, folder):
    """Name and files of every pair."""
    return [(p.name, *(f and f.relative_to(folder).as_posix() for f in (p.hr, p.lr))) for p in pairs]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path, layout):
    hr, lr, ending = LAYOUTS[layout]
    save(tmp_path / hr, "b.png", "a.png", "c.bmp")
    save(tmp_path / lr, *(f"{name}{ending}.png" for name in "abcd"))
    save(tmp_path / lr.replace("4", "2"), *(f"{name}x2.png" for name in "abc"))
    split = "train" if "train" in layout else "valid"
    assert relative(find_pairs(tmp_path, 4, split=split), tmp_path) == [
        ("a", f"{hr}/a.png", f"{lr}/a{ending}.png"),
        ("b", f"{hr}/b.png", f"{lr}/b{ending}.png"),
        ("c", f"{hr}/c.bmp", f"{lr}/c{ending}.png"),
    ]


def test_div2k_splits_are_kept_apart(tmp_path):
    for split, name in (("train", "0001"), ("valid", "0801")):
        save(tmp_path / f"DIV2K_{split}_HR", f"{name}.png")
        save(tmp_path / f"DIV2K_{split}_LR_bicubic" / "X2", f"{name}x2.png")
    for split, name in (("train", "0001"), ("valid", "0801")):
        assert relative(find_pairs(tmp_path, 2, split=split), tmp_path) == [
            (name, f"DIV2K_{split}_HR/{name}.png", f"DIV2K_{split}_LR_bicubic/X2/{name}x2.png")
        ]


@pytest.mark.parametrize("layout", ["EDSR", "BasicSR", "DIV2K valid"])
def test_without_lr_of_this_scale_it_is_to_be_made(tmp_path, layout):
    hr, lr, ending = LAYOUTS[layout]
    save(tmp_path / hr, "a.png")
    assert relative(find_pairs(tmp_path, 4), tmp_path) == [("a", f"{hr}/a.png", None)]
    save(tmp_path / lr, f"a{ending}.png")
    assert relative(find_pairs(tmp_path, 3), tmp_path) == [("a", f"{hr}/a.png", None)]


def test_a_bare_folder(tmp_path):
    save(tmp_path, "b.jpg", "a.PNG", ".hidden.png")
    (tmp_path / "notes.txt").touch()
    assert relative(find_pairs(tmp_path, 4), tmp_path) == [("a", "a.PNG", None), ("b", "b.jpg", None)]


def test_photos_to_train_on_may_be_in_folders(tmp_path):
    """Sets of pairs among them are pairs; HR pictures alone are passed over; and a data set to score is one folder."""
    save(tmp_path, "a.png")
    save(tmp_path / "trip", "a.png", "b.c.jpg")
    save(tmp_path / "trip" / "day 2", "z.png")
    for alone in (".thumbs", "trip/hr", "trip/SR", "DIV2K_valid_HR"):
        save(tmp_path / alone, "no.png")
    save(tmp_path / "set" / "GT", "y.png")
    save(tmp_path / "set" / "LQ", "y.png")
    expected = [
        ("a", "a.png", None),
        ("set_y", "set/GT/y.png", "set/LQ/y.png"),
        ("trip_a", "trip/a.png", None),
        ("trip_b.c", "trip/b.c.jpg", None),
        ("trip_day 2_z", "trip/day 2/z.png", None),
    ]
    assert relative(find_pairs(tmp_path, 1, split="train"), tmp_path) == expected
    (tmp_path / "trip" / "again").symlink_to(tmp_path / "trip")
    assert relative(find_pairs(tmp_path, 1, split="train"), tmp_path) == expected
    save(tmp_path / "one", "x.png")
    save(tmp_path / "one" / "below", "y.png")
    assert [pair.name for pair in find_pairs(tmp_path / "one", 4)] == ["x"]
    save(tmp_path, "trip_a.jpg")
    with pytest.raises(InputError, match=r": found two pictures called trip_a, trip/a\.png and trip_a\.jpg, expected"):
        find_pairs(tmp_path, 1, split="train")


@pytest.mark.parametrize("folder", ["LR_bicubic", "mine/LRbicx4", "LRx4", "set x2 LR/X2", "deep/down/lq"])
def test_lr_pictures_alone_are_not_passed_over(tmp_path, folder):
    save(tmp_path / "trip", "a.png")
    save(tmp_path / folder, "no.png")
    alone = folder.removesuffix("/X2")
    with pytest.raises(InputError, match=rf"{alone}: found a folder of LR pictures, expected one of their HR pictures"):
        find_pairs(tmp_path, 4, split="train")
    with pytest.raises(InputError, match=r": found a folder of LR pictures, expected their HR pictures' folder, or "):
        find_pairs(tmp_path / folder, 4)


def test_a_missing_lr_picture_is_named(tmp_path):
    save(tmp_path / "HR", "a.png", "b.png")
    save(tmp_path / "LR_bicubic" / "X4", "ax4.png")
    with pytest.raises(
        FileNotFoundError, match=r"LR_bicubic/X4/bx4\.png: no such file, expected the LR of .*HR/b\.png"
    ):
        find_pairs(tmp_path, 4)


@pytest.mark.parametrize("folder", [".", "HR"])
def test_two_pictures_of_one_name_are_refused(tmp_path, folder):
    save(tmp_path / folder, "a.png", "b.png", "a.jpg")
    with pytest.raises(
        InputError, match=r": found two pictures called a, (HR/)?a\.jpg and (HR/)?a\.png, expected different names"
    ):
        find_pairs(tmp_path, 4)


@pytest.mark.parametrize("folder", [".", "HR", "GTmod12", "DIV2K_valid_HR"])
def test_empty_folders_are_refused(tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    message = (
        rf"^{re.escape(str(tmp_path / folder))}: found no pictures, expected some here, or in a folder HR, GTmod12, "
    )
    with pytest.raises(InputError, match=message):
        find_pairs(tmp_path, 4)


def test_missing_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none: no such folder, expected a data set"):
        find_pairs(tmp_path / "none", 4)
    with pytest.raises(FileNotFoundError, match=r"none: no such folder, expected data sets"):
        find_datasets(tmp_path / "none", [], 4)


@pytest.fixture
def root(tmp_path):
    """Three sets in different layouts, and what is none."""
    save(tmp_path / "Set5" / "HR", "baby.png")
    save(tmp_path / "Set14" / "GTmod12", "zebra.png")
    save(tmp_path / "mine", "dog.jpg")
    (tmp_path / "notes").mkdir()
    (tmp_path / "readme.txt").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], {"Set14": ["zebra"], "Set5": ["baby"], "mine": ["dog"]}),
        (["Set5", "mine"], {"Set5": ["baby"], "mine": ["dog"]}),
        (["mine", "Set14"], {"mine": ["dog"], "Set14": ["zebra"]}),
    ],
)
def test_data_sets_are_found_in_the_order_asked_for(root, names, expected):
    found = find_datasets(root, names, 4)
    assert list(found) == list(expected)
    assert {name: [pair.name for pair in pairs] for name, pairs in found.items()} == expected


@pytest.mark.parametrize(("name", "picture"), [("Set5", "baby"), ("Set14", "zebra"), ("mine", "dog")])
def test_the_root_may_be_a_data_set_itself(root, name, picture):
    (found,) = find_datasets(root / name, [], 4).items()
    assert (found[0], [pair.name for pair in found[1]]) == (name, [picture])


def test_a_data_set_may_be_given_by_its_own_name(root):
    (found,) = find_datasets(root / "Set5", ["Set5"], 4).items()
    assert (found[0], [pair.name for pair in found[1]]) == ("Set5", ["baby"])


def test_pictures_beside_data_sets_are_not_taken_for_all_there_is(root):
    save(root, "preview.png")
    expected = f"in folders Set14, Set5, mine, expected --datasets to name some of these, or --datasets={root.name} for"
    with pytest.raises(InputError, match=f": found pictures beside the data sets {expected} the pictures$"):
        find_datasets(root, [], 4)
    assert list(find_datasets(root, ["Set5"], 4)) == ["Set5"]
    assert [pair.name for pair in find_datasets(root, [root.name], 4)[root.name]] == ["preview"]
    save(root / "mine" / "LRx4", "dog.png")
    assert list(find_datasets(root / "mine", [], 4)) == ["mine"]  # a folder of pairs is no set beside it


def test_unknown_data_sets_are_refused(root):
    with pytest.raises(InputError, match=r": found no data set Urban100, expected one of Set14, Set5, mine$"):
        find_datasets(root, ["Set5", "Urban100"], 4)
    with pytest.raises(InputError, match=r"notes: found no data sets or pictures, expected some$"):
        find_datasets(root / "notes", [], 4)


def test_shared_data_sets(shared_images):
    found = find_datasets(shared_images, ["Set5", "Set14", "B100", "kodak24"], 3)
    assert {name: len(pairs) for name, pairs in found.items()} == {"Set5": 5, "Set14": 14, "B100": 100, "kodak24": 24}
    assert {name: pairs[0].lr is None for name, pairs in found.items()} == {
        "Set5": False,
        "Set14": False,
        "B100": False,
        "kodak24": True,
    }
