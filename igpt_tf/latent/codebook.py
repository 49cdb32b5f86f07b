"""Codebooks: patches of maps as numbers of units, which lie on a grid where neighbours resemble each other."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from igpt_tf.errors import UserError
from igpt_tf.latent.autoencoder import Autoencoder
from igpt_tf.latent.fsq import ScalarQuantizer
from igpt_tf.latent.maps import MapStore, require_made_by
from igpt_tf.latent.nearest_units import nearest_units
from igpt_tf.latent.patches import cut, join, patch_grid
from igpt_tf.latent.reconstruct import decode_maps
from igpt_tf.pictures.writing import grid as lay_out
from igpt_tf.weights.arrays import read_arrays, read_fields, rounded_digest, write_arrays

CODEBOOK_FILE = "codebook.json"
# A unit is decoded with copies of itself around it, as many positions in all, since a convolution sees those too.
SURROUNDINGS = 8
# Maps that are read at once.
CHUNK = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class Codebook:
    """K units, each a patch of a map; a patch is encoded as the number of the nearest one.

    Attributes:
        units: (K, patch_H * patch_W * C) float32.
        patch_H: height of a patch, in positions of the map.
        patch_W: width of a patch.
        grid: rows and columns on which the units lie; one row for a line.
        positions: (K, 2) int32, row and column of each unit.
        autoencoder: digest of the autoencoder whose maps these are.
        method: how it was trained.
        scalar: numbers the patches by finite scalar quantisation instead of the nearest unit; None: it does not.
        about: what else is known, such as what training reported: plain values.

    Raises:
        UserError: if they do not fit each other.
    """

    units: np.ndarray
    patch_H: int  # noqa: N815
    patch_W: int  # noqa: N815
    grid: tuple[int, int]
    positions: np.ndarray
    autoencoder: str
    method: str = "som"
    scalar: ScalarQuantizer | None = None
    about: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no codebook can have."""
        units, size = self.units, self.patch_H * self.patch_W
        if units.ndim != 2 or not units.size or size < 1 or units.shape[1] % size:
            raise UserError(
                f"expected units (K, {self.patch_H} * {self.patch_W} * channels), got {units.shape}: "
                "give patches of the same size"
            )
        if not np.isfinite(units).all():
            raise UserError("expected finite units, got NaN or infinite ones")
        places = {tuple(place) for place in self.positions.tolist()}
        inside = (self.positions >= 0).all() and (self.positions < self.grid).all()
        if self.positions.shape != (len(units), 2) or len(places) < len(units) or not inside:
            raise UserError(
                f"expected {len(units)} different positions on a grid of {self.grid[0]} x {self.grid[1]}, "
                f"got others, {self.positions.shape}"
            )

    def __len__(self) -> int:
        """K."""
        return len(self.units)

    @property
    def channels(self) -> int:
        """Channels C of the maps."""
        return self.units.shape[1] // (self.patch_H * self.patch_W)

    def code_grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of codes of a map of this height and width; a `UserError` if patches do not divide it."""
        return patch_grid(height, width, self.patch_H, self.patch_W)

    def encode(self, maps: np.ndarray) -> np.ndarray:
        """The codes of maps, row by row, int32 (N, (h / patch_H) * (w / patch_W)).

        Args:
            maps: (N, h, w, C).

        Raises:
            UserError: if the patches do not divide the maps, or these have other channels.
        """
        if maps.ndim != 4 or maps.shape[3] != self.channels:
            raise UserError(f"expected maps (N, height, width, {self.channels}), got {maps.shape}")
        vectors = cut(maps, self.patch_H, self.patch_W)
        flat = vectors.reshape(-1, vectors.shape[2]).astype(np.float32, copy=False)
        found = nearest_units(flat, self.units) if self.scalar is None else self.scalar.encode(flat)
        return found.reshape(vectors.shape[:2])

    def encode_store(self, store: MapStore) -> np.ndarray:
        """The codes of all maps of a store, int32 (N, T).

        Args:
            store: of the autoencoder that this codebook belongs to.

        Raises:
            UserError: if it is another autoencoder's, or the patches do not divide its maps.
        """
        self.require_maps(store)
        return np.concatenate([self.encode(store[i : i + CHUNK]) for i in range(0, len(store), CHUNK)])

    def decode(self, codes: np.ndarray, height: int, width: int) -> np.ndarray:
        """The maps of codes, float32 (N, height, width, C).

        Args:
            codes: (N, (height / patch_H) * (width / patch_W)) integers.
            height: of the maps.
            width: of the maps.

        Raises:
            UserError: if there are other codes, or another number of them.
        """
        codes = np.asarray(codes)
        if codes.ndim != 2 or codes.dtype.kind not in "iu":
            raise UserError(f"expected codes (N, T), integers, got {codes.dtype} {codes.shape}")
        if codes.size and (codes.min() < 0 or codes.max() >= len(self)):
            raise UserError(
                f"expected codes from 0 to {len(self) - 1}, got {codes.min()} to {codes.max()}: "
                "were they made with another codebook?"
            )
        return join(self.units[codes], height, width, self.patch_H, self.patch_W)

    def digest(self) -> str:
        """What tells the codes of this codebook from those of any other, another autoencoder's too."""
        return rounded_digest(json.dumps(self._identity()), self._arrays())

    def require_autoencoder(self, autoencoder: Autoencoder) -> None:
        """Raise a `UserError` unless the codebook is of this autoencoder's maps."""
        require_made_by("codebook", self.autoencoder, autoencoder)

    def require_maps(self, store: MapStore) -> None:
        """Raise a `UserError` unless the maps are those of the same autoencoder."""
        if store.autoencoder != self.autoencoder:
            raise UserError(
                f"{store.name}: expected maps of this codebook's autoencoder ({self.autoencoder}), got another's "
                f"({store.autoencoder}): encode again"
            )

    def unit_picture(self, autoencoder: Autoencoder, scale: int = 4) -> np.ndarray:
        """Every unit decoded, in the order of the grid: one picture, (height, width, 3) uint8.

        Args:
            autoencoder: whose maps these are.
            scale: every pixel becomes scale x scale.

        Raises:
            UserError: if it is another autoencoder.
        """
        self.require_autoencoder(autoencoder)
        patches = self.units.reshape(-1, self.patch_H, self.patch_W, self.channels)
        # Odd, so that one copy is in the middle.
        down, across = (2 * (SURROUNDINGS // 2 // size) + 1 for size in (self.patch_H, self.patch_W))
        images = decode_maps(autoencoder, np.tile(patches, (1, down, across, 1)))
        height, width = images.shape[1] // down, images.shape[2] // across
        top, left = down // 2 * height, across // 2 * width
        cells: list[list[np.ndarray | None]] = [[None] * self.grid[1] for _ in range(self.grid[0])]
        for (row, column), image in zip(self.positions, images, strict=True):
            cells[row][column] = image[top : top + height, left : left + width]
        return lay_out(cells, 1, scale)

    def save(self, folder: str | Path, dtype: str = "float32") -> None:
        """Write `codebook.json` and `model.safetensors`.

        Args:
            folder: created if needed; a codebook in it is replaced.
            dtype: of the units in the file, "float32", or "float16" for half the bytes and a little rounding.

        Raises:
            UserError: if the folder cannot be written.
            ValueError: if the dtype is another one.
        """
        shapes = {name: list(array.shape) for name, array in self._arrays().items()}
        fields = {**self._identity(), "shapes": shapes, "positions": self.positions.tolist(), "about": self.about}
        write_arrays(folder, fields, self._arrays(), dtype, CODEBOOK_FILE)

    @staticmethod
    def load(folder: str | Path) -> Codebook:
        """The codebook in a folder that `save` wrote.

        Args:
            folder: the folder.

        Raises:
            UserError: if there is none, or it is damaged.
        """
        folder = Path(folder).expanduser()
        path = folder / CODEBOOK_FILE
        fields = read_fields(path, "a codebook's shape")
        try:
            shapes = {name: tuple(shape) for name, shape in fields["shapes"].items()}
            arrays = read_arrays(folder, shapes)
            scalar = None
            if fields["levels"] is not None:
                scalar = ScalarQuantizer(tuple(fields["levels"]), arrays["mean"], arrays["projection"])
            return Codebook(
                units=arrays["units"],
                patch_H=int(fields["patch_H"]),
                patch_W=int(fields["patch_W"]),
                grid=(int(fields["grid"][0]), int(fields["grid"][1])),
                positions=np.array(fields["positions"], np.int32),
                autoencoder=str(fields["autoencoder"]),
                method=str(fields["method"]),
                scalar=scalar,
                about=dict(fields["about"]),
            )
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, UserError):
                raise UserError(f"{path}: {error}") from error
            raise UserError(f"{path}: expected a codebook's fields, got others ({error}): copy it again") from error

    def _arrays(self) -> dict[str, np.ndarray]:
        """What the file of the weights holds."""
        if self.scalar is None:
            return {"units": self.units}
        return {"units": self.units, "mean": self.scalar.mean, "projection": self.scalar.projection}

    def _identity(self) -> dict[str, Any]:
        """What tells it from others, beside the arrays."""
        names = ("patch_H", "patch_W", "grid", "autoencoder", "method")
        levels = None if self.scalar is None else list(self.scalar.levels)
        return {**{name: getattr(self, name) for name in names}, "levels": levels}


def row_by_row(n_units: int, grid: tuple[int, int]) -> np.ndarray:
    """The positions (K, 2) int32 of units that fill a grid row by row."""
    return np.stack(np.divmod(np.arange(n_units), grid[1]), axis=1).astype(np.int32)


def encode_stores(codebook: Codebook, stores: Sequence[MapStore]) -> np.ndarray:
    """The codes (N, T) int32 of all maps of some stores, one after another; errors as in `Codebook.encode_store`."""
    return np.concatenate([codebook.encode_store(store) for store in stores])
