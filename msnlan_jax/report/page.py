"""The report's page: one HTML file with its style, script and pictures inside, to be opened anywhere, offline."""

import base64
import html
import io
import string
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from PIL import Image

from msnlan_jax.pictures import RGBPicture
from msnlan_jax.report import model_size, published
from msnlan_jax.report.comparison import Compared
from msnlan_jax.report.rows import Measure, Row, cells, describe_protocol, describe_scores, measures, number, rows
from msnlan_jax.report.showcase import Crop, Sample
from msnlan_jax.scoring import Scores

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
    template = string.Template((epath.Path(__file__).parent / "page.html").read_text())
    method, scale = result.get("method", result["weights"]), result["scale"]
    count = sum(len(dataset["images"]) for dataset in result["datasets"].values())
    about = f"{_escape(', '.join(result['datasets']))}: {count} pictures. "
    made_by = "Weights" if "inference" in result["protocol"] else "Pictures"
    about += f"{made_by}: <code>{_escape(result['weights'])}</code>"
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
    shown = measures(found, names)
    columns = [cells(found, [row.datasets.get(name, {}) for row in found], shown) for name in names]
    lines = {False: "", True: ""}
    for i, row in enumerate(found):
        kind = ' class="ours"' if row.ours else ""
        scores = "".join(_cells(column[i]) for column in columns)
        mark = "*" if row.note else ""
        lines[row.published] += f'<tr{kind}><th scope="row">{_escape(row.name)}{mark}</th>{scores}</tr>'
    groups = f"<tbody>{lines[False]}</tbody>"
    if lines[True]:
        width = 1 + len(names) * len(shown)
        heading = f'<tr class="group"><th colspan="{width}" scope="rowgroup">Published</th></tr>'
        groups += f"<tbody class=published>{heading}{lines[True]}</tbody>"
    head, units = _heads(names, shown)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Scores"><table>'
        f"<caption>{_caption(result, found)}</caption>"
        f'<thead><tr><th rowspan="2" scope="col">Method</th>{head}</tr><tr>{units}</tr></thead>'
        f"{groups}</table></div>"
    )


def _heads(names: Sequence[str], shown: Sequence[Measure]) -> tuple[str, str]:
    """Return the cells of both lines above a table: what is scored, and by which measures."""
    head = "".join(f'<th class="first" colspan="{len(shown)}" scope="colgroup">{_escape(n)}</th>' for n in names)
    units = "".join(f'<th{_first(i)} scope="col">{measure.label}</th>' for i, measure in enumerate(shown))
    return head, units * len(names)


def _cells(scores: Sequence[tuple[str, bool]]) -> str:
    return "".join(f"<td{_first(i)}>{f'<b>{text}</b>' if best else text}</td>" for i, (text, best) in enumerate(scores))


def _every(result: Mapping[str, Any], compared: Sequence[Compared], dataset: str) -> str:
    """Return the table of one data set's pictures by methods."""
    found = [row for row in rows(result, compared) if not row.published and dataset in row.datasets]
    shown = measures(found, [dataset])
    head, units = _heads([row.name for row in found], shown)
    lines = []
    images = result["datasets"][dataset]["images"]
    for name in [*images, None]:
        scores = [
            row.datasets[dataset] if name is None else row.datasets[dataset]["images"].get(name, {}) for row in found
        ]
        line = "".join(map(_cells, cells(found, scores, shown)))
        label, kind = ("mean", ' class="mean"') if name is None else (name, "")
        lines.append(f'<tr{kind}><th scope="row">{_escape(label)}</th>{line}</tr>')
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
        f'<select aria-label="{_escape(sample.name)}: method on the {side}">'
        + "".join(
            f'<option value="{_escape(name)}"{" selected" if name == chosen else ""}>{_escape(name)}</option>'
            for name in pictures
        )
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
    figures = "".join(f"<figure>{model_size.svg(plot)}{_numbers(plot)}</figure>" for plot in plots)
    note = _escape(published.table()["multiply_adds_about"])
    return (
        f'<section aria-labelledby="size"><h2 id="size">Score against size</h2><div class="plots">{figures}</div>'
        f'<p class="muted">Scores of the others as published, on Y. Multiply–adds of the others: {note} Ours: '
        "convolutions, and the products of queries, keys and values.</p></section>"
    )


def _numbers(plot: model_size.Plot) -> str:
    """Return a plot's points as a table, for who cannot see it or wants the values."""
    lines = "".join(
        f'<tr{" class=ours" if point.ours else ""}><th scope="row">{_escape(point.name)}</th>'
        f"<td>{model_size.short(point.cost)}</td><td>{number(point.psnr, 2)}</td></tr>"
        for point in plot.points
    )
    head = f'<th scope="col">{_escape(plot.label)}</th><th scope="col">PSNR on {_escape(plot.dataset)} (dB)</th>'
    return (
        '<details><summary>The numbers</summary><div class="scroll" tabindex="0" role="region" '
        f'aria-label="PSNR against {_escape(plot.label)}"><table><thead><tr><th scope="col">Method</th>{head}</tr>'
        f"</thead><tbody>{lines}</tbody></table></div></details>"
    )


def _scores(scores: Scores) -> str:
    psnr, ssim, *lpips = describe_scores(scores)
    return f"{psnr} dB<br>{ssim}" + "".join(f"<br>LPIPS {value}" for value in lpips)


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
