"""Writing ops down instead of computing them: `forward()` runs once and leaves a flat list of steps.

An op called with NumPy arrays computes at once. Called with a `Recorded` value it is appended to that value's
program, and its result is again a `Recorded` value: a name for an array that will exist when the program runs.
Its number of columns is fixed; its rows are either the step's tokens or the tokens whose logits are asked for.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

RowCount = Literal["tokens", "outputs"]
Op = TypeVar("Op", bound=Callable[..., Any])


@dataclass(frozen=True, eq=False)
class Recorded:
    """A value of a program: columns `start` to `start + columns` of its buffer, one row for each token or output."""

    program: "Program"
    buffer: int
    rows: RowCount
    columns: int
    start: int = 0

    def __getitem__(self, key: tuple[slice, slice]) -> "Recorded":
        """A view of some columns, as in `x[:, 8:16]`."""
        rows, columns = key
        assert rows == slice(None) and columns.step in (None, 1), "a recorded value is sliced by columns only"
        start, stop, _ = columns.indices(self.columns)
        return Recorded(self.program, self.buffer, self.rows, stop - start, self.start + start)


@dataclass(frozen=True, eq=False)
class Slot:
    """An integer array, or an integer, that each run brings anew: the token ids, say."""

    program: "Program"
    name: str


@dataclass(frozen=True, eq=False)
class BatchSlots:
    """Stands for the batch while a program is recorded; the fields are those of `ops.Batch`."""

    tokens: Slot
    positions: Slot
    outputs: Slot
    rotation: Slot


@dataclass(frozen=True, eq=False)
class LayerSlot:
    """Stands for one layer of the cache while a program is recorded."""

    index: int


@dataclass(frozen=True, eq=False)
class Step:
    """One op: its name in `ops.reference`, its arguments by name, and the value it makes."""

    op: str
    arguments: dict[str, Any]
    out: Recorded


@dataclass(eq=False)
class Program:
    """Steps in order; `widths[b]` and `rows[b]` tell the shape of buffer b, `result` the value that a run returns."""

    steps: list[Step] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    rows: list[RowCount] = field(default_factory=list)
    result: Recorded | None = None

    def batch(self) -> BatchSlots:
        return BatchSlots(*(Slot(self, name) for name in ("tokens", "positions", "outputs", "rotation")))

    def value(self, rows: RowCount, columns: int) -> Recorded:
        """A new buffer."""
        self.widths.append(columns)
        self.rows.append(rows)
        return Recorded(self, len(self.widths) - 1, rows, columns)


def op(columns: Callable[..., int], rows: RowCount | None = None) -> Callable[[Op], Op]:
    """Makes a function over arrays recordable; its first argument tells which way a call goes.

    `columns` gives the width of the result from the same arguments; its rows are the first argument's, or `rows`.
    """

    def decorate(compute: Op) -> Op:
        signature = inspect.signature(compute)

        @functools.wraps(compute)
        def call(x: Any, *args: Any, **kwargs: Any) -> Any:
            if not isinstance(x, Recorded | Slot):
                return compute(x, *args, **kwargs)
            bound = signature.bind(x, *args, **kwargs)
            bound.apply_defaults()
            same: RowCount = "tokens" if isinstance(x, Slot) else x.rows
            out = x.program.value(rows or same, columns(**bound.arguments))
            x.program.steps.append(Step(compute.__name__, dict(bound.arguments), out))
            return out

        return call  # type: ignore[return-value]

    return decorate


def replay(program: Program, functions: Any, batch: Any, cache: Any) -> npt.NDArray[np.float32]:
    """Runs the list with the functions of the same names in `functions` (the NumPy reference)."""
    buffers: dict[int, npt.NDArray[np.float32]] = {}

    def resolve(argument: Any) -> Any:
        match argument:
            case Recorded():
                return buffers[argument.buffer][:, argument.start : argument.start + argument.columns]
            case Slot():
                return getattr(batch, argument.name)
            case BatchSlots():
                return batch
            case LayerSlot():
                return cache[argument.index]
        return argument

    for step in program.steps:
        buffers[step.out.buffer] = getattr(functions, step.op)(*map(resolve, step.arguments.values()))
    assert program.result is not None
    return resolve(program.result)
