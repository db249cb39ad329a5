"""Running the PyTorch reference beside JAX: where, in what type, and waiting for its results."""

from collections.abc import Callable
from typing import Any

import jax
import torch
from torch.utils.flop_counter import FlopCounterMode


def torch_device() -> str:
    """Return where PyTorch computes: where JAX does."""
    return "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"


def wait() -> None:
    """Wait for PyTorch's work on a GPU."""
    if torch_device() == "cuda":
        torch.cuda.synchronize()


def pictures(x: Any, dtype: str = "float32") -> torch.Tensor:
    """Return NHWC values as an NCHW tensor."""
    return torch.from_numpy(x).permute(0, 3, 1, 2).to(torch_device(), getattr(torch, dtype)).contiguous()


def use_precision(precision: str) -> None:
    """Let PyTorch round the inputs of float32 products as JAX's precision does: TF32 on GPU unless "highest"."""
    is_exact = precision == "highest"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = not is_exact


def flops(run: Callable[[], None]) -> float:
    """Return PyTorch's count of the floating-point operations of one run."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def peak_mib(run: Callable[[], None]) -> float | None:
    """Return the most memory that one run holds on a GPU beyond what was there before."""
    if torch_device() != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return (torch.cuda.max_memory_allocated() - before) / 2**20
