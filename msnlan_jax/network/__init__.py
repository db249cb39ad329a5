"""The paper: the network, its parameters, and what it costs.

`torch_reference` is the same network in PyTorch, which it imports; tests and benchmarks compare with it.
"""

from msnlan_jax.network import parameters
from msnlan_jax.network.complexity import (
    multiply_adds,
)
from msnlan_jax.network.compute import (
    DTYPES,
    EXACT,
    Compute,
)
from msnlan_jax.network.layers import RGB_MEAN
from msnlan_jax.network.model import (
    KERNEL_SIZES,
    MSNLAB,
    MSNLAN,
    MSNLANConfig,
    NonLocalBranch,
    ResidualGroup,
    count_parameters,
    shuffle_factors,
)
from msnlan_jax.network.parameters import (
    Parameters,
    abstract_model,
    abstract_parameters,
    check_arrays,
    check_keys,
    to_model,
)
from msnlan_jax.network.proof import find_fault

__all__ = [
    "DTYPES",
    "EXACT",
    "KERNEL_SIZES",
    "MSNLAB",
    "MSNLAN",
    "RGB_MEAN",
    "Compute",
    "MSNLANConfig",
    "NonLocalBranch",
    "Parameters",
    "ResidualGroup",
    "abstract_model",
    "abstract_parameters",
    "check_arrays",
    "check_keys",
    "count_parameters",
    "find_fault",
    "multiply_adds",
    "parameters",
    "shuffle_factors",
    "to_model",
]
