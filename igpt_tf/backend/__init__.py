"""What differs between TensorFlow and JAX: devices, processes, compiled functions, arrays split over devices.

The only room, beside the reader of TensorFlow's checkpoints, that imports either.
"""

import keras


def on_tensorflow() -> bool:
    """Whether Keras runs on TensorFlow."""
    return keras.backend.backend() == "tensorflow"
