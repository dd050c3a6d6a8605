"""What a training shows: a progress line, measurements and samples on stderr, and its curve as a picture."""

import contextlib
import math
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from soban.base.border import reason
from soban.base.errors import UserError
from soban.base.units import of_seconds
from soban.cli.terminal.outlook import in_a_line
from soban.learn.training import curve
from soban.learn.training.checkpoint import Progress
from soban.learn.training.events import Begin, Event, Measurement, Note, NotSaved, Saved, Step
from soban.learn.training.folder import TRAINING
from soban.learn.training.record import LOSSES, read_losses
from soban.messages import translate, width

LINE_SECONDS = 15  # between progress lines that cannot be drawn over
AVERAGE = 0.98  # of the loss shown: about the last fifty steps
DRAW_SECONDS = 30  # between two drawings of the curve, which takes one
BAR, SHORTEST_BAR = 24, 6  # columns
ECHO = 2  # columns of the ^C that a terminal shows when it is pressed
COLUMNS_ELSEWHERE = 110  # for a sample where there is no terminal


class Ended(Protocol):
    """What is told of a training or a tuning at its end."""

    @property
    def steps(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    @property
    def best(self) -> float | None: ...
    @property
    def best_step(self) -> int: ...
    @property
    def ended(self) -> str: ...


class Display:
    """Shows the events of a training."""

    def __init__(self, out: Path, line_steps: int | None = None, attempt: str = 'soban run {path} "..."') -> None:
        """`line_steps`: steps between two lines where there is no terminal; `attempt`: how the result is tried."""
        self.out, self.line_steps, self.attempt = out, line_steps, attempt
        self.begin: Begin  # which comes first
        self.line = Line()
        self.loss = Average()
        self.path = out / TRAINING / LOSSES
        self.drawing = True
        self.complained = False

    def show(self, event: Event) -> None:
        """What there is to be seen of an event."""
        match event:
            case Begin():
                self.begin, self.speed = event, Speed(event.progress)
                self.shown = self.drawn = time.monotonic()
                if event.leads:
                    self.line.tell(str(event))
                    self.line.tell(in_a_line(event.forecast))
            case Step():
                self._step(event)
            case Measurement():
                self._measurement(event)
            case Saved():
                self.speed.interrupt()
            case NotSaved() | Note():
                self.line.tell(str(event))

    def _step(self, step: Step) -> None:
        self.loss.note(step.loss)
        self.speed.note(step.progress)
        now = time.monotonic()
        if on_terminal():
            due = now - self.shown >= 1
        elif self.line_steps:
            due = step.progress.step % self.line_steps == 0
        else:
            due = now - self.shown >= LINE_SECONDS
        if due:
            self.shown = now
            self._progress(step.progress)

    def _measurement(self, event: Measurement) -> None:
        self.line.tell(str(replace(event, samples=())))
        for text in event.samples:
            self.line.tell("  " + clipped(text, columns() - 2))
        if time.monotonic() - self.drawn >= DRAW_SECONDS:
            self._draw(event.progress.step)
            self.drawn = time.monotonic()
        self.speed.interrupt()

    def stopping(self) -> None:
        """Somebody has asked to end; called by a signal, perhaps in the middle of another line."""
        with contextlib.suppress(RuntimeError):  # "reentrant call": a word is not worth more
            self.line.say("stopping after this step, and saving; once more ends at once")

    def end(self, training: Ended) -> None:
        """The last words."""
        if not self.begin.leads:
            return
        self._draw(training.steps)
        if training.ended == "stopped":
            self.line.say("stopped after step {step}; the same command with --resume goes on", step=training.steps)
            return
        self.line.say(
            "{path}: {step} steps, {tokens} tokens; the best of them, step {best}: {bits:.4f} bits per byte held out",
            path=self.out, step=training.steps, tokens=training.tokens, best=training.best_step, bits=training.best,
        )  # fmt: skip
        self.line.say("its curve: {path}", path=self.out / TRAINING / (curve.NAME if self.drawing else LOSSES))
        self.line.say("try it: {command}", command=self.attempt.format(path=self.out))

    def _draw(self, step: int) -> None:
        """The curve; where matplotlib is missing, a note and no more."""
        if not self.drawing:
            return
        settings = self.begin.settings
        parameters = self.begin.parameters / 1e6
        title = f"{self.out.name}: {parameters:.2f} M parameters, {step:,} of {settings.steps:,} steps"
        try:
            curve.draw(read_losses(self.path), self.path.with_name(curve.NAME), title)
        except ImportError:
            self.drawing = False
            self.line.say("no curve is drawn: matplotlib is not installed (pip install matplotlib)")
        except Exception as error:  # matplotlib's are of many kinds, and a picture is not worth a training
            self._complain(self.path.with_name(curve.NAME), error)

    def _complain(self, path: Path, error: Exception) -> None:
        """Says once that it cannot be written; the training goes on."""
        if self.complained:
            return
        self.complained = True
        if isinstance(error, UserError):
            self.line.say("{problem}", problem=error)
        else:
            self.line.say("{path}: cannot be written ({reason})", path=path, reason=reason(error))

    def _progress(self, progress: Progress) -> None:
        """The progress line: drawn over the last one on a terminal, elsewhere a line of its own."""
        parts = self._parts(progress)
        if on_terminal():
            share = progress.step / self.begin.settings.steps
            self.line.draw(fitted(parts, share, columns()))
        else:
            self.line.tell("  ".join(parts))

    def _parts(self, progress: Progress) -> list[str]:
        """How far it is, in words; the first matters most."""
        before, steps = self.begin.progress, self.begin.settings.steps
        seconds = max(1e-9, progress.seconds - before.seconds)
        left = (steps - progress.step) * seconds / max(1, progress.step - before.step)
        return [
            translate("step {step}/{steps}", step=progress.step, steps=steps),
            translate("{time} left", time=of_seconds(left)),
            translate("loss {loss:.3f}", loss=self.loss.value),
            translate("{rate:.0f} tokens/s", rate=self.speed.value),
        ]


class Average:
    """Of about the last fifty losses, each as heavy as the others while they are fewer."""

    def __init__(self) -> None:
        self.sum = self.weight = 0.0

    def note(self, loss: float) -> None:
        """One more."""
        self.sum, self.weight = AVERAGE * self.sum + loss, AVERAGE * self.weight + 1

    @property
    def value(self) -> float:
        """The average; no number before the first."""
        return self.sum / self.weight if self.weight else math.nan


class Speed:
    """Tokens a second of the steps alone, without the time that measuring and saving take between them."""

    def __init__(self, before: Progress) -> None:
        self.before: Progress | None = before
        self.tokens, self.seconds = 0, 0.0

    def note(self, progress: Progress) -> None:
        """After a step."""
        if self.before is not None:
            self.tokens += progress.tokens - self.before.tokens
            self.seconds += progress.seconds - self.before.seconds
        self.before = progress

    def interrupt(self) -> None:
        """What the next step tells of its time is not all its own."""
        self.before = None

    @property
    def value(self) -> float:
        """Tokens a second so far."""
        return self.tokens / self.seconds if self.seconds else 0.0


def fitted(parts: list[str], share: float, most: int) -> str:
    """A progress line in so many columns: the bar goes where there is little room, then the last parts."""
    room = most - width("  ".join(parts)) - 4
    if room >= SHORTEST_BAR:
        length = min(BAR, room)
        full = int(length * share)
        return "  ".join([f"[{'#' * full}{'.' * (length - full)}]", *parts])
    while len(parts) > 1 and width("  ".join(parts)) > most:
        parts = parts[:-1]
    return clipped("  ".join(parts), most)


def clipped(text: str, most: int) -> str:
    """A text on one line of so many columns, with … where it is longer; nothing in it that a terminal would obey."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    if width(plain) <= most:
        return plain
    start = ""
    for character in plain:
        if width(start + character) >= most:
            break
        start += character
    return start + "…"


def on_terminal() -> bool:
    """Whether a line can be drawn over."""
    return sys.stderr is not None and sys.stderr.isatty()


def columns() -> int:
    """Of the terminal, without the last one, where some begin a new line, and what Ctrl-C would show."""
    return shutil.get_terminal_size((80, 24)).columns - 1 - ECHO if on_terminal() else COLUMNS_ELSEWHERE


class Line:
    """Talk on stderr, line by line; the last one may be drawn over, with blanks and not with escape sequences, which
    older consoles would print."""

    def __init__(self) -> None:
        self.drawn = 0  # columns of the line that stands there now

    def say(self, template: str, **fields: object) -> None:
        """A line in the user's language."""
        self.tell(translate(template, **fields))

    def tell(self, line: str) -> None:
        """A line that stays."""
        if sys.stderr is None:
            return
        if self.drawn:
            sys.stderr.write("\r" + " " * (self.drawn + ECHO) + "\r")
            self.drawn = 0
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def draw(self, line: str) -> None:
        """A line that the next one takes the place of."""
        sys.stderr.write("\r" + line + " " * max(0, self.drawn - width(line)))
        sys.stderr.flush()
        self.drawn = width(line)
