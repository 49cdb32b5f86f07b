"""Image GPT (Chen et al., "Generative Pretraining from Pixels", 2020) for Keras 3.

    import igpt_tf as igpt

    model = igpt.ImageGPT.from_preset("nano-cifar10")
    palette = igpt.load_palette("nano-cifar10")
    images = palette.dequantize(igpt.sample(model, n=16))

Names are imported when they are first used, so that the parts that need no Keras start at once.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_MODULES = {
    "ImageGPTConfig": "config",
    "SIZES": "config",
    "UserError": "errors",
    "ImageGPT": "model.image_gpt",
    "ImageGPTClassifier": "model.classifier",
    "Palette": "pictures.palette",
    "load_palette": "weights.presets",
    "convert": "weights.convert",
    "allow_downloads": "download.consent",
    "load_images": "data.images",
    "save_images": "data.images",
    "grid": "data.images",
    "save_gif": "data.images",
    "sample": "sampling",
    "complete": "sampling",
    "stream": "sampling",
    "sample_batches": "sampling",
    "Sampler": "sampling",
    "Controls": "sampling",
    "known_rows": "sampling",
    "known_outside_box": "sampling",
    "known_by_mask": "sampling",
    "score": "scoring.evaluation",
    "evaluate": "scoring.evaluation",
    "classify": "scoring.classes",
    "extract_features": "probing.features",
    "attention_maps": "probing.attention",
    "probe": "probing.protocol",
    "AutoencoderConfig": "latent.config",
    "Autoencoder": "latent.autoencoder",
    "Codebook": "latent.codebook",
    "Cascade": "latent.cascade",
    "RefinerConfig": "latent.refiner_config",
    "Refiner": "latent.refiner",
}
__all__ = ["__version__", *_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    """Import a public name's module on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"igpt_tf.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """Every public name, imported yet or not."""
    return sorted(__all__)
