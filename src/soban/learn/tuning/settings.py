"""Everything that decides what a tuning comes to: the same settings, model and data give the same adapter."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from soban.base.errors import UserError
from soban.learn import typed
from soban.learn.training.settings import MOST_SEED, Dtype, Schedule, scheduled

Method = Literal["lora", "ia3", "full"]
Base = Literal["q4", "q8", "bf16", "f32"]


@dataclass(frozen=True)
class TuneSettings:
    """A tuning, as `training/settings.json` keeps it."""

    family: str  # model_type
    vocab_size: int
    model_hash: str  # tells the model from others
    data_hash: str  # the examples as tokens
    base: Base
    length: int  # tokens of a row
    batch_size: int  # rows in a step
    steps: int
    learning_rate: float
    method: Method = "lora"
    rank: int = 16
    alpha: float = 32.0
    rslora: bool = False
    dora: bool = False
    modules: tuple[str, ...] = ()  # ends of the names of the layers that are changed
    layers: tuple[int, ...] = ()  # numbers of those layers; (): all
    ranks: tuple[str, ...] = ()  # NAME=RANK: of some of them
    alphas: tuple[str, ...] = ()  # NAME=ALPHA
    threads: int = 1
    at_once: int = 2048  # tokens that a thread computes at a time
    checkpointing: bool = True  # layers are computed again on the way back, not kept
    schedule: Schedule = "cosine"
    warmup_steps: int = 0
    decay: float = 0.5
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    grad_clip: float = 1.0
    dtype: Dtype = "float32"
    device: str = "cpu"
    seed: int = 0
    evaluate_every: int = 0
    patience: int = 0  # measurements without a better one after which it ends; 0: it goes on to its last step
    optimizer: Literal["adamw"] = "adamw"
    processes: int = 1
    accumulation: int = 1

    @property
    def mark(self) -> str:
        """What a tuning shares with its continuations and with nothing else."""
        lasting = {name: value for name, value in self.as_json().items() if name not in MAY_CHANGE}
        return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()

    @property
    def parts(self) -> int:
        """Shares of a batch that are computed side by side."""
        return self.threads if self.device == "cpu" else 1

    @property
    def step_tokens(self) -> int:
        """Tokens that pass through the model in a step."""
        return self.batch_size * self.length

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return self.learning_rate * scheduled(self.schedule, step, self.steps, self.warmup_steps, self.decay)

    def as_json(self) -> dict[str, Any]:
        """For settings.json."""
        return asdict(self)


# What may differ between a tuning and its continuation
MAY_CHANGE = frozenset(
    {"steps", "schedule", "decay", "device", "threads", "learning_rate", "evaluate_every", "patience", "at_once",
     "checkpointing"}
)  # fmt: skip
LISTS = ("modules", "layers", "ranks", "alphas")


def from_json(values: dict[str, Any]) -> TuneSettings:
    """Settings as they were kept. Raises ValueError for what is none."""
    try:
        return typed.from_json(TuneSettings, {**values, **{name: tuple(values[name]) for name in LISTS}})
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(str(error)) from error


def check(settings: TuneSettings) -> None:
    """UserError for values that make no tuning."""
    least = {
        "rank": settings.rank, "batch-size": settings.batch_size, "steps": settings.steps,
    }  # fmt: skip
    for name, value in least.items():
        if value < 1:
            raise UserError("--{name} {value} is too small", name=name, value=value, least=1, hint="at least {least}")
    for name, count in (
        ("warmup-steps", settings.warmup_steps),
        ("seed", settings.seed),
        ("patience", settings.patience),
    ):
        if count < 0:
            raise UserError("--{name} {value} is too small", name=name, value=count, least=0, hint="at least {least}")
    for name, rate in (("learning-rate", settings.learning_rate), ("alpha", settings.alpha)):
        if not 0 < rate < math.inf:
            raise UserError(
                "--{name} {value} is not above 0", name=name, value=rate, hint="leave it out for the usual value"
            )
    if settings.seed > MOST_SEED:
        raise UserError("--seed {value} is too large", value=settings.seed, most=MOST_SEED, hint="at most {most}")
    if settings.warmup_steps >= settings.steps > 1:
        raise UserError(
            "--warmup-steps {value} of {steps} steps: the learning rate would never be reached",
            value=settings.warmup_steps, steps=settings.steps, hint="give fewer of them, or more --steps",
        )  # fmt: skip
    for name, number in (("weight-decay", settings.weight_decay), ("grad-clip", settings.grad_clip)):
        if not 0 <= number < math.inf:
            raise UserError(
                "--{name} {value} is below 0", name=name, value=number, hint="leave it out for the usual value"
            )
    if settings.dora and settings.base in ("q4", "q8"):
        raise UserError(
            "--dora on a base of {base}: the length of packed rows is not learnt", base=settings.base,
            hint="take --base bf16 or f32",
        )  # fmt: skip
