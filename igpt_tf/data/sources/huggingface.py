"""Data sets of the Hugging Face hub, and folders that `datasets` wrote: no code of the hub is run, ever."""

# datasets is an extra, and its classes declare too few types.
# pyright: reportMissingImports=false

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from igpt_tf.data.sources.columns import Column, Keys, choose_image, choose_label, choose_split, number_labels
from igpt_tf.data.sources.records import Records
from igpt_tf.download.consent import require_consent
from igpt_tf.errors import UserError, reason_of
from igpt_tf.progress import is_watched

if TYPE_CHECKING:
    from datasets import Dataset, DatasetBuilder

# Files by which a folder of `save_to_disk` is known: of a Dataset, of a DatasetDict.
STATE, SPLITS = "state.json", "dataset_dict.json"


def is_saved(folder: Path) -> bool:
    """Whether `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote a folder."""
    return (folder / SPLITS).is_file() or ((folder / STATE).is_file() and (folder / "dataset_info.json").is_file())


def open_huggingface(
    name: str, split: str | None, keys: Keys
) -> tuple[str, Records, np.ndarray | None, tuple[str, ...] | None]:
    """Open a data set, of which only the labels are read.

    Args:
        name: a folder that `save_to_disk` wrote, or one of files that `datasets` reads, or a name of the hub,
            OWNER/NAME or OWNER/NAME/CONFIGURATION.
        split: of the data set; None: "train", or the only one.
        keys: its columns.

    Returns:
        Its name with the split, its pictures, and labels and names of the classes, or None.

    Raises:
        UserError: if the library is missing, there is no such data set, split or column, or it may not be downloaded.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"{name}: expected the package datasets, got none ({error}): pip install datasets") from error
    with _quieter(datasets.utils):
        data, chosen = (_load_saved if is_saved(Path(name)) else _load)(name, split)
    full = f"hf:{name}" + (f":{chosen}" if chosen else "")
    return full, *take_columns(full, data, keys)


def take_columns(name: str, data: Dataset, keys: Keys) -> tuple[Records, np.ndarray | None, tuple[str, ...] | None]:
    """The pictures and labels of a data set."""
    from datasets import Image

    columns = _columns(data.features)
    image = choose_image(name, keys.image, columns)
    label = choose_label(name, keys.label, columns)
    if not len(data):
        raise UserError(f"{name}: expected at least one image, got none")
    labels = classes = None
    if label is not None:
        values = data.select_columns([label]).with_format(None)[:][label]
        labels, classes = number_labels(name, np.array(values), columns[label].classes)
    pictures = data.select_columns([image]).with_format(None)
    if isinstance(data.features[image], Image):
        # Our own reader decodes.
        pictures = pictures.cast_column(image, Image(decode=False))

    def fetch(rows: np.ndarray) -> list[bytes | Path | None]:
        return [_picture(cell) for cell in pictures[rows.tolist()][image]]

    return Records(name, fetch, np.arange(len(data))), labels, classes


def _picture(cell: Mapping[str, Any] | bytes | None) -> bytes | Path | None:
    """The bytes of a picture, or the path of its file."""
    if cell is None or isinstance(cell, bytes):
        return cell
    if cell.get("bytes") is not None:
        return cell["bytes"]
    # Addresses and what lies in archives are no files here.
    path = Path(cell.get("path") or "")
    return path if path.is_file() else None


def _columns(features: Mapping[str, Any]) -> dict[str, Column]:
    """What the columns hold; files without a type of their own are pictures where no column is declared as one."""
    from datasets import ClassLabel, Image, Value

    found = {}
    typed = any(isinstance(feature, Image) for feature in features.values())
    for key, feature in features.items():
        if isinstance(feature, Image):
            found[key] = Column("pictures", is_picture=True)
        elif isinstance(feature, ClassLabel):
            found[key] = Column("classes", is_class=True, is_label=True, classes=tuple(feature.names))
        elif isinstance(feature, Value):
            is_label = feature.dtype.startswith(("int", "uint", "bool", "string", "large_string"))
            found[key] = Column(feature.dtype, not typed and "binary" in feature.dtype, is_label=is_label)
        elif isinstance(feature, dict) and set(feature) == {"bytes", "path"}:
            found[key] = Column("files", is_picture=not typed)
        else:
            found[key] = Column(type(feature).__name__)
    return found


def _load_saved(folder: str, split: str | None) -> tuple[Dataset, str | None]:
    """A folder that `save_to_disk` wrote: the split and its name, if it has any; the files are mapped, not read."""
    from datasets import Dataset, load_from_disk

    try:
        found = load_from_disk(folder, keep_in_memory=False)
    except Exception as error:  # whatever it and pyarrow raise
        raise UserError(
            f"hf:{folder}: expected a folder of save_to_disk, got a damaged one ({reason_of(error)}): save it again"
        ) from error
    if not isinstance(found, Dataset):
        chosen = choose_split(f"hf:{folder}", split, [str(one) for one in found])
        return found[chosen], chosen
    own = None if found.split is None else str(found.split)
    if split not in (None, own):
        there = f"the split {own}" if own else "no splits"
        raise UserError(f"hf:{folder}: expected :SPLIT of a data set with splits, got :{split} of one with {there}")
    return found, own


def _load(name: str, split: str | None) -> tuple[Dataset, str]:
    """A split, and its name, of a data set of the hub, downloaded on first use, or of a folder of files."""
    from datasets import load_dataset_builder

    # A third part of a name chooses one of several configurations.
    folder, parts = Path(name).is_dir(), name.split("/")
    path, config = (name, None) if folder or len(parts) < 3 else ("/".join(parts[:2]), "/".join(parts[2:]))
    try:
        builder = load_dataset_builder(path, config)
    except Exception as error:  # whatever it raises, of several libraries below it
        raise UserError(
            f"hf:{name}: expected a data set of the Hugging Face hub or a folder, got none ({reason_of(error)}): check "
            "the name and the network"
        ) from error
    if builder.info.splits:
        choose_split(f"hf:{name}", split, builder.info.splits)
    if not folder and not Path(builder.cache_dir, "dataset_info.json").is_file():
        _ask(f"hf:{name}", path, builder)
    try:
        builder.download_and_prepare()
        chosen = choose_split(f"hf:{name}", split, builder.info.splits or {})
        return cast("Dataset", builder.as_dataset(chosen)), chosen
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"hf:{name}: expected a data set that can be downloaded, got an error ({reason_of(error)}): try again"
        ) from error


def _ask(name: str, path: str, builder: DatasetBuilder) -> None:
    """Say what a download brings and ask whether it may begin."""
    info = builder.info
    size, licence = info.download_size, info.license or None
    with contextlib.suppress(Exception):  # The rest is known without the hub's card.
        from huggingface_hub import HfApi

        about = HfApi().dataset_info(path, files_metadata=size is None)
        card = about.card_data
        found = card.get("license") if card is not None else None
        licence = licence or (", ".join(found) if isinstance(found, list) else found)
        if size is None:
            size = sum(file.size or 0 for file in about.siblings or [])
    count = sum(one.num_examples or 0 for one in info.splits.values()) if info.splits else None
    require_consent(name, size, count or None, licence)


@contextlib.contextmanager
def _quieter(library: Any) -> Iterator[None]:
    """Hide the library's progress bars where ours are hidden, and each attempt to reach the hub; errors say enough."""
    hidden, log = library.are_progress_bars_disabled(), logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)
    if not is_watched():
        library.disable_progress_bars()
    try:
        yield
    finally:
        log.setLevel(level)
        if not hidden:
            library.enable_progress_bars()
