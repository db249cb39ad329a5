"""What several test files share: error measures, layouts, and running parts of the network with gradients."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import pytest
from flax import nnx
from jax.typing import ArrayLike

from msnlan_jax.inference import Options, Programs, predict
from msnlan_jax.inference.programs import Forward
from msnlan_jax.network import kernels
from msnlan_jax.network.attention import box, hybrid, streamed, unfold
from msnlan_jax.network.compute import EXACT, Compute
from msnlan_jax.network.model import MSNLANConfig
from msnlan_jax.network.parameters import Parameters, abstract_parameters, merge
from msnlan_jax.weights import torch_keys

FORWARD, GRADIENT = 1e-5, 1e-4

# Parts of a network with two groups: PyTorch's name for the module, and ours.
PARTS = {
    "rmab": ("body.0.body.0", "groups_before.0.blocks.0"),
    "cca": ("body.0.body.0.CCA", "groups_before.0.blocks.0.channel_attention"),
    "residual_group": ("body.0", "groups_before.0"),
    "attention_branch_k3": ("body.1.atten1", "attention.branches.0"),
    "attention_branch_k5": ("body.1.atten2", "attention.branches.1"),
    "attention_branch_k7": ("body.1.atten3", "attention.branches.2"),
    "msnlab": ("body.1", "attention"),
    "ca": ("body.1.CA", "attention.channel_attention"),
}


class Run(NamedTuple):
    """Output and gradients of sum(output · cotangent): NCHW, parameters keyed as in PyTorch."""

    y: np.ndarray
    grad_x: np.ndarray
    grads: Mapping[str, np.ndarray]


def relative_l2(found: ArrayLike, expected: ArrayLike) -> float:
    """Return ‖found − expected‖ / ‖expected‖, or ‖found‖ where the expected value is exactly zero."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    return float(np.linalg.norm(found - expected) / (np.linalg.norm(expected) or 1.0))


def assert_same_run(found: Run, expected: Run) -> None:
    """Compare outputs to 1e-5 and every gradient to 1e-4, relative L2; `pytest -rP` shows how close they are."""
    output = relative_l2(found.y, expected.y)
    errors = {key: relative_l2(found.grads[key], grad) for key, grad in expected.grads.items()}
    assert errors
    errors["x"] = relative_l2(found.grad_x, expected.grad_x)
    print(f"relative L2 difference: output {output:.1e}, gradients at most {max(errors.values()):.1e}")
    assert output <= FORWARD
    assert {key: error for key, error in errors.items() if not error <= GRADIENT} == {}


def nhwc(x: ArrayLike) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(np.asarray(x), 1, -1))


def nchw(x: ArrayLike) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(np.asarray(x), -1, 1))


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def picture(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, shape).astype(np.float32)


def part(model: nnx.Module, path: str) -> nnx.Module:
    """Return the submodule at a dotted path, the model itself for an empty one."""
    for name in filter(None, path.split(".")):
        model = model[int(name)] if name.isdigit() else getattr(model, name)
    return model


class Batches(Programs):
    """Compiles nothing, and keeps the shapes of all batches that it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, model, ready=()):
        def start(batch, device):
            self.shapes.append(batch.shape)
            output = np.asarray(model(batch))
            return lambda: output

        return Forward(start, remember=lambda *size: None)


def forward_shapes(model: nnx.Module, lr: np.ndarray, options: Options) -> list[tuple[int, ...]]:
    """Return the shapes of all batches that a picture takes."""
    batches = Batches()
    predict(model, lr, options, programs=batches)
    return batches.shapes


def record_forms(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return a set that will hold the forms in which patch attention has been traced."""
    used = set()

    def recorded(form, implementation):
        return lambda *args, **kwargs: used.add(form) or implementation(*args, **kwargs)

    modules = {"unfold": unfold, "box": box, "hybrid": hybrid, "streamed": streamed, "fused": kernels.attention}
    for form, module in modules.items():
        monkeypatch.setattr(module, "attend", recorded(form, module.attend))
    return used


@partial(jax.jit, static_argnums=(0, 1))
def _apply(graph: nnx.GraphDef, path: str, parameters: Parameters, x: jax.Array) -> jax.Array:
    return part(merge(graph, parameters), path)(x)


@partial(jax.jit, static_argnums=(0, 1))
def _apply_with_gradients(graph, path, parameters, x, cotangent):
    y, vjp = jax.vjp(partial(_apply, graph, path), parameters, x)
    return y, *vjp(cotangent)


def forward(
    config: MSNLANConfig, parameters: Parameters, x: np.ndarray, path: str = "", *, compute: Compute = EXACT
) -> np.ndarray:
    """Run the network or a part of it, NCHW in and out; equal configurations share a compilation."""
    return nchw(_apply(abstract_parameters(config, compute)[0], path, parameters, nhwc(x)))


def run(
    config: MSNLANConfig,
    parameters: Parameters,
    path: str,
    x: np.ndarray,
    cotangent: np.ndarray,
    *,
    compute: Compute = EXACT,
) -> Run:
    """Run the network or a part of it with gradients, NCHW in and out."""
    graph, _ = abstract_parameters(config, compute)
    y, grads, grad_x = _apply_with_gradients(graph, path, parameters, nhwc(x), nhwc(cotangent))
    return Run(nchw(y), nchw(grad_x), torch_keys.to_torch(config, jax.device_get(grads)))


def torch_network(config: MSNLANConfig):
    """Return the PyTorch reference with random weights, in float64, and the same weights as our parameters.

    In float32 its gradients through a steep softmax are no more accurate than ours.
    """
    torch = pytest.importorskip("torch")
    from msnlan_jax.network import torch_reference

    torch.set_num_threads(1)  # on cores that are busy otherwise, PyTorch's threads wait for each other
    torch.manual_seed(0)
    network = torch_reference.MSNLAN(config)
    state = {key: value.numpy() for key, value in network.state_dict().items()}
    _, parameters = torch_keys.from_torch(state, "reference")
    return network.double(), parameters


def torch_run(network, name: str, x: np.ndarray, cotangent: np.ndarray) -> Run:
    """Run the PyTorch reference or a part of it with gradients of all its trained parameters."""
    import torch

    module = network.get_submodule(name)
    module.zero_grad()
    leaf = torch.from_numpy(x).double().requires_grad_()
    y = module(leaf)
    y.backward(torch.from_numpy(cotangent).double())
    parameters = module.named_parameters(prefix=name)
    grads = {key: value.grad.numpy() for key, value in parameters if value.requires_grad}
    return Run(y.detach().numpy(), leaf.grad.numpy(), grads)
