"""The report's page: one HTML file with its style, script and pictures inside, to be opened anywhere, offline.

What it looks like is in the template `page.html`; here is what the template is given.
"""

import base64
import dataclasses
import io
from collections.abc import Sequence

import jinja2
import numpy as np
from etils import epath
from PIL import Image

from msnlan_jax.pictures import RGBPicture
from msnlan_jax.report import published
from msnlan_jax.report.comparison import Compared
from msnlan_jax.report.model_size import Plot, lay_out, short
from msnlan_jax.report.results import Results
from msnlan_jax.report.showcase import Sample
from msnlan_jax.report.tables import (
    count_pictures,
    describe_protocol,
    describe_scores,
    methods_table,
    pictures_table,
)

# The part of a picture that the slider shows, HR pixels at most.
_STAGE = (640, 480)
_THUMBNAIL = 280


@dataclasses.dataclass(frozen=True)
class Shown:
    """A picture, or a part of one, by one method: its data URI, scores as text, and whether it is the report's own."""

    method: str
    source: str
    scores: Sequence[str] = ()
    is_ours: bool = False


@dataclasses.dataclass(frozen=True)
class Article:
    """What is shown of one picture.

    Attributes:
        sample: the picture by every method.
        size: its width and height.
        stage: its part in the slider, by every method and truly.
        stage_size: width and height of that part.
        before: the method on the left at first.
        after: the method on the right.
        parts: the enlarged part, truly and by every method.
        part_size: width and height of that part.
        thumbnail: the whole picture, as data URI.
        box: where the enlarged part is in it, as CSS.
    """

    sample: Sample
    size: tuple[int, int]
    stage: Sequence[Shown]
    stage_size: tuple[int, int]
    before: str
    after: str
    parts: Sequence[Shown]
    part_size: tuple[int, int]
    thumbnail: str
    box: str


def page(results: Results, compared: Sequence[Compared], samples: Sequence[Sample], plots: Sequence[Plot]) -> str:
    """Return the page.

    Args:
        results: what was found.
        compared: other methods' results.
        samples: the pictures to show.
        plots: PSNR against the size of networks.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(epath.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(count_pictures=count_pictures, published=published, short=short)
    return environment.get_template("page.html").render(
        results=results,
        protocol=describe_protocol(results.protocol),
        methods=methods_table(results, compared),
        pictures={name: pictures_table(results, compared, name) for name in results.datasets},
        which=_which(len(samples), results.n_pictures),
        articles=[_article(sample) for sample in samples],
        drawings=[(plot, lay_out(plot)) for plot in plots],
    )


def _which(shown: int, total: int) -> str:
    """Say which pictures are shown."""
    if shown < total:
        return f"The {shown} of {total} in which the methods differ most."
    return f"All {total} pictures." if total > 1 else "The only picture."


def _article(sample: Sample) -> Article:
    h, w = sample.hr.shape[:2]
    part_h, part_w = sample.crop.of(sample.hr).shape[:2]
    width, height = min(_STAGE[0], w), min(_STAGE[1], h)
    left = min(max(0, sample.crop.x + sample.crop.size // 2 - width // 2), w - width)
    top = min(max(0, sample.crop.y + sample.crop.size // 2 - height // 2), h - height)
    surroundings = (slice(top, top + height), slice(left, left + width))
    methods = list(sample.methods)
    small = Image.fromarray(sample.hr)
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    sides = {"left": sample.crop.x / w, "top": sample.crop.y / h, "width": part_w / w, "height": part_h / h}
    parts = [Shown("HR", _data_uri(sample.crop.of(sample.hr), lossless=True))]
    for name, image in sample.methods.items():
        source = _data_uri(sample.crop.of(image), lossless=True)
        parts.append(Shown(name, source, describe_scores(sample.scores[name]), is_ours=name == methods[-1]))
    return Article(
        sample,
        (w, h),
        [Shown(name, _data_uri(image[surroundings])) for name, image in {**sample.methods, "HR": sample.hr}.items()],
        (width, height),
        before=methods[0],
        after=methods[-1] if len(methods) > 1 else "HR",
        parts=parts,
        part_size=(part_w, part_h),
        thumbnail=_data_uri(np.asarray(small)),
        box=";".join(f"{name}:{100 * value:.2f}%" for name, value in sides.items()),
    )


def _data_uri(image: RGBPicture, *, lossless: bool = False) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", lossless=lossless, quality=92, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
