"""How a transfer is shown: one line that is redrawn on a terminal, elsewhere a line now and then."""

import sys
import time

from soban.base.units import of_bytes, of_seconds
from soban.cli.terminal import console
from soban.cli.terminal.table import truncate
from soban.hub.fetching import Progress
from soban.messages import translate, width

BAR = 24  # columns, fewer on a narrow terminal
FIRST, EVERY = 5.0, 30.0  # seconds between lines where there is no terminal
SHORTEST_BAR = 6
ECHO = 2  # columns of the ^C that a terminal shows when it is pressed


class Transfer:
    """Shows the progress of something with a name. Use as a context manager, which leaves a clean line."""

    def __init__(self, name: str, quiet: bool = False) -> None:
        self._name, self._quiet = name, quiet
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._columns = 0
        self._next = 0.0

    def __enter__(self) -> "Transfer":
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def show(self, progress: Progress) -> None:
        """Called a few times a second."""
        if self._quiet:
            return
        if self._terminal:
            self._draw(fitted(self._name, progress, console.columns_of_terminal() - ECHO))
        elif time.monotonic() >= self._next:
            begun, self._next = self._next == 0.0, time.monotonic() + (EVERY if self._next else FIRST)
            console.tell(f"{self._name}: {beginning(progress) if begun else in_words(progress).strip()}")

    def say(self, text: str) -> None:
        """What is being done before there is any progress, on the line that is redrawn."""
        self._draw(truncate(text, console.columns_of_terminal() - ECHO))

    def tell(self, text: str) -> None:
        """A line that stays, above the one that is redrawn."""
        self.clear()
        console.tell(text)

    def clear(self) -> None:
        """Erases the line without escape sequences, which older consoles would print."""
        self._columns += ECHO if self._columns else 0
        self._draw("")
        if self._terminal and not self._quiet:
            sys.stderr.write("\r")
            sys.stderr.flush()

    def _draw(self, line: str) -> None:
        if not self._terminal or self._quiet or not (line or self._columns):
            return
        sys.stderr.write(self._back() + line + " " * (self._columns - width(line)))
        sys.stderr.flush()
        self._columns = width(line)

    def _back(self) -> str:
        """To the beginning of the line; of all its rows, erased, where a narrower terminal has wrapped what stood."""
        rows = -(-self._columns // (console.columns_of_terminal() + 1)) if console.wraps_anew() else 1
        if rows < 2:
            return "\r"
        self._columns = 0
        return f"\r\x1b[{rows - 1}A\x1b[J"


def beginning(progress: Progress) -> str:
    """The first line where nothing is redrawn: how much there is to fetch."""
    if progress.phase != "fetching":
        return in_words(progress).strip()
    return translate("fetching {size}", size=of_bytes(progress.total - progress.done))


def in_words(progress: Progress) -> str:
    """How far it is, without a bar."""
    return "  ".join(_parts(progress))


def _parts(progress: Progress) -> list[str]:
    """The parts of it, the first and the last of which matter most."""
    if progress.phase == "waiting":
        return [translate("another soban is fetching it; waiting")]
    if progress.phase == "retrying":
        return [progress.note, translate("trying again")]
    parts = [
        f"{100 * progress.done // progress.total if progress.total else 0:3d} %",  # never 100 before all is there
        f"{of_bytes(progress.done)} / {of_bytes(progress.total)}",
    ]
    if progress.phase == "checking":
        return [*parts, translate("checking")]
    if progress.speed >= 1:
        parts.append(f"{of_bytes(progress.speed)}/s")
    if progress.left is not None and progress.done < progress.total:
        parts.append(translate("{time} left", time=of_seconds(progress.left)))
    return parts


def fitted(name: str, progress: Progress, most: int) -> str:
    """The line in so many columns: where they are too few the bar goes first, then one part after the other."""
    parts = _parts(progress)
    room = most - width("  ".join([name, *parts])) - 4
    if progress.total and len(parts) > 1 and room >= SHORTEST_BAR:
        length = min(BAR, room)
        full = length * progress.done // progress.total
        parts.insert(0, f"[{'#' * full}{'.' * (length - full)}]")
    parts.insert(0, name)
    while len(parts) > 2 and width("  ".join(parts)) > most:
        del parts[2 if len(parts) > 3 else 0]
    return truncate("  ".join(parts), most)
