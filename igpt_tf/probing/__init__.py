"""What a model's features are worth to a linear classifier."""

from igpt_tf.probing.cache import FeatureCache
from igpt_tf.probing.features import extract_features
from igpt_tf.probing.few_labels import low_data
from igpt_tf.probing.linear import fit_linear
from igpt_tf.probing.protocol import probe
from igpt_tf.probing.sgd import fit_sgd

__all__ = ["FeatureCache", "extract_features", "fit_linear", "fit_sgd", "low_data", "probe"]
