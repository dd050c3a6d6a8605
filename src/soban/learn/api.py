"""Teaching as functions: `soban.learn.train`, `prepare` and `forecast`, which print nothing and hear no signals."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, get_type_hints

from soban.base.errors import UserError
from soban.learn.data import prepare as preparing
from soban.learn.data.arguments import PrepareArguments
from soban.learn.training import session
from soban.learn.training.arguments import TrainArguments
from soban.learn.tuning import session as tuning
from soban.learn.tuning.arguments import TuneArguments
from soban.learn.typed import fits

P = ParamSpec("P")
Arguments = TypeVar("Arguments")
Result = TypeVar("Result")


def _called_with(
    kind: Callable[P, Arguments],
) -> Callable[[Callable[[Arguments, frozenset[str]], Result]], Callable[P, Result]]:
    """Makes a function of arguments, and of the names that were given, one that takes them one by one.

    So the fields of the dataclass are declared once: for a notebook, and for the flags of the command.
    """
    signature, hints = inspect.signature(kind), get_type_hints(kind)

    def decorate(work: Callable[[Arguments, frozenset[str]], Result]) -> Callable[P, Result]:
        @functools.wraps(work)
        def call(*values: P.args, **keywords: P.kwargs) -> Result:
            arguments = signature.bind(*values, **keywords).arguments
            for name, value in arguments.items():
                _check(name, value, hints[name])
            return work(kind(*values, **keywords), frozenset(arguments))

        result = inspect.signature(work).return_annotation
        call.__signature__ = signature.replace(return_annotation=result)  # type: ignore[attr-defined]
        return call

    return decorate


def _check(name: str, value: object, hint: Any) -> None:
    """UserError for a value of another kind than the argument's."""
    if not fits(value, hint):
        kind = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
        raise UserError(
            "{name}={value}: of another kind than it takes", name=name, value=repr(value)[:60], kind=kind,
            hint="give {kind}",
        )  # fmt: skip


@_called_with(TrainArguments)
def train(arguments: TrainArguments, explicit: frozenset[str]) -> session.Training:
    """Trains a small model on data that `prepare` has made; it lies in the folder `out` from its first measurement on.

    Every argument but `data` and `out` has a value that is usual. `progress` is called with each event of
    `soban.learn` (`Begin`, `Step`, `Measurement`, ...), in this thread; the text of an event is a line about it, so
    that `progress=print` shows how it goes. `stop`, a function or a threading.Event, is asked at every step: where it
    says so the training ends and saves, and the same call with `resume=True` goes on to the same weights, bit for bit.
    KeyboardInterrupt ends it at once, with what the last checkpoint has.

    Raises UserError for what cannot be, in the words of the command: `batch_size` is --batch-size there.
    """
    return session.train(arguments, explicit)


@_called_with(TrainArguments)
def forecast(arguments: TrainArguments, explicit: frozenset[str]) -> session.Outlook:
    """What `train` would take and come to with the same arguments: seconds, bytes, bits a byte. Nothing is written.

    Takes some steps to measure the speed. Raises UserError for what cannot be.
    """
    return session.outlook(arguments, explicit)


@_called_with(TuneArguments)
def tune(arguments: TuneArguments, explicit: frozenset[str]) -> tuning.Tuning:
    """Teaches a model a task by examples; what it learns is an adapter, which lies in the folder `out` as peft has it.

    `data` are files of conversations, of prompts with completions, or of texts; `model` is a name or a path as in
    `soban.load`, whose weights stay as they are. `progress`, `stop` and `resume` are as in `train`.

    Raises UserError for what cannot be, in the words of the command: `batch_size` is --batch-size there.
    """
    return tuning.tune(arguments, explicit)


@_called_with(TuneArguments)
def tune_forecast(arguments: TuneArguments, explicit: frozenset[str]) -> tuning.TuneOutlook:
    """What `tune` would take with the same arguments: seconds and bytes; and what it would learn from.

    Takes a step to measure the speed; nothing is written. Raises UserError for what cannot be.
    """
    return tuning.outlook(arguments, explicit)


@_called_with(PrepareArguments)
def prepare(arguments: PrepareArguments, explicit: frozenset[str]) -> preparing.TrainingData:
    """Makes training data of text: files, folders and zips are read, cleaned, split and encoded into the folder `out`.

    Without `out` it only looks; the result's `report` tells what it found. What is made already is not made again.
    `progress` is called with the stage, how many documents it has, and the share of it that is done (None where that is
    not known). Whatever ends it before its end, `out` is as it was.

    Raises UserError for what cannot be read or written, in the words of the command.
    """
    request = preparing.preparation(arguments)
    return preparing.prepare(request) if arguments.progress is None else preparing.prepare(request, arguments.progress)
