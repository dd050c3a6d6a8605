"""Examples side by side in rows of one length: none is cut, and each is a document of its own."""

from collections.abc import Iterator, Sequence

import numpy as np

from soban.learn.data.packing import IGNORED, Batch
from soban.learn.tuning.examples import Example

OPEN = 64  # rows that are filled at a time: the next example goes into the fullest that has room


def packed(lengths: Sequence[int], length: int, order: Sequence[int]) -> list[list[int]]:
    """Numbers of examples, row by row; `lengths`: the room that each takes in a row of `length`."""
    rows: list[list[int]] = []
    open_rows: list[tuple[int, list[int]]] = []  # room left, and what is in it
    for number in order:
        fitting = [place for place, (room, _) in enumerate(open_rows) if room >= lengths[number]]
        if fitting:
            place = min(fitting, key=lambda place: open_rows[place][0])
            room, row = open_rows[place]
            row.append(number)
            open_rows[place] = (room - lengths[number], row)
            continue
        if len(open_rows) == OPEN:
            open_rows.remove(min(open_rows, key=lambda one: one[0]))
        row = [number]
        rows.append(row)
        open_rows.append((length - lengths[number], row))
    return rows


class Rows:
    """Examples as rows, epoch by epoch in an order of its own, from any step on the same."""

    def __init__(self, examples: Sequence[Example], length: int, seed: int) -> None:
        self.examples, self.length, self.seed = examples, length, seed
        self._lengths = [len(one.ids) - 1 for one in examples]

    def epoch(self, number: int) -> list[list[int]]:
        """The rows of an epoch, as numbers of examples."""
        dice = np.random.default_rng((self.seed, number))
        rows = packed(self._lengths, self.length, dice.permutation(len(self.examples)).tolist())
        return [rows[i] for i in dice.permutation(len(rows))]

    def steps(self, rows: int, step: int = 0) -> Iterator[list[Batch]]:
        """A batch of so many rows for each step without end, from a step on."""
        passed, epoch, waiting = step * rows, 0, list[list[int]]()
        while True:
            new = self.epoch(epoch)
            epoch += 1
            skipped = min(passed, len(new))
            passed -= skipped
            waiting += new[skipped:]
            while len(waiting) >= rows:
                some, waiting = waiting[:rows], waiting[rows:]
                yield [batch([[self.examples[i] for i in row] for row in some], self.length)]

    def once(self, rows: int) -> Iterator[Batch]:
        """Every example one time, in their order."""
        all_rows = packed(self._lengths, self.length, range(len(self.examples)))
        for first in range(0, len(all_rows), rows):
            yield batch([[self.examples[i] for i in row] for row in all_rows[first : first + rows]], self.length)


def batch(rows: Sequence[Sequence[Example]], length: int) -> Batch:
    """Rows of examples; what fills a row up is a document of its own, of which nothing is learnt."""
    inputs = np.zeros((len(rows), length), np.int64)
    targets = np.full((len(rows), length), IGNORED, np.int64)
    starts: list[int] = []
    for number, row in enumerate(rows):
        at = 0
        for example in row:
            stop = at + len(example.ids) - 1
            starts.append(number * length + at)
            inputs[number, at:stop] = example.ids[:-1]
            targets[number, at:stop] = np.where(example.learnt[1:], example.ids[1:], IGNORED)
            at = stop
        if at < length:
            starts.append(number * length + at)
    return Batch(inputs, targets, np.array(starts, np.int64))


def counts(rows: Rows, epochs: int) -> int:
    """How many rows so many epochs have."""
    return sum(len(rows.epoch(number)) for number in range(epochs))
