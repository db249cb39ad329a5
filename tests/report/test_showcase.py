import json

import numpy as np
import pytest
from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.network import complexity
from msnlan_jax.network.model import MSNLANConfig
from msnlan_jax.pictures.images import write_image
from msnlan_jax.pictures.pairs import Pair
from msnlan_jax.report import benchmark
from msnlan_jax.report.comparison import method_name, read_compared
from msnlan_jax.report.showcase import Crop, Showcase, most_different, parse_crops
from msnlan_jax.scoring import metrics
from tests.samples import Nearest, noise, save_noise, snapshot


def spoiled(hr, top, left, side, by):
    sr = hr.copy()
    sr[top : top + side, left : left + side] ^= np.uint8(by)
    return sr


@pytest.mark.parametrize(("top", "left"), [(0, 0), (37, 90), (52, 104)])
def test_the_window_where_methods_differ_most(top, left):
    hr = noise(0, 100, 152, 3)
    both = spoiled(hr, 10, 10, 20, 255)  # wrong by both: no difference
    other = np.where(spoiled(hr, top, left, 48, 128) != hr, spoiled(hr, top, left, 48, 128), both)
    crop, spread = most_different(hr, [both, other], side=48)
    assert (crop, spread > 0) == (Crop(left, top, 48), True)
    assert most_different(hr, [spoiled(hr, top, left, 48, 128)], side=48)[0] == Crop(left, top, 48)
    assert most_different(hr[:9, :20], [hr[:9, :20]], side=48) == (Crop(0, 0, 48), 0.0)


def test_the_most_telling_pictures_are_kept_in_order():
    showcase = Showcase(2, {"e": Crop(1, 2, 8)})
    for name, by in (("a", 1), ("b", 64), ("c", 16), ("d", 2), ("e", 1)):
        hr = noise(0, 20, 20, 3)
        showcase.add("set", name, hr, {"x": hr, "y": spoiled(hr, 0, 0, 20, by)}, {})
    assert [sample.name for sample in showcase.samples] == ["b", "e"]  # asked for by name, "e" stays
    assert showcase.samples[1].crop == Crop(1, 2, 8)
    with pytest.raises(InputError, match=r"^--crop: found 30,0, expected inside a, 20×20$"):
        Showcase(2, {"": Crop(30, 0, 8)}).check("a", hr)
    showcase.check("a", hr)  # not one that a part was asked of


def test_crop_flags():
    assert parse_crops(["1,2,30", "a:4,5,60"], {"a"}) == {"": Crop(1, 2, 30), "a": Crop(4, 5, 60)}
    for value, message in (
        ("1,2", "found 1,2, expected x,y,size or NAME:x,y,size"),
        ("a:1,2,x", "found a:1,2,x, expected x,y,size or NAME:x,y,size"),
        ("-1,2,30", "found -1,2,30, expected x and y of at least 0"),
        ("1,2,0", "found 1,2,0, expected x and y of at least 0 and a size of at least 8"),
        ("b:1,2,30", "found b, expected one of a$"),
    ):
        with pytest.raises(InputError, match=f"^--crop: {message}"):
            parse_crops([value], {"a"})


def test_results_to_compare_with(tmp_path):
    good = {"scale": 2, "datasets": {"s": {"psnr": None, "ssim": 1.0, "images": {"a": {"psnr": 3.5, "ssim": None}}}}}
    (tmp_path / "results.json").write_text(json.dumps(good))
    write_image(tmp_path / "images" / "s" / "ax2.png", noise(0, 6, 8, 3))
    (found,) = read_compared([f"x={tmp_path}"], 2)
    assert (found.name, found.folder) == ("x", epath.Path(tmp_path))
    np.testing.assert_array_equal(found.picture("s", "a", (6, 8, 3)), noise(0, 6, 8, 3))
    assert found.picture("s", "a", (6, 9, 3)) is None
    assert found.picture("s", "b", (6, 8, 3)) is None
    with pytest.raises(InputError, match=r"results\.json for ×2, expected ×3$"):
        read_compared([f"x={tmp_path}"], 3)
    for values in (["x"], ["=a"], ["x="], [f"x={tmp_path}", f"x={tmp_path}"]):
        with pytest.raises(InputError, match=r"^--compare: found .*, expected NAME=results\.json, each name once$"):
            read_compared(values, 2)
    scores = ('{"psnr": "x", "ssim": 1, "images": {}}', '{"psnr": 1, "ssim": 1, "lpips": "x", "images": {}}')
    texts = ["{", "[]", '{"scale": 2}', '{"scale": 2, "datasets": {}, "protocol": null}']
    for text in texts + [f'{{"scale": 2, "datasets": {{"s": {of_set}}}}}' for of_set in scores]:
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(InputError, match=r"bad\.json: not a results\.json of eval\.py: "):
            read_compared([f"x={tmp_path / 'bad.json'}"], 2)


def test_multiply_adds_of_the_published_size():
    """SPEC.md §1 and §2: 22 G in the convolutions at ×2; attention, by unfolding about 48 G, takes k² fewer here."""
    found = complexity.multiply_adds(MSNLANConfig(2), 48, 48)
    assert 20.5e9 < found.convolutions < 22.5e9
    assert found.attention == 2304 * (2304 + 2500 + 2704) * (32 + 64)
    unfolded = sum(k * k * (48 + k - 3) ** 2 * 2304 * 96 for k in (3, 5, 7))
    assert 47e9 < unfolded < 49e9


def test_rgb_scores_of_every_channel():
    hr, sr = noise(0, 30, 30, 3), noise(1, 30, 30, 3)
    error = np.mean(np.square(sr[2:-2, 2:-2].astype(float) - hr[2:-2, 2:-2]))
    assert metrics.psnr(sr, hr, 2, "rgb") == pytest.approx(10 * np.log10(255**2 / error), rel=1e-12)
    gray = [np.repeat(image[:, :, :1], 3, axis=2) for image in (sr, hr)]
    planes = [np.repeat(sr[:, :, c : c + 1], 3, axis=2) for c in range(3)]
    trues = [np.repeat(hr[:, :, c : c + 1], 3, axis=2) for c in range(3)]
    each = [metrics.ssim(plane, true, 2, "rgb") for plane, true in zip(planes, trues, strict=True)]
    assert metrics.ssim(sr, hr, 2, "rgb") == pytest.approx(np.mean(each), rel=1e-12)
    assert metrics.ssim(*gray, 2, "rgb") == pytest.approx(each[0], rel=1e-12)
    with pytest.raises(InputError, match=r"^channel: found 'lab', expected one of y, rgb$"):
        metrics.score(sr, hr, 2, "lab")


@pytest.mark.parametrize("border", [0, 3])
def test_lpips_sees_what_is_inside_the_border(border):
    hr, seen = noise(0, 20, 24, 3), []

    def distance(sr, true):
        seen.append((sr, true))
        return 0.25

    protocol = benchmark.Protocol(2, border=border, lpips=distance)
    assert protocol.score(255 - hr, hr, border).lpips == 0.25
    inside = hr[border : 20 - border, border : 24 - border]
    np.testing.assert_array_equal(seen[0][0], 255 - inside)
    np.testing.assert_array_equal(seen[0][1], inside)


def test_scores_without_rounding_are_of_the_clipped_output(tmp_path):
    save_noise(tmp_path, {"a.png": (24, 24, 3)})
    pairs = {"s": [Pair("a", epath.Path(tmp_path / "a.png"))]}

    class Half(Nearest):
        def __call__(self, x):
            return super().__call__(x) + 0.4

    found = {}
    for rounding in ("uint8", "none"):
        protocol = benchmark.Protocol(2, channel="rgb", rounding=rounding)
        outcome = benchmark.score_network(
            Half(2), "half", pairs, protocol, options={}, showcase=Showcase(1), save_to=epath.Path(tmp_path / rounding)
        )
        found[rounding] = outcome.datasets["s"].psnr
    assert found["uint8"] != found["none"]
    assert abs(found["uint8"] - found["none"]) < 0.1
    assert snapshot(tmp_path / "uint8") == snapshot(tmp_path / "none")  # pictures are rounded either way
    with pytest.raises(InputError, match=r"^rounding: found 'up', expected one of uint8, none$"):
        benchmark.Protocol(2, rounding="up")


def test_pictures_made_elsewhere_are_called_as_their_folder_and_never_as_what_is_shown_anyway():
    assert [method_name(f"a/{name}") for name in ("b", "HR", "bicubic")] == ["b", "a/HR", "a/bicubic"]
    assert method_name("a/HR", "theirs") == "theirs"
    with pytest.raises(InputError, match=r"^--name: found the name HR, expected another than bicubic, HR$"):
        method_name("a/b", "HR")
