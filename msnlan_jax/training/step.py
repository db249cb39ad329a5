"""One training step, as one compiled program over all devices.

The state is a plain pytree: `params` (path → array), `opt_state` (Adam's), `counters`, and `ema` (averaged parameters)
where the experiment asks for them.
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
    state = {
        "params": values,
        "opt_state": make_optimizer(experiment).init(values),
        "counters": {"step": zero, "skipped": zero, "skipped_in_a_row": zero},
    }
    return state | ({"ema": dict(values)} if experiment.ema_decay else {})


def trained_parameters(state: State) -> parameters.Parameters:
    """Return the parameters that are validated and shipped: the averaged ones if there are any."""
    return state["ema"] if "ema" in state else state["params"]


def make_step(graph: nnx.GraphDef, experiment: Experiment, mesh: Mesh, loader: Loader) -> Step:
    """Return the jitted step: state (donated), resident arrays and batch → state and metrics.

    A step whose loss or gradient is not finite changes nothing but the counters. Metrics are `loss`, `grad_norm`,
    `learning_rate`, `skipped` and `skipped_in_a_row`.
    """
    optimizer, schedule, loss_function = (
        make_optimizer(experiment),
        learning_rate_schedule(experiment),
        LOSSES[experiment.loss],
    )

    def loss_of(values: parameters.Parameters, lr: Array, hr: Array) -> Array:
        network: Any = parameters.merge(graph, values)
        return loss_function(network(lr.astype(jnp.float32)), hr.astype(jnp.float32))

    def mean_over_devices(values: parameters.Parameters, resident: Any, batch: Any) -> tuple[Array, Any]:
        pictures = loader.crops(resident, batch)
        return jax.lax.pmean(_accumulate(jax.value_and_grad(loss_of), values, pictures, experiment.accumulate), "data")

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
    """Rise to `decay`, so that the average forgets the random start at once."""
    return jnp.minimum(decay, (1.0 + step) / (10.0 + step))


def _accumulate(
    value_and_grad: Callable[..., tuple[Array, Any]], values: Any, pictures: tuple[Array, Array], n_parts: int
) -> tuple[Array, Any]:
    """Average loss and gradients over equal parts of a batch, one at a time."""
    if n_parts == 1:
        return value_and_grad(values, *pictures)
    parts = jax.tree.map(lambda x: x.reshape(n_parts, -1, *x.shape[1:]), pictures)

    def add(total: Any, part: tuple[Array, Array]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, value_and_grad(values, *part)), None

    start = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, values))
    # Gradients of convolutions inside a loop are many times slower on CPU.
    total, _ = jax.lax.scan(add, start, parts, unroll=n_parts if jax.default_backend() == "cpu" else 1)
    return jax.tree.map(lambda x: x / n_parts, total)
