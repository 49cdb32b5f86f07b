"""Drawing images from a model: all of one, or what is missing."""

from igpt_tf.sampling.decode import complete, sample
from igpt_tf.sampling.region import known_rows

__all__ = ["complete", "known_rows", "sample"]
