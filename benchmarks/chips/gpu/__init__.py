"""Facts about GPUs, from their makers' data sheets: a small file for each, with its sources."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msnlan_jax.errors import InputError

__all__ = ["GPU", "names", "read_gpu"]

_FOLDER = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class GPU:
    """What a kind of GPU can do at most, and what XLA's compiler must know of it.

    Attributes:
        description: its name, as its driver gives it.
        bfloat16_tflops: of the tensor cores, dense, added up in float32.
        tf32_tflops: the same of float32 whose products are rounded to TF32.
        float32_tflops: of exact float32.
        compute_capability: major and minor.
        dnn_version: of the cuDNN that is compiled for, major and minor.
        device_info: fields of `stream_executor.GpuDeviceInfoProto`, in bytes, bytes a second and GHz.
        sources: where each is from.
    """

    description: str
    bfloat16_tflops: float
    tf32_tflops: float
    float32_tflops: float
    compute_capability: tuple[int, int]
    dnn_version: tuple[int, int]
    device_info: Mapping[str, float]
    sources: list[str]

    @property
    def bytes_per_second(self) -> float:
        """Of its memory, at most."""
        return float(self.device_info["memory_bandwidth"])

    def flops_per_second(self, dtype: str) -> float:
        """Of products with operands of a type, as in "bf16", "tf32" or "f32", at most."""
        halves = {"bf16": self.bfloat16_tflops, "f16": self.bfloat16_tflops}
        return 1e12 * (halves | {"tf32": self.tf32_tflops}).get(dtype, self.float32_tflops)

    @property
    def memory_gib(self) -> float:
        """Of its memory."""
        return self.device_info["device_memory_size"] / 2**30

    @property
    def target(self) -> str:
        """What XLA compiles for, a `stream_executor.GpuTargetConfigProto` as text."""
        capability, dnn = (f"{{ major: {a} minor: {b} }}" for a, b in (self.compute_capability, self.dnn_version))
        info = [f"  {name}: {value}" for name, value in self.device_info.items()]
        lines = ["gpu_device_info {", *info, f"  cuda_compute_capability {capability}", "}", 'platform_name: "CUDA"']
        return "\n".join([*lines, f"dnn_version_info {dnn}", f'device_description_str: "{self.description}"', ""])


def names() -> list[str]:
    """Return the kinds of GPUs that are known."""
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


def read_gpu(name: str) -> GPU:
    """Return the facts of a kind of GPU, as of "h100".

    Raises:
        InputError: no such kind is known.
    """
    path = _FOLDER / f"{name}.json"
    if name not in names():
        raise InputError(f"--chip: found {name!r}, expected one of {', '.join(names())}")
    facts: dict[str, Any] = json.loads(path.read_text())
    pairs = {key: tuple(facts[key]) for key in ("compute_capability", "dnn_version")}
    return GPU(**facts | pairs)
