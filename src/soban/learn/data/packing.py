"""Documents laid end to end in rows of one length: batches without padding, from any step on the same."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soban.base.errors import UserError
from soban.learn.data.shards import Documents

IGNORED = -100  # as a target: nothing is to be learnt there, as torch's cross entropy has it
KEPT_ORDERS = 2  # epochs whose order is remembered


@dataclass(frozen=True)
class Batch:
    """Rows of tokens and what follows each."""

    inputs: NDArray[np.int64]  # (rows, length)
    targets: NDArray[np.int64]  # (rows, length): the next token of the same document, or IGNORED
    starts: NDArray[np.int64]  # places in the flattened inputs at which a document or a row begins; the first is 0

    def documents(self) -> NDArray[np.int64]:
        """Which document each input belongs to (rows, length): a token may look back only to those of its own."""
        begins = np.zeros(self.inputs.size, np.int64)
        begins[self.starts] = 1
        return (np.cumsum(begins) - 1).reshape(self.inputs.shape)

    def positions(self) -> NDArray[np.int64]:
        """How many tokens of its document stand before each input in its row (rows, length)."""
        lengths = np.diff(np.append(self.starts, self.inputs.size))
        return (np.arange(self.inputs.size) - np.repeat(self.starts, lengths)).reshape(self.inputs.shape)


class _Line:
    """Documents in some order, end to end."""

    def __init__(self, documents: Documents, order: NDArray[np.int64]) -> None:
        self._documents, self._order = documents, order
        self._ends = np.cumsum(documents.lengths[order])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def slice(self, start: int, stop: int) -> tuple[NDArray[np.int64], list[int]]:
        """The tokens from one place to another, and where in them documents begin."""
        tokens = np.empty(stop - start, np.int64)
        begins: list[int] = []
        number = int(np.searchsorted(self._ends, start, "right"))
        at = start
        while at < stop:
            ids = self._documents[int(self._order[number])]
            first = int(self._ends[number]) - len(ids)
            if first >= start:
                begins.append(first - start)
            upto = min(stop, first + len(ids))
            tokens[at - start : upto - start] = ids[at - first : upto - first]
            at, number = upto, number + 1
        return tokens, begins


def rows_in(tokens: int, length: int) -> int:
    """How many whole rows so many tokens make; each needs one more token for its last target."""
    return max(0, (tokens - 1) // length)


def check_rows(tokens: int, length: int) -> None:
    """UserError where so many tokens make not one row."""
    if rows_in(tokens, length) == 0:
        raise UserError(
            "{tokens} tokens make no row of {length}", tokens=tokens, length=length,
            hint="take more text, or shorter rows",
        )  # fmt: skip


def batches(
    documents: Documents, rows: int, length: int, *, seed: int = 0, step: int = 0, rank: int = 0, ranks: int = 1
) -> Iterator[Batch]:
    """Batches (rows, length) without end, from the step `step` on; every epoch in an order of its own.

    The same seed gives the same batches, whatever the step they begin at. Of several processes each takes its rows of
    a step: `rank` of `ranks`. Raises UserError where the documents are too short for one row.
    """
    check_rows(tokens := int(documents.lengths.sum()), length)
    per_epoch = rows_in(tokens, length)
    lines: dict[int, _Line] = {}
    while True:
        parts = []
        for row in range(rows):
            epoch, within = divmod((step * ranks + rank) * rows + row, per_epoch)
            if epoch not in lines:
                lines = dict(list(lines.items())[1 - KEPT_ORDERS :])
                lines[epoch] = _Line(documents, np.random.default_rng((seed, epoch)).permutation(len(documents)))
            parts.append(lines[epoch].slice(within * length, (within + 1) * length + 1))
        yield _batch(parts, length)
        step += 1


def once(documents: Documents, rows: int, length: int, numbers: NDArray[np.int64] | None = None) -> Iterator[Batch]:
    """Documents one time, for measuring: those of these numbers, or all. What does not fill the last row is IGNORED."""
    line = _Line(documents, np.arange(len(documents)) if numbers is None else numbers)
    places = range(0, len(line) - 1, length)
    for first in range(0, len(places), rows):
        counts = [min(len(line) - start, length + 1) for start in places[first : first + rows]]
        parts = []
        for start, count in zip(places[first : first + rows], counts, strict=True):
            tokens, begins = line.slice(start, start + count)
            # what fills the last row up belongs to no document
            filled = [count] if count < length + 1 else []
            parts.append((np.pad(tokens, (0, length + 1 - count)), begins + filled))
        batch = _batch(parts, length)
        for row, count in enumerate(counts):
            batch.targets[row, count - 1 :] = IGNORED
        yield batch


def _batch(parts: list[tuple[NDArray[np.int64], list[int]]], length: int) -> Batch:
    """Rows of `length` and one more token; none is learnt to follow from the document before it."""
    both = np.stack([tokens for tokens, _ in parts])
    targets = both[:, 1:].copy()
    starts = []
    for number, (_, begins) in enumerate(parts):
        targets[number, [begin - 1 for begin in begins if begin > 0]] = IGNORED
        starts += [number * length + begin for begin in dict.fromkeys([0, *begins]) if begin < length]
    return Batch(both[:, :-1].copy(), targets, np.array(starts, np.int64))
