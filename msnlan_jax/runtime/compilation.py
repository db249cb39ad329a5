"""Options for XLA's compilers that make the network faster, where they exist."""

import functools

import jax

# XLA for CPU runs convolutions by either of two libraries. The one that it prefers since JAX 0.10 is the slower one for
# the 3×3 convolutions of which the network consists. Products of matrices and reductions stay with it: a maximum over
# rows of attention scores takes several times as long otherwise.
_CPU = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE",
}


@functools.cache
def compiler_options() -> dict[str, str]:
    """Return the options for `jax.jit` on this process's backend; none where its compiler does not know them."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: x, compiler_options=_CPU).lower(0.0).compile()
    except (jax.errors.JaxRuntimeError, ValueError):
        return {}
    return dict(_CPU)
