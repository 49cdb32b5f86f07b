"""The names under which `weights.presets` was first public."""

from __future__ import annotations

from pathlib import Path

from igpt_tf.model import ImageGPT, ImageGPTClassifier
from igpt_tf.pictures.palette import Palette
from igpt_tf.weights.presets import Preset, load_palette, open_preset

__all__ = ["Preset", "load_classifier", "load_model", "load_palette", "open_preset", "save_preset"]

load_model = ImageGPT.from_preset
load_classifier = ImageGPTClassifier.from_preset


def save_preset(
    model: ImageGPT | ImageGPTClassifier, folder: str | Path, palette: Palette | None = None, dtype: str = "float32"
) -> None:
    """As `model.save_to_preset(folder, palette, dtype)`."""
    model.save_to_preset(folder, palette, dtype)
