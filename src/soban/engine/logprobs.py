"""How likely a model held the token that was chosen, and which ones it held likeliest."""

import math
from typing import NamedTuple

import numpy as np

from soban.engine.sampler import greatest
from soban.ops.formats import Floats


class Logprobs(NamedTuple):
    """Natural logarithms of probabilities: the chosen token's, and the likeliest tokens with theirs, likeliest first.

    If the chosen one is among these, its value is the same float there.
    """

    chosen: float
    ids: tuple[int, ...]
    values: tuple[float, ...]


def logprobs_of(logits: Floats, token: int, count: int) -> Logprobs:
    """Of one row of logits (vocabulary,), as the model computed them: no temperature, penalty or ban is in them."""
    best = logits.max()
    total = float(np.exp(logits - best).sum(dtype=np.float64))
    shift = float(best) + math.log(total)
    ids: tuple[int, ...] = ()
    if count:
        ids = tuple(greatest(logits, min(count, len(logits)))[0][:count].tolist())
    return Logprobs(float(logits[token]) - shift, ids, tuple(float(logits[i]) - shift for i in ids))
