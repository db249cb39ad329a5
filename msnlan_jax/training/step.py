"""One training step, as one compiled program over all devices.

The state is a plain pytree: `params`, `opt_state` (Adam's), `counters`, and `ema` (averaged parameters) where the
experiment asks for them. Parameters, and what there is of each, are stacked as in `layout`.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array

from msnlan_jax.network import parameters
from msnlan_jax.runtime import compiler_options
from msnlan_jax.training.experiment import Experiment
from msnlan_jax.training.layout import Stacks, lay_out
from msnlan_jax.training.losses import LOSSES
from msnlan_jax.training.optimization import learning_rate_schedule, make_optimizer

State = dict[str, Any]
Step = Callable[[State, Any, Any], tuple[State, dict[str, Array]]]


@runtime_checkable
class Loader(Protocol):
    """What feeds training.

    Attributes:
        resident: pytree of NumPy arrays that every device holds during the whole run, `()` for none.
    """

    resident: Any

    def batches(self, start_step: int) -> Iterator[Any]:
        """Yield this process's share of the batch of step `start_step`, `start_step` + 1, …: a pytree of arrays."""
        ...

    def crops(self, resident: Any, batch: Any) -> tuple[Array, Array]:
        """Return LR `[B,p,p,3]` and HR `[B,sp,sp,3]`, 0..255, of a batch; traced inside the step."""
        ...


def init_state(experiment: Experiment, values: parameters.Parameters) -> State:
    """Return the state before the first step.

    Args:
        experiment: whose optimiser and averaging count.
        values: the parameters to start from.
    """
    zero = jnp.zeros((), jnp.int32)
    params = lay_out(experiment.network).stack(values)
    state: State = {
        "params": params,
        "opt_state": make_optimizer(experiment).init(params),
        "counters": {"step": zero, "skipped": zero, "skipped_in_a_row": zero},
    }
    if experiment.ema_decay:
        state["ema"] = dict(params)
    return state


def trained_stacks(state: State) -> Stacks:
    """Return the parameters that are validated and shipped: the averaged ones if there are any."""
    stacks: Stacks = state["ema" if "ema" in state else "params"]
    return stacks


def make_step(graph: nnx.GraphDef[Any], experiment: Experiment, mesh: Mesh, loader: Loader) -> Step:
    """Return the jitted step: state (donated), resident arrays and batch → state and metrics.

    A step whose loss or gradient is not finite changes nothing but the counters. Metrics are `loss`, `grad_norm`,
    `learning_rate`, `skipped` and `skipped_in_a_row`.
    """
    optimizer, schedule = make_optimizer(experiment), learning_rate_schedule(experiment)
    layout = lay_out(experiment.network)
    loss_function = LOSSES[experiment.loss]

    def loss_of(values: parameters.Parameters, lr: Array, hr: Array) -> Array:
        network: Any = parameters.merge(graph, values)
        return loss_function(network(lr.astype(jnp.float32)), hr.astype(jnp.float32))

    def loss_and_stacked_gradients(values: parameters.Parameters, lr: Array, hr: Array) -> tuple[Array, Stacks]:
        # With respect to the parameters, not their stacks: the gradient of a slice is a whole stack of zeros.
        loss, gradients = jax.value_and_grad(loss_of)(values, lr, hr)
        return loss, layout.stack(gradients)

    def mean_over_devices(params: Stacks, resident: Any, batch: Any) -> tuple[Array, Stacks]:
        pictures = loader.crops(resident, batch)
        zeros = jax.tree.map(jnp.zeros_like, params)
        values = layout.unstack(params)
        mine = _accumulate(loss_and_stacked_gradients, values, pictures, experiment.accumulate, zeros)
        mean: tuple[Array, Stacks] = jax.lax.pmean(mine, "data")
        return mean

    # Each device sees its own pictures only: left to the compiler, the attention's loop over pictures would gather
    # the whole batch on every device.
    loss_and_gradients = jax.shard_map(
        mean_over_devices,
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(), PartitionSpec("data")),
        out_specs=PartitionSpec(),
        check_vma=False,
    )

    def step(state: State, resident: Any, batch: Any) -> tuple[State, dict[str, Array]]:
        params, counters = state["params"], state["counters"]
        loss, gradients = loss_and_gradients(params, resident, batch)
        norm, rate = optax.tree.norm(gradients), jnp.asarray(schedule(counters["step"]), jnp.float32)
        direction, opt_state = optimizer.update(gradients, state["opt_state"], params)
        updated = {"params": jax.tree.map(lambda p, d: p - rate * d, params, direction), "opt_state": opt_state}
        if "ema" in state:
            decay = _ema_decay(experiment.ema_decay, counters["step"])
            updated["ema"] = jax.tree.map(
                lambda average, p: decay * average + (1 - decay) * p, state["ema"], updated["params"]
            )
        is_finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        kept = jax.tree.map(
            lambda new, old: jnp.where(is_finite, new, old), updated, {name: state[name] for name in updated}
        )
        kept["counters"] = {
            "step": counters["step"] + 1,
            "skipped": counters["skipped"] + ~is_finite,
            "skipped_in_a_row": jnp.where(is_finite, 0, counters["skipped_in_a_row"] + 1),
        }
        skipped = {name: kept["counters"][name] for name in ("skipped", "skipped_in_a_row")}
        return kept, {"loss": loss, "grad_norm": norm, "learning_rate": rate} | skipped

    return jax.jit(step, donate_argnums=0, compiler_options=compiler_options())


def _ema_decay(decay: float, step: Array) -> Array:
    """Return the decay after `step` steps: it rises to `decay`, so that the average soon forgets the random start."""
    return jnp.minimum(decay, (1.0 + step) / (10.0 + step))


def _accumulate(
    loss_and_gradients: Callable[..., tuple[Array, Stacks]],
    values: parameters.Parameters,
    pictures: tuple[Array, Array],
    n_parts: int,
    zeros: Stacks,
) -> tuple[Array, Stacks]:
    """Average loss and gradients over equal parts of a batch, one at a time; `zeros` are like the gradients."""
    if n_parts == 1:
        return loss_and_gradients(values, *pictures)
    parts = jax.tree.map(lambda x: x.reshape(n_parts, -1, *x.shape[1:]), pictures)

    def add(total: Any, part: tuple[Array, Array]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, loss_and_gradients(values, *part)), None

    # Gradients of convolutions inside a loop are many times slower on CPU.
    total, _ = jax.lax.scan(add, (jnp.zeros(()), zeros), parts, unroll=n_parts if jax.default_backend() == "cpu" else 1)
    mean: tuple[Array, Stacks] = jax.tree.map(lambda x: x / n_parts, total)
    return mean
