"""Timing single steps of a model: below the engine, so that no sampling, reuse or speculation is measured with it."""

import contextlib
import time
from collections import Counter
from collections.abc import Iterator

import numpy as np

from soban.model import Model
from soban.ops import make_batch, make_cache
from soban.ops.batch import PAGE
from soban.ops.native.program import NativeProgram

SEQUENCES = 64  # that a step may continue
PRODUCTS, ATTENTION, REST = "products", "attention", "rest"
# Of an operation's time; others are the rest. What stands in attention's place counts as it.
PARTS = {
    "linear": PRODUCTS, "refine": PRODUCTS, "attention": ATTENTION, "convolution": ATTENTION, "delta_rule": ATTENTION,
}  # fmt: skip


class Probe:
    """A model's steps with a cache of their own, which holds `positions` tokens of all sequences together."""

    def __init__(self, model: Model, positions: int, seed: int = 1) -> None:
        self.model, self.random = model, np.random.default_rng(seed)
        self.parts: Counter[str] = Counter()  # nanoseconds of the last prefill or decode, by PARTS
        c = model.config
        layers = c.geometries
        self.cache = make_cache(-(-positions // PAGE), layers, model.engine.cache.format, SEQUENCES)

    @property
    def position_bytes(self) -> int:
        """What a position takes in the cache, keys and values of all layers."""
        return self.cache.nbytes // (self.cache.pages * PAGE)

    def prefill(self, tokens: int) -> float:
        """Seconds to read a prompt of random tokens, with the logits of its last."""
        pages = range(self.cache.pages)
        ids = self._ids(tokens)
        start = time.perf_counter()
        most = self.model.runner.max_tokens
        with self._counting():
            for first in range(0, tokens, most):
                piece = ids[first : first + most]
                outputs = [len(piece) - 1] if first + most >= tokens else []
                self.model.runner.run(make_batch([piece], [first], [pages], outputs), self.cache)
        return time.perf_counter() - start

    def fill(self, length: int, sequences: int = 1) -> list[range]:
        """Page tables of `sequences` conversations of `length` tokens, without computing them all.

        One page is computed and copied: the time of a step does not depend on what the cache holds, only on its size.
        """
        each = -(-length // PAGE)
        assert each * sequences <= self.cache.pages
        self.prefill(min(length, PAGE))
        for page in range(1, each * sequences):
            self.cache.copy_page(0, page)
        return [range(each * i, each * (i + 1)) for i in range(sequences)]

    def decode(self, context: int, count: int, sequences: int = 1, seconds: float = 1e9) -> list[float]:
        """Seconds of each of `count` steps (fewer, but 3, if `seconds` are over) that begin at `context` tokens."""
        tables = self.fill(context + count, sequences)
        tokens, durations = self._ids(sequences), []
        end = time.perf_counter() + seconds
        with self._counting():
            for n in range(count):
                start = time.perf_counter()
                batch = make_batch([[t] for t in tokens], [context + n] * sequences, tables, range(sequences))
                tokens = [int(row.argmax()) for row in self.model.runner.run(batch, self.cache)]
                now = time.perf_counter()
                durations.append(now - start)
                if now > end and n >= 2:
                    break
        return durations

    @contextlib.contextmanager
    def _counting(self) -> Iterator[None]:
        """Sets `parts` to what the steps within took; to nothing where NumPy computes."""
        self.parts, runner = Counter(), self.model.runner
        if not isinstance(runner, NativeProgram):
            yield
            return
        runner.spent = np.zeros(len(runner.program.steps), np.int64)
        try:
            yield
            for step, nanoseconds in zip(runner.program.steps, runner.spent.tolist(), strict=True):
                self.parts[PARTS.get(step.op, REST)] += nanoseconds
        finally:
            runner.spent = None

    def _ids(self, count: int) -> list[int]:
        return [int(i) for i in self.random.integers(0, self.model.config.vocab_size, count)]
