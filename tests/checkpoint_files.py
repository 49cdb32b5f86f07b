"""Writing checkpoints in OpenAI's format: TensorFlow 1 names and files, any number of shards, training's variables."""

from pathlib import Path

import numpy as np

from igpt_tf.weights.names import HEAD, shape_table

SCOPE = "model/"


def random_weights(config, n_class=None, seed=0):
    """OpenAI's names (without `model/`) to arrays in which a transposed matrix shows."""
    shapes = shape_table(config) | ({HEAD: (n_class, config.n_embd)} if n_class else {})
    rng = np.random.default_rng(seed)
    return {
        name: ((0.3 * rng.standard_normal(shape)) + name.endswith("/g")).astype("float32")
        for name, shape in shapes.items()
    }


def in_scope(weights):
    """The same under the full names of OpenAI's graph."""
    return {SCOPE + name: array for name, array in weights.items()}


def training_state(weights, slots=("Adam", "Adam_1")):
    """The variables of OpenAI's graph, with what its training saves: a counter and the optimiser's slots."""
    variables = in_scope(weights)
    state = {f"{name}/{slot}": np.full_like(array, 7) for name, array in variables.items() for slot in slots}
    return {"global_step": np.int64(1_000_000), **variables, **state}


def write_checkpoint(prefix, variables, n_shards=1):
    """Write variables (full names) as TensorFlow's Saver does, dealt out to the shards.

    The first of several shards holds the first variable alone: with `training_state` that is the global step, 8 bytes,
    as in the official checkpoints.
    """
    import tensorflow as tf

    prefix = Path(prefix)
    names = list(variables)
    shares = [names[:1], *(names[1 + i :: n_shards - 1] for i in range(n_shards - 1))] if n_shards > 1 else [names]
    parts = []
    for i, share in enumerate(shares):
        parts.append(str(prefix.with_name(f"part-{i}")))
        tf.raw_ops.SaveV2(
            prefix=parts[-1],
            tensor_names=share,
            shape_and_slices=[""] * len(share),
            tensors=[tf.constant(variables[name]) for name in share],
        )
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(prefix))
    return prefix
