"""The network against numbers that the released PyTorch model produced (SPEC.md §7), compiled as users compile."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from msnlan_jax.network.layers import RGB_MEAN
from msnlan_jax.network.model import MSNLANConfig
from msnlan_jax.network.parameters import abstract_parameters, merge
from msnlan_jax.weights import read_weights
from msnlan_jax.weights.torch_keys import from_torch, to_torch
from tests.helpers import (
    FORWARD,
    GRADIENT,
    PARTS,
    Run,
    assert_same_run,
    nchw,
    nhwc,
    relative_l2,
    run,
    torch_network,
)
from tests.jobs import FULL_OPTIMISATION

# The whole network that holds the recorded blocks.
AROUND = MSNLANConfig(2, n_feats=32, n_groups=2, n_blocks=2)
TINY = {scale: MSNLANConfig(scale, n_feats=32, n_groups=4, n_blocks=2) for scale in (2, 3, 4)}
compiled = partial(jax.jit, static_argnums=0, compiler_options=FULL_OPTIMISATION)


@compiled
def apply(graph, parameters, x):
    return merge(graph, parameters)(x)


def forward(config, parameters, x):
    """Run a network, NCHW in and out."""
    return nchw(apply(abstract_parameters(config)[0], parameters, nhwc(x)))


def load(path):
    torch = pytest.importorskip("torch")
    return {key: value.numpy() for key, value in torch.load(path, weights_only=True).items()}


@pytest.mark.parametrize("name", sorted(PARTS.keys() - {"cca", "ca"}))
def test_block(golden, name):
    file = np.load(golden / f"{name}.npz")
    theirs, ours = PARTS[name]

    def recorded(kind):
        return {f"{theirs}.{key.removeprefix(kind)}": file[key] for key in file.files if key.startswith(kind)}

    zeros = {path: np.zeros(leaf.shape, np.float32) for path, leaf in abstract_parameters(AROUND)[1].items()}
    state = to_torch(AROUND, zeros)
    assert recorded("state/").keys() == {key for key in state if key.startswith(f"{theirs}.")}
    config, parameters = from_torch(state | recorded("state/"), name)
    assert config == AROUND
    expected = Run(file["y"], file["grad_x"], recorded("grad/"))
    assert_same_run(run(config, parameters, ours, file["x"], file["cotangent"]), expected)


@pytest.mark.parametrize(
    ("weights", "scale"), [("x2", 2), ("x3", 3), ("x4", 4), ("x4_legacy", 4), ("x4_dataparallel", 4)]
)
def test_network(golden, weights, scale):
    state = load(golden / f"tiny_{weights}.pt")
    config, parameters = read_weights(golden / f"tiny_{weights}.pt")
    assert config == TINY[scale]
    assert list(to_torch(config, parameters)) == [key.removeprefix("module.") for key in state]
    file = np.load(golden / f"tiny_x{scale}.npz")
    for picture in "ab":
        error = relative_l2(forward(config, parameters, file[f"x_{picture}"]), file[f"y_{picture}"])
        print(f"relative L2 difference: {error:.1e}")
        assert error <= FORWARD


OPTIMISER = optax.adam(2e-4, b1=0.9, b2=0.999, eps=1e-8)


@compiled
def adam_step(graph, parameters, moments, lr, hr):
    def l1(parameters):
        return jnp.abs(merge(graph, parameters)(lr) - hr).mean()

    loss, gradients = jax.value_and_grad(l1)(parameters)
    updates, moments = OPTIMISER.update(gradients, moments)
    return optax.apply_updates(parameters, updates), moments, loss


def train(config, parameters, batches):
    """Losses of one Adam step a batch, and the output on the first batch afterwards."""
    graph, _ = abstract_parameters(config)
    moments = OPTIMISER.init(parameters)
    losses = []
    for lr, hr in batches:
        parameters, moments, loss = adam_step(graph, parameters, moments, nhwc(lr), nhwc(hr))
        losses.append(loss)
    return losses, forward(config, parameters, batches[0][0])


def train_in_torch(network, batches):
    """The same with PyTorch's Adam."""
    import torch

    optimiser = torch.optim.Adam((p for p in network.parameters() if p.requires_grad), lr=2e-4)
    losses = []
    for lr, hr in (map(torch.from_numpy, batch) for batch in batches):
        optimiser.zero_grad()
        loss = (network(lr.double()) - hr).abs().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses, network(torch.from_numpy(batches[0][0]).double()).detach()


@pytest.fixture
def batches(golden):
    file = np.load(golden / "train_x2.npz")
    return list(zip(file["lr"].astype(np.float32), file["hr"].astype(np.float32), strict=True))


def test_recorded_training(golden, batches):
    """Only the first two losses can be had to 1e-4, in PyTorch too: attention amplifies rounding a million times.

    From the third step on, the PyTorch reference itself, in float32 or float64, is up to 6 % off the recorded losses
    and up to 11 % off the recorded output; test_training_equals_pytorch checks ten steps closely.
    """
    losses, y = train(*from_torch(load(golden / "tiny_x2.pt"), "x2"), batches)
    file = np.load(golden / "train_x2.npz")
    np.testing.assert_allclose(losses[:2], file["loss"][:2], rtol=1e-4)
    np.testing.assert_allclose(losses[2:], file["loss"][2:], rtol=0.1)
    assert relative_l2(y, file["y_after"]) <= 0.2


def test_training_equals_pytorch(batches):
    """Ten Adam steps on the recorded batches, their contrast reduced, where training is well-conditioned."""
    mean = RGB_MEAN[:, None, None]
    batches = [[mean + 0.03 * (x - mean) for x in batch] for batch in batches]
    network, parameters = torch_network(TINY[2])
    losses, y = train(TINY[2], parameters, batches)
    expected_losses, expected_y = train_in_torch(network, batches)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    assert relative_l2(y, expected_y) <= GRADIENT
