"""What one step works on: the tokens of all its sequences, and the pages that hold their keys and values."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from soban.ops.formats import Floats

PAGE = 32  # positions in a page of the cache
SPAN = 256  # positions whose softmax is taken together: a whole number of pages
CACHE_FORMATS = {"f32": np.float32, "f16": np.float16}  # the order gives the number in native/soban.h


@dataclass(frozen=True, eq=False)
class Batch:
    """T tokens of S sequences, R of which are asked for logits. All arrays are int32 and contiguous.

    Sequence s owns tokens starts[s] to starts[s + 1], whose positions follow one another, and the pages
    tables[s]: position p lies in page tables[s, p // PAGE].
    """

    tokens: npt.NDArray[np.int32]  # (T,)
    positions: npt.NDArray[np.int32]  # (T,)
    starts: npt.NDArray[np.int32]  # (S + 1,)
    tables: npt.NDArray[np.int32]  # (S, longest table)
    outputs: npt.NDArray[np.int32]  # (R,)


def make_batch(
    tokens: Sequence[Sequence[int]], offsets: Sequence[int], tables: Sequence[Sequence[int]], outputs: Sequence[int]
) -> Batch:
    """A batch from each sequence's new tokens, the position of the first of them, and its pages."""
    starts = np.cumsum([0, *map(len, tokens)], dtype=np.int32)
    positions = [np.arange(first, first + len(new)) for first, new in zip(offsets, tokens, strict=True)]
    padded = np.zeros((len(tables), max(map(len, tables))), np.int32)
    for row, table in zip(padded, tables, strict=True):
        row[: len(table)] = table
    flat = [token for new in tokens for token in new]
    return Batch(
        np.array(flat, np.int32),
        np.concatenate(positions).astype(np.int32),
        starts,
        padded,
        np.array(outputs, np.int32),
    )


@dataclass(frozen=True, eq=False)
class LayerCache:
    """Keys and values of one layer, (pages, G, PAGE, D) each, in a cache format."""

    keys: npt.NDArray
    values: npt.NDArray

    def store(self, table: npt.NDArray, positions: npt.NDArray, keys: Floats, values: Floats) -> None:
        """Write (n, G, D) keys and values at the positions, rounded to the cache's format."""
        pages, inside = table[positions // PAGE], positions % PAGE
        self.keys[pages, :, inside] = keys
        self.values[pages, :, inside] = values

    def load(self, table: npt.NDArray, length: int) -> tuple[Floats, Floats]:
        """The first `length` keys and values, (G, length, D) each."""
        pages = table[: -(-length // PAGE)]
        keys, values = (
            part[pages].transpose(1, 0, 2, 3).reshape(part.shape[1], -1, part.shape[3])[:, :length].astype(np.float32)
            for part in (self.keys, self.values)
        )
        return keys, values


@dataclass(frozen=True, eq=False)
class Cache:
    """The pages of every layer: two arrays (layers, pages, G, PAGE, D)."""

    keys: npt.NDArray
    values: npt.NDArray
    format: str

    @property
    def pages(self) -> int:
        return self.keys.shape[1]

    def __getitem__(self, layer: int) -> LayerCache:
        return LayerCache(self.keys[layer], self.values[layer])

    def copy_page(self, source: int, target: int) -> None:
        """Duplicate one page in every layer."""
        self.keys[:, target] = self.keys[:, source]
        self.values[:, target] = self.values[:, source]


def make_cache(layers: int, pages: int, heads: int, size: int, format: str) -> Cache:
    """An empty cache; the system gives memory to a page when it is first written."""
    shape = (layers, pages, heads, PAGE, size)
    return Cache(np.zeros(shape, CACHE_FORMATS[format]), np.zeros(shape, CACHE_FORMATS[format]), format)
