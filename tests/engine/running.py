"""Engines over a small model, and ways to run them to their end."""

from collections.abc import Sequence as Many

import numpy as np

from soban import ops
from soban.engine.engine import Engine
from soban.engine.sampling import Sampling
from soban.engine.sequence import Request, Sequence

CONTEXT = 64
PROMPTS = [[5, 9, 2], list(range(1, 41)), [7] * 33, [3], list(range(60, 90))]


def engine(weights: tuple, pages: int = 40, chunk: int = 16, outputs: int = 8) -> Engine:
    made, arrays = weights
    c = made.config
    cache = ops.make_cache(pages, [ops.LayerGeometry(c.kv_heads, c.head_size)] * c.num_hidden_layers, "f32")
    return Engine(ops.runner(made.record(arrays), chunk, outputs), cache, CONTEXT)


def finish(it: Engine, sequences: Many[Sequence]) -> list[list[int]]:
    texts: dict[int, list[int]] = {id(s): [] for s in sequences}
    while it.busy:
        for event in it.step():
            if event.token is not None:
                texts[id(event.sequence)].append(event.token)
    assert it.blocks.users == [0] * it.cache.pages
    return list(texts.values())


def alone(weights: tuple, prompt: list[int], sampling: Sampling) -> list[int]:
    it = engine(weights)
    return finish(it, it.add(Request(prompt, sampling)))[0]


def counted(it: Engine) -> list[int]:
    """Notes how many tokens each step computes from here on."""
    sizes: list[int] = []
    run = it.runner.run

    def counting(batch: ops.Batch, cache: ops.Cache | None) -> np.ndarray:
        sizes.append(len(batch.tokens))
        return run(batch, cache)

    it.runner.run = counting  # type: ignore[method-assign]
    return sizes
