"""Pictures in TensorBoard's files, which only TensorFlow writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def log_picture(folder: Path, name: str, picture: np.ndarray, step: int) -> None:
    """Add a picture (height, width, 3) uint8 to the events in a folder, under a name and a number."""
    import tensorflow as tf

    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        tf.summary.image(name, picture[None], step=step)
    writer.close()
