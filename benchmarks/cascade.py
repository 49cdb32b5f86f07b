"""How good is a cascade: its pictures stage by stage, its codebooks, its models, its speed?

    python -m benchmarks.cascade stages --test_data test.npz
    python -m benchmarks.cascade codebooks --data train.npz --test_data test.npz
    python -m benchmarks.cascade drawing
    python -m benchmarks.cascade distances --data train.npz --test_data test.npz --images 2000
    python -m benchmarks.cascade neighbours --data train.npz --out neighbours.png
    python -m benchmarks.cascade reconstructions --test_data test.npz --out reconstructions.png
    python -m benchmarks.cascade tokenizer --data cifar10/train --test_data cifar10/test

- `stages`: PSNR and SSIM of test images through the autoencoder and through the codes of each stage, how many codes are
  in use, and nats per code of each stage's model.
- `codebooks`: self-organising map, k-means, averaged codebook and finite scalar quantisation on the same maps.
- `drawing`: seconds for 64 pictures, in the first call and after it.
- `distances`: Fréchet distances between sets of pictures in the features of `nano-cifar10`, at 32x32 pixels. That is
  not FID, which has the features of another network.
- `neighbours`: a picture of eight samples, each beside the four training images whose maps are the nearest to its own.
- `reconstructions`: a picture of eight test images through the codes of each stage and through the autoencoder alone.
- `tokenizer`: an autoencoder of 8x8 maps with 64 channels and 512 codes, trained from nothing on images of 32x32.

One JSON line a row.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import igpt_tf as igpt
from igpt_tf.data.image_rows import ImageRows, held_images
from igpt_tf.data.sources.open import open_source
from igpt_tf.latent.adapt import adapt
from igpt_tf.latent.autoencoder import Autoencoder
from igpt_tf.latent.codebook import Codebook
from igpt_tf.latent.codebook_report import codebook_psnr, report_codebook
from igpt_tf.latent.config import AutoencoderConfig
from igpt_tf.latent.maps import encode_source
from igpt_tf.latent.quality import psnr, ssim
from igpt_tf.latent.reconstruct import encode_images, reconstruct
from igpt_tf.latent.settings import METHODS, AutoencoderSettings, CodebookSettings
from igpt_tf.latent.train import train_autoencoder
from igpt_tf.latent.train_codebook import train_codebook
from igpt_tf.pictures.crop import resize_and_crop
from igpt_tf.pictures.writing import grid, write_png

# The fifth block is where a linear probe of `nano-cifar10` reads best.
FEATURES, LAYER, FEATURES_PX = "nano-cifar10", 5, 32


def emit(**row: Any) -> None:
    rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
    print(json.dumps({"benchmark": "cascade", **rounded}), flush=True)


def stages(cascade: igpt.Cascade, options: argparse.Namespace) -> None:
    images = held_images(open_source(options.test_data), cascade.height, options.images)
    whole = reconstruct(cascade.autoencoder, images)
    emit(what="autoencoder", images=len(images), psnr=mean(psnr(images, whole)), ssim=mean(ssim(images, whole)))
    codes = cascade.encode(images)
    for stage, of_stage in enumerate(codes):
        shown = cascade.decode(of_stage, stage)
        counts = np.bincount(of_stage.reshape(-1), minlength=len(cascade.codebooks[stage]))
        if stage == 0:
            # Codes that no training image has would be infinitely unlikely: each counts once more.
            nats = -np.log((cascade.counts + 1) / (cascade.counts + 1).sum())[of_stage]
        else:
            before = codes[stage - 1][:, 0] if stage == 1 else codes[stage - 1]
            nats = igpt.score(cascade.models[stage - 1], of_stage, classes=before, batch_size=16)
        emit(
            what=f"stage {stage}",
            psnr=mean(psnr(images, shown)),
            ssim=mean(ssim(images, shown)),
            codes_used=int((counts > 0).sum()),
            codes=len(counts),
            nats_per_code=mean(nats),
            bits_per_image=mean(nats.sum(axis=1)) / float(np.log(2)),
        )


def codebooks(cascade: igpt.Cascade, options: argparse.Namespace) -> None:
    images = held_images(open_source(options.test_data), cascade.height, options.images)
    finest = cascade.codebooks[-1]
    emit(what="codebook trained with the autoencoder", psnr=codebook_psnr(finest, cascade.autoencoder, images))
    with tempfile.TemporaryDirectory() as folder:
        train = held_images(open_source(options.data), cascade.height, options.train_images)
        maps, held = (
            encode_source(cascade.autoencoder, part, Path(folder, name), cascade.height)
            for name, part in (("train", train), ("test", images))
        )
        for method in METHODS:
            settings = CodebookSettings(num_embeddings=len(finest), method=method, steps=options.steps)
            begin = time.perf_counter()
            codebook = train_codebook(maps, settings)
            seconds = time.perf_counter() - begin
            report = dataclasses.asdict(report_codebook(codebook, held))
            emit(what=method, seconds=seconds, psnr=codebook_psnr(codebook, cascade.autoencoder, images), **report)


def drawing(cascade: igpt.Cascade, options: argparse.Namespace) -> None:
    for call in ("first", "second"):
        begin = time.perf_counter()
        cascade.generate(64, batch_size=64, seed=1)
        emit(what=f"{call} call", images=64, seconds=time.perf_counter() - begin)


def distances(cascade: igpt.Cascade, options: argparse.Namespace) -> None:
    n, size = options.images, cascade.height
    model, palette = igpt.ImageGPT.from_preset(FEATURES), igpt.load_palette(FEATURES)

    def features(images: np.ndarray) -> np.ndarray:
        tokens = palette.quantize(np.stack([resize_and_crop(image, FEATURES_PX) for image in images]))
        return igpt.extract_features(model, tokens, [LAYER], batch_size=32)[0]

    test = held_images(open_source(options.test_data), size, n)
    of_test = features(test)

    def compare(what: str, images: np.ndarray) -> None:
        emit(what=what, images=len(images), distance=frechet_distance(features(images), of_test))

    compare("training images", held_images(open_source(options.data), size, n))
    codes, drawn = cascade.encode(test), cascade.draw(n, batch_size=64, seed=1)
    for stage in range(cascade.n_stages):
        compare(f"test images through the codes of stage {stage}", cascade.decode(codes[stage], stage))
    for stage in range(cascade.n_stages):
        compare(f"samples up to stage {stage}", cascade.decode(drawn[stage], stage))


def neighbours(cascade: igpt.Cascade, options: argparse.Namespace) -> None:
    samples = cascade.generate(8, seed=options.seed)
    rows = ImageRows(open_source(options.data), cascade.height)
    of_samples = encode_images(cascade.autoencoder, samples).reshape(8, -1)
    distances = []
    for start in range(0, len(rows), 1000):
        maps = encode_images(cascade.autoencoder, rows[start : start + 1000])
        maps = maps.reshape(len(maps), -1)
        distances.append(np.square(maps).sum(axis=1) - 2 * of_samples @ maps.T)
    nearest = np.argsort(np.concatenate(distances, axis=1), axis=1)[:, :4]
    write_png(options.out, grid([[one, *rows[near]] for one, near in zip(samples, nearest, strict=True)]))
    emit(what="neighbours", images=len(rows), nearest=nearest[:, 0].tolist(), picture=options.out)


def reconstructions(cascade: igpt.Cascade, options: argparse.Namespace) -> None:
    images = held_images(open_source(options.test_data), cascade.height, 8)
    columns = [cascade.reconstruct(images, stage) for stage in range(cascade.n_stages)]
    columns += [reconstruct(cascade.autoencoder, images), images]
    write_png(options.out, grid([list(row) for row in zip(*columns, strict=True)]))
    emit(what="reconstructions", columns="each stage, the autoencoder, the images", picture=options.out)


def tokenizer(cascade: igpt.Cascade | None, options: argparse.Namespace) -> None:
    images = held_images(open_source(options.test_data), 32, options.images)
    config = AutoencoderConfig(min_channel=64, num_layers=2, latent_channel=64, num_res_blocks=2)
    settings = AutoencoderSettings(epochs=options.epochs, batch_size=64, save_every=500)
    keras.utils.set_random_seed(0)
    precision = "mixed_bfloat16" if options.mixed_precision else None
    model = Autoencoder(config, dtype=precision)
    rows = ImageRows(open_source(options.data), 32)
    folder = Path(options.out or tempfile.mkdtemp())
    begin = time.perf_counter()
    train_autoencoder(model, rows, settings, folder / "alone", images[:500])
    model.save_to_preset(folder / "alone-preset")
    clean = Autoencoder.from_preset(folder / "alone-preset")
    train = held_images(open_source(options.data), 32, options.train_images)
    maps = encode_source(clean, train, folder / "maps", 32)
    codebook: Codebook = train_codebook(maps, CodebookSettings(steps=options.steps))
    emit(
        what="8x8 maps of 64 channels",
        images=len(images),
        autoencoder=mean(psnr(images, reconstruct(clean, images))),
        psnr=codebook_psnr(codebook, clean, images),
        seconds=time.perf_counter() - begin,
    )
    model = Autoencoder.from_preset(folder / "alone-preset", dtype=precision)
    together = dataclasses.replace(settings, epochs=options.adapt_epochs, learning_rate=2e-3)
    codebook, _ = adapt(model, codebook, rows, together, folder / "together", images[:500])
    model.save_to_preset(folder / "together-preset")
    clean = Autoencoder.from_preset(folder / "together-preset")
    counts = np.bincount(codebook.encode(encode_images(clean, images)).reshape(-1), minlength=len(codebook))
    emit(
        what="the same, trained with its codes",
        images=len(images),
        autoencoder=mean(psnr(images, reconstruct(clean, images))),
        psnr=codebook_psnr(codebook, clean, images),
        codes_used=int((counts > 0).sum()),
        seconds=time.perf_counter() - begin,
    )


def frechet_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Between the normal distributions of two sets of features (N, D)."""
    one, other = one.astype("float64"), other.astype("float64")
    first, second = (np.cov(features, rowvar=False) for features in (one, other))
    # The eigenvalues of a product of two covariances are real and at least 0, but for rounding.
    eigenvalues = np.linalg.eigvals(first @ second).real.clip(min=0)
    mean_part = np.square(one.mean(axis=0) - other.mean(axis=0)).sum()
    return float(mean_part + np.trace(first) + np.trace(second) - 2 * np.sqrt(eigenvalues).sum())


def mean(values: np.ndarray) -> float:
    return float(np.mean(values, dtype="float64"))


QUESTIONS = {
    function.__name__: function
    for function in (stages, codebooks, drawing, distances, neighbours, reconstructions, tokenizer)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=QUESTIONS)
    parser.add_argument("--model", default="nano-cascade")
    parser.add_argument("--data", help="training images")
    parser.add_argument("--test_data", help="other images")
    parser.add_argument("--images", type=int, default=5000, help="how many of the test images")
    parser.add_argument("--train_images", type=int, default=8000, help="codebooks: how many of the training images")
    parser.add_argument("--steps", type=int, default=1000, help="codebooks: of training")
    parser.add_argument("--epochs", type=float, default=4, help="tokenizer: of the autoencoder alone")
    parser.add_argument("--adapt_epochs", type=float, default=4, help="tokenizer: of autoencoder and codes together")
    parser.add_argument("--mixed_precision", action="store_true", help="tokenizer: train in bfloat16")
    parser.add_argument("--out", help="where a picture goes; tokenizer: where the runs are kept")
    parser.add_argument("--seed", type=int, default=1, help="neighbours: of the samples")
    options = parser.parse_args()
    cascade = None if options.question == "tokenizer" else igpt.Cascade.from_preset(options.model)
    QUESTIONS[options.question](cascade, options)


if __name__ == "__main__":
    main()
