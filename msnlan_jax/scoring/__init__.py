"""How close pictures are to the true ones: PSNR, SSIM and LPIPS, by one protocol.

`evaluate`, `score_network` and `score_matches` yield scored pictures one by one; who shows, saves or averages them does
so as they come.
"""

from msnlan_jax.scoring import metrics
from msnlan_jax.scoring.evaluation import (
    beside_bicubic,
    check_pairs,
    evaluate,
    score_bicubic,
    score_network,
)
from msnlan_jax.scoring.folder import (
    Match,
    check_matches,
    match_folders,
    score_matches,
)
from msnlan_jax.scoring.metrics import (
    CHANNELS,
    Scores,
    SRPicture,
)
from msnlan_jax.scoring.perceptual import (
    Distance,
    load_lpips,
)
from msnlan_jax.scoring.protocol import (
    Protocol,
    add_flags,
    read_flags,
)
from msnlan_jax.scoring.scored import (
    Reconstruction,
    ScoredPicture,
    mean_scores,
)
from msnlan_jax.scoring.sharing import (
    Share,
    bring_together,
)

__all__ = [
    "CHANNELS",
    "Distance",
    "Match",
    "Protocol",
    "Reconstruction",
    "SRPicture",
    "ScoredPicture",
    "Scores",
    "Share",
    "add_flags",
    "beside_bicubic",
    "bring_together",
    "check_matches",
    "check_pairs",
    "evaluate",
    "load_lpips",
    "match_folders",
    "mean_scores",
    "metrics",
    "read_flags",
    "score_bicubic",
    "score_matches",
    "score_network",
]
