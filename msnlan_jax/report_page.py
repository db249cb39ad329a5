"""The report's page: one HTML file with its style, script and pictures inside, to be opened anywhere, offline."""

import base64
import html
import io
import math
import string
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from PIL import Image

from msnlan_jax import model_size, published
from msnlan_jax.comparison import Compared
from msnlan_jax.images import RGBPicture
from msnlan_jax.metrics import Scores
from msnlan_jax.rows import Row, describe_protocol, number, rows
from msnlan_jax.showcase import Crop, Sample

# The part of a picture that the slider shows, HR pixels at most.
_STAGE = (640, 480)
_THUMBNAIL = 280


def page(
    result: Mapping[str, Any],
    compared: Sequence[Compared],
    samples: Sequence[Sample],
    plots: Sequence[model_size.Plot],
) -> str:
    """Return the page.

    Args:
        result: `results.json`'s content.
        compared: other methods' results.
        samples: the pictures to show.
        plots: PSNR against the size of networks.
    """
    template = string.Template((epath.Path(__file__).parent / "report_page.html").read_text())
    method, scale = result.get("method", result["weights"]), result["scale"]
    count = sum(len(dataset["images"]) for dataset in result["datasets"].values())
    about = f"{_escape(', '.join(result['datasets']))}: {count} pictures. "
    about += f"Weights: <code>{_escape(result['weights'])}</code>"
    table = published.table()
    return template.substitute(
        title=_escape(f"{method} ×{scale}"),
        heading=_escape(f"{method}, ×{scale}"),
        about=about,
        scores=_summary(result, compared),
        pictures=_pictures(result, samples),
        size=_size(plots),
        every="".join(_every(result, compared, name) for name in result["datasets"]),
        footer=f"<p>{_escape(table['about'])} Source: {_escape('; '.join(table['sources']))}.</p>",
    )


def _summary(result: Mapping[str, Any], compared: Sequence[Compared]) -> str:
    """Return the table of methods by data sets."""
    names = list(result["datasets"])
    found = rows(result, compared)
    measures = [("PSNR", "psnr", 2), ("SSIM", "ssim", 4)]
    if any(row.datasets[name].get("lpips") is not None for row in found for name in row.datasets):
        measures.append(("LPIPS", "lpips", 4))
    head = "".join(f'<th class="first" colspan="{len(measures)}" scope="colgroup">{_escape(n)}</th>' for n in names)
    units = "".join(f'<th{_first(i)} scope="col">{label}</th>' for _ in names for i, (label, *_) in enumerate(measures))
    groups = []
    for title, group in (
        ("", [row for row in found if not row.published]),
        ("Published", [r for r in found if r.published]),
    ):
        if not group:
            continue
        heading = f'<tr class="group"><th colspan="{1 + len(names) * len(measures)}">{title}</th></tr>' if title else ""
        best = {} if title else {(n, key): _best(group, n, key) for n in names for _, key, _ in measures}
        lines = "".join(_line(row, names, measures, best) for row in group)
        groups.append(f"<tbody{' class=published' if title else ''}>{heading}{lines}</tbody>")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Scores"><table>'
        f"<caption>{_caption(result, found)}</caption>"
        f'<thead><tr><th rowspan="2" scope="col">Method</th>{head}</tr><tr>{units}</tr></thead>'
        f"{''.join(groups)}</table></div>"
    )


def _line(row: Row, names: Sequence[str], measures: Sequence[tuple[str, str, int]], best: Mapping[Any, Any]) -> str:
    cells = []
    for name in names:
        for i, (_, key, digits) in enumerate(measures):
            text = number(row.datasets.get(name, {}).get(key), digits)
            bold = text != "–" and text == number(best.get((name, key)), digits)
            cells.append(f"<td{_first(i)}>{f'<b>{text}</b>' if bold else text}</td>")
    kind = ' class="ours"' if row.ours else ""
    return f'<tr{kind}><th scope="row">{_escape(row.name)}{"*" if row.note else ""}</th>{"".join(cells)}</tr>'


def _every(result: Mapping[str, Any], compared: Sequence[Compared], dataset: str) -> str:
    """Return the table of one data set's pictures by methods."""
    found = [row for row in rows(result, compared) if not row.published and dataset in row.datasets]
    head = "".join(f'<th class="first" colspan="2" scope="colgroup">{_escape(row.name)}</th>' for row in found)
    units = '<th class="first" scope="col">PSNR</th><th scope="col">SSIM</th>' * len(found)
    lines = []
    images = result["datasets"][dataset]["images"]
    for name in [*images, None]:
        scores = [
            row.datasets[dataset] if name is None else row.datasets[dataset]["images"].get(name, {}) for row in found
        ]
        best = {key: max((s.get(key) or -math.inf for s in scores), default=None) for key in ("psnr", "ssim")}
        cells = ""
        for values in scores:
            for i, (key, digits) in enumerate((("psnr", 2), ("ssim", 4))):
                text = number(values.get(key), digits)
                bold = len(found) > 1 and values.get(key) is not None and values[key] == best[key]
                cells += f"<td{_first(i)}>{f'<b>{text}</b>' if bold else text}</td>"
        label, kind = ("mean", ' class="mean"') if name is None else (name, "")
        lines.append(f'<tr{kind}><th scope="row">{_escape(label)}</th>{cells}</tr>')
    is_open = " open" if len(images) <= 20 else ""
    return (
        f"<details{is_open}><summary>{_escape(dataset)}, {len(images)} pictures</summary>"
        f'<div class="scroll" tabindex="0" role="region" aria-label="{_escape(dataset)}"><table>'
        f"<caption>{_caption(result, found)}</caption>"
        f'<thead><tr><th rowspan="2" scope="col">Picture</th>{head}</tr><tr>{units}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div></details>"
    )


def _caption(result: Mapping[str, Any], found: Sequence[Row]) -> str:
    notes = "".join(f"<br>* {_escape(row.name)}: {_escape(row.note)}" for row in found if row.note)
    protocol = _escape(f"Protocol: {describe_protocol(result['protocol'])}.")
    return f"<span>{protocol}{notes}</span>"


def _pictures(result: Mapping[str, Any], samples: Sequence[Sample]) -> str:
    if not samples:
        return ""
    total = sum(len(dataset["images"]) for dataset in result["datasets"].values())
    which = (
        f"All {total}" if len(samples) == total else f"The {len(samples)} of {total} in which the methods differ most"
    )
    articles = "".join(_article(sample) for sample in samples)
    return (
        f'<section aria-labelledby="pictures"><h2 id="pictures">Pictures</h2><p class="muted">{which}. The line moves '
        "by dragging, or with the arrow keys; enlarged parts show the pixels as they are, without smoothing. Scores "
        f"are of the whole picture; {_escape(describe_protocol(result['protocol']))}.</p>{articles}</section>"
    )


def _article(sample: Sample) -> str:
    h, w = sample.hr.shape[:2]
    heading = f"<h3>{_escape(sample.name)} <small>{_escape(sample.dataset)}, {w}×{h}</small></h3>"
    return f'<article>{heading}<div class="pair">{_slider(sample)}{_strip(sample)}</div></article>'


def _slider(sample: Sample) -> str:
    """Return the before/after slider over the surroundings of the crop."""
    h, w = sample.hr.shape[:2]
    width, height = min(_STAGE[0], w), min(_STAGE[1], h)
    left = min(max(0, sample.crop.x + sample.crop.size // 2 - width // 2), w - width)
    top = min(max(0, sample.crop.y + sample.crop.size // 2 - height // 2), h - height)
    pictures = {**sample.methods, "HR": sample.hr}
    before = next(iter(sample.methods))
    after = list(sample.methods)[-1] if len(sample.methods) > 1 else "HR"
    images = "".join(
        f'<img data-method="{_escape(name)}" alt="{_escape(f"{sample.name} by {name}")}"'
        f'{_side(name, before, after)} src="{_data_uri(image[top : top + height, left : left + width])}">'
        for name, image in pictures.items()
    )
    choices = [
        f'<select aria-label="method on the {side}">'
        + "".join(f"<option{' selected' if name == chosen else ''}>{_escape(name)}</option>" for name in pictures)
        + "</select>"
        for side, chosen in (("left", before), ("right", after))
    ]
    return (
        f'<figure class="slider"><div class="stage" style="--at:50%;aspect-ratio:{width}/{height}">{images}'
        f'<span class="rule"></span><input type="range" min="0" max="100" value="50" step="1" '
        f'aria-label="{_escape(f"{sample.name}: where the two pictures meet")}"></div>'
        f'<div class="choice">{choices[0]}{choices[1]}</div></figure>'
    )


def _strip(sample: Sample) -> str:
    """Return the enlarged part by every method, and where it lies."""
    h, w = sample.hr.shape[:2]
    shown = sample.crop.of(sample.hr).shape
    ratio = f"--ratio:{shown[1]}/{shown[0]}"
    tiles = [_tile("HR", sample.crop.of(sample.hr), "", ratio)]
    for i, (name, image) in enumerate(sample.methods.items()):
        scores = sample.scores[name]
        ours = " ours" if i == len(sample.methods) - 1 else ""
        tiles.append(_tile(name, sample.crop.of(image), _scores(scores), ratio, ours))
    return f'<div class="strip">{_whole(sample.hr, sample.crop, (h, w))}{"".join(tiles)}</div>'


def _tile(name: str, image: RGBPicture, scores: str, ratio: str, kind: str = "") -> str:
    alt = _escape(f"enlarged part by {name}")
    source = _data_uri(image, lossless=True)
    return (
        f'<figure class="tile{kind}"><img class="pixels" style="{ratio}" alt="{alt}" src="{source}">'
        f"<figcaption><strong>{_escape(name)}</strong>{scores}</figcaption></figure>"
    )


def _whole(hr: RGBPicture, crop: Crop, size: tuple[int, int]) -> str:
    h, w = size
    small = Image.fromarray(hr)
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    shown = crop.of(hr).shape
    sides = {"left": crop.x / w, "top": crop.y / h, "width": shown[1] / w, "height": shown[0] / h}
    box = ";".join(f"{name}:{100 * value:.2f}%" for name, value in sides.items())
    return (
        f'<figure><div class="whole"><img style="--ratio:{w}/{h}" alt="the whole picture" '
        f'src="{_data_uri(np.asarray(small))}"><span style="{box}"></span></div>'
        f"<figcaption><strong>Whole</strong>x {crop.x}, y {crop.y}, {shown[1]}×{shown[0]}</figcaption></figure>"
    )


def _size(plots: Sequence[model_size.Plot]) -> str:
    if not plots:
        return ""
    figures = "".join(f"<figure>{model_size.svg(plot)}</figure>" for plot in plots)
    note = _escape(published.table()["multiply_adds_about"])
    return (
        f'<section aria-labelledby="size"><h2 id="size">Score against size</h2><div class="plots">{figures}</div>'
        f'<p class="muted">Scores of the others as published, on Y. Multiply–adds of the others: {note} Ours: '
        "convolutions, and the products of queries, keys and values.</p></section>"
    )


def _best(group: Sequence[Row], dataset: str, key: str) -> float | None:
    values = [value for row in group if (value := row.datasets.get(dataset, {}).get(key)) is not None]
    return None if len(group) < 2 or not values else (min(values) if key == "lpips" else max(values))


def _scores(scores: Scores) -> str:
    perceptual = "" if scores.lpips is None else f"<br>LPIPS {scores.lpips:.4f}"
    return f"{number(scores.psnr, 2)} dB<br>{number(scores.ssim, 4)}{perceptual}"


def _data_uri(image: RGBPicture, *, lossless: bool = False) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", lossless=lossless, quality=92, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _side(name: str, before: str, after: str) -> str:
    kinds = [kind for kind, chosen in (("left", before), ("right", after)) if chosen == name]
    return f' class="{" ".join(kinds)}"' if kinds else ""


def _first(index: int) -> str:
    return ' class="first"' if index == 0 else ""


def _escape(text: Any) -> str:
    return html.escape(str(text))
