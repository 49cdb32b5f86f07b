"""What draws with a model: Keras' network on each GPU, and on a processor one that needs no Keras."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Sequence
from ctypes.util import find_library
from pathlib import Path
from typing import Any

from igpt_tf.errors import reason_of
from igpt_tf.sampling.network import Network

# Files of the drivers of GPUs: of NVIDIA's, of AMD's, and of any under Windows' Linux.
GPU_FILES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")
# Processors for which Numba has wheels; their numbers lie in memory with the lowest byte first.
PROCESSORS = ("x86_64", "amd64", "arm64", "aarch64")


def networks_of(model: Any) -> Sequence[Network]:
    """A network for each device of a Keras model, or of the model in a classifier."""
    if hasattr(model, "networks"):
        return model.networks()
    from igpt_tf.backend.devices import count_devices
    from igpt_tf.model.image_gpt import image_gpt_of
    from igpt_tf.sampling.keras_network import keras_networks

    model = image_gpt_of(model)
    networks = keras_networks(model)
    if model.compute_dtype not in ("float32", "bfloat16") or model.is_quantised:
        return networks
    if count_devices(model) > 1 or has_gpus() or why_not_native() is not None:
        return networks
    from igpt_tf.sampling.native.network import NativeNetwork

    # Keras' network says whether the weights have changed.
    version = networks[0].version
    return [NativeNetwork(model.config, model.read_weight, model.classes, model.compute_dtype, version=version)]


def has_gpu_driver() -> bool:
    """Whether the machine may have a GPU, as far as can be told without loading Keras' backend."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    return any(Path(place).exists() for place in GPU_FILES) or find_library("nvcuda") is not None


def has_gpus() -> bool:
    """Whether Keras' backend sees a GPU; it is loaded only where the machine has a driver of one."""
    if not has_gpu_driver():
        return False
    from igpt_tf.backend.devices import list_gpus

    return bool(list_gpus())


def why_not_native() -> str | None:
    """What is missing to draw without Keras; None: nothing."""
    if importlib.util.find_spec("numba") is None:
        return "Numba is not installed"
    if platform.machine().lower() not in PROCESSORS or sys.byteorder != "little":
        return f"there is no compiled code for {platform.machine() or 'this processor'}"
    try:
        from igpt_tf.sampling.native.elementwise import whole

        whole(1)  # compiles
    except Exception as error:  # Numba's libraries may be broken in any way
        return f"Numba does not work here ({reason_of(error)})"
    return None
