"""Sampling: one row of logits to one token id."""

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from soban.base.errors import UserError
from soban.engine.constraint import Constraint, Mask, masked, permits
from soban.engine.processors import Processors
from soban.engine.sampling import Sampling
from soban.ops.formats import Floats

Weights = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
FEW = (1024, 16384)  # candidates that are sorted first; almost always they hold all of top_p's mass


class Sampler:
    """Chooses one sequence's tokens: its random numbers, and what its tokens so far say about the next."""

    def __init__(self, sampling: Sampling, index: int, ends: frozenset[int] = frozenset()) -> None:
        seed = None if sampling.seed is None else (sampling.seed, index)
        self.sampling = sampling
        self.random = np.random.Generator(np.random.PCG64(seed))
        self.process = Processors(sampling, ends)

    def note(self, tokens: Iterable[int]) -> None:
        """Tokens that the sequence now holds; the first are its prompt."""
        self.process.note(tokens)

    def choose(self, logits: Floats, constraint: Constraint | None = None, ends: frozenset[int] = frozenset()) -> int:
        """The next token for one row of logits (vocabulary,). UserError if one is NaN, or if none may come.

        Where a constraint leaves no token but those that are banned, one of them comes. `ends` are the tokens that
        may come where it is complete.
        """
        scores = self.process(logits)
        best = int(scores.argmax())  # the first of equals, as torch.argmax; NaN counts as the greatest
        if not math.isfinite(scores[best]) and (constraint is None or not math.isfinite(logits.max())):
            raise _not_finite(logits)
        if constraint is not None:
            mask, ends = constraint.allowed(), ends if constraint.complete else frozenset()
            if not self.sampling.do_sample and (permits(mask, best) or best in ends):
                return best
            few, left = _constrained(scores, logits, mask, ends)
            place = self._draw(left) if self.sampling.do_sample else int(left.argmax())
            return place if few is None else int(few[place])
        return self._draw(scores) if self.sampling.do_sample else best

    def _draw(self, scores: Floats) -> int:
        ids, probabilities = candidates(scores, self.sampling)
        mass = probabilities.cumsum()
        reached = int(mass.searchsorted(self.random.random() * mass[-1], side="right"))
        return int(ids[min(reached, len(ids) - 1)])


def _constrained(scores: Floats, logits: Floats, mask: Mask, ends: frozenset[int]) -> tuple[Ids | None, Floats]:
    """What `masked` leaves; where that is nothing but what is banned, of the model's own scores."""
    for some in (scores, logits):
        few, left = masked(some, mask, ends)
        if len(left) and math.isfinite(left.max()):
            return few, left
    raise UserError(
        "the vocabulary has no token with which the text could go on as it has to be",
        hint="ask for another form of text",
    )


def _not_finite(logits: Floats) -> UserError:
    if math.isfinite(logits.max()):
        return UserError(
            "no token is left to choose", hint="lift one of suppress_tokens, bad_words_ids and no_repeat_ngram_size"
        )
    return UserError("the model's output is not a number", hint="its weights are damaged: fetch the model again")


def candidates(scores: Floats, sampling: Sampling) -> tuple[Ids, Weights]:
    """The tokens that may be drawn and their probabilities: likeliest first, or by id where only min_p leaves some out.

    Temperature, then top_k, top_p and min_p, each on the distribution that the one before left.
    """
    total = None
    if 0 < sampling.top_k < len(scores):
        ids, top = greatest(scores, sampling.top_k)
    elif sampling.top_p < 1:
        ids, top, total = _likeliest(scores, sampling)
    elif sampling.min_p > 0:
        ids = _near_the_best(scores, sampling)
        top = scores[ids]
    else:
        return np.arange(len(scores)), _all_probabilities(scores, sampling.temperature)
    probabilities = _weights(top, sampling.temperature)
    probabilities /= probabilities.sum() if total is None else total
    if sampling.top_p < 1:
        mass = probabilities.cumsum()
        mass -= probabilities  # of all that are likelier
        count = max(1, int(mass.searchsorted(sampling.top_p)))
        ids, probabilities = ids[:count], probabilities[:count]
    if sampling.min_p > 0:
        keep = probabilities >= sampling.min_p * probabilities.max()
        ids, probabilities = ids[keep], probabilities[keep]
    if sampling.top_p < 1 or sampling.min_p > 0:
        probabilities /= probabilities.sum()
    return ids, probabilities


def greatest(scores: Floats, count: int) -> tuple[Ids, Floats]:
    """The ids of the `count` greatest scores and of those equal to the last of them, and the scores: greatest first.

    Equal ones come by their ids.
    """
    length, width = len(scores) // (4 * count), 4 * count
    near, ids = scores, None
    if length > 1:
        # Of that many parts each has one of at least this score, so whoever is below is not among the greatest.
        parts = scores[: length * width].reshape(length, width).max(axis=0)
        parts.partition(len(parts) - count)
        ids = (scores >= parts[-count]).nonzero()[0]
        near = scores[ids]
    order = (-near).argsort(kind="stable")
    top = near[order]
    end = count
    while end < len(top) and top[end] == top[count - 1]:
        end += 1
    order = order[:end]
    return (order if ids is None else ids[order]), top[:end]


def _weights(scores: Floats, temperature: float) -> Weights:
    """exp of what each score is below the best one, in float64: no temperature is so small that this overflows."""
    below = scores.astype(np.float64)
    below -= below.max()
    with np.errstate(over="ignore"):
        below /= temperature
    return np.exp(below, out=below)


def _all_weights(scores: Floats, temperature: float) -> Floats:
    """The same for a whole vocabulary, in float32: a fifth of the time, where 256,000 of them are added."""
    least = np.finfo(np.float32).tiny  # so that the best one is 0 / least = 0 below itself
    with np.errstate(over="ignore"):
        below = (scores - scores.max()) / np.float32(max(temperature, least))
    return np.exp(below, out=below)


def _all_probabilities(scores: Floats, temperature: float) -> Weights:
    probabilities = _all_weights(scores, temperature).astype(np.float64)
    probabilities /= probabilities.sum()
    return probabilities


def _near_the_best(scores: Floats, sampling: Sampling) -> Ids:
    """The ids of all that min_p keeps, and perhaps of a few more at its edge."""
    best = float(scores.max())
    edge = best + sampling.temperature * math.log(0.99 * sampling.min_p)
    return np.flatnonzero(scores >= np.float32(edge - 1e-6 * (abs(edge) + abs(best))))


def _likeliest(scores: Floats, sampling: Sampling) -> tuple[Ids, Floats, float]:
    """Token ids, likeliest first, as many as are sure to hold the mass top_p, and their scores; the weight of all."""
    total = float(_all_weights(scores, sampling.temperature).sum(dtype=np.float64))
    for few in FEW:
        if few < len(scores):
            ids, top = greatest(scores, few)
            if _weights(top, sampling.temperature).sum() >= 1.00001 * sampling.top_p * total:
                return ids, top, total
    ids = np.argsort(-scores, kind="stable")
    return ids, scores[ids], total
