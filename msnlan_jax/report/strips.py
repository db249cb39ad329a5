"""Side-by-side pictures, as in papers: the whole picture, and one part of it by every method."""

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from msnlan_jax.pictures import RGBPicture
from msnlan_jax.report.tables import describe_scores
from msnlan_jax.scoring import Scores

_CROP = 96
_HEIGHT = 288
_CAPTION = 40
_GAP = 6


def side_by_side(hr: RGBPicture, methods: Mapping[str, RGBPicture], scores: Mapping[str, Scores]) -> RGBPicture:
    """Show the part of a picture where the last method improves most on the first, by each of them and truly.

    Args:
        hr: the true picture, uint8 0..255.
        methods: name → reconstruction of the same size.
        scores: name → scores of the whole picture, for its caption.
    """
    top, left = _most_improved(hr, *(list(methods.values())[i] for i in (0, -1)))
    side = (min(_CROP, hr.shape[0]), min(_CROP, hr.shape[1]))
    zoom = _HEIGHT / side[0]
    whole = Image.fromarray(hr)
    ImageDraw.Draw(whole).rectangle(
        (left, top, left + side[1], top + side[0]), outline=(255, 60, 40), width=max(2, hr.shape[0] // 128)
    )
    panels = [("whole picture", whole.resize((max(1, round(hr.shape[1] * _HEIGHT / hr.shape[0])), _HEIGHT)))]
    for name, picture in {**methods, "HR": hr}.items():
        crop = picture[top : top + side[0], left : left + side[1]]
        caption = name
        if name in scores:
            psnr, *others = describe_scores(scores[name])
            caption += "\n" + " / ".join([f"{psnr} dB", *others])
        panels.append(
            (caption, Image.fromarray(crop).resize((round(side[1] * zoom), _HEIGHT), Image.Resampling.NEAREST))
        )
    width = sum(panel.width + _GAP for _, panel in panels) - _GAP
    canvas = Image.new("RGB", (width, _HEIGHT + _CAPTION), "white")
    draw, font, x = ImageDraw.Draw(canvas), ImageFont.load_default(14), 0
    for caption, panel in panels:
        canvas.paste(panel, (x, 0))
        draw.multiline_text((x + 2, _HEIGHT + 2), caption, fill="black", font=font)
        x += panel.width + _GAP
    return np.asarray(canvas)


def _most_improved(hr: RGBPicture, first: RGBPicture, last: RGBPicture) -> tuple[int, int]:
    """Return top and left of the window with the largest drop in squared error from `first` to `last`."""
    errors = [np.square(sr.astype(np.float64) - hr).sum(axis=2) for sr in (first, last)]
    sums = np.pad(errors[0] - errors[1], ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    h, w = (min(_CROP, size) for size in hr.shape[:2])
    windows = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
    top, left = np.unravel_index(np.argmax(windows), windows.shape)
    return int(top), int(left)
