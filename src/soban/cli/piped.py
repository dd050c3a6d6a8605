"""Text from a pipe, which may say nothing at all."""

import os
import threading
import time
from pathlib import Path

from soban import messages
from soban.text.encodings import decode

SILENCE = 2.0  # seconds that a pipe may say nothing before a prompt goes on without it


class PipedText:
    """What comes in on stdin. A thread reads it, for a pipe that never says anything must not stop the program."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._began, self._ended = threading.Event(), threading.Event()
        if _is_keyboard_or_closed():
            self._began.set()
            self._ended.set()
        else:
            threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while piece := os.read(0, 1 << 16):
                self._pieces.append(piece)
                self._began.set()
        except OSError:
            pass  # a folder, say: there is no text in it
        self._ended.set()
        self._began.set()

    def text(self, *, patient: bool) -> str | None:
        """All of it without its last line ends; None if nothing came for a while and we are not `patient`."""
        deadline = time.monotonic() + SILENCE
        while not self._began.wait(0.05):  # in short turns, for Windows hears Ctrl-C only between them
            if time.monotonic() > deadline:
                if not patient:
                    return None
                messages.warn("waiting for the prompt on stdin")
        while not self._ended.wait(0.05):
            pass
        return decode(b"".join(self._pieces), Path("stdin")).rstrip("\r\n")


def _is_keyboard_or_closed() -> bool:
    try:
        return os.isatty(0) or not os.fstat(0)
    except OSError:
        return True
