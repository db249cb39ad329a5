import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import photos, sources
from data.plan import Samples, cut, plan_step
from msnlan_jax.errors import InputError
from msnlan_jax.pictures.pairs import read_pair
from tests.samples import experiment, noise, save_noise

SIZES = np.array([[8, 8], [9, 30], [25, 12]])


def fields(samples):
    return [samples.image.tolist(), samples.top.tolist(), samples.left.tolist(), samples.flips.tolist()]


def test_a_plan_depends_on_seed_and_step_only():
    plans = {(seed, step): plan_step(seed, step, 16, SIZES, 8) for seed in (0, 1) for step in (0, 1, 10**6)}
    np.random.seed(0)  # noqa: NPY002 - the global state must not matter
    for (seed, step), plan in reversed(plans.items()):
        assert fields(plan_step(seed, step, 16, SIZES, 8)) == fields(plan)
    assert len({str(fields(plan)) for plan in plans.values()}) == len(plans)


@settings(max_examples=50)
@given(st.data())
def test_crops_lie_inside(data):
    sizes = np.array(data.draw(st.lists(st.tuples(st.integers(4, 9), st.integers(4, 9)), min_size=1, max_size=4)))
    patch, seed, step = data.draw(st.tuples(st.integers(1, 4), st.integers(0, 9), st.integers(0, 999)))
    plan = plan_step(seed, step, 32, sizes, patch)
    assert ((plan.image >= 0) & (plan.image < len(sizes))).all()
    for start, side in zip((plan.top, plan.left), sizes[plan.image].T, strict=True):
        assert ((start >= 0) & (start + patch <= side)).all()


def test_everything_is_drawn_about_equally_often():
    plan = plan_step(0, 0, 8000, SIZES, 6)
    flips = plan.flips @ [1, 2, 4]
    for values, count in ((plan.image, 3), (flips, 8), (plan.top[plan.image == 0], 3), (plan.left[plan.image == 2], 7)):
        shares = np.bincount(values, minlength=count) / len(values)
        assert len(shares) == count
        np.testing.assert_allclose(shares, 1 / count, atol=0.03)


@pytest.mark.parametrize("flips", list(itertools.product((False, True), repeat=3)), ids=str)
def test_patches_are_flipped_as_planned(flips):
    """Horizontal flip, vertical flip, transpose; LR made by taking every third HR pixel stays exactly that."""
    hr = noise(0, 30, 24, 3)
    hr[1::3, 1::3] = hr_centres = noise(1, 10, 8, 3)
    plan = Samples(np.array([0]), np.array([2]), np.array([3]), np.array([flips]))
    lr_batch, hr_batch = cut([(hr_centres, hr)], plan, 4, 3)
    assert (lr_batch.shape, hr_batch.shape) == ((1, 4, 4, 3), (1, 12, 12, 3))
    np.testing.assert_array_equal(hr_batch[0, 1::3, 1::3], lr_batch[0])
    horizontal, vertical, transpose = flips
    expected = hr_centres[2:6, 3:7]
    expected = np.fliplr(expected) if horizontal else expected
    expected = np.flipud(expected) if vertical else expected
    np.testing.assert_array_equal(lr_batch[0], expected.swapaxes(0, 1) if transpose else expected)


def test_samples_come_from_the_planned_pictures():
    pictures = [(np.full((6, 6, 3), i, np.uint8), np.full((12, 12, 3), i, np.uint8)) for i in range(5)]
    plan = plan_step(0, 0, 64, np.full((5, 2), 6), 4)
    for batch in cut(pictures, plan, 4, 2):
        np.testing.assert_array_equal(batch.min(axis=(1, 2, 3)), plan.image)
        np.testing.assert_array_equal(batch.max(axis=(1, 2, 3)), plan.image)


@pytest.fixture
def folder(tmp_path):
    save_noise(tmp_path / "photos", {"a.png": (40, 33, 3), "b.png": (32, 50), "c.png": (36, 36, 4)})
    return tmp_path / "photos"


def batches(config):
    pytest.importorskip("tensorflow")
    from data import tfdata

    return tfdata.Batches(config)


def test_batches_are_the_plan(folder):
    config = experiment(data={"source": "folder", "dir": str(folder)}, total_steps=6)
    read = batches(config)
    pictures = [read_pair(pair, 2) for pair in sources.training_pairs(config)]
    sizes = np.array([lr.shape[:2] for lr, _ in pictures])
    found = list(read.batches(0))
    assert len(found) == 6
    for step, (lr, hr) in enumerate(found):
        assert (lr.shape, hr.shape) == ((2, 8, 8, 3), (2, 16, 16, 3))
        expected = cut(pictures, plan_step(0, step, 2, sizes, 8), 8, 2)
        np.testing.assert_array_equal(lr, expected[0], strict=True)
        np.testing.assert_array_equal(hr, expected[1], strict=True)


def test_starting_late_is_skipping(folder):
    config = experiment(data={"source": "folder", "dir": str(folder)}, total_steps=7)
    read = batches(config)
    skipped = list(itertools.islice(read.batches(0), 4, None))
    started = list(batches(config).batches(4))
    assert len(started) == len(skipped) == 3
    np.testing.assert_array_equal([lr for lr, _ in started], [lr for lr, _ in skipped])
    np.testing.assert_array_equal([hr for _, hr in started], [hr for _, hr in skipped])
    assert list(read.batches(7)) == []


def test_built_in_photos():
    training, held_out = photos.training_pairs(), photos.held_out_pairs()
    assert not {pair.hr for pair in training} & {pair.hr for pair in held_out}
    assert sources.training_pairs(experiment()) == training
    assert sources.validation_sets(experiment()) == {"held_out": held_out}
    sets = photos.find_sets([])
    assert list(sets) == ["photos"]
    assert set(sets["photos"]) == {*training, *held_out}
    assert photos.find_sets(["held_out", "photos"]) == {"held_out": held_out, **sets}
    for pair in sets["photos"]:
        lr, hr = read_pair(pair, 4)
        assert min(lr.shape[:2]) >= 48
        assert hr.std() > 20
    with pytest.raises(InputError, match=r"^--datasets: found Set5, expected photos or held_out"):
        photos.find_sets(["photos", "Set5"])


def test_validation_sets(tmp_path):
    for name in ("Set5", "Set14"):
        save_noise(tmp_path / name / "HR", {"a.png": (8, 8, 3)})
    found = sources.validation_sets(experiment(eval={"data_dir": str(tmp_path), "datasets": "Set5, Set14"}))
    assert list(found) == ["Set5", "Set14"]
    with pytest.raises(InputError, match=r": found no data set Urban100, expected one of Set14, Set5$"):
        sources.validation_sets(experiment(eval={"data_dir": str(tmp_path), "datasets": "Set5,Urban100"}))


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("", InputError, r"^config\.data\.dir: found none, expected a folder of pictures"),
        ("none", FileNotFoundError, r"none: no such folder, expected a data set"),
        (
            "empty",
            InputError,
            r"empty: found no pictures, expected some here or below, or in a folder HR, GTmod12, DIV2K_train_HR",
        ),
    ],
)
def test_folders_that_cannot_be_trained_on(tmp_path, name, error, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=message):
        sources.training_pairs(experiment(data={"source": "folder", "dir": name and str(tmp_path / name)}))


def test_unknown_sources_are_refused():
    with pytest.raises(InputError, match=r"^config\.data\.source: found 'web', expected one of photos, folder, div2k$"):
        sources.training_pairs(experiment(data={"source": "web"}))


def test_pictures_must_be_as_large_as_a_patch(folder):
    data = {"source": "folder", "dir": str(folder)}
    with pytest.raises(InputError, match=r"a\.png: found 20×16 LR pixels, expected at least config\.patch_size = 17"):
        batches(experiment(data=data, patch_size=17))
    batches(experiment(data=data, patch_size=16))


def test_a_broken_picture_is_named(folder):
    (folder / "b.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"b\.png: broken or unreadable picture"):
        batches(experiment(data={"source": "folder", "dir": str(folder)}))
