"""What a training will take and come to, before it starts: time from a probe, memory by a sum, loss from a curve."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from soban.base import system
from soban.base.errors import UserError
from soban.base.units import of_bytes
from soban.learn.data.shards import Documents, Shards, read_manifest
from soban.learn.data.vocabulary import probabilities
from soban.learn.training import presets, sizes
from soban.learn.training.families import FAMILIES
from soban.learn.training.settings import AT_ONCE, Settings

COUNTED = 1_000_000  # tokens of which the trigram model is made: a second's work, and the curve holds for this many
MEASURED = 65_536  # that it is measured with, and that a measurement of the training takes
BACKWARD = 3  # a pass that learns, over one that only measures
LIBRARIES = 150_000_000  # bytes of what torch and transformers load with the first network
FREE = 0.9  # share of the free memory that a training may plan with

# Bits per byte of text held out over those of a trigram model, by weights N and tokens D, in the form of Hoffmann et
# al. ("Training compute-optimal large language models", 2022):
#     FLOOR + WIDTH / N^OF_WEIGHTS + DATA / D^OF_TOKENS
# scripts/fit_forecast.py found these in benchmarks/results/forecast.csv: nine trainings here of 0.3 to 1 M weights on
# 0.1 to 1 M tokens of Shakespeare and TinyStories, and for long trainings the losses that llama2.c tells of its four
# models.
FLOOR, WIDTH, DATA = 0.0526, 17.8, 38.34
OF_WEIGHTS, OF_TOKENS = 0.28, 0.30
FEWEST = 100_000  # tokens: on fewer, how many steps they are taken in decides more than they do
# It is off by 2.8 % there (root mean square, 6 % at the most). Other text is further from these than they are from each
# other; text that a program has written comes to a third of it.
ERROR = 0.1


@dataclass(frozen=True)
class Speed:
    """What the probe found."""

    tokens: float  # that one process computes gradients of in a second
    update: float  # seconds in which the weights are moved, once a step

    def step_seconds(self, settings: Settings) -> float:
        """How long a step takes."""
        return settings.step_tokens / settings.processes / self.tokens + self.update


@dataclass(frozen=True)
class Forecast:
    """A training, as it will probably be."""

    name: str | None  # of a preset; None: another shape
    settings: Settings
    seconds: float
    passes: float  # over the data
    bits: tuple[float, float] | None  # a byte of text held out: from and to; None: of no curve that is known
    memory: int
    disk: int


def measuring_seconds(speed: Speed, data: Path) -> float:
    """How long a measurement takes."""
    return min(MEASURED, learnt_tokens(data, "validation")) / BACKWARD / speed.tokens


def steps_within(settings: Settings, speed: Speed, minutes: float, measuring: float) -> int:
    """How many steps so many minutes are enough for, where all measurements together take `measuring` seconds; half
    of the time at the least is for learning."""
    seconds = max(30 * minutes, 60 * minutes - measuring)
    return max(1, int(seconds / speed.step_seconds(settings)))


def forecast(
    name: str | None, settings: Settings, speed: Speed, data: Path, hardness: float, every: int, start: int = 0
) -> Forecast:
    """What these settings will come to. `hardness`: bits per byte of a trigram model; `every`: steps between two
    measurements; `start`: steps that are taken already."""
    tokens = settings.steps * settings.step_tokens
    steps = settings.steps - start
    seconds = steps * speed.step_seconds(settings) + steps / every * measuring_seconds(speed, data)
    parameters = sizes.parameters(settings)
    expected = hardness * ratio(parameters, tokens)
    bits = None if settings.initial_hash else (expected * (1 - ERROR), expected * (1 + ERROR))
    return Forecast(
        name, settings, seconds, tokens / max(1, learnt_tokens(data)), bits, memory(settings), disk(settings)
    )


def learnt_tokens(data: Path, split: str = "train") -> int:
    """How many tokens a split of the data has."""
    tokens: int = read_manifest(data)["splits"].get(split, {"tokens": 0})["tokens"]
    return tokens


def ratio(parameters: float, tokens: float) -> float:
    """Bits per byte that a network of so many weights has after so many tokens, over those of a trigram model."""
    return FLOOR + WIDTH / parameters**OF_WEIGHTS + DATA / max(tokens, FEWEST) ** OF_TOKENS


def slower(speed: Speed, settings: Settings, other: Settings) -> Speed:
    """The speed of another network on the same PC: by its count of operations."""
    share = sizes.flops_per_token(settings) / sizes.flops_per_token(other)
    return Speed(speed.tokens * share, speed.update / share)


def trigram_bits(data: Path) -> float:
    """Bits per byte of the text held out, by a trigram model of the data: how hard the text is."""
    held_out = Shards(data, "validation")
    old, new = _some(Shards(data).documents, COUNTED), _some(held_out.documents, MEASURED)
    bits = -np.log2(probabilities(old, new, held_out.entries)).sum()
    predicted = held_out.tokens - len(held_out.documents)  # BOS is given, and costs the trigrams nothing either
    return float(bits / max(1, int((new != held_out.bos_id).sum())) * predicted / held_out.bytes)


def _some(documents: Documents, most: int) -> NDArray[np.int64]:
    """The ids of documents from all over."""
    return np.concatenate([documents[number][:most].astype(np.int64) for number in documents.sample(most)])[:most]


def memory(settings: Settings) -> int:
    """Bytes that the training will take beside what this process has now, at the most."""
    shape, activations = settings.shape, FAMILIES[settings.family].activations
    weights, learning = sizes.parameters(settings), sizes.learning(settings)
    each = 4 if settings.dtype == "float32" else 2
    state = 8 if settings.optimizer == "adamw" else 4  # a weight's bytes of memory; Muon keeps one number for most
    # what a layer keeps of a token until the backward pass: norms, heads, the feed-forward's parts, attention's shares
    shares = shape.num_attention_heads * shape.context
    layer = activations.hidden * shape.hidden_size + activations.inner * shape.intermediate_size
    values = shape.num_hidden_layers * (layer + activations.shares * shares) + activations.passing * shares
    passing = settings.parts * max(AT_ONCE, shape.context) * each * values
    gradients = learning * (settings.parts * (4 + each) + 4)
    resident = weights * (4 + each) + learning * state
    saving = learning * (4 + state)  # a checkpoint is put together in memory
    return LIBRARIES + resident + max(gradients + passing, saving)


def disk(settings: Settings) -> int:
    """Bytes for the model and the checkpoint, each there twice while it is replaced."""
    state = 8 if settings.optimizer == "adamw" else 4
    return 2 * (4 * sizes.parameters(settings) + (4 + state) * sizes.learning(settings))


def check_room(settings: Settings, out: Path, name: str) -> None:
    """UserError where the training cannot fit into the memory or onto the disk. `name`: its preset."""
    free = system.available_memory()
    takes = memory(settings)
    if settings.device == "cpu" and free is not None and takes > FREE * free:
        less = presets.smaller(name)
        while less and memory(replace(settings, shape=presets.PRESETS[less])) > FREE * free:
            less = presets.smaller(less)
        raise UserError(
            "training this takes {needed} of memory, and {free} are free", needed=of_bytes(takes),
            free=of_bytes(free), preset=less or "260k", hint="close other programs, or take --preset {preset}",
        )  # fmt: skip
    place = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    room = shutil.disk_usage(place).free
    if disk(settings) > room:
        raise UserError(
            "{path}: {free} are free, and the training takes {needed}", path=place, free=of_bytes(room),
            needed=of_bytes(disk(settings)), hint="make room, or choose another disk with --out",
        )  # fmt: skip
