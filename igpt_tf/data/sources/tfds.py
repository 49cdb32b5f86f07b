"""Data sets of TensorFlow Datasets, by name or in folders that it wrote, without TensorFlow once they are there."""

# tensorflow-datasets is an extra, and declares too few types.
# pyright: reportMissingImports=false

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from igpt_tf.data.sources.columns import Column, Keys, choose_image, choose_label, choose_split, number_labels
from igpt_tf.data.sources.records import READ_AT_ONCE, Records
from igpt_tf.data.sources.tfrecords import RecordFiles
from igpt_tf.download.consent import require_consent
from igpt_tf.errors import UserError, reason_of
from igpt_tf.progress import ProgressBar, is_watched

# Files of a folder that it wrote.
FEATURES, INFO = "features.json", "dataset_info.json"
# The data of records of a split.
Read = Callable[[np.ndarray], list[bytes]]


def is_prepared(folder: Path) -> bool:
    """Whether TensorFlow Datasets wrote a folder."""
    return (folder / FEATURES).is_file() and (folder / INFO).is_file()


def open_tfds(
    name: str, split: str | None, keys: Keys
) -> tuple[str, Records, np.ndarray | None, tuple[str, ...] | None]:
    """Open a data set, of which only the labels are read.

    Args:
        name: of the data set, NAME or NAME/CONFIGURATION, or a folder such as `~/tensorflow_datasets/mnist/3.0.1`.
        split: of the data set; None: "train", or the only one.
        keys: its features.

    Returns:
        Its name with the split, its pictures, and labels and names of the classes, or None.

    Raises:
        UserError: if the library is missing, there is no such data set, split or feature, or it may not be downloaded.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(
            f"{name}: expected the package tensorflow-datasets, got none ({error}): pip install tensorflow-datasets "
            "importlib_resources"
        ) from error
    with _quieter(tfds):
        builder = _open_folder(Path(name)) if Path(name).is_dir() else _open_named(name)
        split = choose_split(f"tfds:{name}", split, list(builder.info.splits))
        full = f"tfds:{name}:{split}"
        columns = _columns(builder.info.features)
        image, label = _choose(full, keys, builder, columns)
        read, count = _reader(full, builder, split)
        if not count:
            raise UserError(f"{full}: expected at least one image, got none")
        fetch = _cells(builder, read, image)
        labels = classes = None
        if label is not None:
            values = _label_values(_cells(builder, read, label), count)
            labels, classes = number_labels(full, values, columns[label].classes)
    return full, Records(full, fetch, np.arange(count)), labels, classes


def _open_folder(folder: Path) -> Any:
    """What reads a folder; its features must be the library's own, as their modules are imported."""
    import tensorflow_datasets as tfds

    if not is_prepared(folder):
        raise UserError(
            f"tfds:{folder}: expected a folder of a version with {FEATURES} and {INFO}, such as "
            "tensorflow_datasets/mnist/3.0.1, got another"
        )
    try:
        about = json.loads((folder / FEATURES).read_text(encoding="utf-8"))
        foreign = [one for one in _classes(about) if not one.startswith("tensorflow_datasets.core.features.")]
        if foreign:
            raise UserError(f"tfds:{folder}: expected features of tensorflow_datasets, got {foreign[0]!r}")
        builder = tfds.builder_from_directory(folder)
        if not isinstance(builder.info.features, tfds.features.FeaturesDict):
            raise UserError(f"tfds:{folder}: expected features by name, got {type(builder.info.features).__name__}")
        return builder
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"tfds:{folder}: expected a folder that tensorflow_datasets wrote, got a damaged one ({reason_of(error)}): "
            "get it again"
        ) from error


def _classes(about: Any) -> Iterator[str]:
    """The names of the classes in a record of features, of any version."""
    if isinstance(about, dict):
        for key, value in about.items():
            if key in ("pythonClassName", "python_class_name", "type") and isinstance(value, str) and "." in value:
                yield value
            # Some features are described by text that is JSON again.
            yield from _classes(json.loads(value) if key == "json" and isinstance(value, str) else value)
    elif isinstance(about, list):
        for value in about:
            yield from _classes(value)


def _open_named(name: str) -> Any:
    """What reads a data set that the library knows, downloaded and prepared on first use."""
    import tensorflow_datasets as tfds

    start, _, config = name.partition("/")
    try:
        builder: Any = tfds.builder_cls(start)(config=config or None)
    except Exception as error:  # whatever it raises
        raise UserError(
            f"tfds:{name}: expected a data set of TensorFlow Datasets or a folder, got none ({reason_of(error)}): "
            "check the name"
        ) from error
    if builder.is_prepared():
        return builder
    size = _known(lambda: int(builder.info.download_size or 0)) or _known(
        lambda: sum(one.size for one in builder.url_infos.values())
    )
    count = _known(lambda: sum(one.num_examples for one in builder.info.splits.values()))
    require_consent(f"tfds:{name}", size, count, _known(lambda: builder.info.redistribution_info.license))
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise UserError(
            f"tfds:{name}: expected a data set that can be downloaded, got an error ({reason_of(error)}): check the "
            "network, and what the data set needs"
        ) from error
    return builder


def _known(fact: Callable[[], Any]) -> Any:
    """A fact of a data set, or None where the library does not know it."""
    with contextlib.suppress(Exception):
        return fact() or None
    return None


def _choose(name: str, keys: Keys, builder: Any, columns: dict[str, Column]) -> tuple[str, str | None]:
    """The features of the pictures and of the labels: those that are named, or that the data set declares."""
    declared = [key if isinstance(key, str) else None for key in builder.info.supervised_keys or ()]
    image, label = (*declared, None, None)[:2]
    if keys.image is None and image in columns and columns[image].is_picture:
        keys = Keys(image, keys.label)
    if keys.label is None and label in columns and columns[label].is_class:
        keys = Keys(keys.image, label)
    return choose_image(name, keys.image, columns), choose_label(name, keys.label, columns)


def _columns(features: Any) -> dict[str, Column]:
    """What the features hold."""
    import tensorflow_datasets as tfds

    found = {}
    for key, feature in sorted(features.items()):
        kind = type(feature).__name__
        if kind == "Image" and feature.np_dtype in (np.uint8, np.uint16):
            found[key] = Column("pictures", is_picture=True)
        elif isinstance(feature, tfds.features.ClassLabel):
            found[key] = Column("classes", is_class=True, is_label=True, classes=tuple(feature.names))
        elif kind in ("Text", "Scalar", "Tensor") and not feature.shape:
            is_label = kind == "Text" or np.dtype(feature.np_dtype).kind in "iub"
            found[key] = Column("text" if kind == "Text" else str(np.dtype(feature.np_dtype)), is_label=is_label)
        else:
            found[key] = Column(kind)
    return found


def _reader(name: str, builder: Any, split: str) -> tuple[Read, int]:
    """What reads records of a split in any order, and their number."""
    import tensorflow_datasets as tfds

    kind = getattr(builder.info.file_format, "value", None)
    if kind == "array_record":
        source = builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
        guard = threading.Lock()

        def read(rows: np.ndarray) -> list[bytes]:
            with guard:
                return list(source.__getitems__(rows.tolist()))

        return read, len(source)
    if kind != "tfrecord":
        raise UserError(f"{name}: expected files of the format tfrecord or array_record, got {kind}")
    files = RecordFiles([Path(path) for path in builder.info.splits[split].filepaths])
    return files.read, len(files)


def _cells(builder: Any, read: Read, key: str) -> Callable[[np.ndarray], list[Any]]:
    """What reads one feature of records: pictures as files, which our own reader decodes."""
    import tensorflow_datasets as tfds

    # The others are not even parsed.
    feature: Any = tfds.features.FeaturesDict({key: builder.info.features[key]})
    decoders = {key: tfds.decode.SkipDecoding()}

    def cells(rows: np.ndarray) -> list[Any]:
        return [feature.deserialize_example_np(record, decoders=decoders)[key] for record in read(rows)]

    return cells


def _label_values(cells: Callable[[np.ndarray], list[Any]], count: int) -> np.ndarray:
    """The labels of all records, (N,) numbers or words."""
    values: list[Any] = []
    with ProgressBar(total=count, unit="image", desc="reading labels", delay=1) as bar:
        for start in range(0, count, READ_AT_ONCE):
            rows = np.arange(start, min(count, start + READ_AT_ONCE))
            values += [one.decode("utf-8", "replace") if isinstance(one, bytes) else one for one in cells(rows)]
            bar.update(len(rows))
    return np.array(values)


@contextlib.contextmanager
def _quieter(tfds: Any) -> Iterator[None]:
    """Hide the library's log, and its bars where ours are hidden; what it prints goes to standard error."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    if not is_watched():
        tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(sys.stderr if is_watched() else io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
        if not is_watched():
            tfds.enable_progress_bar()
