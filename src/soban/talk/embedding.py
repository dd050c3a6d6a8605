"""Texts as vectors: what a model makes of a text inside, put together into one vector of length 1."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from soban.base.errors import UserError
from soban.models import Architecture
from soban.ops import Cache, make_batch, runner
from soban.ops.adapters import Adapter
from soban.ops.formats import Floats

Pooling = Literal["mean", "last"]
STEP = 256  # tokens at a time


class Embedder:
    """A model that gives its hidden states, with memory of its own; for one thread at a time."""

    def __init__(
        self,
        architecture: Architecture,
        weights: object,
        context: int,
        cache: Callable[[int], Cache],
        threads: int | None,
    ) -> None:
        """`cache` makes one for so many tokens."""
        self.architecture, self.context, self.cache = architecture, context, cache
        self.runner = runner(architecture.record(weights, context, hidden=True), STEP, STEP, threads)

    def embed(self, ids: Sequence[int], pooling: Pooling, adapter: Adapter | None = None) -> Floats:
        """(hidden,): the mean of a text's hidden states, or the last, of length 1. UserError for too many tokens."""
        if not 0 < len(ids) <= self.context:
            raise UserError(
                "{count} tokens, where 1 to {context} are possible", count=len(ids), context=self.context,
                hint="shorten the text",
            )  # fmt: skip
        cache, rotation = self.cache(len(ids)), self.architecture.config.row(len(ids))
        adapters, choices = ((adapter,), (0,)) if adapter else ((), ())
        total = np.zeros(self.architecture.config.hidden_size, np.float64)
        states = total
        for start in range(0, len(ids), STEP):
            piece = list(ids[start : start + STEP])
            batch = make_batch([piece], [start], [range(cache.pages)], range(len(piece)), rotation, adapters, choices)
            states = self.runner.run(batch, cache)
            total += states.sum(axis=0, dtype=np.float64)
        vector = total / len(ids) if pooling == "mean" else states[-1].astype(np.float64)
        length = np.linalg.norm(vector)
        if not np.isfinite(length):
            raise UserError("the model's output is not a number", hint="its weights are damaged: fetch the model again")
        return np.asarray(vector / (length or 1.0), np.float32)
