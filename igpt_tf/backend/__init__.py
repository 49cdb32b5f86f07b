"""What differs between TensorFlow and JAX: devices, processes, compiled functions, arrays split over devices.

The only room, beside the reader of TensorFlow's checkpoints, that imports either. On torch, Keras' third backend,
models compute, score and train on one device, and nothing else.
"""

import os
from importlib import metadata

import keras


def on_tensorflow() -> bool:
    """Whether Keras runs on TensorFlow."""
    return keras.backend.backend() == "tensorflow"


def on_jax() -> bool:
    """Whether Keras runs on JAX."""
    return keras.backend.backend() == "jax"


def on_torch() -> bool:
    """Whether Keras runs on torch."""
    return keras.backend.backend() == "torch"


def backend_name() -> str:
    """What Keras runs on, for messages that name the backend JAX as the one expected."""
    return "TensorFlow" if on_tensorflow() else keras.backend.backend()


def _avoid_wrong_kernel() -> None:
    """Switch off what makes jaxlib 0.10.2 return wrong numbers on the CPU, before JAX starts.

    A compiled product of 32,769 small vectors or more with a matrix, followed by a reduction of each, is wrong in its
    last rows (jax issue 39103). Other versions are left alone: they may not know the flag, and end the process.
    """
    if on_jax() and metadata.version("jaxlib") == "0.10.2":
        flag = "--xla_cpu_experimental_ynn_fusion_type=-reduce"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()


_avoid_wrong_kernel()
