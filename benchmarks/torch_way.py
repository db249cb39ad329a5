"""Running the PyTorch reference beside JAX: where, in what type, of how many operations, waiting for its results."""

import collections
from collections.abc import Callable
from typing import Any

import jax
import torch
from torch.utils._python_dispatch import TorchDispatchMode
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


class Operations(TorchDispatchMode):
    """Counts, while it is entered, every operation that PyTorch dispatches.

    Attributes:
        idle: of those for which a GPU starts nothing, by name: views of a tensor's memory, and numbers read, as of
            Adam's steps, which are on the host.
        others: of all others; one of these may be several kernels, as a convolution's gradients.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.idle: collections.Counter[str] = collections.Counter()
        self.others: collections.Counter[str] = collections.Counter()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        """Count an operation, and run it."""
        if function.namespace != "profiler":
            returned = (result.alias_info for result in function._schema.returns)
            is_view = any(alias is not None and not alias.is_write for alias in returned)
            is_idle = is_view or function is torch.ops.aten._local_scalar_dense.default
            (self.idle if is_idle else self.others)[str(function)] += 1
        return function(*arguments, **(options or {}))


def peak_mib(run: Callable[[], None]) -> float | None:
    """Return the most memory that one run holds on a GPU beyond what was there before."""
    if torch_device() != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return (torch.cuda.max_memory_allocated() - before) / 2**20
