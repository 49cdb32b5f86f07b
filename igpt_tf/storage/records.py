"""Records: small JSON files that say what lies beside them, and survive a killed process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from igpt_tf.storage.files import atomic_write


class RecordError(ValueError):
    """A file that is not the record that was expected; the message says what was found."""


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record, whole or not at all.

    Raises:
        UserError: if it cannot be written.
    """
    with atomic_write(path) as file:
        file.write(json.dumps(record, indent=1).encode() + b"\n")


def read_record(path: Path, fields: Mapping[str, type]) -> dict[str, Any] | None:
    """The record in a file, None where there is no such file.

    Args:
        path: what `write_record` wrote.
        fields: name to type of the fields that must be there; a bool is not an int.

    Raises:
        RecordError: if the file cannot be read, or is something else.
    """
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(" ".join(str(error).split())) from error
    if not isinstance(record, dict):
        raise RecordError(f"expected a JSON object, found {type(record).__name__}")
    for name, kind in fields.items():
        if name not in record:
            raise RecordError(f"{name} is missing")
        if type(record[name]) is not kind:
            raise RecordError(f"expected {name} as {kind.__name__}, found {type(record[name]).__name__}")
    return record
