"""Everything that decides what a training comes to: the same settings and data give the same weights, bit for bit."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal, Protocol

from soban.base.errors import UserError
from soban.learn import typed
from soban.learn.training.families import FAMILIES
from soban.learn.training.presets import Shape

AT_ONCE = 2048  # tokens that a thread computes at a time: what a layer keeps of them stays near the processor
MOST_SEED = 2**63 - 1  # that torch takes
Optimizer = Literal["muon", "adamw"]
Schedule = Literal["wsd", "cosine", "linear", "constant"]
Dtype = Literal["float32", "bfloat16"]


class Learning(Protocol):
    """What the loop and the optimiser read of any settings, of a training or a tuning."""

    @property
    def family(self) -> str: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def optimizer(self) -> Optimizer: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def beta1(self) -> float: ...
    @property
    def beta2(self) -> float: ...
    @property
    def grad_clip(self) -> float: ...
    @property
    def dtype(self) -> Dtype: ...
    @property
    def device(self) -> str: ...
    @property
    def mark(self) -> str: ...
    @property
    def step_tokens(self) -> int: ...
    def rate(self, step: int) -> float: ...
    def as_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Settings:
    """A training, as `training/settings.json` keeps it."""

    family: str  # of FAMILIES
    shape: Shape
    vocab_size: int
    batch_size: int  # rows in a step of one process, before accumulation
    steps: int
    learning_rate: float
    accumulation: int = 1
    processes: int = 1
    threads: int = 1  # of each process, where it computes on a CPU
    optimizer: Optimizer = "muon"
    schedule: Schedule = "wsd"
    warmup_steps: int = 0
    decay: float = 0.5  # share of the steps, at their end, over which wsd falls to zero
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    grad_clip: float = 1.0  # 0: gradients stay as long as they are
    dtype: Dtype = "float32"
    device: str = "cpu"
    seed: int = 0
    data_hash: str = ""
    tokenizer_hash: str = ""
    initial_hash: str = ""  # of the weights that it begins with; none where they are random
    learns: tuple[str, ...] = ()  # patterns of the names of weights that learn; (): all do
    evaluate_every: int = 0  # steps between two measurements, which decide which model is kept; 0: as is usual

    @property
    def mark(self) -> str:
        """What a training shares with its continuations and with nothing else."""
        lasting = {name: value for name, value in self.as_json().items() if name not in MAY_CHANGE}
        if not self.initial_hash:
            del lasting["initial_hash"]
        return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()

    def learns_by(self, name: str) -> bool:
        """Whether the weight of this name learns."""
        return not self.learns or any(fnmatchcase(name, pattern) for pattern in self.learns)

    @property
    def parts(self) -> int:
        """Shares of a batch that are computed side by side; their sum depends on how many there are."""
        return self.threads if self.device == "cpu" else 1

    @property
    def step_tokens(self) -> int:
        """Tokens that a step learns from."""
        return self.batch_size * self.accumulation * self.processes * self.shape.context

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return self.learning_rate * scheduled(self.schedule, step, self.steps, self.warmup_steps, self.decay)

    def as_json(self) -> dict[str, Any]:
        """For settings.json; where all weights learn, that is not told."""
        values = asdict(self)
        if not self.learns:
            del values["learns"]
        return values


# What may differ between a training and its continuation: how long it lasts, and how it ends.
MAY_CHANGE = frozenset({"steps", "schedule", "decay", "device", "threads", "learning_rate", "evaluate_every"})


def from_json(values: dict[str, Any]) -> Settings:
    """Settings as they were kept. Raises ValueError for what is none."""
    try:
        shape = typed.from_json(Shape, values["shape"])
        settings = typed.from_json(Settings, {**values, "shape": shape, "learns": tuple(values.get("learns", ()))})
        if settings.family not in FAMILIES:
            raise ValueError(f"family: {settings.family[:40]!r}")
        return settings
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(str(error)) from error


def scheduled(schedule: Schedule, step: int, steps: int, warmup: int, decay: float) -> float:
    """The share of the highest learning rate at a step counted from 0; cosine ends at nothing, as llama2.c has it.

    wsd: warm-up, stable, then straight down to zero (Hu et al., "MiniCPM", 2024).
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    left = max(0, steps - step) / max(1, steps - warmup)  # from 1 down to 0
    match schedule:
        case "wsd":
            falling = max(1, round(decay * steps))
            return min(1.0, (steps - step) / falling)
        case "linear":
            return left
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * (1 - left)))
    return 1.0


def check(settings: Settings) -> None:
    """UserError for values that make no network or no training."""
    for name, value, least in _least(settings):
        if value < least:
            raise UserError(
                "--{name} {value} is too small", name=name, value=value, least=least, hint="at least {least}"
            )
    shape = settings.shape
    if shape.num_key_value_heads != shape.num_attention_heads and not FAMILIES[settings.family].groups:
        raise UserError(
            "--key-value-heads {value}: in {family} each head has keys and values of its own",
            value=shape.num_key_value_heads, family=settings.family, hint="leave it out",
        )  # fmt: skip
    if shape.hidden_size % shape.num_attention_heads:
        raise UserError(
            "--hidden-size {width} cannot be parted into {heads} heads", width=shape.hidden_size,
            heads=shape.num_attention_heads, hint="choose --heads that divides --hidden-size",
        )  # fmt: skip
    if shape.num_attention_heads % shape.num_key_value_heads:
        raise UserError(
            "{heads} heads cannot share {key_value_heads} key-value heads evenly", heads=shape.num_attention_heads,
            key_value_heads=shape.num_key_value_heads, hint="choose --key-value-heads that divides --heads",
        )  # fmt: skip
    if shape.head_dim % 2:
        raise UserError(
            "heads of width {width}: an odd number, and rotary positions turn pairs", width=shape.head_dim,
            hint="choose --hidden-size over --heads so that it is even",
        )  # fmt: skip
    if not 0 < settings.learning_rate < math.inf:
        raise UserError(
            "--{name} {value} is not above 0", name="learning-rate", value=settings.learning_rate,
            hint="leave it out for the usual value",
        )  # fmt: skip
    if settings.seed > MOST_SEED:
        raise UserError("--seed {value} is too large", value=settings.seed, most=MOST_SEED, hint="at most {most}")
    if settings.warmup_steps >= settings.steps > 1:
        raise UserError(
            "--warmup-steps {value} of {steps} steps: the learning rate would never be reached",
            value=settings.warmup_steps, steps=settings.steps, hint="give fewer of them, or more --steps",
        )  # fmt: skip
    for name, share in (("beta1", settings.beta1), ("beta2", settings.beta2), ("decay", settings.decay)):
        if not 0 <= share < 1:
            raise UserError(
                "--{name} {value} is not from 0 to below 1", name=name, value=share,
                hint="leave it out for the usual value",
            )  # fmt: skip
    for name, number in (("weight-decay", settings.weight_decay), ("grad-clip", settings.grad_clip)):
        if not 0 <= number < math.inf:
            raise UserError(
                "--{name} {value} is below 0", name=name, value=number, hint="leave it out for the usual value"
            )


def _least(settings: Settings) -> list[tuple[str, int, int]]:
    """Flags with their values and the least that each may have."""
    shape = settings.shape
    return [
        ("hidden-size", shape.hidden_size, 1), ("intermediate-size", shape.intermediate_size, 1),
        ("layers", shape.num_hidden_layers, 1), ("heads", shape.num_attention_heads, 1),
        ("key-value-heads", shape.num_key_value_heads, 1), ("context", shape.context, 2),
        ("window", shape.window, 0), ("batch-size", settings.batch_size, 1),
        ("gradient-accumulation-steps", settings.accumulation, 1), ("steps", settings.steps, 1),
        ("processes", settings.processes, 1),
        ("warmup-steps", settings.warmup_steps, 0), ("seed", settings.seed, 0),
        ("evaluate-every", settings.evaluate_every, 0),
    ]  # fmt: skip


def shortened(settings: Settings, steps: int) -> Settings:
    """The same training with another length."""
    return replace(settings, steps=steps)
