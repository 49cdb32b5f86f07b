"""How accurate are linear probes of a model's features, against other features of the same images?

    python -m benchmarks.probing --data cifar-train --test_data cifar-test --limit 10000 --test_limit 5000

All features are probed with the same images, labels and solver; C is chosen on a held-out tenth of the training images.

- ours: the mean over positions of each layer's normalised states, with a start-of-sequence token (paper, section 2.3);
- theirs: Hugging Face's class with the same weights, used as in its notebooks: the inputs are the tokens, without a
  start of sequence, and the mean is taken of the hidden states, without a norm;
- colours: the share of each palette colour in the image;
- pixels: the red, green and blue of each pixel's palette colour, which is all that the model sees.

With --labels_per_class, the pixels and the best layer of ours (by the held-out images) are also probed with this many
labels per class, on five random subsets each.
"""

from __future__ import annotations

import argparse
import json
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import igpt_tf as igpt
from benchmarks.theirs import means_of_hidden_states, new_theirs, put_weights
from igpt_tf.data.labelled import LabelledTokens
from igpt_tf.data.open import open_data, read_labelled
from igpt_tf.data.split import stratified_order
from igpt_tf.probing.few_labels import LowData, low_data
from igpt_tf.probing.linear import fit_linear, percent
from igpt_tf.probing.protocol import LayerResult, probe


def read(path: str, config: igpt.ImageGPTConfig, limit: int) -> LabelledTokens:
    """This many random images, with all classes in proportion."""
    labelled = read_labelled(open_data(path), config.n_px, None, config.n_vocab)
    return labelled.part(np.sort(stratified_order(labelled.labels, 0)[:limit]))


def write(what: str, converged: bool, c: float, held_out: float, accuracy: float, **more) -> None:
    """Print the accuracy of a probe; without numbers if the solver did not converge."""
    row = {"benchmark": "probing", "what": what, **more, "converged": converged}
    if converged:
        row |= {"C": c, "held_out_percent": round(held_out, 2), "test_percent": round(accuracy, 2)}
    print(json.dumps(row), flush=True)


def write_few(what: str, found: LowData, **more) -> None:
    """Print the mean accuracy of probes with a few labels per class."""
    row = {"benchmark": "probing", "what": what, **more, "labels_a_class": found.labels_a_class}
    row["converged"] = len(found.converged)
    if len(found.converged) > 1:
        row |= {"test_percent": round(found.mean, 2), "std": round(found.std, 2)}
    print(json.dumps(row), flush=True)


def report(what: str, train: tuple, test: tuple, **more) -> None:
    """Fit to features (N, D) and labels (N,), and test on others."""
    (x, y), (test_x, test_y) = train, test
    fitted = fit_linear(x, y)
    accuracy = percent(fitted.predict(test_x) == test_y) if fitted.converged else None
    write(what, fitted.converged, fitted.hyperparameter, fitted.held_out, accuracy, **more, dimensions=x.shape[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano-cifar10")
    parser.add_argument("--data", required=True, help="token store of the training images")
    parser.add_argument("--test_data", required=True, help="token store of the test images")
    parser.add_argument("--limit", type=int, default=10000)
    parser.add_argument("--test_limit", type=int, default=5000)
    parser.add_argument("--labels_per_class", "--labels_a_class", type=int, nargs="+", default=[])
    parser.add_argument("--sides", nargs="+", default=["colours", "pixels", "ours", "theirs"])
    options = parser.parse_args()
    model, palette = igpt.ImageGPT.from_preset(options.model), igpt.load_palette(options.model)
    config = model.config
    train, test = read(options.data, config, options.limit), read(options.test_data, config, options.test_limit)
    shape = {"model": options.model, "images": len(train), "test_images": len(test)}
    print(json.dumps({"benchmark": "probing", "backend": keras.backend.backend(), **shape}), flush=True)
    tokens = [np.asarray(part.tokens[:], "int32") for part in (train, test)]
    labels = train.labels, test.labels

    def sides(features: list[np.ndarray]) -> tuple[tuple, tuple]:
        return (features[0], labels[0]), (features[1], labels[1])

    if "colours" in options.sides:
        one_hot = np.eye(config.n_vocab, dtype="float32")
        report("colours", *sides([np.stack([one_hot[image].mean(0) for image in part]) for part in tokens]))
    if "pixels" in options.sides:
        pixels = sides([palette.dequantize(part).reshape(len(part), -1) / np.float32(255) for part in tokens])
        report("pixels", *pixels)
        for number in options.labels_per_class:
            (x, y), (test_x, test_y) = pixels
            write_few("pixels", low_data(x, y, [test_x], test_y, number))
    if "ours" in options.sides:

        def tell(one: LayerResult) -> None:
            width = {"layer": one.layers[0], "dimensions": config.n_embd}
            write("ours", one.converged, one.hyperparameter, one.held_out, one.accuracy, **width)

        few = options.labels_per_class
        result = probe(model, train, test, labels_a_class=few, batch_size=32, progress=True, tell=tell)
        for found in result.low_data:
            write_few("ours", found, layer=result.best.layers[0])
    if "theirs" in options.sides:
        theirs, _ = new_theirs(config)
        put_weights(theirs.eval(), model)
        features = [means_of_hidden_states(theirs, part, 32) for part in tokens]
        for layer in range(config.n_layer + 1):
            report("theirs", *sides([part[layer] for part in features]), layer=layer)


if __name__ == "__main__":
    main()
