"""Byte-pair encoding by the native library, over the tables of a packed tokenizer."""

import ctypes
from collections.abc import Mapping
from ctypes import Structure, c_int32, c_int64, c_void_p
from pathlib import Path

import numpy as np
import numpy.typing as npt

from soban.base.errors import UserError
from soban.ops import native

Table = npt.NDArray[np.uint32]

MOST_BITS = 28  # of a table's size: far more than any vocabulary needs
WIDTHS = {"characters": 2, "merges": 4}  # numbers in a row; native/soban.h tells which
DAMAGED = -2


class Pieces(Structure):
    _fields_ = (
        ("characters", c_void_p), ("merges", c_void_p), ("bytes", c_void_p), ("character_bits", c_int32),
        ("character_reach", c_int32), ("merge_bits", c_int32), ("merge_reach", c_int32), ("count", c_int32),
        ("unused", c_int32),
    )  # fmt: skip


class BytePairs:
    """The merging of one vocabulary of `count` pieces.

    `tables`: "characters" and "merges", rows in places that their hashes give, and "bytes", the 256 ids. `bits`: how
    many places the hash of each has. `source`: the file that they are mapped from. ValueError where they do not fit.
    """

    def __init__(self, tables: Mapping[str, Table], bits: Mapping[str, int], count: int, source: Path) -> None:
        self._source = source
        self._tables = [tables["characters"], tables["merges"], tables["bytes"]]
        reach = [_reach(tables[name], bits[name], columns) for name, columns in WIDTHS.items()]
        if tables["bytes"].shape != (256,) or int(tables["bytes"].max()) >= count:
            raise ValueError("bytes")
        self._pieces = Pieces(
            *(table.ctypes.data for table in self._tables), bits["characters"], reach[0], bits["merges"], reach[1],
            count, 0,
        )  # fmt: skip
        library = native.library()
        assert library is not None, "the native library is missing"
        self._encode = library.soban_bpe
        self._encode.argtypes = (ctypes.POINTER(Pieces), ctypes.c_char_p, c_int64, c_int32, c_void_p)
        self._encode.restype = c_int64

    def encode(self, text: str, by_word: bool) -> list[int]:
        """The ids of a text as the vocabulary spells it; `by_word`: each part from a U+2581 on is merged by itself."""
        data = text.encode()
        ids = np.empty(len(data), np.uint32)
        count = self._encode(self._pieces, data, len(data), by_word, ids.ctypes.data)
        if count == DAMAGED:
            raise UserError("{path}: the packed tokenizer is damaged", path=self._source, hint="delete the file")
        if count < 0:
            raise MemoryError
        return ids[:count].tolist()


def _reach(table: Table, bits: int, columns: int) -> int:
    """How many rows are to be looked at for a key: those that the table has beside one for each place."""
    reach = len(table) - (1 << bits) if 1 <= bits <= MOST_BITS else 0
    if table.dtype != np.uint32 or table.ndim != 2 or table.shape[1] != columns or reach < 1:
        raise ValueError(f"{table.dtype} {table.shape} for {bits} bits")
    return reach


def character_places(codes: npt.NDArray[np.uint32], bits: int) -> npt.NDArray[np.int64]:
    """Where the search for each code point begins."""
    return ((codes * np.uint32(0x9E3779B1)) >> np.uint32(32 - bits)).astype(np.int64)


def merge_places(left: Table, right: Table, bits: int) -> npt.NDArray[np.int64]:
    """Where the search for each pair begins."""
    mixed = left.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed += right.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
    return (mixed >> np.uint64(64 - bits)).astype(np.int64)


def table(rows: Table, places: npt.NDArray[np.int64], bits: int) -> Table:
    """The rows, each at its place or as soon after it as there is room; the first column of an empty row is 0."""
    order = np.argsort(places, kind="stable")
    targets = places[order]
    count = np.arange(len(rows))
    slots = count + np.maximum.accumulate(targets - count)
    reach = int((slots - targets).max(initial=0)) + 1
    result = np.zeros(((1 << bits) + reach, rows.shape[1]), np.uint32)
    result[slots] = rows[order]
    return result
