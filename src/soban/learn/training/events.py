"""What a training tells while it runs: a kind of event for each thing that happens, whose text is a line about it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from soban.base.errors import UserError
from soban.learn.training import sizes
from soban.learn.training.checkpoint import Progress
from soban.learn.training.settings import Settings
from soban.messages import translate

if TYPE_CHECKING:
    from soban.learn.training.forecast import Forecast


@dataclass(frozen=True)
class Begin:
    """All is ready: the next thing is a step. The one event that every process of a training is told."""

    settings: Settings
    progress: Progress  # where it begins
    forecast: "Forecast"
    leads: bool  # whether this process writes and speaks: the first of several

    def __str__(self) -> str:
        settings = self.settings
        return translate(
            "{parameters:.2f} M parameters, {dtype}; {steps} steps of {tokens} tokens",
            parameters=sizes.parameters(settings) / 1e6, dtype=settings.dtype,
            steps=settings.steps - self.progress.step, tokens=settings.step_tokens,
        )  # fmt: skip


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
