"""LPIPS, the learned perceptual distance, where its own library is installed; nothing else here needs it."""

import functools
import io
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import numpy as np

from msnlan_jax.errors import InputError
from msnlan_jax.pictures import RGBPicture

Distance = Callable[[RGBPicture, RGBPicture], float]


def load_lpips() -> Distance | None:
    """Return a function of SR and HR picture, uint8 RGB, that is their LPIPS (AlexNet); None without the library.

    Raises:
        InputError: when the library is there but cannot load its network.

    Source: Zhang, Isola, Efros, Shechtman, Wang, "The unreasonable effectiveness of deep features as a perceptual
    metric", CVPR 2018; computed by their library, `lpips`.
    """
    try:
        import lpips
        import torch
    except ImportError:
        return None
    try:
        with redirect_stdout(io.StringIO()):  # it tells what it loads
            network = lpips.LPIPS(net="alex", verbose=False).eval()
    except Exception as error:  # it fetches weights, which may fail in any way
        raise InputError(f"--lpips: its network cannot be loaded: {error}") from None
    return functools.partial(_distance, torch, network)


def _distance(torch: Any, network: Any, sr: RGBPicture, hr: RGBPicture) -> float:
    def tensor(image: RGBPicture) -> Any:
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)[None]).astype(np.float32) / 127.5 - 1)

    with torch.no_grad():
        return float(network(tensor(sr), tensor(hr)))
