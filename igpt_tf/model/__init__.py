"""The transformer and its classifier."""

import igpt_tf.backend  # noqa: F401  (sets what JAX reads when it starts)
from igpt_tf.model.classifier import ImageGPTClassifier
from igpt_tf.model.image_gpt import ImageGPT

__all__ = ["ImageGPT", "ImageGPTClassifier"]
