"""How close pictures are to the true ones: PSNR, SSIM and LPIPS, of one picture and of a data set."""

from msnlan_jax.scoring import metrics
from msnlan_jax.scoring.evaluation import (
    DatasetScores,
    check_pairs,
    evaluate,
    score_folder,
)
from msnlan_jax.scoring.metrics import (
    ScoredPicture,
    Scores,
)
from msnlan_jax.scoring.perceptual import (
    Distance,
    load_lpips,
)

__all__ = [
    "DatasetScores",
    "Distance",
    "ScoredPicture",
    "Scores",
    "check_pairs",
    "evaluate",
    "load_lpips",
    "metrics",
    "score_folder",
]
