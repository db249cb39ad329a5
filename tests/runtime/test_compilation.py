import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msnlan_jax.runtime import compilation
from tests.helpers import normal


@pytest.fixture(autouse=True)
def asks_anew():
    compilation.compiler_options.cache_clear()
    yield
    compilation.compiler_options.cache_clear()


@pytest.mark.skipif(not jax.__version__.startswith("0.10."), reason="other versions may have no such option")
def test_options_are_in_force():
    assert compilation.compiler_options()


def test_options_change_no_result():
    x, kernel = jnp.asarray(normal(0, 1, 9, 8, 4)), jnp.asarray(normal(1, 3, 3, 4, 4))

    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    with_options = jax.jit(convolve, compiler_options=compilation.compiler_options())(x, kernel)
    np.testing.assert_allclose(with_options, jax.jit(convolve)(x, kernel), rtol=1e-5, atol=1e-5)


def test_an_option_that_the_compiler_does_not_know_is_left_out(monkeypatch):
    monkeypatch.setattr(compilation, "_CPU", {"xla_cpu_no_such_option": "1"})
    assert compilation.compiler_options() == {}


def test_other_backends_have_no_options(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compilation.compiler_options() == {}
