"""The one loop of learning: steps, measuring, checkpoints, the best model, and ending well whatever happens."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from soban.base.errors import UserError
from soban.learn.training import checkpoint, optimise
from soban.learn.training.checkpoint import Progress
from soban.learn.training.events import Event, Measurement, NotSaved, Saved, Step
from soban.learn.training.settings import Learning

if TYPE_CHECKING:
    from torch import Tensor

    from soban.learn.data.packing import Batch
    from soban.learn.training.computing import Computer

SAVE_SECONDS = 180
SAVE_SHARE = 50  # times as long as a checkpoint takes, there is none: large ones would wear out a disk
LOST = 2  # a loss so many times that of guessing blindly is that of a model beyond help


Kind = TypeVar("Kind", bound=Learning)  # of settings


@dataclass
class Run(Generic[Kind]):
    """A training: what it computes with, what it learns from, and where it is kept."""

    settings: Kind
    computer: "Computer"
    state: dict[str, "Tensor"]  # the optimisers' memory
    batches: Callable[[int], Iterator[Sequence["Batch"]]]  # what each step learns from, from a step on
    measure: Callable[[], float]  # bits a byte of text held out
    export: Callable[[Path], None]  # the model as it is now, into a folder
    folder: Path
    evaluate_every: int
    sample: Callable[[], Sequence[str]] = tuple  # what the model writes now
    save_seconds: float = SAVE_SECONDS
    clock: Callable[[], float] = time.monotonic  # of the work: it may stand still between steps
    patience: int = 0  # measurements without a better one after which it ends; 0: it goes on to its last step

    @property
    def checkpoint(self) -> Path:
        """Where it can be taken up again."""
        return self.folder / "training" / checkpoint.NAME

    @property
    def leads(self) -> bool:
        """Whether this process writes and speaks: the first of several."""
        return self.computer.group.rank == 0


Notify = Callable[[Event], None]  # whom an event is told, who may take some time


def run(run: Run[Kind], progress: Progress, notify: Notify, stop: Callable[[], bool]) -> tuple[Progress, bool]:
    """Trains from `progress` to the last step or until `stop` says so; how far it came, and whether to the end.

    Raises UserError where the loss is no number or the end cannot be saved; the last checkpoint is then as it was.
    """
    settings, computer = run.settings, run.computer
    if progress.step == 0:
        save(run, progress, notify)  # from now on there is one to go on from, and a full disk is told now
    saved, wait = time.monotonic(), run.save_seconds
    started = run.clock() - progress.seconds
    for batches in run.batches(progress.step):
        if progress.step >= settings.steps:
            break
        gradients, loss, tokens, stops = computer.gradients(batches, stop)
        if not math.isfinite(loss):
            raise _no_number(run, progress.step + 1, loss)
        if stops:
            if not good(run, loss, gradients):
                raise _no_number(run, progress.step + 1, loss)
            save(run, progress, notify)
            if progress.best is None and run.leads:
                run.export(run.folder)  # something to try, where nothing was measured yet
            return progress, False
        if time.monotonic() - saved >= wait and good(run, loss, gradients):
            saving = time.monotonic()
            try:
                save(run, progress, notify)
            except UserError as problem:
                notify(NotSaved(progress, problem))  # room may be made before the next one
            saved = time.monotonic()
            wait = max(run.save_seconds, SAVE_SHARE * (saved - saving))
        length = optimise.update(computer.weights, gradients, run.state, progress.step, settings, computer.workers.map)
        computer.refresh()
        rate = settings.rate(progress.step)
        seconds = run.clock() - started
        progress = replace(progress, step=progress.step + 1, tokens=progress.tokens + tokens, seconds=seconds)
        if run.leads:
            notify(Step(progress, settings.steps, loss, rate, length, tokens))
        if progress.step % run.evaluate_every == 0 and progress.step < settings.steps:
            progress = evaluated(run, progress, notify)
            if run.patience and progress.step - progress.best_step >= run.patience * run.evaluate_every:
                save(run, progress, notify)
                return progress, True
    progress = evaluated(run, progress, notify)
    save(run, progress, notify)
    return progress, True


def good(run: Run[Kind], loss: float, gradients: Mapping[str, "Tensor"]) -> bool:
    """Whether the weights that this was found with are worth keeping. A step that is too long throws them far off:
    they have numbers still, and perhaps a loss, and none a few steps later."""
    within = loss < LOST * math.log(run.settings.vocab_size)
    return within and all(bool(gradient.isfinite().all()) for gradient in gradients.values())


def save(run: Run[Kind], progress: Progress, notify: Notify) -> None:
    """Writes the checkpoint, in the process that leads. Raises UserError where it cannot be written."""
    if run.leads:
        checkpoint.save(run.checkpoint, run.computer.weights, run.state, progress, run.settings.mark)
        notify(Saved(progress))


def evaluated(run: Run[Kind], progress: Progress, notify: Notify) -> Progress:
    """Measures, and keeps the model where it is the best so far."""
    if not run.leads:
        return progress
    bits = run.measure()
    if not math.isfinite(bits):
        raise _no_number(run, progress.step, bits)
    best = progress.best is None or bits < progress.best
    if best:
        try:
            run.export(run.folder)
            progress = replace(progress, best=bits, best_step=progress.step)
        except UserError as problem:
            if progress.step >= run.settings.steps:
                save(run, progress, notify)  # no step is lost: --resume measures again, and writes the model
                raise
            notify(NotSaved(progress, problem))  # the next one that is better is tried again
    notify(Measurement(progress, bits, best, tuple(run.sample())))
    return progress


def _no_number(run: Run[Kind], step: int, loss: float) -> UserError:
    """Where the last good weights are, and how to go on with them."""
    return UserError(
        "the loss became {loss} at step {step}; {path} keeps the checkpoint of step {good} and the best model",
        loss=loss, step=step, path=run.folder, good=checkpoint.progress_of(run.checkpoint).step,
        rate=run.settings.learning_rate / 4, hint="--resume --learning-rate {rate:g} goes on from it",
    )  # fmt: skip
