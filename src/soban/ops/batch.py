"""What one step works on: the tokens of all its sequences, and the pages that hold their keys and values."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from soban.ops.formats import Floats

PAGE = 32  # positions in a page of the cache
SPAN = 256  # positions whose softmax is taken together: a whole number of pages
CACHE_FORMATS = {"f32": np.float32, "f16": np.float16}  # the order gives the number in native/soban.h


@dataclass(eq=False, slots=True)
class Batch:
    """T tokens of S sequences, R of which are asked for logits, as int32.

    Sequence s owns tokens starts[s] to starts[s + 1], whose positions follow one another, and the pages
    tables[s]: position p lies in page tables[s, p // PAGE].
    """

    # The five arrays one after the other: an array of the standard library tells its address in a tenth of the time.
    memory: "array[int]"
    token_count: int
    sequence_count: int
    table_width: int
    output_count: int

    def put(self, token: int, position: int) -> None:
        """Another token and position for the batch's only one; its page has to be in the table."""
        self.memory[0], self.memory[1] = token, position

    @property
    def tokens(self) -> npt.NDArray[np.int32]:  # (T,)
        return self._part(0, self.token_count)

    @property
    def positions(self) -> npt.NDArray[np.int32]:  # (T,)
        return self._part(self.token_count, self.token_count)

    @property
    def starts(self) -> npt.NDArray[np.int32]:  # (S + 1,)
        return self._part(2 * self.token_count, self.sequence_count + 1)

    @property
    def tables(self) -> npt.NDArray[np.int32]:  # (S, longest table)
        shape = self.sequence_count, self.table_width
        return self._part(2 * self.token_count + self.sequence_count + 1, shape[0] * shape[1]).reshape(shape)

    @property
    def outputs(self) -> npt.NDArray[np.int32]:  # (R,)
        return self._part(len(self.memory) - self.output_count, self.output_count)

    def _part(self, start: int, count: int) -> npt.NDArray[np.int32]:
        return np.frombuffer(self.memory, np.int32)[start : start + count]


def make_batch(
    tokens: Sequence[Sequence[int]], offsets: Sequence[int], tables: Sequence[Sequence[int]], outputs: Sequence[int]
) -> Batch:
    """A batch from each sequence's new tokens, the position of the first of them, and its pages."""
    if len(tokens) == 1:  # what follows, for a single sequence: there, with a small model, microseconds count
        (new,), (first,), (table,), count = tokens, offsets, tables, len(tokens[0])
        memory = array("i", (*new, *range(first, first + count), 0, count, *table, *outputs))
        return Batch(memory, count, 1, len(table), len(outputs))
    width = max(map(len, tables))
    starts = [0]
    flat: list[int] = []
    for new in tokens:
        flat += new
        starts.append(len(flat))
    for first, new in zip(offsets, tokens, strict=True):
        flat += range(first, first + len(new))
    flat += starts
    for table in tables:
        flat += table
        flat += [0] * (width - len(table))
    flat += outputs
    return Batch(array("i", flat), starts[-1], len(tables), width, len(outputs))


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
