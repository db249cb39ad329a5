"""An evaluation's results, and `results.json`, which holds them: written and read here only."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from etils import epath

from msnlan_jax.errors import InputError, naming
from msnlan_jax.runtime import files
from msnlan_jax.scoring import Protocol, Scores, mean_scores
from msnlan_jax.version import __version__

Value = str | int | float | bool | None
# Fields of `StatedProtocol` that change what scores mean; the rest says how pictures were run.
SCORING = ("psnr", "ssim", "border", "rounding")


@dataclasses.dataclass(frozen=True)
class StatedProtocol:
    """How scores came about, in the words that stand beside them; None where a file does not say.

    Attributes:
        psnr: "luma" or "RGB".
        ssim: "Y" or "RGB".
        border: pixels left out on every side.
        rounding: "uint8" or "none".
        others: what else there is to say, such as the inference mode, by name.
    """

    psnr: str | None = None
    ssim: str | None = None
    border: int | None = None
    rounding: str | None = None
    others: Mapping[str, Value] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, protocol: Protocol, **run: Value) -> "StatedProtocol":
        """State a protocol, and how the pictures were run."""
        psnr, ssim = ("luma", "Y") if protocol.channel == "y" else ("RGB", "RGB")
        perceptual: dict[str, Value] = {} if protocol.lpips is None else {"lpips": "AlexNet"}
        return cls(psnr, ssim, protocol.left_out, protocol.rounding, perceptual | run)

    def to_json(self) -> dict[str, Value]:
        """Return it as it stands in `results.json`."""
        stated: dict[str, Value] = {name: getattr(self, name) for name in SCORING}
        return {name: value for name, value in stated.items() if value is not None} | dict(self.others)

    @classmethod
    def from_json(cls, value: Any) -> "StatedProtocol":
        """Read what `to_json` returns; raises InputError on anything else."""
        entries = dict(_object(value, "protocol"))
        for name, found in entries.items():
            if name == "border":
                entries[name] = _whole(found, "protocol.border", 0)
            else:
                _check(found, str if name in SCORING else Value, f"protocol.{name}")
        scoring = {name: entries.pop(name, None) for name in SCORING}
        return cls(**scoring, others=entries)


@dataclasses.dataclass(frozen=True)
class DatasetResult:
    """Scores of a data set.

    Attributes:
        mean: of all its pictures.
        images: picture name → scores; empty where only the mean is known.
        seconds: spent on making the pictures; None where it is not known.
    """

    mean: Scores
    images: Mapping[str, Scores] = dataclasses.field(default_factory=dict)
    seconds: float | None = None

    @classmethod
    def of(cls, images: Mapping[str, Scores], seconds: float | None = None) -> "DatasetResult":
        """Return the result of scored pictures."""
        return cls(mean_scores(images.values()), images, seconds)

    def to_json(self) -> dict[str, Any]:
        """Return it as it stands in `results.json`."""
        seconds = {} if self.seconds is None else {"seconds": round(self.seconds, 3)}
        images = {name: _scores_to_json(scores) for name, scores in self.images.items()}
        return {**_scores_to_json(self.mean), **seconds, "images": images}

    @classmethod
    def from_json(cls, value: Any, where: str) -> "DatasetResult":
        """Read what `to_json` returns; raises InputError, saying `where`, on anything else."""
        entry = _object(value, where)
        images = _object(entry.get("images"), f"{where}.images")
        return cls(
            _scores_from_json(entry, where),
            {name: _scores_from_json(scores, f"{where}.images.{name}") for name, scores in images.items()},
            _or_none(entry.get("seconds"), f"{where}.seconds", "a number of at least 0", lambda it: 0 <= it < math.inf),
        )


@dataclasses.dataclass(frozen=True)
class Results:
    """What an evaluation found.

    Attributes:
        scale: up-scaling factor.
        weights: what made the pictures.
        protocol: how scores were computed.
        datasets: data set → its scores.
        bicubic: the same sets by bicubic up-sampling, the baseline; may lack some.
        method: what to call it in tables; empty for `weights`.
        notes: `set/picture` → how it was run, where that is not as the protocol says.
        has_images: whether its pictures lie beside it, in `images/<set>/`.
        version: of the package.
    """

    scale: int
    weights: str
    protocol: StatedProtocol
    datasets: Mapping[str, DatasetResult] = dataclasses.field(default_factory=dict)
    bicubic: Mapping[str, DatasetResult] = dataclasses.field(default_factory=dict)
    method: str = ""
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    has_images: bool = False
    version: str = __version__

    @property
    def name(self) -> str:
        """What to call it in tables."""
        return self.method or self.weights

    @property
    def n_pictures(self) -> int:
        """How many pictures were scored."""
        return sum(len(dataset.images) for dataset in self.datasets.values())

    def to_json(self) -> dict[str, Any]:
        """Return the content of `results.json`; a score that is no finite number (equal pictures) is null."""
        return {
            "scale": self.scale,
            "weights": self.weights,
            "version": self.version,
            **({"method": self.method} if self.method not in ("", self.weights) else {}),
            "has_images": self.has_images,
            "protocol": self.protocol.to_json(),
            **({"notes": dict(self.notes)} if self.notes else {}),
            "datasets": {name: result.to_json() for name, result in self.datasets.items()},
            "bicubic": {name: result.to_json() for name, result in self.bicubic.items()},
        }

    @classmethod
    def from_json(cls, value: Any) -> "Results":
        """Read what `to_json` returns, or a file made by hand, which needs `scale` and `datasets` only.

        Raises:
            InputError: on anything else, saying what was found where.
        """
        found = _object(value, "the file")
        notes = _object(found.get("notes", {}), "notes")
        return cls(
            _whole(found.get("scale"), "scale", 1),
            _check(found.get("weights", ""), str, "weights"),
            StatedProtocol.from_json(found.get("protocol", {})),
            _datasets_from_json(found, "datasets"),
            _datasets_from_json({"bicubic": {}} | found, "bicubic"),
            _check(found.get("method", ""), str, "method"),
            {picture: _check(note, str, f"notes.{picture}") for picture, note in notes.items()},
            # Files made by hand need not say whether there are pictures.
            _check(found.get("has_images", True), bool, "has_images"),
            _check(found.get("version", ""), str, "version"),
        )


def write_results(path: epath.PathLike, results: Results) -> None:
    """Write `results.json`; raises InputError when that is not possible."""
    files.write_bytes(path, json.dumps(results.to_json(), indent=1, allow_nan=False).encode() + b"\n")


def read_results(path: epath.PathLike) -> Results:
    """Read `results.json`.

    Raises:
        FileNotFoundError: when it is missing.
        InputError: when it is another file, naming it and what was found in it.
    """
    data = files.read_bytes(path, "results.json")
    with naming(f"{path}: not a results.json of eval.py"):
        try:
            value = json.loads(data)
            json.dumps(value, ensure_ascii=False).encode()  # fails on half a surrogate pair, which no report can hold
        except (ValueError, RecursionError) as error:
            raise InputError(f"no JSON: {error}") from None
        return Results.from_json(value)


def _datasets_from_json(found: Mapping[str, Any], key: str) -> dict[str, DatasetResult]:
    entries = _object(found.get(key), key)
    return {name: DatasetResult.from_json(entry, f"{key}.{name}") for name, entry in entries.items()}


def _scores_to_json(scores: Scores) -> dict[str, float | None]:
    computed = {name: value for name, value in dataclasses.asdict(scores).items() if value is not None}
    return {name: value if math.isfinite(value) else None for name, value in computed.items()}


def _scores_from_json(value: Any, where: str) -> Scores:
    """Return scores, NaN where they are null."""
    entry = _object(value, where)
    if missing := [name for name in ("psnr", "ssim") if name not in entry]:
        raise InputError(f"{where}: found no {missing[0]}, expected a number or null")
    psnr, ssim, lpips = (_or_none(entry.get(name), f"{where}.{name}", "a number") for name in ("psnr", "ssim", "lpips"))
    return Scores(math.nan if psnr is None else psnr, math.nan if ssim is None else ssim, lpips)


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where}: found {_short(value)}, expected an object")
    return value


def _whole(value: Any, where: str, least: int) -> int:
    expected = f"a whole number of at least {least}"
    return int(_number(value, where, expected, lambda number: number.is_integer() and number >= least))


def _or_none(value: Any, where: str, expected: str, fits: Callable[[float], bool] = lambda _: True) -> float | None:
    return None if value is None else _number(value, where, f"{expected} or null", fits)


def _number(value: Any, where: str, expected: str, fits: Callable[[float], bool]) -> float:
    """Return a number as a float; raises InputError on anything else, one too large, or one that does not fit."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)  # which is an int to Python
    try:
        number = float(value) if is_number else None
    except OverflowError:
        number = None
    if number is None or not fits(number):
        raise InputError(f"{where}: found {_short(value)}, expected {expected}")
    return number


def _check(value: Any, kinds: Any, where: str) -> Any:
    is_finite = not isinstance(value, float) or math.isfinite(value)
    if not (isinstance(value, kinds) and is_finite):
        expected = {str: "a text", bool: "true or false"}.get(kinds, "a number or a text")
        raise InputError(f"{where}: found {_short(value)}, expected {expected}")
    return value


def _short(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:40]}…"
