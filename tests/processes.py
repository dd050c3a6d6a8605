"""Processes that do not outlive the test that started them, however it ends."""

import contextlib
import subprocess
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def ended(process: "subprocess.Popen[Any]") -> Iterator["subprocess.Popen[Any]"]:
    """The process, killed at the end where it still runs: to wait for it would hang the test, not fail it."""
    with process:
        try:
            yield process
        finally:
            process.kill()
