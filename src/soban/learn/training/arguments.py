"""What `soban.learn.train` can be told: its arguments, with the help of those that are flags of `soban train`, too."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

from soban.base.errors import UserError
from soban.learn.training import presets
from soban.learn.training.events import Event
from soban.learn.training.families import FAMILIES
from soban.learn.training.settings import Optimizer, Schedule

MULTIPLE = 32  # of which the inner width is one, as in llama2.c
Stop = Callable[[], bool] | threading.Event


@dataclass(frozen=True)
class TrainArguments:
    """A training. Those with a help are flags, too, and told by their names as such: batch_size is --batch-size."""

    data: str | Path = field(metadata={"help": "folder made by soban data", "metavar": "FOLDER"})
    out: str | Path = field(metadata={"help": "folder for the model", "metavar": "FOLDER", "also": ("--out-dir",)})
    preset: str = field(
        default=presets.USUAL,
        metadata={"help": "size of the network: 260k, 1m, 3m, 5m, 15m, 42m or 110m", "metavar": "NAME"},
    )
    resume: bool = field(default=False, metadata={"help": "go on from the checkpoint in --out"})
    init_from: str | Path = field(
        default="scratch",
        metadata={
            "help": "begin with the weights of a model that this has trained (resume: as --resume)",
            "metavar": "FOLDER",
        },
    )
    steps: int | None = field(
        default=None,
        metadata={
            "help": "steps to train (default: 20 tokens for each weight, 4 passes over the data at most)",
            "also": ("--max-iters",),
        },
    )
    minutes: float | None = field(default=None, metadata={"help": "time to train, in place of steps", "example": "30"})
    pause_on: str | None = field(
        default=None,
        metadata={
            "help": "pause while the PC runs on battery, or while other programs want the processor",
            "metavar": "battery,load",
        },
    )
    prompt: tuple[str, ...] = field(
        default=(), metadata={"help": "opening of a sample that is shown at every measurement", "metavar": "TEXT"}
    )
    samples: bool = field(
        default=True,
        metadata={"help": "show samples (default)", "off": "--no-samples", "off_help": "show no samples"},
    )
    evaluate_every: int | None = field(
        default=None,
        metadata={
            "help": "steps between two measurements on text held out (default: 20 in all)",
            "also": ("--eval-interval",),
        },
    )
    batch_size: int | None = field(default=None, metadata={"help": "rows in a step (default: 8192 tokens)"})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "batches that a step is made of"})
    learning_rate: float | None = field(
        default=None, metadata={"help": "the highest (default: 4e-3 with muon, 1e-3 with adamw)", "example": "1e-3"}
    )
    optimizer: Optimizer = field(default="muon", metadata={"help": "what moves the weights"})
    schedule: Schedule = field(
        default="wsd", metadata={"help": "of the learning rate; wsd: up, level, and down to zero in the last half"}
    )
    warmup_steps: int | None = field(
        default=None, metadata={"help": "steps over which it rises (default: 2 %)", "also": ("--warmup-iters",)}
    )
    decay: float = field(default=0.5, metadata={"help": "share of the steps over which wsd falls", "example": "0.3"})
    weight_decay: float = field(default=0.1, metadata={"help": "how strongly weights are drawn to zero"})
    beta1: float = field(default=0.9, metadata={"help": "AdamW's memory of gradients", "example": "0.9"})
    beta2: float = field(default=0.95, metadata={"help": "AdamW's memory of their squares", "example": "0.95"})
    grad_clip: float = field(default=1.0, metadata={"help": "longest gradient", "example": "1.0"})
    dtype: Literal["auto", "float32", "bfloat16"] = field(
        default="auto", metadata={"help": "of the arithmetic; auto: bfloat16 where the processor has units for it"}
    )
    device: Literal["auto", "cpu", "cuda"] = field(default="auto", metadata={"help": "auto: a GPU where there is one"})
    seed: int = field(default=0, metadata={"help": "decides the first weights and the order of the data"})
    family: str = field(default="llama", metadata={"help": "kind of network", "metavar": "|".join(FAMILIES)})
    context: int | None = field(default=None, metadata={"help": "longest text in tokens", "also": ("--max-seq-len",)})
    window: int | None = field(default=None, metadata={"help": "tokens that every other layer of gemma2 looks back"})
    hidden_size: int | None = field(default=None, metadata={"help": "width of the network", "also": ("--dim",)})
    intermediate_size: int | None = field(
        default=None, metadata={"help": "width inside the feed-forward layers (default: 8/3 of --hidden-size)"}
    )
    layers: int | None = field(default=None, metadata={"help": "depth of the network", "also": ("--n-layers",)})
    heads: int | None = field(default=None, metadata={"help": "attention heads", "also": ("--n-heads",)})
    key_value_heads: int | None = field(
        default=None,
        metadata={"help": "heads of keys and values (default: as many as --heads)", "also": ("--n-kv-heads",)},
    )
    learns: Sequence[str] = ()  # patterns of the names of weights that learn, as "*.layers.3.*"; (): all do
    measure_batches: int | None = None  # that a measurement takes; None: of about 65,536 tokens
    progress: Callable[[Event], None] | None = None  # is told what happens, in the thread that trains
    stop: Stop | None = None  # asked at every step: whether to end there, and save
    command: tuple[str, ...] = ()  # for training/settings.json, in place of these arguments


DEFAULTS = {one.name: one.default for one in fields(TrainArguments)}


def completed(arguments: TrainArguments, explicit: frozenset[str]) -> TrainArguments:
    """With the widths and heads that others decide. Raises UserError for what would say nothing beside the others;
    `explicit`: the names of those that somebody has chosen."""
    if arguments.family not in FAMILIES:
        raise UserError(
            "{flag} {value} is not known", flag="--family", value=arguments.family, known=", ".join(FAMILIES),
            hint="choose among {known}",
        )  # fmt: skip
    _refuse_idle(arguments, explicit)
    if arguments.hidden_size is not None and arguments.intermediate_size is None:
        arguments = replace(arguments, intermediate_size=feed_forward(arguments.hidden_size, MULTIPLE))
    if arguments.heads is not None and arguments.key_value_heads is None:
        arguments = replace(arguments, key_value_heads=arguments.heads)
    return arguments


def unusual(arguments: TrainArguments) -> frozenset[str]:
    """The names of the arguments that are not as usual."""
    return frozenset(name for name, usual in DEFAULTS.items() if getattr(arguments, name) != usual)


def feed_forward(width: int, multiple: int) -> int:
    """llama2.c's inner width: two thirds of four times the outer one, rounded up to a multiple."""
    return -(-(2 * 4 * width // 3) // multiple) * multiple


def flag_of(name: str) -> str:
    """As an argument's flag is written."""
    return "--" + name.replace("_", "-")


def _refuse_idle(arguments: TrainArguments, explicit: frozenset[str]) -> None:
    family = FAMILIES[arguments.family]
    windowed = next(name for name, one in FAMILIES.items() if one.windowed)
    idle = {
        "window": (arguments.window is not None and not (family.windowed or arguments.resume), f"--family {windowed}"),
        "decay": ("decay" in explicit and arguments.schedule != "wsd", "--schedule wsd"),
        "prompt": (bool(arguments.prompt) and not arguments.samples, "--samples"),
    }
    for name, (says_nothing, other) in idle.items():
        if says_nothing:
            raise UserError(
                "{flag} says nothing without {other}", flag=flag_of(name), other=other, hint="leave one of them out"
            )
