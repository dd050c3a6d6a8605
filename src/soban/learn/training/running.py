"""The one loop of learning: steps, measuring, checkpoints, the best model, and ending well whatever happens."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from soban.errors import UserError
from soban.learn.training import checkpoint, optimise
from soban.learn.training.checkpoint import Progress
from soban.learn.training.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from soban.learn.data.packing import Batch
    from soban.learn.training.computing import Computer

SAVE_SECONDS = 180


@dataclass(frozen=True)
class Step:
    """What one step came to."""

    progress: Progress
    loss: float  # nats a token
    rate: float
    length: float  # of the gradient
    tokens: int
    stop: bool  # some process wants to


class Listener(Protocol):
    """Who is told how a training goes; each may take its time."""

    def stepped(self, step: Step) -> None:
        """After every step."""

    def measured(self, progress: Progress, bits: float, best: bool) -> None:
        """After every measuring, in bits a byte of text held out."""

    def saved(self, progress: Progress) -> None:
        """A checkpoint lies on the disk."""

    def not_saved(self, problem: UserError, progress: Progress) -> None:
        """It could not be written; the one before it is still there."""


@dataclass
class Run:
    """A training: what it computes with, what it learns from, and where it is kept."""

    settings: Settings
    computer: "Computer"
    state: dict[str, "Tensor"]  # the optimisers' memory
    batches: Callable[[int], Iterator[Sequence["Batch"]]]  # what each step learns from, from a step on
    measure: Callable[[], float]  # bits a byte of text held out
    export: Callable[[Path], None]  # the model as it is now, into a folder
    folder: Path
    evaluate_every: int
    save_seconds: float = SAVE_SECONDS

    @property
    def checkpoint(self) -> Path:
        """Where it can be taken up again."""
        return self.folder / "training" / checkpoint.NAME

    @property
    def leads(self) -> bool:
        """Whether this process writes and speaks: the first of several."""
        return self.computer.group.rank == 0


def run(run: Run, progress: Progress, listener: Listener, stop: Callable[[], bool]) -> tuple[Progress, bool]:
    """Trains from `progress` to the last step or until `stop` says so; how far it came, and whether to the end.

    Raises UserError where the loss is no number or the end cannot be saved; the last checkpoint is then as it was.
    """
    saved = time.monotonic()
    stopped = False
    for step in steps(run, progress, stop):
        progress = step.progress
        if run.leads:
            listener.stepped(step)
        if step.stop:
            stopped = progress.step < run.settings.steps
            break
        if progress.step % run.evaluate_every == 0 and progress.step < run.settings.steps:
            progress = evaluated(run, progress, listener)
        if run.leads and time.monotonic() - saved >= run.save_seconds:
            try:
                checkpoint.save(run.checkpoint, run.computer.weights, run.state, progress)
                listener.saved(progress)
            except UserError as problem:
                listener.not_saved(problem, progress)  # room may be made before the next one
            saved = time.monotonic()
    if not stopped:
        progress = evaluated(run, progress, listener)
    if run.leads:
        checkpoint.save(run.checkpoint, run.computer.weights, run.state, progress)
        listener.saved(progress)
    return progress, not stopped


def steps(run: Run, progress: Progress, stop: Callable[[], bool]) -> Iterator[Step]:
    """Takes steps from `progress` on until the last; weights and state change with each."""
    settings = run.settings
    started = time.monotonic() - progress.seconds
    for batches in run.batches(progress.step):
        if progress.step >= settings.steps:
            return
        gradients, loss, tokens, stops = run.computer.gradients(batches, stop())
        if not math.isfinite(loss):
            raise _no_number(run, progress, loss)
        length = optimise.update(
            run.computer.weights, gradients, run.state, progress.step, settings, run.computer.workers.map
        )
        run.computer.refresh()
        rate = settings.rate(progress.step)
        progress = replace(
            progress, step=progress.step + 1, tokens=progress.tokens + tokens, seconds=time.monotonic() - started
        )
        yield Step(progress, loss, rate, length, tokens, stops)


def evaluated(run: Run, progress: Progress, listener: Listener) -> Progress:
    """Measures, and keeps the model where it is the best so far."""
    if not run.leads:
        return progress
    bits = run.measure()
    best = progress.best is None or bits < progress.best
    if best:
        progress = replace(progress, best=bits, best_step=progress.step)
        run.export(run.folder)
    listener.measured(progress, bits, best)
    return progress


def _no_number(run: Run, progress: Progress, loss: float) -> UserError:
    """Where the last good weights are, and how to go on with them."""
    if run.checkpoint.is_file():
        return UserError(
            "the loss became {loss} at step {step}; {path} keeps the checkpoint of step {good} and the best model",
            loss=loss, step=progress.step + 1, path=run.folder, good=checkpoint.progress_of(run.checkpoint).step,
            rate=run.settings.learning_rate / 4, hint="--resume --learning-rate {rate:g} goes on from it",
        )  # fmt: skip
    return UserError(
        "the loss became {loss} at step {step}", loss=loss, step=progress.step + 1,
        rate=run.settings.learning_rate / 4, hint="begin again with --learning-rate {rate:g}",
    )  # fmt: skip
