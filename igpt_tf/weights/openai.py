"""OpenAI's checkpoints: TensorFlow 1 format, any number of shards."""

# TensorFlow declares too few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import glob
import math
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from igpt_tf.errors import UserError, listed, reason_of
from igpt_tf.storage.files import atomic_write, is_unicode, require_writable
from igpt_tf.weights.names import Shape, is_weight

_SCOPE = "model/"
# TensorFlow's record of the checkpoints in a folder.
STATE_FILE = "checkpoint"
_SHARD = re.compile(r"(?P<prefix>.+)\.data-(?P<index>\d{5})-of-(?P<count>\d{5})")
# The counters of training and the slots of the optimisers that OpenAI used.
_TRAINING = re.compile(r"(.*/)?(global_step|beta[12]_power|Adam(_1)?|adam_[mv])")


class OpenAICheckpoint:
    """A checkpoint's arrays under OpenAI's names without `model/`, read one at a time.

    Args:
        path: the prefix (".../model.ckpt-1000000"), one of the checkpoint's files, or a folder with one checkpoint,
            or with several, of which TensorFlow's file `checkpoint` names the latest.

    Attributes:
        prefix: what TensorFlow calls the checkpoint.
        shapes: name to shape, without the optimiser's slots and counters.

    Raises:
        UserError: if there is no checkpoint, several, one that is incomplete or damaged, or no TensorFlow to read it.
    """

    def __init__(self, path: str | Path) -> None:
        self.prefix = find_prefix(path)
        shards = find_shards(self.prefix)
        try:
            import tensorflow as tf
        except ImportError as error:
            raise UserError(
                f"{self.prefix}: expected TensorFlow, whose format it has, got none: "
                "install tensorflow, or save it as a preset where that is installed"
            ) from error
        check_prefix(self.prefix)
        # A file that ends too early, for one, is an IndexError.
        self._read_errors = (tf.errors.OpError, RuntimeError, ValueError, LookupError, TypeError)
        try:
            self._reader = tf.train.load_checkpoint(str(self.prefix))
            shapes = {name: tuple(shape) for name, shape in self._reader.get_variable_to_shape_map().items()}
            dtypes = self._reader.get_variable_to_dtype_map()
        except self._read_errors as error:
            raise self._damaged(f"{self.prefix}.index", error) from error
        self._check_bytes(sum(math.prod(shape) * dtypes[name].size for name, shape in shapes.items()), shards)
        weights = sorted(name for name in shapes if not _is_training_state(name, shapes))
        self._names = {name.removeprefix(_SCOPE): name for name in weights}
        self.shapes = {name: shapes[full_name] for name, full_name in self._names.items()}
        needed = [name for name in weights if is_weight(name.removeprefix(_SCOPE))]
        strange = [f"{dtypes[name].name} in {name}" for name in needed if not dtypes[name].is_floating]
        if strange or len({name.removeprefix(_SCOPE) for name in needed}) < len(needed):
            found = strange[0] if strange else f"names both with and without {_SCOPE}"
            raise UserError(f"{self.prefix}: expected float weights of an Image GPT, got {found}")

    def read(self, name: str) -> np.ndarray:
        """The array of a name in `shapes`.

        Raises:
            UserError: if its bytes are not there or do not have the checksum that the index holds.
        """
        try:
            return self._reader.get_tensor(self._names[name])
        except self._read_errors as error:
            raise self._damaged(f"{self.prefix}, variable {self._names[name]}", error) from error

    def _check_bytes(self, expected: int, shards: list[Path]) -> None:
        """Tell a truncated shard before anything is read: arrays lie in the shards as they are."""
        found = sum(shard.stat().st_size for shard in shards)
        if found < expected:
            raise UserError(
                f"{self.prefix}: expected {expected} bytes in {len(shards)} shards, got {found}, so one is truncated: "
                "download them again"
            )

    @staticmethod
    def _damaged(what: str, error: Exception) -> UserError:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return UserError(f"{what}: expected a whole checkpoint, got a damaged one ({reason}): download it again")


def write_checkpoint(
    prefix: Path, shapes: Mapping[str, Shape], read: Callable[[str], np.ndarray], n_shards: int
) -> None:
    """Write a checkpoint that OpenAI's own graph restores, and TensorFlow's record of it.

    Args:
        prefix: what TensorFlow calls it; missing folders are created.
        shapes: OpenAI's names without `model/` to the shapes.
        read: such a name to the array.
        n_shards: number of files with arrays, at most the number of arrays.

    Raises:
        UserError: if it cannot be written, or there is no TensorFlow to write it.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise UserError("expected TensorFlow, whose format OpenAI's is, got none: install tensorflow") from error
    check_prefix(prefix)
    if not 1 <= n_shards <= len(shapes):
        raise UserError(f"expected `n_shards` from 1 to {len(shapes)}, got {n_shards}")
    require_writable(prefix.parent)
    # The largest first, each into the smallest shard so far.
    shards: list[list[str]] = [[] for _ in range(n_shards)]
    sizes = [0] * n_shards
    for name in sorted(shapes, key=lambda name: -math.prod(shapes[name])):
        smallest = sizes.index(min(sizes))
        shards[smallest].append(name)
        sizes[smallest] += math.prod(shapes[name])
    with tempfile.TemporaryDirectory(prefix=".igpt-", dir=prefix.parent) as folder:
        parts = [f"{folder}/part-{i}" for i in range(n_shards)]
        try:
            for part, names in zip(parts, shards, strict=True):
                arrays = [tf.constant(read(name), tf.float32) for name in names]
                full_names = [_SCOPE + name for name in names]
                tf.raw_ops.SaveV2(
                    prefix=part, tensor_names=full_names, shape_and_slices=[""] * len(names), tensors=arrays
                )
            tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(prefix))
        except tf.errors.OpError as error:
            raise UserError(f"cannot write {prefix}: {reason_of(error)}") from error
    with atomic_write(prefix.with_name(STATE_FILE)) as file:
        file.write(f'model_checkpoint_path: "{prefix.name}"\nall_model_checkpoint_paths: "{prefix.name}"\n'.encode())


def check_prefix(prefix: Path) -> None:
    """Refuse a path that TensorFlow opens no files under."""
    if "[" in str(prefix):
        raise UserError(f"{prefix}: expected a path without [, which TensorFlow takes for a pattern: rename it")
    if not is_unicode(str(prefix)):
        raise UserError(f"{prefix}: expected a path in UTF-8, as TensorFlow opens no other: rename it")


def find_prefix(path: str | Path) -> Path:
    """The prefix that a path means: itself, that of a file of the checkpoint, or of the one that a folder names."""
    path = Path(path).expanduser()
    if path.is_dir():
        prefixes = checkpoints_in(path)
        if len(prefixes) > 1 and (latest := _latest(path)) in prefixes:
            return latest
        if len(prefixes) != 1:
            found = f"{len(prefixes)} ({_listed(prefixes)}): name one, as in {prefixes[0]}" if prefixes else "none"
            raise UserError(f"{path}: expected a folder with one checkpoint (*.index), got {found}")
        return prefixes[0]
    shard = _SHARD.fullmatch(path.name)
    if shard:
        return path.with_name(shard["prefix"])
    return path.with_suffix("") if path.suffix in (".index", ".meta") else path


def _latest(folder: Path) -> Path | None:
    """The prefix that TensorFlow's state file names, whatever folder it had when it was saved."""
    try:
        state = (folder / STATE_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    found = re.search(r'^model_checkpoint_path:\s*"(.+)"\s*$', state, re.MULTILINE)
    return folder / Path(found[1]).name if found else None


def find_shards(prefix: Path) -> list[Path]:
    """The data files of a checkpoint; a `UserError` names what is missing of it."""
    found: defaultdict[int, set[int]] = defaultdict(set)
    for file in prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*"):
        if shard := _SHARD.fullmatch(file.name):
            found[int(shard["count"])].add(int(shard["index"]))
    if not Path(f"{prefix}.index").is_file():
        raise UserError(_no_index(prefix, sum(map(len, found.values()))))
    if not found:
        raise UserError(f"{prefix}: expected its shards ({prefix.name}.data-*), got none: download them again")
    # Another number of shards may be left from an older save; the set that lacks least is meant.
    count = min(found, key=lambda count: (count - len(found[count]), count))
    shards = [prefix.with_name(f"{prefix.name}.data-{i:05d}-of-{count:05d}") for i in range(count)]
    missing = [shard for i, shard in enumerate(shards) if i not in found[count]]
    if missing:
        raise UserError(f"{prefix}: expected {count} shards, got all but {_listed(missing)}: download them again")
    return shards


def checkpoints_in(folder: Path) -> list[Path]:
    """The prefixes of the checkpoints in a folder."""
    return sorted(index.with_suffix("") for index in folder.glob("[!.]*.index"))


def _no_index(prefix: Path, n_shards: int) -> str:
    if n_shards:
        return f"{prefix}.index: expected the index of {n_shards} shards, got nothing: download it again"
    if prefix.is_file():
        return f"{prefix}: expected an OpenAI checkpoint's prefix or a preset folder, got a file of another kind"
    if not prefix.parent.is_dir():
        return f"{prefix}: expected a checkpoint, got no folder {prefix.parent}"
    others = checkpoints_in(prefix.parent)
    folder = prefix.parent.absolute()
    return f"{prefix}: expected a checkpoint, got none of this name: {folder} holds {_listed(others) or 'none'}"


def _listed(paths: list[Path]) -> str:
    return listed([path.name for path in paths], most=3)


def _is_training_state(name: str, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a variable is a counter or a slot: TensorFlow names the slots of `v` `v/...`, and they have its shape."""
    return bool(_TRAINING.fullmatch(name)) or shapes.get(name.rpartition("/")[0]) == shapes[name]
