"""The safetensors format, mapped: a strict reader and a streaming writer of our own.

The `safetensors` library copies each tensor, gives bfloat16 only by way of torch or ml_dtypes, and writes only what is
all in memory; it stays the judge in the tests. The format: https://github.com/huggingface/safetensors#format
"""

import json
import math
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from soban.base.border import reason
from soban.base.errors import UserError
from soban.base.files import JSON_LIMIT, map_file, new_file, parse_object, quoted
from soban.messages import translate
from soban.weights import checksums
from soban.weights.checkpoint import Tensor

# Every dtype with whole bytes, as the array that shows its bits.
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "F8_E4M3": "u1", "F8_E5M2": "u1", "F8_E8M0": "u1",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1",
    "BOOL": "u1", "C64": "<c8",
}  # fmt: skip
MOST_AXES = 8
LARGEST = 2**63 - 1  # bytes in a tensor, so that NumPy can count them
ALIGNMENT = 64  # a cache line, and the widest vector load

Entry = tuple[str, str, tuple[int, ...]]  # name, dtype, shape


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of one file, mapped, and its metadata; UserError for whatever departs from the format."""
    mapped = map_file(path)
    places, metadata = read_header(path, lambda start, stop: mapped[start:stop], len(mapped))
    tensors = {}
    for name, (dtype, shape, begin) in places.items():
        data = np.ndarray(shape, DTYPES[dtype], buffer=mapped, offset=begin)
        tensors[name] = Tensor(name, dtype.lower(), shape, data, source=path)
    return tensors, metadata


def read_header(
    path: Path, read: Callable[[int, int], bytes], size: int
) -> tuple[dict[str, tuple[str, tuple[int, ...], int]], dict[str, str]]:
    """Name -> dtype, shape and first byte of each tensor of a file of `size` bytes, and its metadata.

    `read(start, stop)` gives bytes of the file, wherever that is: of the weights none are asked for.
    """
    if size < 8:
        raise UserError(
            "{path}: {size} bytes; a safetensors file begins with 8 that give the length of its header",
            path=path,
            size=size,
            hint="fetch it again",
        )
    (length,) = struct.unpack("<Q", read(0, 8))
    if length > min(JSON_LIMIT, size - 8):
        raise UserError(
            "{path}: the header claims {length} bytes; the file holds {held} more, and {limit} is the limit",
            path=path,
            length=length,
            held=size - 8,
            limit=JSON_LIMIT,
            hint="it is truncated or not a safetensors file: fetch it again",
        )
    header = _header(path, read(8, 8 + length))
    metadata = _metadata(path, header.pop("__metadata__", {}))
    places = {name: _place(path, name, entry) for name, entry in header.items()}
    _check_coverage(path, {name: offsets for name, (_, _, offsets) in places.items()}, size - 8 - length)
    return {name: (dtype, shape, 8 + length + offsets[0]) for name, (dtype, shape, offsets) in places.items()}, metadata


def _header(path: Path, data: bytes) -> dict[str, Any]:
    try:
        checksums.check_header(path, data)
        if not data.startswith(b"{"):  # the format allows spaces behind the object, not before it
            raise ValueError(translate("it begins with {bytes}", bytes=quoted(data[:8])))
        header = parse_object(data)
        "".join(header).encode()  # JSON can spell half a surrogate pair, which no terminal or file name can
        return header
    except ValueError as error:
        raise UserError(
            "{path}: the header is not a valid JSON object: {reason}",
            path=path,
            reason=reason(error),
            hint="it is damaged or not a safetensors file: fetch it again",
        ) from error


def _metadata(path: Path, value: object) -> dict[str, str]:
    if isinstance(value, dict) and all(isinstance(text, str) for text in value.values()):
        return value
    raise UserError(
        "{path}: __metadata__ is {value}; it has to map names to text",
        path=path,
        value=quoted(value),
        hint="fetch it again",
    )


def _place(path: Path, name: str, entry: object) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    """One entry of the header, checked for itself: its dtype, shape and offsets."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise UserError(
            "{path}: tensor {name}: the header gives {entry}, not a dtype, a shape and data_offsets",
            path=path,
            name=quoted(name),
            entry=quoted(entry),
            hint="fetch it again",
        )
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise UserError(
            "{path}: tensor {name}: unknown dtype {dtype}; known are {known}",
            path=path,
            name=quoted(name),
            dtype=quoted(dtype),
            known=", ".join(DTYPES),
            hint="fetch it again",
        )
    if not _are_sizes(shape) or len(shape) > MOST_AXES:
        raise UserError(
            "{path}: tensor {name}: shape {shape}; it has to be at most {most} whole numbers from 0",
            path=path,
            name=quoted(name),
            shape=quoted(shape),
            most=MOST_AXES,
            hint="fetch it again",
        )
    item = np.dtype(DTYPES[dtype]).itemsize
    if item * math.prod(max(size, 1) for size in shape) > LARGEST:
        raise UserError(
            "{path}: tensor {name}: shape {shape} is too large",
            path=path,
            name=quoted(name),
            shape=quoted(shape),
            hint="fetch it again",
        )
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[1] - offsets[0] != item * math.prod(shape):
        raise UserError(
            "{path}: tensor {name}: data_offsets {offsets} for {size} bytes of {dtype} {shape}",
            path=path,
            name=quoted(name),
            offsets=quoted(offsets),
            size=item * math.prod(shape),
            dtype=dtype,
            shape=shape,
            hint="fetch it again",
        )
    return dtype, tuple(shape), (offsets[0], offsets[1])


def _are_sizes(value: object) -> bool:
    # Not isinstance: True is an int too.
    return isinstance(value, list) and all(type(size) is int and 0 <= size <= LARGEST for size in value)


def _check_coverage(path: Path, offsets: dict[str, tuple[int, int]], size: int) -> None:
    """Refuse tensors that leave the file, share a byte, or leave one out; their order in the header is free."""
    promised = max((end for _, end in offsets.values()), default=0)
    if promised != size:
        raise UserError(
            "{path}: the header promises {promised} bytes of tensors; the file holds {held}",
            path=path,
            promised=promised,
            held=size,
            hint="fetch it again",
        )
    position, before = 0, ""
    for name, (begin, end) in sorted(offsets.items(), key=lambda item: item[1]):
        if begin < position:
            raise UserError(
                "{path}: tensor {name} begins at byte {begin}, inside {before}, which ends at {position}",
                path=path,
                name=quoted(name),
                begin=begin,
                before=quoted(before),
                position=position,
                hint="fetch it again",
            )
        if begin > position:
            raise UserError(
                "{path}: bytes {position} to {begin}, before tensor {name}, belong to no tensor",
                path=path,
                position=position,
                begin=begin,
                name=quoted(name),
                hint="fetch it again",
            )
        position, before = end, name


def write_safetensors(
    path: Path,
    tensors: Iterable[Entry],
    fill: Callable[[str], Iterable[np.ndarray | bytes]],
    metadata: dict[str, str] | None = None,
    sums: bool = False,
) -> None:
    """Write a safetensors file piece by piece: `fill(name)` gives the bytes of one tensor as C-ordered pieces.

    `sums`: with a checksum of each tensor and of the header, by which damage can be found.

    Tensors whose size is a multiple of 64 bytes begin at one; the others follow, each aligned to its items. The file
    appears whole or not at all, and never replaces another: one that appears meanwhile is kept, since Windows cannot
    replace a mapped file. Raises UserError where the path is taken, or the file does not fit or cannot be written.
    """
    entries = sorted(tensors, key=_placement)
    notes, sums_so_far = metadata or {}, dict.fromkeys([entry[0] for entry in entries], 0)

    def header() -> bytes:
        return _written_header(entries, notes | {checksums.KEY: checksums.text(sums_so_far)} if sums else notes)

    begun = header()
    size = len(begun) + sum(_size(entry) for entry in entries)
    with new_file(path, size) as file:
        file.write(begun)
        for entry in entries:
            position = 0
            for piece in fill(entry[0]):
                data = piece if isinstance(piece, bytes) else piece.data
                if sums:
                    sums_so_far[entry[0]] = zlib.crc32(data, sums_so_far[entry[0]])
                position += file.write(data)
            assert position == _size(entry), f"{entry}: {position} bytes filled"
        if sums:
            file.seek(8)
            file.write(checksums.sealed(header()[8:]))


def _size(entry: Entry) -> int:
    _, dtype, shape = entry
    return np.dtype(DTYPES[dtype]).itemsize * math.prod(shape)


def _placement(entry: Entry) -> tuple[bool, int]:
    """Sorts what keeps the alignment of 64 first, then wide items before narrow ones; otherwise the caller's order."""
    uneven = _size(entry) % ALIGNMENT != 0
    return uneven, -np.dtype(DTYPES[entry[1]]).itemsize if uneven else 0


def _written_header(entries: list[Entry], metadata: dict[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    position = 0
    for entry in entries:
        name, dtype, shape = entry
        assert name not in header and name != "__metadata__", f"{name} twice"
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, position + _size(entry)]}
        position += _size(entry)
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return struct.pack("<Q", len(text)) + text
