"""Training a refiner on the codes of images."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from igpt_tf.data.order import Examples
from igpt_tf.data.tokens import Tokens, fingerprint
from igpt_tf.latent.refiner import KIND, Refiner
from igpt_tf.latent.refiner_config import RefinerConfig, check_codes
from igpt_tf.training.best import Logs
from igpt_tf.training.checkpoint import RunFolder
from igpt_tf.training.preparation import Batch
from igpt_tf.training.pretrain import batches_of, training_scope
from igpt_tf.training.run import Run, Validation
from igpt_tf.training.settings import RunSettings


def new_refiner(
    config: RefinerConfig,
    codebooks: tuple[str, str] | None = None,
    mixed_precision: bool = False,
    rematerialise: bool = False,
) -> Refiner:
    """A refiner to train.

    Args:
        config: its shape.
        codebooks: as in `Refiner`.
        mixed_precision: compute in bfloat16; weights, norms, softmax and losses stay float32.
        rematerialise: keep less for the backward pass and compute it again, as `training_scope` says.
    """
    with training_scope(config.block_names, rematerialise):
        return Refiner(config, codebooks, dtype="mixed_bfloat16" if mixed_precision else None)


def train_refiner(
    model: Refiner,
    coarse: Tokens,
    tokens: Tokens,
    settings: RunSettings,
    folder: RunFolder | str | Path,
    validation: tuple[Tokens, Tokens] | None = None,
    callbacks: list[keras.callbacks.Callback] | None = None,
    *,
    init_from: str | None = None,
) -> list[Logs]:
    """Train a refiner, or resume the run that `folder` holds.

    The model ends with the weights that `Run.train` describes.

    Args:
        model: built under the `tf.distribute` strategy it is to train under.
        coarse: (N, S) coarser codes, in memory or in a store on disk.
        tokens: (N, T) finer codes of the same images.
        settings: of the run.
        folder: where the run keeps its checkpoints and `log.csv`.
        validation: coarser and finer codes of other images, evaluated after every save interval.
        callbacks: more Keras callbacks, called before a checkpoint is written.
        init_from: fingerprint of the weights that the model begins with; a run that began with others is not resumed.

    Returns:
        The logs of every save interval: `loss` and, with validation, `val_loss`, in nats per finer code, and
        `learning_rate`, which is the next step's.

    Raises:
        UserError: if the codes do not fit the model, `folder` cannot be written, holds another run or one that another
            process is training, or the loss becomes NaN.
        UsageError: if the settings do not fit each other or the devices.
    """
    check_codes(model.config, coarse, tokens)
    held: Validation | None = None
    if validation is not None:
        check_codes(model.config, *validation)
        seen, targets = (np.asarray(codes[:], "int32") for codes in validation)
        held = {"coarse": seen, "tokens": targets}, targets, np.ones(targets.shape, "float32")
    identity = {
        "kind": KIND,
        **model.config.to_dict(),
        "codebooks": model.codebooks,
        "n_images": len(tokens),
        "data": [fingerprint(coarse), fingerprint(tokens)],
        "init_from": init_from,
        "validation": None if validation is None else [fingerprint(codes) for codes in validation],
    }

    def prepare(examples: Examples) -> Batch:
        seen, targets = (np.asarray(codes[examples.rows]).astype("int32") for codes in (coarse, tokens))
        return {"coarse": seen, "tokens": targets}, targets

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    batches = batches_of(len(tokens), prepare, settings)
    return Run(model, settings, len(tokens), batches, loss, identity, held).train(folder, callbacks)
