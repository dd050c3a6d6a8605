"""`soban train`: teach a small model from text."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from soban.base import system
from soban.cli.llama2c_train import LLAMA2C, Llama2cFlags, check_vocabulary, translated
from soban.learn.data.shards import read_manifest
from soban.learn.training.arguments import TrainArguments, flag_of, unusual
from soban.learn.training.events import Begin, Event

if TYPE_CHECKING:
    from soban.cli.terminal.training import Display
    from soban.learn.training.session import Training

EXAMPLES = """\
  soban data stories/ --out data/
  soban train --data data/ --out my-model --forecast
  soban train --data data/ --out my-model --pause-on battery,load
  soban train --data data/ --out my-model --resume
  soban run my-model "Once upon a time"
"""
# Ctrl-C, the system that shuts down, and a terminal that is closed
ENDING = tuple(signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name))


@dataclass(frozen=True)
class TrainOptions(TrainArguments):
    """Train a small model from nothing, on data that `soban data` has made.

    OUT becomes a Hugging Face folder that soban and transformers load; the best model so far is there while it is
    trained. Ctrl-C saves a checkpoint, and --resume goes on from it to the same weights, bit for bit.
    """

    forecast: bool = field(
        default=False,
        metadata={"help": "only tell what it would take, and come to: time, memory, loss", "after": "preset"},
    )
    priority: Literal["low", "normal"] = field(
        default="low", metadata={"help": "low: other programs get the processor first", "after": "pause_on"}
    )
    spelled: frozenset[str] = field(default=frozenset(), metadata={"spelled": True})  # the flags that were given
    llama2c: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "flags of llama2.c's train.py, for its users", "flags_of": (Llama2cFlags, LLAMA2C)},
    )


OPTIONS = TrainOptions


def call(options: TrainOptions) -> int:
    """Trains, and leaves the model in the folder; the exit code."""
    if options.priority == "low":
        system.give_way()
    arguments = arguments_of(options)
    return _forecast(arguments) if options.forecast else _train(arguments, options.llama2c.get("log_interval"))


def arguments_of(options: TrainOptions) -> dict[str, Any]:
    """What `soban.learn.train` is to be called with: what was given, llama2.c's flags among it.

    Raises UserError for flags of llama2.c's that mean what is not done here.
    """
    translation = translated(options, options.llama2c)
    if options.llama2c.keys() & {"vocab_size", "vocab_source"}:
        check_vocabulary(options.llama2c, options.data, read_manifest(Path(options.data))["tokenizer"]["entries"])
    spelled = {name for name in TrainArguments.__dataclass_fields__ if flag_of(name) in options.spelled}
    options = replace(options, **translation)
    return {name: getattr(options, name) for name in spelled | unusual(options)}


def _train(arguments: dict[str, Any], line_steps: int | None) -> int:
    from soban import learn
    from soban.cli.terminal.training import Display

    return watched(learn.train, arguments, Display(Path(arguments["out"]), line_steps))


def watched(learn: "Callable[..., Training]", arguments: dict[str, Any], display: "Display") -> int:
    """Learns, shows how it goes, and stops where it is interrupted; the exit code."""
    interruptions: list[int] = []
    with ExitStack() as stack:

        def progress(event: Event) -> None:
            display.show(event)
            if isinstance(event, Begin):  # until then Ctrl-C ends it as it ends anything
                stack.enter_context(interruptible(interruptions, display.stopping))

        training = learn(
            **arguments, progress=progress, stop=lambda: bool(interruptions), command=("soban", *sys.argv[1:])
        )
    display.end(training)
    return 0 if training.ended == "finished" else 128 + (interruptions or ENDING)[0]


def _forecast(arguments: dict[str, Any]) -> int:
    from soban import learn
    from soban.cli.terminal.outlook import footnotes, in_a_table

    outlook = learn.forecast(**arguments)
    if outlook.leads:
        lines = [*in_a_table(outlook.forecasts), "", *footnotes(outlook.forecasts[0], outlook.speed)]
        sys.stdout.write("\n".join(lines) + "\n")
    return 0


@contextmanager
def interruptible(interruptions: list[int], stopping: Callable[[], None]) -> Iterator[None]:
    """Signals to end are put into the list meanwhile, so that a step is never cut in half; a second one ends at once.

    `stopping` is called at the first: a step may take long.
    """

    def note(number: int, frame: FrameType | None) -> None:
        if interruptions:
            os._exit(128 + number)  # threads that compute would be waited for otherwise
        interruptions.append(number)
        stopping()

    if threading.current_thread() is not threading.main_thread():  # only the main thread may listen to signals
        yield
        return
    hang_up = getattr(signal, "SIGHUP", None)
    ignored = {hang_up} if hang_up and signal.getsignal(hang_up) is signal.SIG_IGN else set()  # under nohup
    previous = {number: signal.signal(number, note) for number in ENDING if number not in ignored}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
