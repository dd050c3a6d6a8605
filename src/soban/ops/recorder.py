"""Writing ops down instead of computing them: `forward()` runs once and leaves a flat list of steps.

An op called with NumPy arrays computes at once. Called with a `Recorded` value it is appended to that value's
program, and its result is again a `Recorded` value: a name for an array that will exist when the program runs.
Its number of columns is fixed; its rows are either the step's tokens or the tokens whose logits are asked for.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from soban.ops import schema
from soban.ops.formats import Matrix
from soban.ops.schema import OPERATIONS, RowCount

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
    types: Slot


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
        return BatchSlots(*(Slot(self, name) for name in ("tokens", "positions", "outputs", "rotation", "types")))

    def value(self, rows: RowCount, columns: int) -> Recorded:
        """A new buffer."""
        self.widths.append(columns)
        self.rows.append(rows)
        return Recorded(self, len(self.widths) - 1, rows, columns)


def op(compute: Op) -> Op:
    """Makes the reference of an operation in `schema` recordable: any recorded argument, and the call is written down.

    Raises TypeError then for what the operation's instruction cannot hold.
    """
    operation, signature = OPERATIONS[compute.__name__], inspect.signature(compute)
    assert list(signature.parameters) == list(operation.operands), compute.__name__

    @functools.wraps(compute)
    def call(*args: Any, **kwargs: Any) -> Any:
        program = next((x.program for x in (*args, *kwargs.values()) if isinstance(x, Recorded | Slot)), None)
        if program is None:
            return compute(*args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        try:
            rows = _check(operation, arguments, program)
            out = program.value(operation.rows or rows, operation.columns(**arguments))
        except TypeError as error:
            raise TypeError(f"{compute.__name__} cannot be recorded: {error}") from None
        program.steps.append(Step(compute.__name__, arguments, out))
        return out

    return call  # type: ignore[return-value]


def _check(operation: schema.Operation, arguments: dict[str, Any], program: Program) -> RowCount:
    """Which rows the operation works on. Raises TypeError for an argument that its instruction does not encode."""
    values = [x for x in arguments.values() if isinstance(x, Recorded)]
    for name, operand in operation.operands.items():
        if problem := _problem(operand, arguments[name], program, values[0].columns if values else None):
            raise TypeError(f"{name} {problem}")
    rows = {value.rows for value in values}
    if any(isinstance(operand, schema.Ids | schema.Layer) for operand in operation.operands.values()):
        rows.add("tokens")
    if len(rows) > 1:
        raise TypeError("rows of tokens and rows of outputs do not go together")
    return rows.pop()


def _problem(operand: schema.Operand, value: Any, program: Program, columns: int | None) -> str | None:
    """What is wrong with an argument; `columns`: of the operation's first value."""
    match operand:
        case schema.Value(optional):
            fits = (isinstance(value, Recorded) and value.program is program) or (optional and value is None)
            expected = "a value of the same program"
        case schema.Ids(names):
            fits = isinstance(value, Slot) and value.name in names and value.program is program
            expected = "the batch's " + " or ".join(names)
        case schema.Whole(None, optional):
            fits, expected = isinstance(value, BatchSlots) or (optional and value is None), "the batch"
        case schema.Whole(slot):
            fits, expected = isinstance(value, Slot) and value.name == slot, f"the batch's {slot}"
        case schema.Layer():
            fits, expected = isinstance(value, LayerSlot), "a layer of the cache"
        case schema.Weights(adapted):
            plain = isinstance(value, Matrix) and (adapted or value.bias is None)
            fits = plain and columns in (None, value.shape[1])
            expected = (
                f"a matrix{'' if columns is None else f' of {columns} columns'}{'' if adapted else ' without a bias'}"
            )
        case schema.Vector(divides, optional):
            length = len(value) if isinstance(value, np.ndarray) and value.ndim == 1 else 0
            fits = bool(length) and (columns == length or (divides and columns is not None and columns % length == 0))
            fits, expected = fits or (optional and value is None), f"an array of {columns} numbers"
        case schema.Numbers():
            fits, expected = isinstance(value, np.ndarray) and value.ndim == 1, "an array of numbers"
        case schema.Frequencies():
            fits, expected = isinstance(value, np.ndarray) and value.ndim == 2, "a table of frequencies"
        case schema.Choice(among):
            fits, expected = value in among, " or ".join(among)
        case schema.Integer(optional) | schema.Number(optional):
            types = (int, np.integer) if isinstance(operand, schema.Integer) else (int, float, np.integer, np.floating)
            fits, expected = isinstance(value, types) or (optional and value is None), "a number"
    return None if fits else f"is to be {expected}, not {_described(value)}"


def _described(value: Any) -> str:
    match value:
        case Slot():
            return f"the batch's {value.name}"
        case Recorded():
            return f"a value of {value.columns} columns"
        case Matrix():
            return f"a matrix {value.shape}{'' if value.bias is None else ' with a bias'}"
        case np.ndarray():
            return f"an array {value.shape}"
    return repr(value)


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
