"""A form of a model as numbers that compare with another form's, and how far two forms are apart, tensor by tensor."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from soban.convert.source import Floats, Source, halves, open_source, rotated_heads
from soban.models import Architecture
from soban.models.plan import EMBED, HEAD, Part
from soban.packing.layout import RESIDUAL
from soban.weights.checkpoint import METHODS

PIECE = 1 << 22  # numbers that are compared in one go
# The largest share by which rounding to a plain format changes a number: half of its last place
PRECISION = {"f64": 2.0**-24, "f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8}
# Bits of the formats in blocks. Of 16 levels over a block's range, the error is range / 16 / sqrt(12); the range is at
# most ten times the block's own deviation where its numbers are not all but one zero: 4 / 2**bits covers it.
BITS = {
    "q8": 8, "q4": 4, "i8g": 8, "q8_0": 8, "q6_k": 6, "q5_0": 5, "q5_1": 5, "q5_k": 5, "q4_0": 4, "q4_1": 4, "q4_k": 4,
    "iq4_nl": 4, "iq4_xs": 4, "mxfp4": 4, "q3_k": 3, "iq3_s": 3, "q2_k": 2, **dict.fromkeys(METHODS, 4),
}  # fmt: skip
NORM = "norm"  # the role of the last norm
LEAST = 2.0**-14  # the smallest number that float16 rounds by a share; below, it is by a fixed step
RANGE, MOST = 4.0, 0.6  # a tensor that is further off than MOST has little to do with the other


@dataclass(frozen=True)
class Difference:
    """How far one tensor of both forms is apart. `layer`: -1 before the first, the number of layers after the last.

    `relative`: the root mean square of the differences as a share of the numbers' own; `allowed`: as much of it as
    the two formats explain, 0 where some single number is further off than its format rounds; `greatest`: the largest
    single difference as a share of the largest number.
    """

    name: str
    layer: int
    formats: tuple[str, str]
    relative: float
    greatest: float
    allowed: float

    @property
    def same(self) -> bool:
        """Whether every number is the same."""
        return self.greatest == 0

    @property
    def beyond(self) -> bool:
        """Whether rounding does not explain it."""
        return self.relative > self.allowed


@dataclass(frozen=True, eq=False)
class Form:
    """An opened model whose rows are in Hugging Face's order; `rows` and `columns`: factors that make it comparable."""

    source: Source
    architecture: Architecture
    heads: dict[str, int]  # of tensors in which neighbours turn together
    vectors: dict[str, Floats] = field(default_factory=dict)
    row_factors: dict[str, Floats] = field(default_factory=dict)
    column_factors: dict[str, Floats] = field(default_factory=dict)

    @property
    def packed(self) -> bool:
        """Whether soban packed it, and may have moved powers of two from some channels to others."""
        return bool(self.source.layout)

    def format(self, name: str) -> str:
        """In which format a tensor is stored; a large vocabulary in two halves has eight bits."""
        if name in self.source.layout:
            return "q8" if name + RESIDUAL in self.source.layout else self.source.layout[name][0]
        return self.source.checkpoint.tensors[name].format

    def pieces(self, name: str) -> Iterator[Floats]:
        """A tensor's rows as float32, some at a time, in the order that all forms have here."""
        if name in self.vectors:
            yield self.vectors[name]
            return
        heads, start = self.heads.get(name), 0
        for piece in self.source.rows(name) if heads is None else [self._halved(name, heads)]:
            stop = start + len(piece)
            if name in self.row_factors:
                piece = piece * self.row_factors[name][start:stop, None]
            yield piece * self.column_factors[name] if name in self.column_factors else piece
            start = stop

    def whole(self, name: str) -> Floats:
        """A tensor in one piece."""
        return np.concatenate(list(self.pieces(name)))

    def _halved(self, name: str, heads: int) -> Floats:
        values = self.source.whole(name)
        return halves(values.reshape(len(values), -1), heads).reshape(values.shape)


def open_form(path: Path) -> Form:
    """The model at a path. Raises UserError for what cannot be read or does not fit its config."""
    source, architecture = open_source(path).fitted()
    heads = rotated_heads(architecture, source.checkpoint.form) if source.checkpoint.interleaved else {}
    names = {one.name for one in dataclasses.fields(architecture.config)}
    plain = {"rope_interleaved": False, "plain_norms": False}
    config = dataclasses.replace(architecture.config, **{key: plain[key] for key in plain.keys() & names})
    return Form(source, dataclasses.replace(architecture, config=config), heads)


def alike(form: Form, other: Form) -> Form:
    """The form with each channel as large as in the other one, where one of them was packed by soban.

    Packing moves powers of two from a norm, or a matrix' rows, to the columns that read them, which changes nothing in
    what the model computes: here they go back.
    """
    if not (form.packed or other.packed):
        return form
    result = dataclasses.replace(form, vectors={}, row_factors={}, column_factors={})
    for layer in form.architecture.plan.layers:
        for pair in layer.pairs:  # a matrix' rows are as large as its columns, which a norm may have changed before
            factors = _moved(*(_sizes(one, pair.source, pair.offset) for one in (result, other)))
            if factors is None:
                continue
            name, offset = pair.source.name, np.float32(pair.offset)
            if len(pair.source.shape) == 1:
                result.vectors[name] = (form.whole(name) + offset) * factors - offset
            else:
                result.row_factors[name] = factors
            if pair.bias is not None:
                result.vectors[pair.bias.name] = form.whole(pair.bias.name) * factors
            result.column_factors.update({part.name: np.float32(1) / factors for part in pair.readers})
    return result


def _sizes(form: Form, part: Part, offset: float) -> npt.NDArray[np.float64]:
    """How large each channel of a pair's source is."""
    if len(part.shape) == 1:
        return np.abs(form.whole(part.name).astype(np.float64) + offset)
    return np.sqrt(np.concatenate([np.mean(piece.astype(np.float64) ** 2, axis=1) for piece in form.pieces(part.name)]))


def _moved(mine: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]) -> Floats | None:
    """The powers of two nearest to what the one is to be multiplied by to be as large as the other; None: all 1."""
    both = (mine > 0) & (theirs > 0)
    exponents = np.rint(np.log2(np.divide(theirs, mine, out=np.ones_like(mine), where=both)))
    return np.exp2(exponents).astype(np.float32) if exponents.any() else None


def names_of(one: Form, other: Form) -> Iterator[tuple[int, Part, str, str]]:
    """Each tensor by its layer, as a part of either, with its name in both: a tied head is the embedding."""
    plans = one.architecture.plan, other.architecture.plan
    shapes = [plan.shapes() for plan in plans]
    embed = plans[0].end(EMBED)
    longer = plans[0] if len(shapes[0]) >= len(shapes[1]) else plans[1]
    count = len(longer.layers)
    places = [(count if weight.role in (HEAD, NORM) else -1, weight) for weight in longer.ends]
    places += [(i, weight) for i, layer in enumerate(longer.layers) for weight in layer.weights]
    for layer, weight in sorted(places, key=lambda place: place[0]):
        for part in (*weight.parts, *weight.biases):
            mine, theirs = (
                part.name if part.name in shape or part.name != longer.head or embed is None else embed.name
                for shape in shapes
            )
            yield layer, part, mine, theirs


def misshapen(one: Form, other: Form) -> tuple[str, object, object] | None:
    """The first tensor that only one of the forms has, or that has two shapes, with these."""
    shapes = [form.architecture.plan.shapes() for form in (one, other)]
    for name in dict.fromkeys((*shapes[0], *shapes[1])):
        mine, theirs = (shape.get(name) for shape in shapes)
        tied = name == one.architecture.plan.head and None in (mine, theirs)
        if mine != theirs and not tied:
            return name, mine, theirs
    return None


def compare(one: Form, other: Form, progress: Callable[[float], None] = lambda share: None) -> list[Difference]:
    """Every tensor of two forms of the same shapes, in the order in which a text meets them; a piece at a time."""
    names = list(names_of(one, other))
    total = sum(math.prod(part.shape) for _, part, _, _ in names)
    differences, done = [], 0
    for layer, part, mine, theirs in names:
        differences.append(_difference(part.name, layer, (one, mine), (other, theirs)))
        done += math.prod(part.shape)
        progress(done / total)
    return differences


def _difference(label: str, layer: int, one: tuple[Form, str], other: tuple[Form, str]) -> Difference:
    squares, largest, furthest = np.zeros(3), np.zeros(3), 0.0  # of the one, of the other, of their difference
    sides = (one, other)
    formats = tuple(form.format(name) for form, name in sides)
    coarse = [{"f16", "bf16"} if format == "f32" else set() for format in formats]
    shifted = any(form.source.checkpoint.tensors[name].shift for form, name in sides)
    least = np.float32(1 if shifted else LEAST)  # what is added to a number may have cost its last places
    for a, b in _paired(one[0].pieces(one[1]), other[0].pieces(other[1])):
        for i, values in enumerate((a, b, a - b)):
            squares[i] += np.einsum("i,i->", values, values, dtype=np.float64)
            largest[i] = max(largest[i], float(np.abs(values).max(initial=0)))
        furthest = max(furthest, float((np.abs(a - b) / np.maximum(np.maximum(np.abs(a), np.abs(b)), least)).max()))
        coarse = [{grid for grid in grids if _on_grid(x, grid)} for grids, x in zip(coarse, (a, b), strict=True)]
    share = max(squares[0], squares[1])
    roundings = [_rounding(min(grids, default=format)) for grids, format in zip(coarse, formats, strict=True)]
    allowed = min(sum(roundings), MOST)
    if formats[0] in PRECISION and formats[1] in PRECISION and furthest > allowed:
        allowed = 0.0
    return Difference(
        label, layer, (formats[0], formats[1]), math.sqrt(squares[2] / share) if share else 0.0,
        float(largest[2] / max(largest[0], largest[1])) if share else 0.0, allowed,
    )  # fmt: skip


def _on_grid(values: Floats, grid: str) -> bool:
    """Whether float32 holds nothing but numbers of a shorter format, to which they were rounded before."""
    if grid == "bf16":
        return not (np.ascontiguousarray(values).view(np.uint32) & 0xFFFF).any()
    with np.errstate(over="ignore"):
        return bool((values.astype(np.float16).astype(np.float32) == values).all())


def _rounding(format: str) -> float:
    """How far rounding to a format moves numbers; twice a plain format's, which may have been cut off."""
    return 2 * PRECISION[format] if format in PRECISION else RANGE * 2.0 ** -BITS[format]


def _paired(one: Iterator[Floats], other: Iterator[Floats]) -> Iterator[tuple[Floats, Floats]]:
    """Pieces of the same numbers, flat, whatever pieces the two come in."""
    a, b = (np.zeros(0, np.float32) for _ in range(2))
    while True:
        if not len(a):
            a = next((piece.reshape(-1) for piece in one), a)
        if not len(b):
            b = next((piece.reshape(-1) for piece in other), b)
        size = min(len(a), len(b))
        if not size:
            assert len(a) == len(b), "tensors of one shape"
            return
        for start, stop in pairwise([*range(0, size, PIECE), size]):
            yield a[start:stop], b[start:stop]
        a, b = a[size:], b[size:]
