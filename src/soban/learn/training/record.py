"""The record that a training leaves: its losses as a table, and the samples that it wrote."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from soban.base.border import reason
from soban.learn.training import checkpoint
from soban.learn.training.checkpoint import Progress
from soban.learn.training.events import Event, Measurement, Step
from soban.learn.training.folder import TRAINING
from soban.messages import translate

LOSSES, SAMPLES = "losses.csv", "samples.txt"
COLUMNS = ("step", "tokens", "seconds", "loss", "learning_rate", "gradient_norm", "held_out_bits_per_byte")


class Record:
    """Writes down what a training tells."""

    def __init__(self, out: Path, say: Callable[[str], None]) -> None:
        """`say` is told, once of each, which file cannot be written: the training goes on."""
        self.path = out / TRAINING / LOSSES
        self.samples = out / TRAINING / SAMPLES
        self.say = say
        self.unwritten: set[Path] = set()

    def begin(self, progress: Progress) -> None:
        """Opens the table of losses, without the rows of steps that will be taken again."""
        rows = [row for row in read_losses(self.path) if int(row["step"]) <= progress.step]
        checkpoint.whole(self.path, lambda part: write_losses(part, rows))

    def keep(self, event: Event) -> None:
        """A row for a step or a measurement, whose samples are kept whole."""
        if isinstance(event, Step):
            self._row(event.progress, loss=event.loss, learning_rate=event.rate, gradient_norm=event.length)
        elif isinstance(event, Measurement):
            self._row(event.progress, held_out_bits_per_byte=event.bits)
            if event.samples:
                self._texts(event)

    def _row(self, progress: Progress, **figures: float) -> None:
        row: dict[str, Any] = {"step": progress.step, "tokens": progress.tokens, "seconds": f"{progress.seconds:.1f}"}
        row |= {name: f"{figure:.6g}" for name, figure in figures.items()}
        try:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, COLUMNS).writerow(row)
        except OSError as error:
            self._complain(self.path, error)

    def _texts(self, event: Measurement) -> None:
        try:
            with self.samples.open("a", encoding="utf-8", errors="replace") as file:
                file.write(f"step {event.progress.step}, {event.bits:.4f} bits per byte held out\n\n")
                file.writelines(f"{text}\n\n" for text in event.samples)
        except OSError as error:
            self._complain(self.samples, error)

    def _complain(self, path: Path, error: OSError) -> None:
        if path not in self.unwritten:
            self.unwritten.add(path)
            self.say(translate("{path}: cannot be written ({reason})", path=path, reason=reason(error)))


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
