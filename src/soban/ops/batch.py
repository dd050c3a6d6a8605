"""What one step works on: the tokens of all its sequences, and where their keys and values lie."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from soban.ops.adapters import Adapter

PAGE = 32  # positions in a page of the cache
SPAN = 256  # positions whose softmax is taken together: a whole number of pages


@dataclass(eq=False, slots=True)
class Batch:
    """T tokens of S sequences, R of which are asked for logits, as int32.

    Sequence s owns tokens starts[s] to starts[s + 1], whose positions follow one another, and the pages
    tables[s]: position p lies in page tables[s, p // PAGE]. All of them turn by the same row of rotary frequencies.
    Sequence s has chosen adapters[chosen[s]], or none where that is -1. Tokens may be of several types, as those of the
    two texts that BERT compares are. What a sequence carries besides keys and values is read from one slot of the
    cache's states and written to another, see `State`.
    """

    # The arrays one after the other: an array of the standard library tells its address in a tenth of the time.
    memory: "array[int]"
    token_count: int
    sequence_count: int
    table_width: int
    output_count: int
    rotation: int = 0  # the row
    adapters: tuple[Adapter, ...] = ()  # without any, the memory has no `choices`
    typed: bool = False  # else the memory has no `types`
    with_states: bool = False  # whether the memory has `states`

    def put(self, token: int, position: int, state: "State | None" = None) -> None:
        """Another token and position for the batch's only one, and its state; its page has to be in the table."""
        self.memory[0], self.memory[1] = token, position
        if state is not None:
            first = self._states_start
            for n, number in enumerate(state):
                self.memory[first + n] = number

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
    def states(self) -> npt.NDArray[np.int32]:  # (S, 4): `State`s; slot s is sequence s's where the batch has none
        if not self.with_states:
            return np.array([(s, s, 0, 0) for s in range(self.sequence_count)], np.int32).reshape(-1, 4)
        return self._part(self._states_start, 4 * self.sequence_count).reshape(-1, 4)

    @property
    def _states_start(self) -> int:
        return 2 * self.token_count + self.sequence_count + 1 + self.sequence_count * self.table_width

    @property
    def choices(self) -> npt.NDArray[np.int32]:  # (S,)
        if not self.adapters:
            return np.full(self.sequence_count, -1, np.int32)
        return self._part(len(self.memory) - self.output_count - self.sequence_count, self.sequence_count)

    @property
    def types(self) -> npt.NDArray[np.int32]:  # (T,)
        if not self.typed:
            return np.zeros(self.token_count, np.int32)
        start = len(self.memory) - self.output_count - self.token_count
        return self._part(start - self.sequence_count * bool(self.adapters), self.token_count)

    @property
    def outputs(self) -> npt.NDArray[np.int32]:  # (R,)
        return self._part(len(self.memory) - self.output_count, self.output_count)

    def _part(self, start: int, count: int) -> npt.NDArray[np.int32]:
        return np.frombuffer(self.memory, np.int32)[start : start + count]


class State(NamedTuple):
    """Slots of a sequence's state: read from one (not at position 0), written to another.

    After `until` tokens of the step it is also saved to a third; 0: not at all.
    """

    source: int
    target: int
    saved: int = 0
    until: int = 0


def make_batch(
    tokens: Sequence[Sequence[int]],
    offsets: Sequence[int],
    tables: Sequence[Sequence[int]],
    outputs: Sequence[int],
    rotation: int = 0,
    adapters: tuple[Adapter, ...] = (),
    choices: Sequence[int] = (),
    types: Sequence[int] = (),
    states: Sequence[State] = (),
) -> Batch:
    """A batch from each sequence's new tokens, the position of the first of them, and its pages.

    With adapters, `choices` has for each sequence which of them it takes, or -1. `types`: of each token; empty: 0.
    """
    assert len(states) in (0, len(tokens)), states
    slots = [number for state in states for number in state]
    assert len(choices) == (len(tokens) if adapters else 0) and all(-1 <= i < len(adapters) for i in choices), choices
    if len(tokens) == 1:  # what follows, for a single sequence: there, with a small model, microseconds count
        (new,), (first,), (table,), count = tokens, offsets, tables, len(tokens[0])
        memory = array("i", (*new, *range(first, first + count), 0, count, *table, *slots, *types, *choices, *outputs))
        return Batch(
            memory, count, 1, len(table), len(outputs), rotation, adapters, typed=bool(types), with_states=bool(slots)
        )
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
    flat += slots
    flat += types
    flat += choices
    flat += outputs
    return Batch(
        array("i", flat), starts[-1], len(tables), width, len(outputs), rotation, adapters, typed=bool(types),
        with_states=bool(slots),
    )  # fmt: skip
