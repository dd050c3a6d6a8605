"""What a training says: lines on stderr, and every step's figures in training/losses.csv."""

import csv
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soban.errors import UserError
from soban.learn.training.checkpoint import Progress
from soban.learn.training.folder import TRAINING
from soban.learn.training.settings import Settings
from soban.messages import translate

if TYPE_CHECKING:
    from soban.learn.training.running import Step

LINE_SECONDS = 15  # between progress lines that cannot be drawn over
AVERAGE = 0.98  # of the loss shown: about the last fifty steps
LOSSES = "losses.csv"
COLUMNS = ("step", "tokens", "seconds", "loss", "learning_rate", "gradient_norm", "held_out_bits_per_byte")


class Teller:
    """Listens to a training."""

    def __init__(self, settings: Settings, out: Path, progress: Progress) -> None:
        """`progress`: where it begins; rows of the losses after that are of steps that were lost."""
        self.settings, self.out, self.before = settings, out, progress
        self.average = math.nan
        self.told = time.monotonic()
        self.path = out / TRAINING / LOSSES
        self.last: Step | None = None

    def begin(self) -> None:
        """Opens the table of losses, without the rows of steps that will be taken again."""
        rows = [row for row in read_losses(self.path) if int(row["step"]) <= self.before.step]
        with self.path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        parameters = self.settings.shape.parameters(self.settings.vocab_size, self.settings.family)
        say(
            "{parameters:.2f} M parameters, {dtype}; {steps} steps of {tokens} tokens",
            parameters=parameters / 1e6, dtype=self.settings.dtype, steps=self.settings.steps - self.before.step,
            tokens=self.settings.step_tokens,
        )  # fmt: skip

    def stepped(self, step: "Step") -> None:
        """Keeps the figures, and shows them now and then."""
        self.last = step
        self.average = step.loss if math.isnan(self.average) else AVERAGE * self.average + (1 - AVERAGE) * step.loss
        self._keep(step.progress, loss=step.loss, learning_rate=step.rate, gradient_norm=step.length)
        now = time.monotonic()
        if now - self.told >= (1 if sys.stderr.isatty() else LINE_SECONDS):
            self.told = now
            self._show(step.progress)

    def measured(self, progress: Progress, bits: float, best: bool) -> None:
        """A measurement on text held out."""
        self._keep(progress, held_out_bits_per_byte=bits)
        template = (
            "step {step}: {bits:.4f} bits per byte held out, the best so far"
            if best
            else "step {step}: {bits:.4f} bits per byte held out"
        )
        say(template, step=progress.step, bits=bits)

    def saved(self, progress: Progress) -> None:
        """A checkpoint was written."""

    def not_saved(self, problem: UserError, progress: Progress) -> None:
        """A checkpoint could not be written."""
        say("step {step}: not saved: {problem}", step=progress.step, problem=problem)

    def end(self, progress: Progress, finished: bool) -> None:
        """The last words."""
        if not finished:
            say("stopped after step {step}; the same command with --resume goes on", step=progress.step)
            return
        say(
            "{path}: {step} steps, {tokens} tokens; the best of them, step {best}: {bits:.4f} bits per byte held out",
            path=self.out, step=progress.step, tokens=progress.tokens, best=progress.best_step, bits=progress.best,
        )  # fmt: skip

    def _keep(self, progress: Progress, **figures: float) -> None:
        row: dict[str, Any] = {"step": progress.step, "tokens": progress.tokens, "seconds": f"{progress.seconds:.1f}"}
        row |= {name: f"{figure:.6g}" for name, figure in figures.items()}
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow(row)

    def _show(self, progress: Progress) -> None:
        """The progress line: drawn over the last one on a terminal, elsewhere a line of its own."""
        seconds = progress.seconds - self.before.seconds
        taken = progress.step - self.before.step
        left = (self.settings.steps - progress.step) * seconds / taken
        line = translate(
            "step {step}/{steps}  loss {loss:.3f}  {rate:.0f} tokens/s  {minutes:.0f}:{seconds:02.0f} left",
            step=progress.step, steps=self.settings.steps, loss=self.average,
            rate=(progress.tokens - self.before.tokens) / seconds, minutes=left // 60, seconds=left % 60 // 1,
        )  # fmt: skip
        sys.stderr.write(f"\r\x1b[K{line}" if sys.stderr.isatty() else f"{line}\n")
        sys.stderr.flush()


def read_losses(path: Path) -> list[dict[str, str]]:
    """The rows of a table of losses that are whole; none where there is no table."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("step", "").isdigit() and None not in row]


def say(template: str, **fields: object) -> None:
    """A line of talk, on stderr, on a line of its own even after a progress line."""
    start = "\r\x1b[K" if sys.stderr.isatty() else ""
    sys.stderr.write(start + translate(template, **fields) + "\n")
    sys.stderr.flush()
