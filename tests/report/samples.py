"""Results and pictures that the report's tests share."""

import math

from etils import epath

from msnlan_jax.report.comparison import Compared
from msnlan_jax.report.results import DatasetResult, Results, StatedProtocol
from msnlan_jax.report.showcase import Crop, Sample
from msnlan_jax.scoring.metrics import Scores
from msnlan_jax.scoring.protocol import Protocol
from tests.samples import noise

SET5 = DatasetResult.of({"baby": Scores(33.5, 0.91), "bird": Scores(34.5, 0.93)}, seconds=1.23456)
BICUBIC = DatasetResult.of({"baby": Scores(31.0, 0.85), "bird": Scores(32.0, 0.87)}, seconds=0.5)
ODD = DatasetResult.of({"equal": Scores(math.inf, 1.0), "small": Scores(20.25, math.nan)}, seconds=2.0)
PROTOCOL = StatedProtocol.of(Protocol(4))
CHOP = StatedProtocol.of(Protocol(4), inference="chop")
RESULTS = Results(4, "w.pt", CHOP, {"Set5": SET5, "odd": ODD}, {"Set5": BICUBIC})


def compared(name="theirs", **protocol):
    """Another method's results on Set5, scored or run in a way of its own."""
    run = {key: protocol.pop(key) for key in ("inference", "tile_size") if key in protocol}
    stated = StatedProtocol.of(Protocol(4, **protocol), **run)
    scores = DatasetResult.of({"baby": Scores(33.0, 0.95), "bird": Scores(35.5, 0.92)})
    return Compared(name, Results(4, "t", stated, {"Set5": scores}), epath.Path("none"))


def sample():
    """A picture by three methods."""
    hr = noise(0, 120, 100, 3)
    scores = {"bicubic": Scores(20.0, 0.5), "theirs": Scores(25.0, 0.75), "MSNLAN": Scores(30.25, math.nan)}
    methods = {"bicubic": 255 - hr, "theirs": hr // 2, "MSNLAN": hr}
    return Sample("Set5", "a<b", hr, methods, scores, Crop(10, 20, 48))
