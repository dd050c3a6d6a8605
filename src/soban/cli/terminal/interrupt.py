"""Ctrl-C that ends an answer at once, even in the middle of a long native step."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Pressed:
    """Whether Ctrl-C was pressed, and what that stops."""

    def __init__(self, stop: Callable[[], None] | None) -> None:
        self.yes = False
        self._stop = stop

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.yes = True

    def stops(self, stop: Callable[[], None]) -> None:
        """From now on Ctrl-C calls `stop`, from another thread and maybe twice; at once if it was pressed before."""
        self._stop = stop
        if self.yes:
            stop()

    def press(self) -> None:
        """Ctrl-C was pressed."""
        self.yes = True
        if self._stop:
            self._stop()


@contextmanager
def cancelling(stop: Callable[[], None] | None = None, restore: Callable[[], None] = lambda: None) -> Iterator[Pressed]:
    """Ctrl-C calls `stop`, which cancels what is running; a second one calls `restore` and ends the process.

    Python calls its own signal handlers only between two bytecodes, so not before a native step has ended. But the
    interpreter's C handler writes the signal's number to the wake-up socket at once, and a thread waits there.
    """
    pressed = Pressed(stop)
    if threading.current_thread() is not threading.main_thread():
        yield pressed  # signals belong to the main thread
        return
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    watcher = threading.Thread(target=_watch, args=(receiver, pressed, restore), daemon=True)
    watcher.start()
    old_socket = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    old_handler = signal.signal(signal.SIGINT, pressed)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, old_handler)
        signal.set_wakeup_fd(old_socket)
        sender.close()
        watcher.join()
        receiver.close()


def _watch(receiver: socket.socket, pressed: Pressed, restore: Callable[[], None]) -> None:
    """Until the other end closes."""
    again = False
    while numbers := receiver.recv(1):
        if numbers[0] == signal.SIGINT:
            if again:
                restore()
                os._exit(130)
            again = True
            pressed.press()
