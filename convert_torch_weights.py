"""Convert the authors' PyTorch weights to safetensors for this package, or back; look into weights; verify them."""

from msnlan_jax.runtime import command
from msnlan_jax.weights import conversion

main = conversion.main

if __name__ == "__main__":
    command.run(main)
