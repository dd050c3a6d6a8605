"""What a training says: a progress line, measurements and samples on stderr, and its figures in training/."""

import contextlib
import csv
import math
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soban.base.border import reason
from soban.base.errors import UserError
from soban.base.units import of_seconds
from soban.learn.training import checkpoint, curve
from soban.learn.training.checkpoint import Progress
from soban.learn.training.folder import TRAINING
from soban.learn.training.settings import Settings
from soban.messages import translate, width

if TYPE_CHECKING:
    from soban.learn.training.running import Step

LINE_SECONDS = 15  # between progress lines that cannot be drawn over
AVERAGE = 0.98  # of the loss shown: about the last fifty steps
LOSSES, SAMPLES = "losses.csv", "samples.txt"
COLUMNS = ("step", "tokens", "seconds", "loss", "learning_rate", "gradient_norm", "held_out_bits_per_byte")
DRAW_SECONDS = 30  # between two drawings of the curve, which takes one
BAR, SHORTEST_BAR = 24, 6  # columns
ECHO = 2  # columns of the ^C that a terminal shows when it is pressed
COLUMNS_ELSEWHERE = 110  # for a sample where there is no terminal


class Teller:
    """Listens to a training."""

    def __init__(
        self, settings: Settings, out: Path, progress: Progress, sample: Callable[[], list[str]] | None = None,
        line_steps: int | None = None,
    ) -> None:  # fmt: skip
        """`progress`: where it begins; rows of the losses after that are of steps that were lost. `sample`: makes some
        texts. `line_steps`: steps between two lines where there is no terminal."""
        self.settings, self.out, self.before = settings, out, progress
        self.sample, self.line_steps = sample, line_steps
        self.line = Line()
        self.loss = Average()
        self.told = self.drawn = time.monotonic()
        self.speed = Speed(progress)
        self.path = out / TRAINING / LOSSES
        self.last: Step | None = None
        self.drawing = True
        self.complained: set[str] = set()

    def begin(self) -> None:
        """Opens the table of losses, without the rows of steps that will be taken again."""
        rows = [row for row in read_losses(self.path) if int(row["step"]) <= self.before.step]
        checkpoint.whole(self.path, lambda part: write_losses(part, rows))
        parameters = self.settings.shape.parameters(self.settings.vocab_size, self.settings.family)
        self.line.say(
            "{parameters:.2f} M parameters, {dtype}; {steps} steps of {tokens} tokens",
            parameters=parameters / 1e6, dtype=self.settings.dtype, steps=self.settings.steps - self.before.step,
            tokens=self.settings.step_tokens,
        )  # fmt: skip

    def stepped(self, step: "Step") -> None:
        """Keeps the figures, and shows them now and then."""
        self.last = step
        self.loss.note(step.loss)
        self.speed.note(step.progress)
        self._keep(step.progress, loss=step.loss, learning_rate=step.rate, gradient_norm=step.length)
        now = time.monotonic()
        if on_terminal():
            due = now - self.told >= 1
        elif self.line_steps:
            due = step.progress.step % self.line_steps == 0
        else:
            due = now - self.told >= LINE_SECONDS
        if due:
            self.told = now
            self._show(step.progress)

    def measured(self, progress: Progress, bits: float, best: bool) -> None:
        """A measurement on text held out, what the model writes now, and the curve up to here."""
        self._keep(progress, held_out_bits_per_byte=bits)
        self.line.say(
            "step {step}: {bits:.4f} bits per byte held out, the best so far"
            if best
            else "step {step}: {bits:.4f} bits per byte held out",
            step=progress.step,
            bits=bits,
        )
        if self.sample is not None:
            self._keep_samples(progress, bits, self.sample())
        if time.monotonic() - self.drawn >= DRAW_SECONDS:
            self._draw(progress)
            self.drawn = time.monotonic()
        self.speed.interrupt()

    def saved(self, progress: Progress) -> None:
        """A checkpoint was written."""
        self.speed.interrupt()

    def not_saved(self, problem: UserError, progress: Progress) -> None:
        """A checkpoint could not be written."""
        self.line.say("step {step}: not saved: {problem}", step=progress.step, problem=problem)

    def stopping(self) -> None:
        """Somebody has asked to end; called by a signal, perhaps in the middle of another line."""
        with contextlib.suppress(RuntimeError):  # "reentrant call": a word is not worth more
            self.line.say("stopping after this step, and saving; once more ends at once")

    def end(self, progress: Progress, finished: bool) -> None:
        """The last words."""
        self._draw(progress)
        if not finished:
            self.line.say("stopped after step {step}; the same command with --resume goes on", step=progress.step)
            return
        self.line.say(
            "{path}: {step} steps, {tokens} tokens; the best of them, step {best}: {bits:.4f} bits per byte held out",
            path=self.out, step=progress.step, tokens=progress.tokens, best=progress.best_step, bits=progress.best,
        )  # fmt: skip
        self.line.say("its curve: {path}", path=self.out / TRAINING / (curve.NAME if self.drawing else LOSSES))
        self.line.say('try it: soban run {path} "..."', path=self.out)

    def _keep(self, progress: Progress, **figures: float) -> None:
        row: dict[str, Any] = {"step": progress.step, "tokens": progress.tokens, "seconds": f"{progress.seconds:.1f}"}
        row |= {name: f"{figure:.6g}" for name, figure in figures.items()}
        try:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, COLUMNS).writerow(row)
        except OSError as error:
            self._complain(self.path, error)

    def _keep_samples(self, progress: Progress, bits: float, texts: list[str]) -> None:
        """Whole in a file, and in a line each here."""
        for text in texts:
            self.line.tell("  " + clipped(text, columns() - 2))
        path = self.out / TRAINING / SAMPLES
        try:
            with path.open("a", encoding="utf-8", errors="replace") as file:
                file.write(f"step {progress.step}, {bits:.4f} bits per byte held out\n\n")
                file.writelines(f"{text}\n\n" for text in texts)
        except OSError as error:
            self._complain(path, error)

    def _draw(self, progress: Progress) -> None:
        """The curve; where matplotlib is missing, a note and no more."""
        if not self.drawing:
            return
        parameters = self.settings.shape.parameters(self.settings.vocab_size, self.settings.family) / 1e6
        title = f"{self.out.name}: {parameters:.2f} M parameters, {progress.step:,} of {self.settings.steps:,} steps"
        try:
            curve.draw(read_losses(self.path), self.path.with_name(curve.NAME), title)
        except ImportError:
            self.drawing = False
            self.line.say("no curve is drawn: matplotlib is not installed (pip install matplotlib)")
        except Exception as error:  # matplotlib's are of many kinds, and a picture is not worth a training
            self._complain(self.path.with_name(curve.NAME), error)

    def _complain(self, path: Path, error: Exception) -> None:
        """Says once of each file that it cannot be written; the training goes on."""
        if path.name not in self.complained:
            self.complained.add(path.name)
            if isinstance(error, UserError):
                self.line.say("{problem}", problem=error)
            else:
                self.line.say("{path}: cannot be written ({reason})", path=path, reason=reason(error))

    def _show(self, progress: Progress) -> None:
        """The progress line: drawn over the last one on a terminal, elsewhere a line of its own."""
        parts = self._parts(progress)
        if on_terminal():
            share = progress.step / self.settings.steps
            self.line.draw(fitted(parts, share, columns()))
        else:
            self.line.tell("  ".join(parts))

    def _parts(self, progress: Progress) -> list[str]:
        """How far it is, in words; the first matters most."""
        seconds = max(1e-9, progress.seconds - self.before.seconds)
        taken = progress.step - self.before.step
        left = (self.settings.steps - progress.step) * seconds / max(1, taken)
        return [
            translate("step {step}/{steps}", step=progress.step, steps=self.settings.steps),
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
    kept = ""
    for character in plain:
        if width(kept + character) >= most:
            break
        kept += character
    return kept + "…"


def on_terminal() -> bool:
    """Whether a line can be drawn over."""
    return sys.stderr is not None and sys.stderr.isatty()


def columns() -> int:
    """Of the terminal, without the last one, where some begin a new line, and what Ctrl-C would show."""
    return shutil.get_terminal_size((80, 24)).columns - 1 - ECHO if on_terminal() else COLUMNS_ELSEWHERE


def write_losses(path: Path, rows: list[dict[str, str]]) -> None:
    """A table of losses with these rows."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def read_losses(path: Path) -> list[dict[str, str]]:
    """The rows of a table of losses that are whole; none where there is no table."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="replace", newline="") as file:  # a power cut may leave anything at its end
        lines = (line.replace("\0", "") for line in file)
        rows = [row for row in csv.DictReader(lines) if row.get("step", "").isdigit()]
    return [row for row in rows if None not in row and None not in row.values()]  # neither too long nor too short


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
