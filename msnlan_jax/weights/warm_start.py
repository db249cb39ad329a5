"""Starting a training from weights that exist."""

import dataclasses

import numpy as np

from msnlan_jax.errors import InputError
from msnlan_jax.network import MSNLANConfig, parameters
from msnlan_jax.weights import loading

_TAIL = ("upsampler.", "tail.")


def read_start(
    source: str, config: MSNLANConfig, fresh: parameters.Parameters, *, new_tail: bool
) -> parameters.Parameters:
    """Return the parameters of `source` for a network of `config`.

    Args:
        source: anything that `--weights` takes.
        config: the network to be trained.
        fresh: its parameters as initialised.
        new_tail: keep the fresh up-sampler and last convolution, so that the source may be of another scale.

    Raises:
        FileNotFoundError: when there is no such source.
        InputError: when it cannot be read, or is of another scale or size.
    """
    found_config, values = loading.read_weights(source, None if new_tail else config.scale)
    for name, expected in dataclasses.asdict(config).items():
        found = getattr(found_config, name)
        if found == expected or (name == "scale" and new_tail):
            continue
        if name == "scale":
            raise InputError(
                f"config.init_from: found weights for ×{found} in {source}, expected ×{expected}; "
                "--config.init_new_tail=True takes everything but the up-sampler and the last convolution"
            )
        raise InputError(
            f"config.init_from: found {name} = {found} in {source}, expected config.model.{name} = {expected}"
        )
    return {
        path: value if new_tail and path.startswith(_TAIL) else np.asarray(values[path])
        for path, value in fresh.items()
    }
