"""The transformer and its classifier."""

from igpt_tf.model.classifier import ImageGPTClassifier
from igpt_tf.model.image_gpt import ImageGPT

__all__ = ["ImageGPT", "ImageGPTClassifier"]
