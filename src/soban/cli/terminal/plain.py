"""Messages from a pipe, a file or an IDE's console: lines in, answers out, no cursor to move."""

import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from soban.cli.terminal import console
from soban.text.encodings import BOMS, decode

BLOCK = '"""'
IDE_CONSOLES = ("PYCHARM_HOSTED",)  # set where somebody types though stdin is no terminal
STDIN = Path("stdin")
UTF_16_MARKS = tuple(mark for mark, name in BOMS if name == "utf-16")


def messages(lines: Iterable[str]) -> Iterator[str]:
    """What the lines say: a message each, or several joined by a backslash at the end, or between two \"\"\"."""
    lines = iter(lines)
    for line in lines:
        if line.lstrip().startswith(BLOCK):
            message = _block(line.lstrip().removeprefix(BLOCK), lines)
        else:
            message = line
            while message.endswith("\\"):
                message = message[:-1] + "\n" + next(lines, "")
        if message.strip():
            yield message.strip()


def in_block(text: str) -> bool:
    """Whether a text begins with \"\"\" and still lacks those that end it."""
    text = text.strip()
    return text.startswith(BLOCK) and not (len(text) >= 2 * len(BLOCK) and text.endswith(BLOCK))


def unblocked(text: str) -> str:
    """A text without the \"\"\" around it; any other as it is."""
    whole = text.strip()
    if not whole.startswith(BLOCK) or in_block(whole):
        return text
    return whole.removeprefix(BLOCK).removesuffix(BLOCK).strip("\n")


def _block(first: str, lines: Iterator[str]) -> str:
    parts = [first]
    while not parts[-1].rstrip().endswith(BLOCK):
        line = next(lines, None)
        if line is None:
            return "\n".join(parts)  # the text ended first
        parts.append(line)
    return "\n".join(parts).rstrip().removesuffix(BLOCK)


class Lines:
    """The lines of stdin as they come. A thread reads, so that Ctrl-C is heard while nothing comes."""

    def __init__(self) -> None:
        # Ctrl-C in the middle of a queue.Queue's get breaks its lock; this one is made for that, but has no end.
        self._pieces: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._room = threading.Semaphore(64)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        piece = b"first"
        while piece:
            try:
                piece = os.read(0, 1 << 16)
            except OSError:
                piece = b""  # closed, or a folder: there is no text in it
            self._room.acquire()
            self._pieces.put(piece)

    def _next(self) -> bytes:
        while True:
            try:
                piece = self._pieces.get(timeout=0.05)  # in short turns, for Windows hears Ctrl-C only between them
                self._room.release()
                return piece
            except queue.Empty:
                continue

    def __iter__(self) -> Iterator[str]:
        piece = self._next()
        if piece.startswith(UTF_16_MARKS):
            yield from decode(b"".join([piece, *iter(self._next, b"")]), STDIN).splitlines()
            return
        begun: list[bytes] = []  # of a line whose end is still to come
        while piece:
            first, *others = piece.split(b"\n")
            begun.append(first)
            if others:
                yield _text(b"".join(begun))
                yield from map(_text, others[:-1])
                begun = others[-1:]
            piece = self._next()
        if any(begun):
            yield _text(b"".join(begun))


def _text(line: bytes) -> str:
    return decode(line, STDIN).removesuffix("\r")


class Plain:
    """Reads messages from stdin and writes answers to stdout; all else goes to stderr."""

    interactive = False
    pressed = False

    def __init__(self) -> None:
        self.keys: dict[str, dict[str, str]] = {}
        typed = sys.stdin is not None and sys.stdin.isatty()
        self.attended = typed or any(name in os.environ for name in IDE_CONSOLES)
        self._messages = messages(Lines())

    @property
    def columns(self) -> int | None:
        """Of the terminal that stderr is; None where it is none."""
        with contextlib.suppress(OSError, AttributeError, ValueError):
            return os.get_terminal_size(sys.stderr.fileno()).columns or None  # some say 0
        return None

    def __enter__(self) -> "Plain":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def restore(self) -> None:
        pass

    def read(self, meter: str, draft: str = "") -> str:
        """The next message. EOFError where there is none."""
        if self.attended:
            _talk("> ")
        text = next(self._messages, None)
        if text is None:
            if self.attended:
                _talk("\n")
            raise EOFError
        return text

    def confirm(self, question: str) -> bool:
        """Nobody is there to be asked."""
        return False

    def repeat(self, message: str) -> None:
        """Whoever gave the message knows it."""

    def write(self, pieces: Iterable[str], remark: Callable[[], str] = str) -> None:
        """An answer, as its pieces come, and the end of its last line; what is to be remarked on it goes to stderr."""
        try:
            for piece in pieces:
                console.write(piece)
        finally:
            console.write("\n")
            if text := remark():
                console.tell(text)

    def show(self, text: str) -> None:
        """Something that is no answer."""
        for line in text.split("\n"):
            console.tell(line)

    def tell(self, text: str) -> None:
        """What went wrong."""
        console.tell(text)


def _talk(text: str) -> None:
    with contextlib.suppress(OSError, AttributeError):  # stderr may have gone, or be None
        sys.stderr.write(text)
        sys.stderr.flush()
