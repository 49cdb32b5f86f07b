"""Writing safetensors files one array at a time, where the library would want all of them in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from igpt_tf.storage.files import atomic_write

# The names that safetensors has for the dtypes, and the bytes of one number.
_DTYPES = {
    "float16": ("F16", 2),
    "bfloat16": ("BF16", 2),
    "float32": ("F32", 4),
    "int32": ("I32", 4),
    "int64": ("I64", 8),
    "uint32": ("U32", 4),
}
# Name, dtype, shape, and a function that makes the array when its turn comes.
Tensor = tuple[str, str, tuple[int, ...], Callable[[], np.ndarray]]


def write_tensors(path: Path, tensors: Iterable[Tensor], metadata: Mapping[str, str] | None = None) -> int:
    """Write a safetensors file, whole or not at all, and return its size in bytes.

    Args:
        path: the file; missing folders are created.
        tensors: what it holds, in this order.
        metadata: what other programs want to be told; None: nothing.

    Raises:
        UserError: if the file cannot be written.
    """
    tensors = list(tensors)
    header, end = header_of([tensor[:3] for tensor in tensors], metadata)
    with atomic_write(path) as file:
        file.write(header)
        for _, _, _, make in tensors:
            file.write(np.ascontiguousarray(make()).tobytes())
    return len(header) + end


def header_of(
    tensors: Iterable[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str] | None = None
) -> tuple[bytes, int]:
    """What a safetensors file begins with, and the bytes of the arrays that follow; arguments as in `write_tensors`."""
    header: dict[str, Mapping[str, object]] = {} if metadata is None else {"__metadata__": metadata}
    end = 0
    for name, dtype, shape in tensors:
        code, item_bytes = _DTYPES[dtype]
        start, end = end, end + item_bytes * int(np.prod(shape))
        header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, end
