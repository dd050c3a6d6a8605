"""The operations, declared once: what each takes, and where its instruction in native/soban.h keeps it.

`reference.py` has a function of the same name and arguments for each row; the recorder refuses what a row does not
provide for, native/program.py writes instructions by it, and the list in native/soban.h is `header()`: a test compares.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

RowCount = Literal["tokens", "outputs"]
SLOTS = (
    "tokens",
    "positions",
    "outputs",
    "types",
)  # a batch's integer arrays; the index is the number in native/soban.h
VIEWS = ("a", "b", "c")  # an instruction's fields for values
ACTIVATIONS = (
    "silu",
    "gelu_tanh",
    "gelu",
    "relu",
    "quick_gelu",
    "sigmoid",
    "identity",
)  # the index is soban.h's number
MOST_TAPS = 16  # tokens over which a convolution goes; native/replay_states.cpp has room for as many


# Tuples with names: a start waits for each class that is made, and dataclasses take three times as long.
class Value(NamedTuple):
    """Rows of float32 that an earlier operation has made; None is written as one without columns."""

    optional: bool = False


class Ids(NamedTuple):
    """One of the batch's integer arrays, by its name."""

    names: tuple[str, ...]


class Weights(NamedTuple):
    """A matrix, whose columns are those of the first value, if any; `adapted`: it may have a bias and a place."""

    adapted: bool = False


class Vector(NamedTuple):
    """As many numbers as the first value has columns. `divides`: or fewer, which are used again and again."""

    divides: bool = False
    optional: bool = False


class Numbers(NamedTuple):
    """An array of numbers, as many as the operation wants."""


class Frequencies(NamedTuple):
    """A table of rotary frequencies, of which the instruction sees the row that the batch names."""


class Number(NamedTuple):
    """A float; None is written as 0."""

    optional: bool = False


class Integer(NamedTuple):
    """An int or a bool; None is written as 0."""

    optional: bool = False


class Choice(NamedTuple):
    """One of some words, written as its index."""

    among: tuple[str, ...]


class Layer(NamedTuple):
    """A layer of the cache, by its number."""


class Whole(NamedTuple):
    """The batch itself (or, as a slot, its row of rotary frequencies), which every run has at hand."""

    slot: str | None = None
    optional: bool = False


Operand = Value | Ids | Weights | Vector | Numbers | Frequencies | Number | Integer | Choice | Layer | Whole
# Which list of an instruction's an operand goes to, each time at the next place.
FIELDS: dict[type, str] = {
    Value: "view", Ids: "slot", Weights: "parts", Vector: "vectors", Numbers: "vectors", Frequencies: "vectors",
    Number: "f", Integer: "i", Choice: "i", Layer: "i", Whole: "batch",
}  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """`columns` gives the result's width from the arguments by name; its rows are the values', or `rows`."""

    operands: dict[str, Operand]
    columns: Callable[..., int]
    rows: RowCount | None = None

    def places(self) -> dict[str, tuple[str, int]]:
        """Operand -> the instruction's field, and the place in it: ("a", 0), ("f", 1), ("vectors", 0)."""
        counts = dict.fromkeys(FIELDS.values(), 0)
        result = {}
        for name, operand in self.operands.items():
            field = FIELDS[type(operand)]
            result[name] = (VIEWS[counts[field]], 0) if field == "view" else (field, counts[field])
            counts[field] += 1
            if isinstance(operand, Weights) and operand.adapted:
                for more, list_of in (("bias", "vectors"), ("place", "i")):
                    result[f"{name}.{more}"] = (list_of, counts[list_of])
                    counts[list_of] += 1
        assert counts["slot"] <= 1 and counts["parts"] <= 1, "an instruction has one of each"
        return result


def _of_x(x: Any, **_: Any) -> int:
    return int(x.columns)


def _same(x: Any, y: Any) -> int:
    if x.columns != y.columns:
        raise TypeError(f"{x.columns} columns and {y.columns}")
    return int(x.columns)


def _gated(x: Any, up: Any, **_: Any) -> int:
    return int(x.columns) // 2 if up is None else _same(x, up)


def _in_heads(x: Any, angles: Any, size: int | None, **_: Any) -> int:
    size = size or angles.columns
    if angles.columns > size or x.columns % size:
        raise TypeError(f"{angles.columns} columns of each head of {size} do not turn in {x.columns} columns")
    return int(x.columns)


def _adapted(x: Any, w: Any, batch: Any) -> int:
    if w.place is not None and (batch is None or x.rows != "tokens"):
        raise TypeError(f"adapters may change {w.place}: it takes rows of tokens, and the batch that chooses adapters")
    return int(w.shape[0])


def _attended(q: Any, k: Any, v: Any, softcap: Any, slopes: Any, causal: Any, **_: Any) -> int:
    if softcap and slopes is not None:
        raise TypeError("scores with a cap have no slopes")
    if slopes is not None and not causal:
        raise TypeError("slopes are for what lies before a token")
    if (k is None) != (v is None) or (k is not None and k.columns != v.columns):
        raise TypeError("keys and values have the same columns, or there are neither")
    return int(q.columns)


def _convolved(x: Any, weight: Any, **_: Any) -> int:
    if not len(weight) or len(weight) % x.columns or len(weight) > MOST_TAPS * x.columns:
        raise TypeError(f"{len(weight)} weights for {x.columns} columns, each of which has up to {MOST_TAPS}")
    return int(x.columns)


def _remembered(keys: Any, values: Any, gates: Any, decay: Any, bias: Any, key_heads: int, **_: Any) -> int:
    heads = len(decay)
    if not heads or len(bias) != heads or gates.columns != 2 * heads or values.columns % heads:
        raise TypeError(f"{values.columns} columns and {gates.columns} gates for {heads} heads of values")
    if heads % key_heads or keys.columns % (2 * key_heads):
        raise TypeError(f"{keys.columns} columns of queries and keys for {key_heads} heads, and {heads} of values")
    return int(values.columns)


OPERATIONS: dict[str, Operation] = {
    "embed": Operation(
        {"ids": Ids(("tokens", "positions", "types")), "table": Weights(), "scale": Number()},
        lambda table, **_: table.shape[1],
    ),
    "rms_norm": Operation({"x": Value(), "weight": Vector(), "eps": Number(), "offset": Number()}, _of_x),
    "layer_norm": Operation(
        {"x": Value(), "weight": Vector(), "bias": Vector(optional=True), "eps": Number()}, _of_x
    ),
    "head_norm": Operation({"x": Value(), "weight": Vector(divides=True), "eps": Number(), "offset": Number()}, _of_x),
    "linear": Operation({"x": Value(), "w": Weights(adapted=True), "batch": Whole(optional=True)}, _adapted),
    "rotary": Operation(
        {"positions": Ids(("positions",)), "rotation": Whole("rotation"), "frequencies": Frequencies(),
         "scale": Number(), "growth": Number(optional=True), "period": Number(optional=True)},
        lambda frequencies, **_: 2 * frequencies.shape[1],
    ),
    "rope": Operation(
        {"x": Value(), "angles": Value(), "interleaved": Integer(), "size": Integer(optional=True)}, _in_heads
    ),
    "attention": Operation(
        {"q": Value(), "k": Value(optional=True), "v": Value(optional=True), "batch": Whole(), "cache": Layer(),
         "scale": Number(), "softcap": Number(optional=True), "window": Integer(optional=True),
         "slopes": Vector(divides=True, optional=True), "causal": Integer()},
        _attended,
    ),
    "convolution": Operation(
        {"x": Value(), "weight": Numbers(), "bias": Vector(optional=True), "batch": Whole(), "cache": Layer(),
         "start": Integer()},
        _convolved,
    ),
    "delta_rule": Operation(
        {"keys": Value(), "values": Value(), "gates": Value(), "batch": Whole(), "cache": Layer(), "decay": Numbers(),
         "bias": Numbers(), "key_heads": Integer(), "start": Integer(), "scale": Number(), "tiled": Integer()},
        _remembered,
    ),
    "glu": Operation({"x": Value(), "activation": Choice(ACTIVATIONS), "up": Value(optional=True)}, _gated),
    "activation": Operation({"x": Value(), "name": Choice(ACTIVATIONS)}, _of_x),
    "scale": Operation({"x": Value(), "factor": Number(), "vector": Vector(optional=True)}, _of_x),
    "add": Operation({"x": Value(), "y": Value()}, _same),
    "take_rows": Operation({"x": Value(), "rows": Ids(("outputs",))}, _of_x, rows="outputs"),
    "softcap": Operation({"x": Value(), "cap": Number()}, _of_x),
    "refine": Operation(
        {"x": Value(), "scores": Value(), "residual": Weights(), "panels": Integer(), "margin": Number()},
        lambda scores, **_: scores.columns,
    ),
}  # fmt: skip
NAMES = tuple(OPERATIONS)  # the index is the operation's number in native/soban.h


def header() -> str:
    """The list of operations in native/soban.h."""
    lines = []
    width = max(map(len, NAMES)) + len("SOBAN_,")
    for i, (name, operation) in enumerate(OPERATIONS.items()):
        places = [
            f"{operand} {field}[{n}]" if field in ("vectors", "i", "f") else f"{operand} {field}".rstrip()
            for operand, (field, n) in operation.places().items()
        ]
        comma = "," if i + 1 < len(NAMES) else ""
        lines.append(f"    {f'SOBAN_{name.upper()}{comma}':{width}} /* {', '.join(places)}")
    end = max(map(len, lines))
    return "".join(f"{text:{end}} */\n" for text in lines)
