"""Keys that are pressed while nobody reads them: they are not echoed, and nothing of them is lost."""

import os
import shutil
import sys
from types import TracebackType
from typing import Any

from soban.base import system
from soban.cli.terminal import console
from soban.messages import width


class WaitingKeys:
    """Keeps what is typed for whoever reads next. A context manager; `restore` may come before its end.

    Ctrl-C stays the interrupt. Windows echoes only while somebody reads, so there is nothing to do there.
    """

    def __init__(self, keep: bool) -> None:
        """Unless it is to `keep` them, nothing is changed."""
        self.keep = keep
        self.typed = ""  # before, while the terminal still made lines of it: their ends are \n
        self._before: Any = None

    def __enter__(self) -> "WaitingKeys":
        if self.keep:
            self._before = system.silence_terminal()
            self.typed = system.typed_ahead()
            _take_back(self.typed)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.restore()

    def restore(self) -> None:
        """Keys are echoed again, as before."""
        system.restore_terminal(self._before)
        self._before = None


def has_editor() -> bool:
    """Whether stdin and stdout are a terminal in which a line can be edited."""
    terminal = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
    return terminal and os.environ.get("TERM") != "dumb"


def _take_back(typed: str) -> None:
    """Erases what the terminal has echoed: the line editor will show it."""
    if not typed or not system.obeys_escapes():
        return
    columns = shutil.get_terminal_size().columns
    rows = sum(max(1, -(-width(line) // columns)) for line in typed.split("\n")) - 1
    console.write("\r" + (f"\x1b[{rows}A" if rows else "") + "\x1b[J")
