"""A compiled program, loaded on another device of its kind, so that it is compiled once for all of them.

JAX compiles a program for every device that it is called on, which takes ten seconds and more. Its own cache on disk
loads what was compiled for one GPU on another, but tells apart the chips of a TPU and the devices of a CPU. What does
the loading has no public name, so whoever calls this has to be ready to compile instead.
"""

import io
import pickle
from typing import Any

import jax
import numpy as np
from jax.experimental import serialize_executable


def load_on(program: jax.stages.Compiled, device: jax.Device) -> jax.stages.Compiled:
    """Return a program of one device for another one.

    Raises:
        Exception: of any kind where this version of JAX, or the device's compiler, cannot do it. A program may also
            load and then refuse its first arguments, or fail while it runs, as on CPU one from the cache on disk does.
    """
    serialized, in_tree, out_tree = serialize_executable.serialize(program)
    unloaded, arguments, no_keywords = _Loader(serialized, device).load()
    arguments = in_tree.unflatten(arguments)
    return jax.stages.Compiled(unloaded.load(), [], arguments, out_tree, no_kwargs=no_keywords)


class _Loader(pickle.Unpickler):
    """Reads what `serialize` has just made in this process, with the device in place of the one it was made on."""

    def __init__(self, serialized: bytes, device: jax.Device) -> None:
        super().__init__(io.BytesIO(serialized))
        self._device = device

    def persistent_load(self, reference: Any) -> Any:
        kind, *content = reference
        if kind != "exec":
            return {"device": self._device, "client": self._device.client}[kind]
        from jax._src import compiler  # when it is missing, only this is
        from jax._src.lib import xla_client  # type: ignore[attr-defined]

        client = self._device.client
        assignment = np.array([[self._device.id]])
        options = compiler.get_compile_options(1, 1, device_assignment=assignment, backend=client)
        devices = xla_client.DeviceList((self._device,))
        return client.deserialize_executable(*content, executable_devices=devices, compile_options=options)
