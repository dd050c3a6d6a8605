"""The terminal: UTF-8 on every system, text to stdout, talk to stderr."""

import contextlib
import errno
import logging
import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from soban.cli.terminal.table import truncate
from soban.cli.terminal.wrapping import hanging
from soban.messages import escaped, translate, width

REFLOWING = ("TMUX", "VTE_VERSION", "TERM_PROGRAM", "KITTY_WINDOW_ID", "KONSOLE_VERSION", "ALACRITTY_WINDOW_ID")
LEAST = 20  # columns that a terminal is taken to have
PATIENCE = 0.5  # seconds without a word of an answer until a line says what is being done


YES = ("y", "yes", "ㅛ", "예", "네", "응")  # ㅛ is what the key Y types while Hangul is on


class ClosedPipe(Exception):
    """Whoever read our stdout has gone."""


class _Notes(logging.Handler):
    """Writes soban's notes to the stderr of the moment, one line each."""

    def emit(self, record: logging.LogRecord) -> None:
        tell(f"soban: {record.getMessage()}")


def prepare() -> None:
    """UTF-8 for both streams, and a place for notes; stdout gets the same bytes on every system."""
    for stream, errors in ((sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors=errors, newline="\n" if stream is sys.stdout else None)
    logger = logging.getLogger("soban")
    logger.propagate = False
    if not any(isinstance(handler, _Notes) for handler in logger.handlers):
        logger.addHandler(_Notes())


def write(text: str) -> None:
    """Text to stdout, at once. Raises ClosedPipe where nobody reads any more, UserError where it cannot be kept."""
    if sys.stdout is None:
        return
    try:
        try:
            sys.stdout.write(text)
        except UnicodeEncodeError as error:  # an IDE's own stream, which cannot be set to UTF-8
            sys.stdout.write(text.encode(error.encoding, "replace").decode(error.encoding))
        sys.stdout.flush()
    except OSError as error:
        _abandon_stdout()
        # Windows says EINVAL for a pipe whose reader has gone
        if isinstance(error, BrokenPipeError) or (sys.platform == "win32" and error.errno == errno.EINVAL):
            raise ClosedPipe from None
        from soban.base.border import reason
        from soban.base.errors import UserError

        raise UserError(
            "the text cannot be written ({reason})",
            reason=reason(error),
            hint="make room, or write it to another place",
        ) from error


def _abandon_stdout() -> None:
    """What is left in the buffer goes nowhere, or Python would complain about it while it shuts down."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def tell(text: str) -> None:
    """One line to stderr, whatever the text; on a terminal broken at blanks. Nothing where there is no stderr."""
    if sys.stderr is not None:
        try:
            line = fitted(escaped(" ".join(re.split(r"[\r\n]+", text))))
            try:
                print(line, file=sys.stderr, flush=True)
            except UnicodeEncodeError as error:
                print(line.encode(error.encoding, "replace").decode(error.encoding), file=sys.stderr, flush=True)
        except OSError:
            return  # stderr has gone: there is nobody left to tell


def fitted(text: str) -> str:
    """A line for stderr, with line breaks between words where the terminal would break it within them.

    Not beside the line editor of chat, whose screen keeps its own count of rows.
    """
    if not sys.stderr.isatty() or "prompt_toolkit" in sys.modules or width(text) <= (columns := columns_of_terminal()):
        return text
    indent = text[: len(text) - len(text.lstrip(" "))]
    return "\n".join(hanging(indent, text, columns)) if text.strip() else text


def wraps_anew(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is one of the terminals that are known to wrap what stands in them when they become narrower."""
    return any(environment.get(name) for name in REFLOWING)


def ask(question: str) -> str | None:
    """What the user types after a question; None at the end of stdin."""
    *above, last = fitted(question).split("\n")
    sys.stderr.write("\n".join([*above, last.rstrip() + " "]))
    sys.stderr.flush()
    return sys.stdin.readline() or None


def columns_of_terminal() -> int:
    """How long a line may be now: one less than its columns, for consoles that wrap at the last; elsewhere 80."""
    columns = shutil.get_terminal_size((0, 0)).columns
    if not columns:  # stdout goes elsewhere
        with contextlib.suppress(OSError, ValueError, AttributeError):
            columns = os.get_terminal_size(sys.stderr.fileno()).columns
    return max(LEAST, (columns or 81) - 1)


@contextlib.contextmanager
def notes_afterwards(tell: Callable[[str], None]) -> Iterator[None]:
    """What soban notes meanwhile is told afterwards, by itself, and not into the middle of a line that is written."""
    notes: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        notes.append(record.getMessage())
        return False

    logger = logging.getLogger("soban")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
        for note in notes:
            tell(f"soban: {note}")


class Status:
    """A short text on the last line of a terminal while something takes its time; elsewhere nothing."""

    def __init__(self, quiet: bool) -> None:
        self._columns = 0
        self._active = not quiet and sys.stderr is not None and sys.stderr.isatty()

    def __enter__(self) -> "Status":
        logging.getLogger("soban").addFilter(self._make_room)
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
        logging.getLogger("soban").removeFilter(self._make_room)

    def _make_room(self, _: logging.LogRecord) -> bool:
        self.clear()
        return True

    def show(self, text: str) -> None:
        if self._active:
            self.clear()
            text = truncate(text, columns_of_terminal())  # a line that was wrapped could not be erased
            sys.stderr.write(text)
            sys.stderr.flush()
            self._columns = width(text)

    def clear(self) -> None:
        """Erases it without escape sequences, which older consoles would print."""
        if self._columns:
            sys.stderr.write("\r" + " " * self._columns + "\r")
            sys.stderr.flush()
            self._columns = 0


class Patience:
    """Says that the prompt is being read where that takes long enough to wonder."""

    def __init__(self, status: Status) -> None:
        self._status, self._lock, self._over = status, threading.Lock(), False
        self._timer = threading.Timer(PATIENCE, self._tell)

    def __enter__(self) -> "Patience":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def until(self, pieces: Iterable[str]) -> Iterator[str]:
        """The pieces; with the first of them it is over."""
        for piece in pieces:
            self._end()
            yield piece

    def _tell(self) -> None:
        with self._lock:
            if not self._over:
                self._status.show(translate("reading the prompt ..."))

    def _end(self) -> None:
        if not self._over:
            with self._lock:
                self._over = True
                self._status.clear()
            self._timer.cancel()


def shortened(text: Any, most: int = 60) -> str:
    """The text for a message: its beginning, if it is long."""
    text = str(text)
    return text if len(text) <= most else text[: most - 1] + "…"
