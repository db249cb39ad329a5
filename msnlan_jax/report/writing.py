"""Making a report of pictures as they are scored: what is saved on the way, and what is written in the end."""

import argparse
import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

from etils import epath

from msnlan_jax.errors import InputError
from msnlan_jax.network import MSNLANConfig
from msnlan_jax.pictures import RGBPicture, write_image
from msnlan_jax.report import figures, latex, markdown, model_size, page
from msnlan_jax.report.comparison import Compared, check_output, check_pictures, read_compared
from msnlan_jax.report.results import DatasetResult, Results, write_results
from msnlan_jax.report.showcase import Crop, Sample, Showcase, check_crops, parse_crops
from msnlan_jax.report.strips import side_by_side
from msnlan_jax.report.tables import BICUBIC
from msnlan_jax.runtime import command, files
from msnlan_jax.scoring import Reconstruction, ScoredPicture, Scores


@dataclasses.dataclass(frozen=True)
class Extras:
    """What a report shows besides the scores.

    Attributes:
        compared: other methods' results, to stand beside.
        n_pictures: how many pictures to show, the most telling ones.
        crops: picture name → part to enlarge, "" for all others; where nothing is given, the part is chosen.
        config: of the network, for the plots against its size.
    """

    compared: Sequence[Compared] = ()
    n_pictures: int = 8
    crops: Mapping[str, Crop] = dataclasses.field(default_factory=dict)
    config: MSNLANConfig | None = None

    def check(self, sizes: Mapping[str, Mapping[str, tuple[int, int]]]) -> None:
        """Refuse what cannot be shown, before hours of work.

        Args:
            sizes: data set → picture name → height and width of the true picture.

        Raises:
            InputError: when a crop is outside its picture, or another method's picture is broken.
        """
        for pictures in sizes.values():
            check_crops(self.crops, pictures)
        check_pictures(self.compared, sizes)


def add_flags(methods: argparse._ActionsContainer, page: argparse._ActionsContainer) -> None:
    """Add the flags that say which methods stand beside ours, and which pictures the page shows, to two groups."""
    methods.add_argument(
        "--compare",
        action="append",
        default=[],
        metavar="NAME=RESULTS.JSON",
        help="or the folder that it is in: shown beside ours; repeatable",
    )
    page.add_argument("--pictures", type=int, default=8, help="how many to show, the most telling ones (%(default)s)")
    page.add_argument(
        "--crop", action="append", default=[], metavar="[NAME:]X,Y,SIZE", help="part to enlarge, HR pixels; repeatable"
    )


def read_flags(
    flags: argparse.Namespace, scale: int, method: str, names: set[str], config: MSNLANConfig | None = None
) -> Extras:
    """Return what the flags of `add_flags` say.

    Args:
        flags: as parsed.
        scale: up-scaling factor.
        method: what ours is called.
        names: of the pictures.
        config: of the network.

    Raises:
        FileNotFoundError, InputError: as `read_compared` and `parse_crops`.
    """
    compared = read_compared(flags.compare, scale, [method])
    return Extras(compared, flags.pictures, parse_crops(flags.crop, names), config)


def make_report(
    pictures: Iterable[ScoredPicture], start: Results, output: epath.PathLike, extras: Extras | None = None
) -> str:
    """Take scored pictures as they come, and write the report of all; return its table, to be shown.

    Arguments and errors as `collect_results` and `write_report`; and none is begun in the folder of results that it
    compares with.
    """
    extras = extras or Extras()
    check_output(extras.compared, output)
    showcase = Showcase(extras.n_pictures, {command.printable(name): crop for name, crop in extras.crops.items()})
    results = collect_results(pictures, start, output, showcase, extras.compared)
    return write_report(output, results, compared=extras.compared, samples=showcase.samples, config=extras.config)


def collect_results(
    pictures: Iterable[ScoredPicture],
    start: Results,
    output: epath.PathLike,
    showcase: Showcase,
    compared: Sequence[Compared] = (),
) -> Results:
    """Take scored pictures as they come, data set by data set, and return the results.

    `results.json` is written after every data set, so that hours of scoring outlive whatever comes after. Where
    `start` says that there are images, `images/<set>/<name>x4.png` and `strips/<set>/<name>.png` are written too.

    Args:
        pictures: from `scoring`. A set that ends early, with fewer pictures than they say, is taken too.
        start: what is known before any is scored; other sets' results stay in it.
        output: folder.
        showcase: takes the pictures for the report.
        compared: other methods, whose pictures are shown too where they left them.

    Raises:
        InputError: when a set goes on after its end, or has two pictures of one name; when a file cannot be written;
            and whatever scoring raises.
    """
    printable = command.printable  # names are bytes, and not all are text
    start = dataclasses.replace(start, weights=printable(start.weights), method=printable(start.method))
    results, output, unsaved = start, epath.Path(output), None
    named = (dataclasses.replace(p, name=printable(p.name), dataset=printable(p.dataset)) for p in pictures)
    for dataset, of_set in itertools.groupby(named, key=lambda picture: picture.dataset):
        tally = _SetTally(dataset)
        for picture in of_set:
            if dataset in results.datasets:
                raise InputError(f"data set {dataset!r}: found {picture.name} after its end, expected no more pictures")
            tally.add(picture)
            baseline = {} if picture.bicubic is None else {BICUBIC: picture.bicubic}
            if results.has_images:
                try:
                    _save(output, picture, {**baseline, results.name: picture.sr}, results.scale)
                except InputError as error:  # the scores come first
                    unsaved = unsaved or error
            shown = {**baseline, **_of_others(picture, compared), results.name: picture.sr}
            showcase.add(dataset, picture.name, picture.hr, *_split(shown))
            if picture.number == picture.n_pictures:  # written at once: what makes the next picture may fail
                results = tally.added_to(results)
                write_results(output / "results.json", results)
        if dataset not in results.datasets:  # its last picture has not come
            results = tally.added_to(results)
            write_results(output / "results.json", results)
    if unsaved is not None:
        raise unsaved
    return results


def write_report(
    output: epath.PathLike,
    results: Results,
    *,
    compared: Sequence[Compared] = (),
    samples: Sequence[Sample] = (),
    config: MSNLANConfig | None = None,
) -> str:
    """Write `results.json`, `results.md`, `results.tex`, `report.html` and `figures/`; return the table, to be shown.

    Args:
        output: folder.
        results: from `collect_results`.
        compared: other methods' results, to stand beside.
        samples: pictures to show, the most telling ones.
        config: of the network, for the plots against its size.

    Raises:
        InputError: when they cannot be written.
    """
    output = epath.Path(output)
    write_results(output / "results.json", results)
    table = markdown.methods(results, compared)
    files.write_bytes(output / "results.md", f"{table}\n{markdown.pictures(results)}".encode())
    files.write_bytes(output / "results.tex", latex.tables(results, compared).encode())
    plots = model_size.plots(results, config)
    files.write_bytes(output / "report.html", page.page(results, compared, samples, plots).encode())
    figures.write_figures(output / "figures", samples, plots)
    return table


class _SetTally:
    """Scores of one data set, ours and the baseline's, as its pictures come."""

    def __init__(self, dataset: str) -> None:
        self._dataset = dataset
        self._ours, self._bicubic = _Tally(), _Tally()
        self._notes: dict[str, str] = {}

    def add(self, picture: ScoredPicture) -> None:
        """Take a picture; raises InputError where one of its name was taken."""
        if picture.name in self._ours.images:
            raise InputError(f"data set {self._dataset!r}: found two pictures {picture.name}, expected different names")
        self._ours.add(picture.name, picture.sr)
        if picture.bicubic is not None:
            self._bicubic.add(picture.name, picture.bicubic)
        if picture.notes:
            self._notes[f"{self._dataset}/{picture.name}"] = "; ".join(picture.notes)

    def added_to(self, results: Results) -> Results:
        """Return the results with this set's."""
        # A baseline of some of the pictures would compare with nothing.
        is_whole = len(self._bicubic.images) == len(self._ours.images)
        baseline = {self._dataset: self._bicubic.result} if is_whole else {}
        return dataclasses.replace(
            results,
            datasets={**results.datasets, self._dataset: self._ours.result},
            bicubic={**results.bicubic, **baseline},
            notes={**results.notes, **self._notes},
        )


class _Tally:
    """Scores of one data set by one method, as its pictures come."""

    def __init__(self) -> None:
        self.images: dict[str, Scores] = {}
        self.seconds = 0.0

    def add(self, name: str, made: Reconstruction) -> None:
        """Take a picture."""
        self.images[name] = made.scores
        self.seconds += made.seconds

    @property
    def result(self) -> DatasetResult:
        """What there is so far."""
        return DatasetResult.of(self.images, self.seconds)


def _of_others(picture: ScoredPicture, compared: Sequence[Compared]) -> dict[str, Reconstruction]:
    """Return a picture by other methods, where they left it."""
    found = {}
    for other in compared:
        image = other.picture(picture.dataset, picture.name, picture.hr.shape)
        dataset = other.results.datasets.get(picture.dataset)
        if image is not None and dataset is not None and picture.name in dataset.images:
            found[other.name] = Reconstruction(image, dataset.images[picture.name])
    return found


def _save(output: epath.Path, picture: ScoredPicture, methods: Mapping[str, Reconstruction], scale: int) -> None:
    write_image(output / "images" / picture.dataset / files.fit_name(picture.name, f"x{scale}.png"), picture.sr.rounded)
    strip = side_by_side(picture.hr, *_split(methods))
    write_image(output / "strips" / picture.dataset / files.fit_name(picture.name, ".png"), strip)


def _split(methods: Mapping[str, Reconstruction]) -> tuple[dict[str, RGBPicture], dict[str, Scores]]:
    """Return the pictures and the scores of methods apart."""
    images = {name: made.rounded for name, made in methods.items()}
    return images, {name: made.scores for name, made in methods.items()}
