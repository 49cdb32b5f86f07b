"""Drawing images from a model: all of one, or what is missing."""

from igpt_tf.sampling.filters import Controls
from igpt_tf.sampling.region import known_by_mask, known_outside_box, known_rows
from igpt_tf.sampling.sampler import complete, sample, sample_batches, stream

__all__ = [
    "Controls",
    "complete",
    "known_by_mask",
    "known_outside_box",
    "known_rows",
    "sample",
    "sample_batches",
    "stream",
]
