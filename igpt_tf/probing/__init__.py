"""What a model's features are worth to a linear classifier."""

from igpt_tf.probing.cache import FeatureCache
from igpt_tf.probing.features import extract_features

__all__ = ["FeatureCache", "extract_features"]
