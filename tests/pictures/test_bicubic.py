import jax.numpy as jnp
import numpy as np
import pytest

from msnlan_jax.errors import InputError
from msnlan_jax.pictures.bicubic import Bicubic
from msnlan_jax.pictures.resize import imresize
from tests.samples import noise


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 4), (13, 11)], ids=str)
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 5])
def test_equals_imresize(scale, size):
    batch = noise(0, 2, *size, 3)
    found = np.asarray(Bicubic(scale)(jnp.asarray(batch, jnp.float32)))
    np.testing.assert_array_equal(found, [imresize(image, scale) for image in batch])


@pytest.mark.parametrize("scale", [0, -2, 2.5, "2", None])
@pytest.mark.usefixtures("unchecked")
def test_other_scales_are_refused(scale):
    with pytest.raises(InputError, match=f"^scale: found {scale!r}, expected a whole number"):
        Bicubic(scale)
