"""What a tuning will take, before it starts: time from a probe, memory by a sum, and how to fit into less."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from soban.base import system
from soban.base.errors import UserError
from soban.base.units import of_bytes
from soban.learn.data.packing import IGNORED, Batch
from soban.learn.training.forecast import BACKWARD, FREE
from soban.learn.tuning.head import LOGITS
from soban.learn.tuning.packed import TILE
from soban.learn.tuning.settings import TuneSettings
from soban.messages import translate

if TYPE_CHECKING:
    from soban.learn.training.computing import Computer

LIBRARIES = 420_000_000  # bytes of torch, transformers and peft once they are loaded
PROBED = 320  # tokens of each thread at the most
SHORTER = 5  # a second pass has so many times fewer: a pass takes some time whatever its tokens
SHORT = 256  # tokens that a thread computes at a time, at the least


@dataclass(frozen=True)
class Geometry:
    """Sizes that decide what a pass takes."""

    hidden: int
    inner: int
    heads: int
    layers: int
    vocabulary: int
    weights: int  # bytes, of the model that stays as it is
    parameters: int  # of it
    learning: int  # parameters that learn
    copied: int = 0  # bytes of the model that are no pages of a file


@dataclass(frozen=True)
class Pace:
    """Seconds of a pass that learns: so many whatever it learns from, and more for each token of a thread."""

    fixed: float
    token: float

    def seconds(self, settings: TuneSettings) -> float:
        """Of a step."""
        tokens = settings.step_tokens / settings.parts
        return -(-tokens // settings.at_once) * self.fixed + tokens * self.token


@dataclass(frozen=True)
class TuneForecast:
    """A tuning, as it will probably be."""

    settings: TuneSettings
    seconds: float
    memory: int  # bytes at its peak, with the pages of the model's file
    own: int  # those of them that have to stay in memory
    disk: int
    bits: None = None  # a byte held out: nobody knows beforehand


def probe(computer: "Computer", settings: TuneSettings, learnt: float) -> Pace:
    """Two passes of each thread over tokens that mean nothing; the weights are as they were. `learnt`: the share of
    tokens that teach."""
    most = min(PROBED, settings.length)
    least = max(2, most // SHORTER)
    seconds = []
    dice = np.random.default_rng(0)
    for count in (least, least, most):  # the first one warms up
        inputs = dice.integers(0, settings.vocab_size, (computer.parts, count))
        targets = np.where(dice.random(inputs.shape) < learnt, inputs, IGNORED)
        targets[:, 0] = inputs[:, 0]
        start = time.perf_counter()
        computer.gradients([Batch(inputs, targets, np.arange(computer.parts) * count)])
        seconds.append(time.perf_counter() - start)
    token = max(0.0, seconds[2] - seconds[1]) / (most - least)
    return Pace(max(0.0, seconds[1] - least * token), token) if token else Pace(0.0, seconds[2] / most)


def memory(settings: TuneSettings, sizes: Geometry) -> int:
    """Bytes at the peak that have to stay in memory, with the program."""
    each = 4 if settings.dtype == "float32" else 2
    tokens = min(settings.at_once, max(settings.length, settings.step_tokens // settings.parts))
    tokens = max(tokens, settings.length)
    inside = each * tokens * (16 * sizes.hidden + 6 * sizes.inner + 4 * sizes.heads * settings.length // 2)
    kept = each * tokens * sizes.hidden * sizes.layers if settings.checkpointing else inside * (sizes.layers - 1)
    logits = 4 * (2 * LOGITS + 2 * TILE) if settings.base in ("q4", "q8") else 8 * LOGITS
    tiles = 6 * TILE if settings.base in ("q4", "q8") else 0
    passing = settings.parts * (inside + kept + max(logits, tiles))
    learning = sizes.learning * (4 + each + 8 + 4 * settings.parts)
    return LIBRARIES + sizes.copied + passing + learning


def forecast(
    settings: TuneSettings, sizes: Geometry, pace: Pace, held_out: int, every: int, start: int
) -> TuneForecast:
    """What these settings will come to; `held_out`: tokens that a measurement takes, `every`: steps between two."""
    steps = settings.steps - start
    measuring = held_out / settings.parts * pace.token / BACKWARD + pace.fixed / BACKWARD
    own = memory(settings, sizes)
    disk = 4 * sizes.learning * 5
    seconds = steps * pace.seconds(settings) + (steps // every + 1) * measuring
    return TuneForecast(settings, seconds, own + sizes.weights, own, disk)


def fitting(settings: TuneSettings, sizes: Geometry) -> tuple[TuneSettings, list[str]]:
    """The settings that fit into the free memory, and what was changed for that, in words. Raises UserError where none
    does."""
    free = system.available_memory()
    words: list[str] = []
    if free is None or memory(settings, sizes) <= FREE * free:
        return settings, words
    for smaller, word in _steps_down(settings):
        settings = smaller
        words.append(word)
        if memory(settings, sizes) <= FREE * free:
            return settings, words
    raise UserError(
        "tuning this takes {needed} of memory, and {free} are free", needed=of_bytes(memory(settings, sizes)),
        free=of_bytes(free), hint="close other programs, or take a shorter --context, or --base q4",
    )  # fmt: skip


def _steps_down(settings: TuneSettings) -> Iterator[tuple[TuneSettings, str]]:
    """Settings that take less and less, and what was changed."""
    if not settings.checkpointing:
        settings = replace(settings, checkpointing=True)
        yield settings, translate("memory is short: layers are computed again on the way back")
    while settings.at_once > max(SHORT, settings.length):
        settings = replace(settings, at_once=max(SHORT, settings.at_once // 2))
        yield settings, translate("memory is short: {count} tokens are computed at a time", count=settings.at_once)
    if settings.threads > 1:
        settings = replace(settings, threads=1)
        yield settings, translate("memory is short: one thread computes")
