"""Ctrl-C that ends an answer at once, even in the middle of a long native step."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import numpy as np
import numpy.typing as npt


class Pressed:
    """Whether Ctrl-C was pressed."""

    def __init__(self) -> None:
        self.yes = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.yes = True


@contextmanager
def cancelling(cancel: npt.NDArray[np.int32], restore: Callable[[], None] = lambda: None) -> Iterator[Pressed]:
    """Ctrl-C sets the cancel flag that a running step polls; a second one calls `restore` and ends the process.

    Python calls its own signal handlers only between two bytecodes, so not before a native step has ended. But the
    interpreter's C handler writes the signal's number to the wake-up socket at once, and a thread waits there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield Pressed()  # signals belong to the main thread
        return
    pressed = Pressed()
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    watcher = threading.Thread(target=_watch, args=(receiver, cancel, restore), daemon=True)
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
        cancel[0] = 0


def _watch(receiver: socket.socket, cancel: npt.NDArray[np.int32], restore: Callable[[], None]) -> None:
    """Until the other end closes."""
    while numbers := receiver.recv(1):
        if numbers[0] == signal.SIGINT:
            if cancel[0]:
                restore()
                os._exit(130)
            cancel[0] = 1
