"""The header of a GGUF file, versions 2 and 3: its keys with their values, and where each tensor lies.

The format: docs/gguf.md of ggml. No number of the file is believed before it is held against the file's size.
"""

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from soban.base.errors import UserError
from soban.base.files import quoted
from soban.messages import translate
from soban.weights.gguf.blocks import REFUSED, TYPES, BlockType

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT, ALIGNMENT_KEY = 32, "general.alignment"  # of the tensors' first bytes, where no key says another
SMALLEST_KEY, SMALLEST_TENSOR = 13, 28  # bytes: empty names, a value of one byte, one axis
MOST_KEYS, MOST_TENSORS, MOST_AXES = 1 << 16, 1 << 16, 4
MOST_TEXTS = 1 << 22  # in one list; the largest known vocabulary has 262,144
LONGEST_NAME, LONGEST_TEXT = 1 << 16, 16 << 20  # bytes; the longest known template has 30,000
# value types, by their numbers
SCALARS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 10: "<u8", 11: "<i8", 12: "<f8"}
BOOL, TEXT, LIST = 7, 8, 9

Buffer = Any  # bytes or a mapped file


class Malformed(ValueError):
    """The bytes are not what they promise to be; the text says why, in the user's language."""


class Texts(Sequence[str]):
    """A list of texts in the file, each of which is decoded when it is asked for."""

    def __init__(self, data: Buffer, starts: list[int], end: int) -> None:
        """`starts`: of the eight bytes that stand before each text."""
        self._data, self._starts, self._end = data, starts, end

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        stop = self._starts[at + 1] if at + 1 < len(self) else self._end
        return decoded(self._data[self._starts[at] + 8 : stop])

    def __iter__(self) -> Iterator[str]:
        stops = [*self._starts, self._end][1:]  # none of no texts
        return (decoded(self._data[a + 8 : b]) for a, b in zip(self._starts, stops, strict=True))


def decoded(data: bytes) -> str:
    """A text; bytes that are no UTF-8 become half surrogate pairs, so that they stay apart and can be told."""
    return bytes(data).decode("utf-8", "surrogateescape")


Value = bool | int | float | str | npt.NDArray | Texts


@dataclass(frozen=True)
class Placed:
    """A tensor's entry: its bytes are [begin, begin + size) of the file; (rows, columns) as everywhere here."""

    type: BlockType
    shape: tuple[int, ...]
    begin: int

    @property
    def row_bytes(self) -> int:
        """The bytes of one row along the last axis."""
        return self.shape[-1] // self.type.values * self.type.bytes

    @property
    def size(self) -> int:
        return math.prod(self.shape[:-1]) * self.row_bytes


@dataclass(frozen=True)
class Header:
    """All that stands before the tensors' bytes."""

    version: int
    metadata: dict[str, Value]
    tensors: dict[str, Placed]


def read_gguf_header(path: Path, data: Buffer, size: int | None = None) -> Header:
    """The header in a mapped file, or in the beginning `data` of a file of `size` bytes.

    Raises UserError where it is none, is of a version or holds tensors of a type that is not read, or is damaged.
    """
    size = len(data) if size is None else size
    try:
        return _header(_Reader(path, data), size)
    except Malformed as error:
        raise UserError(
            "{path}: not a whole GGUF file: {reason}", path=path, reason=str(error), hint="fetch it again"
        ) from None  # fmt: skip


class _Reader:
    """Numbers and texts one after the other; Malformed at the end of the bytes."""

    def __init__(self, path: Path, data: Buffer) -> None:
        self.path, self.data, self.end, self.at = path, data, len(data), 0

    def take(self, count: int) -> int:
        """The place of the next `count` bytes, which are passed over."""
        if count > self.end - self.at:
            raise Malformed(
                translate("{count} bytes are promised at {place}, and {left} are left", count=count, place=self.at,
                          left=self.end - self.at)
            )  # fmt: skip
        self.at += count
        return self.at - count

    def number(self, form: str) -> int:
        return int(struct.unpack_from(form, self.data, self.take(struct.calcsize(form)))[0])

    def count(self, smallest: int, most: int, form: str = "<Q") -> int:
        """How many of something follow, each of which has at least `smallest` bytes."""
        count = self.number(form)
        if count > most or count * smallest > self.end - self.at:
            raise Malformed(
                translate("{count} entries are promised at {place}, and {left} bytes are left", count=count,
                          place=self.at, left=self.end - self.at)
            )  # fmt: skip
        return count

    def text(self, longest: int) -> str:
        length = self.number("<Q")
        if length > longest:
            raise Malformed(
                translate("a text of {length} bytes at {place}; at most {most} are read", length=length, place=self.at,
                          most=longest)
            )  # fmt: skip
        at = self.take(length)
        return decoded(self.data[at : at + length])

    def name(self) -> str:
        text = self.text(LONGEST_NAME)
        if not text.isprintable() or not text:  # which half a surrogate pair is not
            raise Malformed(translate("the name {name} at {place}", name=quoted(text), place=self.at))
        return text

    def value(self, kind: int) -> Value:
        if kind in SCALARS:
            dtype = np.dtype(SCALARS[kind])
            at = self.take(dtype.itemsize)
            return np.frombuffer(self.data, dtype, 1, at)[0].item()
        if kind == BOOL:
            return bool(self.number("B"))
        if kind == TEXT:
            return self.text(LONGEST_TEXT)
        if kind == LIST:
            return self.items()
        raise Malformed(translate("a value of the unknown type {kind} at {place}", kind=kind, place=self.at))

    def items(self) -> Value:
        kind = self.number("<I")
        if kind in SCALARS or kind == BOOL:
            dtype = np.dtype(SCALARS.get(kind, "u1"))
            count = self.count(dtype.itemsize, LONGEST_TEXT)
            values = np.frombuffer(self.data, dtype, count, self.take(count * dtype.itemsize))
            return values.astype(bool) if kind == BOOL else values
        if kind != TEXT:
            raise Malformed(translate("a list of the unknown type {kind} at {place}", kind=kind, place=self.at))
        starts, at, end, length_at = [], 0, self.end, struct.Struct("<Q").unpack_from
        count, at = self.count(8, MOST_TEXTS), self.at
        for _ in range(count):
            starts.append(at)
            if at + 8 > end or (following := at + 8 + length_at(self.data, at)[0]) > end:
                raise Malformed(translate("a text at {place} goes beyond the end", place=at))
            at = following
        self.at = at
        return Texts(self.data, starts, at)


def _header(reader: _Reader, size: int) -> Header:
    if bytes(reader.data[:4]) != MAGIC:
        raise Malformed(translate("it begins with {bytes}", bytes=quoted(bytes(reader.data[:4]))))
    reader.take(4)
    version = reader.number("<I")
    if version not in VERSIONS:
        raise _version_refused(reader.path, version)
    tensors, keys = (
        reader.count(smallest, most) for smallest, most in ((SMALLEST_TENSOR, MOST_TENSORS), (SMALLEST_KEY, MOST_KEYS))
    )
    metadata: dict[str, Value] = {}
    for _ in range(keys):
        key = reader.name()
        if key in metadata:
            raise Malformed(translate("the key {key} stands twice", key=quoted(key)))
        metadata[key] = reader.value(reader.number("<I"))
    entries: dict[str, Placed] = {}
    for _ in range(tensors):
        name = reader.name()
        if name in entries:
            raise Malformed(translate("the tensor {name} stands twice", name=quoted(name)))
        entries[name] = _entry(reader, name)
    alignment = _alignment(metadata)
    start = -(-reader.at // alignment) * alignment
    placed = {name: Placed(one.type, one.shape, start + one.begin) for name, one in entries.items()}
    _check_places(placed, alignment, start, size)
    return Header(version, metadata, placed)


def _entry(reader: _Reader, name: str) -> Placed:
    """A tensor's type, shape, and its place counted from the first."""
    axes = reader.number("<I")
    if not 1 <= axes <= MOST_AXES:
        raise Malformed(translate("the tensor {name} has {axes} axes", name=quoted(name), axes=axes))
    shape = tuple(reader.number("<Q") for _ in range(axes))[::-1]  # the file has the quickest first
    number, begin = reader.number("<I"), reader.number("<Q")
    if number not in TYPES:
        raise UserError(
            "{path}: tensor {name} is of type {type}, which is not read", path=reader.path, name=quoted(name),
            type=REFUSED.get(number, number), hint="take another form of this model, such as Q4_K_M or Q8_0",
        )  # fmt: skip
    kind = TYPES[number]
    if not all(0 < length < 2**40 for length in shape) or math.prod(shape) >= 2**48 or shape[-1] % kind.values:
        raise Malformed(
            translate("the tensor {name} has the shape {shape} in blocks of {values}", name=quoted(name),
                      shape=list(shape), values=kind.values)
        )  # fmt: skip
    return Placed(kind, shape, begin)


def _alignment(metadata: dict[str, Value]) -> int:
    value = metadata.get(ALIGNMENT_KEY, ALIGNMENT)
    if type(value) is not int or not 0 < value < 2**31 or value & (value - 1):
        raise Malformed(
            translate("{key} is {value}; it has to be a power of two", key=ALIGNMENT_KEY, value=quoted(value))
        )
    return value


def _check_places(placed: dict[str, Placed], alignment: int, start: int, size: int) -> None:
    """Malformed where a tensor begins between two places, lies in another, or goes beyond the file's end."""
    end, before = start, ""
    for name, one in sorted(placed.items(), key=lambda item: item[1].begin):
        if (one.begin - start) % alignment:
            raise Malformed(
                translate("the tensor {name} begins at {place}, which is no multiple of {alignment}",
                          name=quoted(name), place=one.begin - start, alignment=alignment)
            )  # fmt: skip
        if one.begin < end:
            raise Malformed(translate("the tensor {name} lies in {before}", name=quoted(name), before=quoted(before)))
        end, before = one.begin + one.size, name
        if end > size:
            raise Malformed(
                translate("the tensor {name} ends at byte {end}, and the file has {size}", name=quoted(name), end=end,
                          size=size)
            )  # fmt: skip


def _version_refused(path: Path, version: int) -> UserError:
    swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
    if swapped in (1, *VERSIONS):
        return UserError(
            "{path}: a GGUF file for big-endian machines, which is not read", path=path,
            hint="fetch the usual form of this model",
        )  # fmt: skip
    return UserError(
        "{path}: version {version} of GGUF; this reads {known}", path=path, version=version,
        known=", ".join(map(str, VERSIONS)), hint="fetch a newer file of this model, or bring soban up to date",
    )  # fmt: skip
