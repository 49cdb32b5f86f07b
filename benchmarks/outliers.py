"""How well do likelihoods tell images that a bundled model was trained on from others (Serrà et al., 2020)?

    python -m benchmarks.outliers --images 1000

With `nano-mnist`, MNIST against inverted digits and, with `--fashion fashion_mnist:test`, Fashion-MNIST. With
`--pictures`, photographs such as Tiny ImageNet's: CIFAR-10 against these with `nano-cifar10`, and the other way round
with `nano-imagenet32`. Prints one JSON line for each pair.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

import igpt_tf as igpt
from igpt_tf.data.open import open_data, read_tokens
from igpt_tf.sampling.native.network import NativeNetwork
from igpt_tf.scoring.likelihood import image_scores, roc_area
from igpt_tf.weights.presets import open_preset


def tokens_of(source: str, palette: igpt.Palette, n_px: int, limit: int) -> np.ndarray:
    """Tokens of `limit` images spread over the data, which may be sorted by class."""
    tokens = read_tokens(open_data(source), n_px, palette)
    return np.asarray(tokens[np.linspace(0, len(tokens) - 1, min(limit, len(tokens))).astype(int)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000, help="images of each set")
    parser.add_argument("--pictures", help="a folder of photographs that are not CIFAR-10's, such as Tiny ImageNet's")
    parser.add_argument("--cifar10", default="cifar10:test", help="CIFAR-10's test images")
    parser.add_argument("--mnist", default="mnist:test", help="MNIST's test images")
    parser.add_argument("--fashion", help="Fashion-MNIST's test images, fashion_mnist:test")
    models = ("nano-mnist", "nano-cifar10", "nano-imagenet32")
    parser.add_argument("--models", nargs="+", choices=models, default=models, help="whose rows are computed")
    parser.add_argument("--n_sub_batch", type=int, default=8)
    options = parser.parse_args()
    pairs = [("nano-mnist", options.mnist, "inverted")]
    if options.fashion:
        pairs.append(("nano-mnist", options.mnist, options.fashion))
    if options.pictures:
        pairs += [
            ("nano-cifar10", options.cifar10, options.pictures),
            ("nano-imagenet32", options.pictures, options.cifar10),
        ]
    for name, source, other in (pair for pair in pairs if pair[0] in options.models):
        preset, palette = open_preset(name), igpt.load_palette(name)
        n_px, model = preset.config.n_px, NativeNetwork(preset.config, preset.read)
        inside = tokens_of(source, palette, n_px, options.images)
        if other == "inverted":
            outside = palette.quantize(255 - palette.dequantize(inside))
        else:
            outside = tokens_of(other, palette, n_px, options.images)
        scores = [image_scores(model, one, palette, options.n_sub_batch, progress=True) for one in (inside, outside)]
        areas = [round(roc_area(one, two), 4) for one, two in zip(*scores, strict=True)]
        row = {"model": name, "inside": source, "outside": other, "images": [len(inside), len(outside)]}
        print(json.dumps(row | {"auroc_likelihood": areas[0], "auroc_likelihood_minus_png": areas[1]}), flush=True)


if __name__ == "__main__":
    main()
