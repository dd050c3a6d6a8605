"""What a training tells while it runs: a kind of event for each thing that happens, whose text is a line about it."""

from dataclasses import dataclass
from typing import Protocol

from soban.base.errors import UserError
from soban.learn.training.checkpoint import Progress
from soban.learn.training.settings import Learning
from soban.messages import translate


class Foreseen(Protocol):
    """What of a forecast is told as it begins."""

    @property
    def seconds(self) -> float: ...
    @property
    def bits(self) -> tuple[float, float] | None: ...  # a byte of text held out; None: nobody knows


@dataclass(frozen=True)
class Begin:
    """All is ready: the next thing is a step. The one event that every process of a training is told."""

    settings: Learning
    progress: Progress  # where it begins
    forecast: Foreseen
    leads: bool  # whether this process writes and speaks: the first of several
    parameters: int  # of the network, or those of an adapter
    base: int = 0  # parameters of the model that stays as it is beside the adapter

    def __str__(self) -> str:
        settings = self.settings
        fields = {
            "parameters": self.parameters / 1e6, "dtype": settings.dtype, "base": self.base / 1e6,
            "steps": settings.steps - self.progress.step, "tokens": settings.step_tokens,
        }  # fmt: skip
        if self.base:
            return translate(
                "{parameters:.2f} M parameters learn beside {base:.0f} M, {dtype}; {steps} steps of {tokens} tokens",
                **fields,
            )  # fmt: skip
        return translate("{parameters:.2f} M parameters, {dtype}; {steps} steps of {tokens} tokens", **fields)


@dataclass(frozen=True)
class Step:
    """What one step came to."""

    progress: Progress
    steps: int  # in all
    loss: float  # nats a token
    rate: float
    length: float  # of the gradient
    tokens: int

    def __str__(self) -> str:
        step = translate("step {step}/{steps}", step=self.progress.step, steps=self.steps)
        return f"{step}  {translate('loss {loss:.3f}', loss=self.loss)}"


@dataclass(frozen=True)
class Measurement:
    """Bits a byte of text held out, and what the model writes now."""

    progress: Progress
    bits: float
    best: bool
    samples: tuple[str, ...]

    def __str__(self) -> str:
        line = (
            translate("step {step}: {bits:.4f} bits per byte held out, the best so far", **self._fields())
            if self.best
            else translate("step {step}: {bits:.4f} bits per byte held out", **self._fields())
        )
        return "\n".join([line, *(f"  {sample}" for sample in self.samples)])

    def _fields(self) -> dict[str, object]:
        return {"step": self.progress.step, "bits": self.bits}


@dataclass(frozen=True)
class Saved:
    """A checkpoint lies on the disk."""

    progress: Progress

    def __str__(self) -> str:
        return translate("step {step}: saved", step=self.progress.step)


@dataclass(frozen=True)
class NotSaved:
    """It could not be written; the one before it is still there."""

    progress: Progress
    problem: UserError

    def __str__(self) -> str:
        return translate("step {step}: not saved: {problem}", step=self.progress.step, problem=self.problem)


@dataclass(frozen=True)
class Note:
    """A word about it: a pause, or a file of figures that cannot be written."""

    text: str

    def __str__(self) -> str:
        return self.text


Event = Begin | Step | Measurement | Saved | NotSaved | Note
