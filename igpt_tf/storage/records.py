"""Records: small JSON files that describe the files beside them, complete even if a process is killed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from igpt_tf.storage.files import atomic_write


class RecordError(ValueError):
    """A file that is not the expected record; the message says in what it differs."""


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record, completely or not at all.

    Args:
        path: the file; missing folders are created.
        record: fields that JSON can hold.

    Raises:
        UserError: if it cannot be written.
    """
    with atomic_write(path) as file:
        file.write(json.dumps(record, indent=1).encode() + b"\n")


def read_record(path: Path, fields: Mapping[str, type]) -> dict[str, Any] | None:
    """Read a record and check its fields.

    Args:
        path: the file, written by `write_record`.
        fields: name to type of the fields that must be there; a bool is not an int. Others may be there too.

    Returns:
        The record, or None if there is no such file.

    Raises:
        RecordError: if the file cannot be read or is no JSON object, or a field is missing or of another type.
    """
    try:
        found: object = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(" ".join(str(error).split())) from error
    if not isinstance(found, dict):
        raise RecordError(f"expected a JSON object, got {type(found).__name__}")
    record = cast("dict[str, Any]", found)
    for name, kind in fields.items():
        if name not in record:
            raise RecordError(f"{name} is missing")
        if type(record[name]) is not kind:
            raise RecordError(f"expected {name} as {kind.__name__}, got {type(record[name]).__name__}")
    return record
