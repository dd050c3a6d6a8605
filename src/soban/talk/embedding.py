"""Texts as vectors: what a model makes of a text inside, many texts at a time, put together into one vector each."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from soban.base.errors import UserError
from soban.loading.pooling import Pooling, unit
from soban.models import Architecture
from soban.ops import Cache, Runner, make_batch, runner
from soban.ops.adapters import Adapter
from soban.ops.batch import PAGE
from soban.ops.cache import state_bytes
from soban.ops.formats import Floats
from soban.ops.recorder import Program

STEP = 256  # tokens at a time, if a text is read in pieces
TOGETHER = 2048  # tokens of texts that are read as wholes
NAMES = {"last": "lasttoken"}  # of a way of pooling, in short


def pooled(pooling: Pooling, name: str | None) -> Pooling:
    """The same with another way to put hidden states together; None: as the model's files say."""
    if name is None:
        return pooling
    from soban.loading.pooling import POOLINGS

    mode = NAMES.get(name, name)
    if mode not in POOLINGS:
        known = ", ".join(POOLINGS)
        raise UserError("pooling={value}: there are {known}", value=name, known=known, hint="choose one of them")
    return replace(pooling, modes=(mode,))


class Batches:
    """A program that reads texts, with memory of its own; for one thread at a time.

    An encoder reads texts as wholes, many at a time; other models read long ones in pieces. `results` gives, for each
    text in turn, the rows that the program makes: of each token, or with `first`, of the first.
    """

    def __init__(
        self, program: Program, architecture: Architecture, context: int, cache: Callable[[int], Cache],
        threads: int | None, *, first: bool = False,
    ) -> None:  # fmt: skip
        """`cache` makes one for so many tokens."""
        self.program, self.architecture, self.context = program, architecture, context
        self.cache, self.threads, self.first = cache, threads, first
        self._runner: Runner | None = None
        self._cache: Cache | None = None

    def results(
        self, texts: Sequence[Sequence[int]], types: Sequence[Sequence[int]] = (), adapter: Adapter | None = None
    ) -> Iterator[tuple[int, Floats]]:
        """The number of a text and its rows, the shortest texts first. UserError for too many tokens, before any."""
        for text in texts:
            if not 0 < len(text) <= self.context:
                raise UserError(
                    "{count} tokens, where 1 to {context} are possible", count=len(text), context=self.context,
                    hint="shorten the text",
                )  # fmt: skip
        for numbers in self._groups(texts):
            if len(numbers) == 1 and not self.architecture.encoder:
                yield numbers[0], self._in_pieces(texts[numbers[0]], adapter)
                continue
            together = [texts[n] for n in numbers]
            starts = np.cumsum([0, *map(len, together)])
            outputs = starts[:-1].tolist() if self.first else range(int(starts[-1]))
            rows = self._run(
                together, [0] * len(together), outputs, [t for n in numbers if types for t in types[n]], adapter
            )
            for i, number in enumerate(numbers):
                yield number, rows[i : i + 1] if self.first else rows[starts[i] : starts[i + 1]]

    def _groups(self, texts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Numbers of texts of similar length, that are read together."""
        most = TOGETHER if self.architecture.encoder else STEP
        alone = bool(state_bytes(self.architecture.config.geometries))  # the cache has room for one text's
        group: list[int] = []
        size = 0
        for number in sorted(range(len(texts)), key=lambda n: len(texts[n])):
            other = group and self._rotation(texts[number]) != self._rotation(texts[group[0]])
            if group and (alone or other or size + len(texts[number]) > most):
                yield group
                group, size = [], 0
            group.append(number)
            size += len(texts[number])
        if group:
            yield group

    def _rotation(self, text: Sequence[int]) -> int:
        row: int = self.architecture.config.row(len(text))
        return row

    def _in_pieces(self, text: Sequence[int], adapter: Adapter | None) -> Floats:
        """The rows of a text that is read from its beginning on."""
        rows = [
            self._run(
                [text[start : start + STEP]], [start], range(min(STEP, len(text) - start)), (), adapter, text
            ).copy()
            for start in range(0, len(text), STEP)
        ]
        return np.concatenate(rows)

    def _run(
        self, texts: Sequence[Sequence[int]], offsets: Sequence[int], outputs: Sequence[int], types: Sequence[int],
        adapter: Adapter | None, whole: Sequence[int] = (),
    ) -> Floats:  # fmt: skip
        """One step; `whole`: the text of which a piece is read."""
        tokens, lengths = sum(map(len, texts)), [len(whole or text) for text in texts]
        pages = np.cumsum([0, *(-(-length // PAGE) for length in lengths)]).tolist()
        if self._runner is None or tokens > self._runner.max_tokens:
            most = max(tokens, TOGETHER if self.architecture.encoder else STEP)
            self._runner = runner(self.program, most, most, self.threads, 1 if self.first else most)
        if self._cache is None or pages[-1] > self._cache.pages:
            self._cache = self.cache(max(pages[-1] * PAGE, 2 * STEP))
        tables = [range(start, end) for start, end in itertools.pairwise(pages)]
        adapters, choices = ((adapter,), [0] * len(texts)) if adapter else ((), [])
        rotation = self._rotation(whole or texts[0])
        batch = make_batch(
            [list(text) for text in texts], offsets, tables, outputs, rotation, adapters, choices, types=types
        )  # fmt: skip
        return self._runner.run(batch, self._cache)


def vectors(
    batches: Batches, texts: Sequence[Sequence[int]], pooling: Pooling, *, prompt: int = 0, normalize: bool = True,
    adapter: Adapter | None = None,
) -> Floats:  # fmt: skip
    """(n, width): each text's vector, of length 1 unless `normalize` is false; `prompt`: tokens of a prompt."""
    width = pooling.width(batches.architecture.config.hidden_size)
    out = np.empty((len(texts), width), np.float32)
    for number, states in batches.results(texts, adapter=adapter):
        vector = pooling.vector(states, prompt)
        if not np.isfinite(vector).all():
            raise UserError("the model's output is not a number", hint="its weights are damaged: fetch the model again")
        out[number] = unit(vector) if normalize else vector
    return out
