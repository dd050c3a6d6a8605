"""GGUF files, version 3, written piece by piece."""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from soban.base.files import new_file
from soban.weights.gguf.blocks import BY_NAME
from soban.weights.gguf.header import ALIGNMENT, BOOL, LIST, MAGIC, SCALARS, TEXT, Placed

VERSION = 3
NUMBERS = {np.dtype(form): kind for kind, form in SCALARS.items()}
U32, I32, F32, U64 = 4, 5, 6, 10  # of whole numbers and others that are no arrays

Entry = tuple[str, str, tuple[int, ...]]  # name, format, shape
Fill = Callable[[str], Iterable[npt.NDArray]]


def write_gguf(path: Path, keys: Mapping[str, Any], entries: Sequence[Entry], fill: Fill) -> None:
    """Writes a file: `fill(name)` gives a tensor's bytes as C-ordered pieces. It appears whole or not at all.

    Keys are texts, flags, whole numbers (as 32 bits), floats, arrays, and lists of texts. Raises UserError where the
    path is taken or the file does not fit.
    """
    head, places, size = header(keys, entries)
    with new_file(path, size) as file:
        file.write(head)
        for name, placed in places.items():
            file.write(bytes(placed.begin - file.tell()))
            for piece in fill(name):
                file.write(np.ascontiguousarray(piece).data)
            assert file.tell() == placed.begin + placed.size, f"{name}: {file.tell()} after {placed}"
        file.write(bytes(size - file.tell()))


def header(keys: Mapping[str, Any], entries: Sequence[Entry]) -> tuple[bytes, dict[str, Placed], int]:
    """The header's bytes, where each tensor lies, and the size of the whole file."""
    head = MAGIC + struct.pack("<IQQ", VERSION, len(entries), len(keys))
    head += b"".join(_text(key) + _value(value) for key, value in keys.items())
    offsets, position, table = [], 0, b""
    for name, format, shape in entries:
        placed = Placed(BY_NAME[format], shape, position)
        table += _text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
        table += struct.pack("<IQ", placed.type.number, position)
        offsets.append(placed)
        position += _aligned(placed.size)
    start = _aligned(len(head) + len(table))
    places = {
        entry[0]: Placed(placed.type, placed.shape, start + placed.begin)
        for entry, placed in zip(entries, offsets, strict=True)
    }
    return head + table, places, start + position


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _text(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<IB", BOOL, value)
    if isinstance(value, int):
        kind, form = (U32, "I") if 0 <= value < 2**32 else (I32, "i") if -(2**31) <= value < 0 else (U64, "Q")
        return struct.pack(f"<I{form}", kind, value)
    if isinstance(value, float):
        return struct.pack("<If", F32, value)
    if isinstance(value, str):
        return struct.pack("<I", TEXT) + _text(value)
    if isinstance(value, np.ndarray):
        kind = BOOL if value.dtype == bool else NUMBERS[value.dtype]
        return struct.pack("<IIQ", LIST, kind, value.size) + np.ascontiguousarray(value).tobytes()
    return struct.pack("<IIQ", LIST, TEXT, len(value)) + b"".join(map(_text, value))
