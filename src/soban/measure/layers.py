"""Two forms of a model run side by side: what each layer makes of the same input, and what comes of it in the end.

NumPy computes with the numbers as they are stored, nothing else being rounded, and has one piece of a matrix at a time.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np

from soban.measure.evaluate import Doubles, Mean, divergence, log_probabilities, mean
from soban.measure.tensors import Difference, Form
from soban.models.plan import Part, Weight
from soban.ops import make_batch, make_cache, reference
from soban.ops.batch import PAGE, Batch
from soban.ops.cache import Cache
from soban.ops.formats import Floats, Matrix, Rows
from soban.ops.recorder import BatchSlots, LayerSlot, Program, Recorded, Slot, Step

SUMS = 1e-4  # by which sums of float32 in another order differ, at most, in what a layer adds
CANCELLED = 1e-5  # the same, as a share of what it adds that to
GROWTH = 3.0  # times the weights' own differences, root of the sum of squares: attention sharpens them
ROWS = 64  # of scores that are compared in one go


@dataclass(frozen=True)
class LayerDifference:
    """How far what a layer makes of the same input is apart, as a share of what it adds to it.

    `layer`: -1 is what comes before the first, the number of layers what comes after the last. `allowed`: as much of
    it as the rounding of this layer's weights explains. `states`: how far the hidden states after it are apart when
    each form goes its own way, as a share of them.
    """

    layer: int
    relative: float
    allowed: float
    states: float

    @property
    def beyond(self) -> bool:
        return self.relative > self.allowed


@dataclass(frozen=True)
class Run:
    """The layers one by one, and how far the predictions are apart: KL(one || other) in nats a token."""

    layers: tuple[LayerDifference, ...]
    tokens: int
    divergence: Mean
    agreement: Mean  # share of tokens after which both find the same token the likeliest


class Tape:
    """A form's program, its steps by layer, and the buffers that are alive.

    `watch` sees what each matrix, by the names of its parts, is multiplied with.
    """

    def __init__(
        self, form: Form, longest: int, watch: Callable[[tuple[str, ...], Floats], None] = lambda names, x: None
    ) -> None:
        self.form, self.watch = form, watch
        self.names: dict[int, tuple[str, ...]] = {}  # of the tensors in a stand-in for a matrix
        self.places: dict[int, int] = {}  # the layer of a matrix or a vector, by its identity
        self.weights = form.architecture.plan.build(self._make)
        for i, layer in enumerate(self.weights.layers):
            self._mark(layer, i)
        self.program: Program = form.architecture.record(self.weights, longest)
        count = len(self.weights.layers)
        self.layers = list(_layers_of(self.program, self.places, count))
        self.last_use: dict[int, int] = {}  # the last layer that reads a buffer
        for step, its in zip(self.program.steps, self.layers, strict=True):
            for value in _values(step):
                self.last_use[value.buffer] = max(its, self.last_use.get(value.buffer, its))
        self.last_use[self.program.result.buffer] = count + 1  # type: ignore[union-attr]
        self.buffers: dict[int, Floats] = {}

    def _make(self, weight: Weight, place: str | None) -> Any:
        bias = self._vector(weight.biases) if weight.biases else None
        if weight.kind == "vector":
            vector = self._vector(weight.parts)
            return vector if bias is None else (vector, bias)
        stand_ins = tuple(_stand_in(*part.shape) for part in weight.parts)
        matrix = Matrix(stand_ins, bias, None, place)
        self.names[id(matrix)] = tuple(part.name for part in weight.parts)
        return matrix

    def _vector(self, parts: Sequence[Part]) -> Floats:
        return np.concatenate([self.form.whole(part.name).reshape(-1) for part in parts])

    def _mark(self, weights: SimpleNamespace, layer: int) -> None:
        for value in vars(weights).values():
            for one in value if isinstance(value, tuple) else (value,):
                self.places[id(one)] = layer

    def run(self, layer: int, batch: Batch, cache: Cache) -> None:
        """The steps of one layer."""
        for i, step in enumerate(self.program.steps):
            if self.layers[i] != layer:
                continue
            arguments = {name: self._resolved(value, batch, cache) for name, value in step.arguments.items()}
            self.buffers[step.out.buffer] = self._computed(step.op, arguments)

    def drop(self, after: int) -> None:
        """Forgets what no step of a later layer reads."""
        self.buffers = {buffer: x for buffer, x in self.buffers.items() if self.last_use.get(buffer, after) > after}

    def leaving(self, layer: int) -> list[int]:
        """The buffers that a layer leaves for later ones; not what depends on positions alone."""
        steps = list(zip(self.program.steps, self.layers, strict=True))
        outs = [step.out.buffer for step, its in steps if its == layer and step.op != "rotary"]
        return [buffer for buffer in outs if self.last_use.get(buffer, layer) > layer]

    def _resolved(self, value: Any, batch: Batch, cache: Cache) -> Any:
        match value:
            case Recorded():
                return self.buffers[value.buffer][:, value.start : value.start + value.columns]
            case Slot():
                return getattr(batch, value.name)
            case BatchSlots():
                return batch
            case LayerSlot():
                return cache[value.index]
        return value

    def _computed(self, op: str, arguments: dict[str, Any]) -> Floats:
        if op == "linear":
            return self._product(arguments["x"], arguments["w"])
        if op == "embed":
            return self._looked_up(arguments["ids"], arguments["table"]) * np.float32(arguments["scale"])
        return getattr(reference, op)(*arguments.values())

    def _product(self, x: Floats, matrix: Matrix) -> Floats:
        out = np.empty((len(x), matrix.shape[0]), np.float32)
        self.watch(self.names[id(matrix)], x)
        for start, piece in self._pieces(matrix):
            out[:, start : start + len(piece)] = x @ piece.T
        return out if matrix.bias is None else out + matrix.bias

    def _looked_up(self, ids: Any, matrix: Matrix) -> Floats:
        out = np.zeros((len(ids), matrix.shape[1]), np.float32)
        for start, piece in self._pieces(matrix):
            mine = np.flatnonzero((ids >= start) & (ids < start + len(piece)))
            out[mine] = piece[ids[mine] - start]
        return out

    def _pieces(self, matrix: Matrix) -> Iterator[tuple[int, Floats]]:
        start = 0
        for name in self.names[id(matrix)]:
            for piece in self.form.pieces(name):
                yield start, piece
                start += len(piece)


def _stand_in(rows: int, columns: int) -> Rows:
    """A matrix of that size which takes no memory."""
    return Rows("f32", rows, columns, np.broadcast_to(np.float32(0), (rows, columns)))


def _values(step: Step) -> list[Recorded]:
    return [value for value in step.arguments.values() if isinstance(value, Recorded)]


def _layers_of(program: Program, places: dict[int, int], count: int) -> Iterator[int]:
    """The layer of each step: that of its weights, else the latest of what it reads; the ends are -1 and `count`."""
    of_buffer: dict[int, int] = {}
    for step in program.steps:
        own = [places[id(x)] for x in step.arguments.values() if id(x) in places]
        caches = [x.index for x in step.arguments.values() if isinstance(x, LayerSlot)]
        inputs = max((of_buffer[value.buffer] for value in _values(step)), default=-1)
        ends = any(isinstance(x, np.ndarray | Matrix) for x in step.arguments.values()) and step.op != "rotary"
        layer = max([*own, *caches, inputs])
        if not own and not caches and ends and inputs == count - 1:
            layer = count
        of_buffer[step.out.buffer] = layer
        yield layer


def same_wiring(one: Program, other: Program) -> bool | None:
    """Whether both compute the same of the same weights; None where they have other steps."""
    if [step.op for step in one.steps] != [step.op for step in other.steps]:
        return None
    pairs = zip(one.steps, other.steps, strict=True)
    return all(
        _same(mine, theirs, name) for a, b in pairs
        for (name, mine), theirs in zip(a.arguments.items(), b.arguments.values(), strict=True)
    )  # fmt: skip


def _same(mine: Any, theirs: Any, name: str) -> bool:
    if isinstance(mine, float | int) and isinstance(theirs, float | int):
        return math.isclose(mine, theirs, rel_tol=1e-6)
    if name == "frequencies":
        return mine.shape == theirs.shape and np.allclose(mine, theirs, rtol=1e-5, atol=0)
    return (mine is None) == (theirs is None) and (not isinstance(mine, str) or mine == theirs)


def run(
    tapes: tuple[Tape, Tape], ids: Sequence[int], tensors: Sequence[Difference],
    progress: Callable[[float], None] = lambda share: None,
) -> Run:  # fmt: skip
    """Both forms over the same tokens. Their programs have the same steps."""
    one, other = tapes
    config, count = one.form.architecture.config, len(ids)
    pages, rotation = -(-count // PAGE), config.row(count)
    ours = make_batch([ids], [0], [range(pages)], range(count), rotation)
    # The other form reads the text twice: each layer of the first is given what the one's layer was given
    tables = [range(pages), range(pages, 2 * pages)]
    theirs = make_batch([ids, ids], [0, 0], tables, range(2 * count), rotation)
    caches = [
        make_cache(n * pages, tape.form.architecture.config.geometries, "f32", n)
        for n, tape in zip((1, 2), tapes, strict=True)
    ]
    total = config.num_hidden_layers
    differences: list[LayerDifference] = []
    before: list[Floats] = []
    for layer in range(-1, total + 1):
        one.run(layer, ours, caches[0])
        other.run(layer, theirs, caches[1])
        leaving = one.leaving(layer)
        found = [_state(one.buffers[b], other.buffers[b], before, count) for b in leaving]
        allowed = _allowed(layer, tensors)
        worst = max(found, key=lambda state: state.relative - CANCELLED * state.share, default=State(0.0, 0.0, 0.0))
        differences.append(LayerDifference(layer, worst.relative, allowed + CANCELLED * worst.share, worst.own))
        before = [one.buffers[buffer] for buffer in leaving]
        for buffer in leaving if layer < total else ():
            other.buffers[buffer][:count] = one.buffers[buffer]
        for tape in tapes:
            tape.drop(layer)
        progress((layer + 2) / (total + 2))
    results = [tape.buffers[tape.program.result.buffer] for tape in tapes]  # type: ignore[union-attr]
    rows = _predictions(results[0], results[1][count:])
    return Run(tuple(differences), count, mean(rows[:, 0]), mean(rows[:, 1]))


@dataclass(frozen=True)
class State:
    """Of a buffer: the difference given the same input, as a share of what is added; how much more there was; the
    difference when each goes its own way, as a share of all."""

    relative: float
    share: float
    own: float


def _state(mine: Floats, theirs: Floats, before: Sequence[Floats], count: int) -> State:
    added = next((mine - x for x in before if x.shape == mine.shape), mine)
    size, whole = _size(added), _size(mine)
    if not size or not math.isfinite(size):
        return State(0.0 if _size(theirs[:count] - mine) == 0 else 1.0, 0.0, 0.0)
    return State(_size(theirs[:count] - mine) / size, whole / size, _size(theirs[count:] - mine) / whole)


def _size(x: Floats) -> float:
    return math.sqrt(float(np.mean(np.square(x, dtype=np.float64))))


def _allowed(layer: int, tensors: Sequence[Difference]) -> float:
    """What the rounding of a layer's weights explains: none of it more than its format allows."""
    return SUMS + GROWTH * math.sqrt(sum(min(t.relative, t.allowed) ** 2 for t in tensors if t.layer == layer))


def _predictions(one: Floats, other: Floats) -> Doubles:
    """Of each token the divergence, and whether the likeliest next one is the same."""
    pieces = []
    for start, stop in pairwise([*range(0, len(one), ROWS), len(one)]):
        a, b = (log_probabilities(x[start:stop]) for x in (one, other))
        pieces.append(np.stack([divergence(a, b), (a.argmax(axis=1) == b.argmax(axis=1)).astype(np.float64)], axis=1))
    return np.concatenate(pieces)


def config_differences(one: Form, other: Form) -> dict[str, tuple[Any, Any]]:
    """The keys that differ between two configs of a family."""
    mine, theirs = (dataclasses.asdict(form.architecture.config) for form in (one, other))
    return {
        key: (value, theirs[key]) for key, value in mine.items()
        if key in theirs and not _alike(value, theirs[key]) and key not in ("compute_dtype", "tie_word_embeddings")
    }  # fmt: skip


def _alike(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, float) and isinstance(theirs, float):
        return math.isclose(mine, theirs, rel_tol=1e-6)
    return bool(mine == theirs)
