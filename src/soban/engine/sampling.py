"""Sampling: one row of logits to one token id, with transformers' parameters and their meaning."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import numpy.typing as npt

from soban.errors import UserError
from soban.ops.formats import Floats

Weights = npt.NDArray[np.float64]
WHOLE = ("max_new_tokens", "top_k", "num_return_sequences", "seed")
FEW = 1024  # candidates that are sorted first; almost always they hold all of top_p's mass


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. Names, meaning and order are those of transformers' generate()."""

    max_new_tokens: int | None = None  # None: until the model ends, or its context is full
    do_sample: bool = False  # False: always the likeliest token
    temperature: float = 1.0
    top_k: int = 50  # 0: no limit
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    num_return_sequences: int = 1
    seed: int | None = None  # None: another text each time
    stop: tuple[str, ...] = ()
    on_full: str = "error"  # past the context length: "error", or "slide" to forget the oldest tokens

    def __post_init__(self) -> None:
        """Raises UserError for a value of the wrong type or out of its range."""
        for field in dataclasses.fields(self):
            self._check_type(field.name, getattr(self, field.name))
        ranges = {
            "max_new_tokens": self.max_new_tokens is None or self.max_new_tokens >= 1,
            "temperature": self.temperature > 0 and math.isfinite(self.temperature),
            "top_k": self.top_k >= 0,
            "top_p": 0 < self.top_p <= 1,
            "min_p": 0 <= self.min_p <= 1,
            "repetition_penalty": self.repetition_penalty > 0 and math.isfinite(self.repetition_penalty),
            "num_return_sequences": 1 <= self.num_return_sequences <= 256,
            "seed": self.seed is None or 0 <= self.seed < 2**64,
            "on_full": self.on_full in ("error", "slide"),
        }
        allowed = {
            "max_new_tokens": ">= 1", "temperature": "> 0, < inf", "top_k": ">= 0", "top_p": "> 0, <= 1",
            "min_p": ">= 0, <= 1", "repetition_penalty": "> 0, < inf", "num_return_sequences": ">= 1, <= 256",
            "seed": ">= 0, < 2^64", "on_full": "error | slide",
        }  # fmt: skip
        for name in (name for name, valid in ranges.items() if not valid):
            raise UserError(
                "{name}={value} is out of range", name=name, value=getattr(self, name), allowed=allowed[name],
                hint="it must be {allowed}",
            )  # fmt: skip

    def _check_type(self, name: str, value: object) -> None:
        """Whole numbers, numbers, or true and false, as the defaults are; the seed and the length may be None."""
        if value is None and name in ("max_new_tokens", "seed"):
            return
        wanted = {"do_sample": bool, "stop": tuple, "on_full": str}.get(name, Integral if name in WHOLE else Real)
        if isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool)):
            return
        raise UserError("{name}={value} is of the wrong type", name=name, value=value, hint="see help(soban.Sampling)")

    def replace(self, **changes: object) -> "Sampling":
        """A copy with some values changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


class Sampler:
    """Chooses one sequence's tokens: its random numbers, and which tokens the sequence has had."""

    def __init__(self, sampling: Sampling, index: int) -> None:
        seed = None if sampling.seed is None else (sampling.seed, index)
        self.sampling = sampling
        self.random = np.random.Generator(np.random.PCG64(seed))
        self.seen: npt.NDArray[np.int64] = np.zeros(0, np.int64)

    def note(self, tokens: Sequence[int]) -> None:
        """Tokens that the sequence now holds, for the repetition penalty."""
        if self.sampling.repetition_penalty != 1.0:
            self.seen = np.union1d(self.seen, np.asarray(tokens, np.int64))

    def choose(self, logits: Floats) -> int:
        """The next token for one row of logits (vocabulary,). Raises UserError if one of them is NaN."""
        scores = self._penalised(logits)
        best = int(np.argmax(scores))  # the first of equals, as torch.argmax; NaN counts as the greatest
        if not np.isfinite(scores[best]):
            raise UserError(
                "the model's output is not a number", hint="its weights are damaged: fetch the model again"
            )  # fmt: skip
        if not self.sampling.do_sample:
            return best
        ids, probabilities = candidates(scores, self.sampling)
        reached = np.searchsorted(np.cumsum(probabilities), self.random.random() * probabilities.sum(), side="right")
        return int(ids[min(int(reached), len(ids) - 1)])

    def _penalised(self, logits: Floats) -> Floats:
        """Seen tokens' logits divided by the penalty if positive, multiplied if negative (Keskar et al. 2019)."""
        penalty = np.float32(self.sampling.repetition_penalty)
        if penalty == 1 or not len(self.seen):
            return logits
        scores = logits.copy()
        before = scores[self.seen]
        scores[self.seen] = np.where(before < 0, before * penalty, before / penalty)
        return scores


def candidates(scores: Floats, sampling: Sampling) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The tokens that may be drawn, likeliest first, and their probabilities.

    Temperature, then top_k, top_p and min_p, each on the distribution that the one before left.
    """
    # From the best score down, in float64: no temperature is so small that this overflows into wrong numbers.
    with np.errstate(over="ignore"):
        scaled = (scores.astype(np.float64) - float(scores.max())) / sampling.temperature
    if 0 < sampling.top_k < len(scaled):
        least = np.partition(scaled, -sampling.top_k)[-sampling.top_k]
        ids = np.flatnonzero(scaled >= least)  # those equal to the last one stay, too
        ids = ids[np.argsort(-scaled[ids], kind="stable")]
        weights = np.exp(scaled[ids])
        total = weights.sum()
    else:
        ids, weights, total = _likeliest(scaled, sampling.top_p)
    probabilities = weights / total
    if sampling.top_p < 1:
        before = np.cumsum(probabilities) - probabilities  # mass of all that are likelier
        keep = before < sampling.top_p
        keep[0] = True
        ids, probabilities = ids[keep], probabilities[keep]
    if sampling.min_p > 0:
        keep = probabilities >= sampling.min_p * probabilities[0]
        ids, probabilities = ids[keep], probabilities[keep]
    return ids, probabilities / probabilities.sum()


def _likeliest(scaled: Weights, mass: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], float]:
    """Token ids, likeliest first, as many as are sure to hold `mass`; their weights, and the weight of all tokens."""
    weights = np.exp(scaled)
    total = float(weights.sum())
    if mass < 1 and len(scaled) > FEW:
        top = np.argpartition(-scaled, FEW)[:FEW]
        if weights[top].sum() >= mass * total:
            least = scaled[top].min()
            top = np.flatnonzero(scaled >= least)  # in the order of ids, so that equals keep it
            ids = top[np.argsort(-scaled[top], kind="stable")]
            return ids, weights[ids], total
    ids = np.argsort(-scaled, kind="stable")
    return ids, weights[ids], total
