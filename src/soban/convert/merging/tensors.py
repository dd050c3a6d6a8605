"""One tensor of the merged model out of those of its parents, a piece of each in memory at a time."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from soban.convert.merging import mixing, thinning
from soban.convert.merging.recipe import Like
from soban.convert.merging.thinning import Floats, Kept, Pieces
from soban.models.plan import Shape

Rows = Callable[[], Iterator[Floats]]  # a parent's tensor, from its first row on


@dataclass(frozen=True, eq=False)
class Ingredients:
    """What a tensor is made of. `base`: what differences are counted from; `of_tensor`: parameters of each other one.

    `gram`: products of the differences over more than this tensor, where the method wants them so.
    """

    name: str
    shape: Shape
    method: str
    rows: tuple[Rows, ...]
    of_tensor: tuple[Mapping[str, Any], ...]
    of_merge: Mapping[str, Any]
    base: Rows | None = None
    gram: Callable[[], mixing.Doubles] | None = None
    like: Like = "paper"
    seed: int = 0

    @property
    def count(self) -> int:
        return int(np.prod(self.shape))

    def weights(self) -> list[float]:
        return [float(one["weight"]) for one in self.of_tensor]


def mixed(one: Ingredients) -> Iterator[Floats]:
    """The tensor's numbers, in pieces."""
    if one.method in ("linear", "slerp", "nuslerp", "passthrough") and one.base is None:
        yield from summed(one.rows, _shares(one))
    elif one.method in ("nuslerp", "task_arithmetic", "model_stock", "warp"):
        assert one.base is not None
        yield from summed((one.base, *one.rows), _from_base(_shares(one)))
    else:
        yield from _thinned(one)


def gram_of(rows: Sequence[Rows], base: Rows | None = None) -> mixing.Doubles:
    """Products of tensors with each other, or of their differences to the base."""
    total = np.zeros((len(rows), len(rows)))
    for start, *pieces in together([base or _nothing(rows[0]), *rows]):
        vectors = [np.subtract(piece, start, dtype=np.float64).reshape(-1) for piece in pieces]
        total += [[a @ b for b in vectors] for a in vectors]
    return total


def _nothing(rows: Rows) -> Rows:
    """Zeros, in the pieces of another tensor."""
    return lambda: (np.zeros((len(piece), *[1] * (piece.ndim - 1)), np.float32) for piece in rows())


def summed(rows: Sequence[Rows], shares: mixing.Doubles) -> Iterator[Floats]:
    """The sum of tensors, each with its share."""
    for pieces in together(rows):
        out = np.float32(shares[0]) * pieces[0]
        for piece, share in zip(pieces[1:], shares[1:], strict=True):
            if share:
                out += np.float32(share) * piece
        yield out


def _from_base(shares: mixing.Doubles) -> mixing.Doubles:
    """Shares of the base and of the models, where the given ones are of the models' differences to it."""
    return np.concatenate([[1 - shares.sum()], shares])


def _shares(one: Ingredients) -> mixing.Doubles:
    """The share of each tensor, or of its difference to the base."""
    match one.method:
        case "passthrough":
            return np.array([one.of_tensor[0]["scale"]], np.float64)
        case "linear":
            return mixing.linear(one.weights(), normalize=one.of_merge["normalize"])
        case "task_arithmetic":
            shares = mixing.linear(one.weights(), normalize=one.of_merge["normalize"])
            return float(one.of_merge["lambda"]) * shares
    gram = gram_of(one.rows, one.base) if one.gram is None else one.gram()
    match one.method:
        case "slerp":
            return mixing.slerp(gram, float(one.of_merge["t"]), like_mergekit=one.like == "mergekit")
        case "nuslerp":
            weights = one.weights()
            total = sum(weights)
            return mixing.slerp(gram, 0.5 if abs(total) < 1e-6 else weights[1] / total)
        case "model_stock":
            return mixing.model_stock(gram)
    return mixing.warp(gram, float(one.of_merge["share"]))


def _thinned(one: Ingredients) -> Iterator[Floats]:
    """The base with what is kept of each difference: their sum, or that of those that agree on a sign."""
    assert one.base is not None
    thin = [_Thinning(one, number) for number in range(len(one.rows))]
    weights = one.weights()
    elect = one.method.endswith("ties") or one.method == "della"
    for place, (start, *pieces) in enumerate(together((one.base, *one.rows))):
        deltas = [thin[n].kept(piece - start, place) for n, piece in enumerate(pieces)]
        weighted = [np.float32(weight) * delta for weight, delta in zip(weights, deltas, strict=True)]
        if elect:
            total, divisor = thinning.elected(weighted, weights)
            divisor = np.where(divisor == 0, np.float32(1), divisor)
        else:
            total = np.sum(weighted, axis=0)
            divisor = np.float32(sum(weights) or 1)
        if one.of_merge["normalize"]:
            total = total / divisor
        yield start + np.float32(one.of_merge["lambda"]) * total


class _Thinning:
    """What is kept of one model's difference, and how much larger it is made."""

    def __init__(self, one: Ingredients, number: int) -> None:
        self.one, self.number, self.parameters = one, number, one.of_tensor[number]
        self.density = float(self.parameters["density"])
        self.random = one.method.startswith(("dare", "della"))
        self.range = Kept() if self.random else self._range()
        self.factor = np.float32(1)
        if one.of_merge["rescale"] and (one.like == "mergekit" or not self.random):
            self.factor = self._factor()

    def _deltas(self) -> Iterator[Floats]:
        base = self.one.base
        assert base is not None
        return (piece - start for start, piece in together((base, self.one.rows[self.number])))

    def _range(self) -> Kept:
        pieces: Pieces = self._deltas
        if "gamma" in self.parameters:
            return thinning.middle(pieces, self.one.count, self.density, float(self.parameters["gamma"]))
        return thinning.largest(pieces, self.one.count, self.density)

    def _factor(self) -> np.float32:
        """What makes the sum of magnitudes that of the whole difference again."""
        before = after = 0.0
        for place, piece in enumerate(self._deltas()):
            before += float(np.abs(piece, dtype=np.float64).sum())
            after += float(np.abs(self._drawn(piece, place, larger=False), dtype=np.float64).sum())
        return np.float32(before / after if before > 1e-7 and after > 1e-7 else 1.0)

    def kept(self, delta: Floats, place: int) -> Floats:
        """What stays of a piece of the difference."""
        larger = bool(self.one.of_merge["rescale"]) and self.one.like == "paper"
        return self.factor * self._drawn(delta, place, larger=larger)

    def _drawn(self, delta: Floats, place: int, *, larger: bool) -> Floats:
        if self.density >= 1:
            return delta
        if not self.random:
            return np.where(self.range.mask(delta), delta, np.float32(0))
        dice = np.random.Generator(np.random.Philox(key=self._key(place)))
        if "epsilon" in self.parameters:
            kept, chances = thinning.by_rank(delta, self.density, float(self.parameters["epsilon"]), dice)
            return kept / chances if larger else kept
        kept = thinning.at_random(delta, self.density, dice)
        return kept if larger else kept * np.float32(self.density)

    def _key(self, place: int) -> int:
        """Other numbers for each piece of each tensor of each model, the same in every run."""
        text = f"{self.one.seed} {self.one.name} {self.number} {place}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


def together(rows: Sequence[Rows]) -> Iterator[tuple[Floats, ...]]:
    """Pieces of several tensors with the same rows in each, however each of them comes."""
    iterators = [one() for one in rows]
    pieces: list[Any] = [next(one) for one in iterators]
    while True:
        size = min(map(_length, pieces))
        yield tuple(piece[:size] if piece.ndim else piece for piece in pieces)
        for n, piece in enumerate(pieces):
            rest = piece[size:] if piece.ndim else piece[None][1:]
            if len(rest) == 0 and (rest := next(iterators[n], None)) is None:
                return
            pieces[n] = rest


def _length(piece: Floats) -> int:
    return len(piece) if piece.ndim else 1
