"""What `soban.learn.tune` can be told: its arguments, with the help of those that are flags of `soban tune`, too."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import field as option  # records have fields, too
from pathlib import Path
from typing import Literal

from soban.learn.training.arguments import Stop
from soban.learn.training.events import Event
from soban.learn.training.settings import Schedule
from soban.learn.tuning.settings import Method


@dataclass(frozen=True)
class TuneArguments:
    """A tuning. Those with a help are flags, too, and told by their names as such: batch_size is --batch-size."""

    data: str | Path | Sequence[str | Path] = option(
        metadata={"help": "examples: jsonl, json, csv, parquet or text; a file or a folder", "metavar": "FILE"}
    )
    out: str | Path = option(metadata={"help": "folder for the adapter", "metavar": "FOLDER"})
    model: str | Path | None = None  # a name or a path; None: the bundled one
    method: Method = option(
        default="lora",
        metadata={"help": "what learns: small matrices (lora), factors (ia3), or all weights of a small model (full)"},
    )
    base: Literal["auto", "q4", "q8", "bf16", "f32"] = option(
        default="auto", metadata={"help": "how the weights that stay as they are lie in memory"}
    )
    resume: bool = option(default=False, metadata={"help": "go on from the checkpoint in --out"})
    epochs: float = option(default=3.0, metadata={"help": "passes over the examples", "example": "3"})
    steps: int | None = option(default=None, metadata={"help": "steps to take, in place of --epochs"})
    pause_on: str | None = option(
        default=None,
        metadata={
            "help": "pause while the PC runs on battery, or while other programs want the processor",
            "metavar": "battery,load",
        },
    )
    field: tuple[str, ...] = option(
        default=(),
        metadata={"help": "a field of the records; several: the last one answers those before it", "metavar": "NAME"},
    )
    template: str | None = option(
        default=None,
        metadata={
            "help": "how conversations are written (default: as the model was taught): chatml, ... or a Jinja file",
            "metavar": "NAME|FILE",
        },
    )
    held_out: float = option(
        default=0.05, metadata={"help": "share of the examples that is held out for measuring", "example": "0.1"}
    )
    context: int | None = option(
        default=None, metadata={"help": "longest example in tokens; longer ones are left out (default: 2048)"}
    )
    rank: int = option(default=16, metadata={"help": "of the small matrices"})
    alpha: float | None = option(
        default=None,
        metadata={"help": "how much they weigh, over their rank (default: twice the rank)", "example": "32"},
    )
    rslora: bool = option(default=False, metadata={"help": "weigh them over the root of the rank"})
    dora: bool = option(default=False, metadata={"help": "learn the length of each row apart from its direction"})
    module: tuple[str, ...] = option(
        default=(), metadata={"help": "layers that are changed, as q_proj (default: all)", "metavar": "NAME"}
    )
    layers: str | None = option(
        default=None,
        metadata={"help": "numbers of the layers that are changed, as 20-25 (default: all)", "metavar": "N-M"},
    )
    rank_of: tuple[str, ...] = option(default=(), metadata={"help": "another rank for some", "metavar": "NAME=RANK"})
    alpha_of: tuple[str, ...] = option(default=(), metadata={"help": "another alpha for some", "metavar": "NAME=ALPHA"})
    samples: int = option(default=2, metadata={"help": "questions held out that are answered at every measurement"})
    evaluate_every: int | None = option(
        default=None, metadata={"help": "steps between two measurements on examples held out (default: 10 in all)"}
    )
    patience: int = option(
        default=0, metadata={"help": "end after so many measurements without a better one (0: never)"}
    )
    batch_size: int | None = option(default=None, metadata={"help": "rows in a step (default: about 4096 tokens)"})
    learning_rate: float | None = option(
        default=None, metadata={"help": "the highest (default: by method and size)", "example": "2e-4"}
    )
    schedule: Schedule = option(default="cosine", metadata={"help": "of the learning rate"})
    warmup_steps: int | None = option(default=None, metadata={"help": "steps over which it rises (default: 3 %)"})
    weight_decay: float = option(default=0.0, metadata={"help": "how strongly weights are drawn to zero"})
    grad_clip: float = option(default=1.0, metadata={"help": "longest gradient", "example": "1.0"})
    dtype: Literal["auto", "float32", "bfloat16"] = option(
        default="auto", metadata={"help": "of the arithmetic; auto: bfloat16 where the processor has units for it"}
    )
    device: Literal["auto", "cpu", "cuda"] = option(default="cpu", metadata={"help": "auto: a GPU where there is one"})
    seed: int = option(default=0, metadata={"help": "decides the first weights, what is held out, and the order"})
    progress: Callable[[Event], None] | None = None  # is told what happens, in the thread that learns
    stop: Stop | None = None  # asked at every step: whether to end there, and save
    command: tuple[str, ...] = ()  # for training/settings.json, in place of these arguments
