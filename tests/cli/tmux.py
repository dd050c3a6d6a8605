"""A terminal for tests, driven through tmux: keys in, screens out."""

import itertools
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import environment

NUMBER = itertools.count()
PATIENCE = 30.0  # seconds until a screen that does not come is a failure
KEPT = ("PATH", "HOME", "PYTHONPATH", "SOBAN_LANG", "SOBAN_CACHE", "SOBAN_OPS", "XDG_STATE_HOME", "NO_COLOR")


class Terminal:
    """`soban` with these words in a terminal of that size; `show` waits for a screen. A context manager."""

    def __init__(self, *words: str | Path, columns: int = 60, rows: int = 24, **changes: str) -> None:
        self._server = ("tmux", "-u", "-L", f"soban-test-{os.getpid()}-{next(NUMBER)}")
        own = environment(**{"SOBAN_OPS": "native", **changes})
        variables = {k: v for k, v in own.items() if k in KEPT or k.startswith("HF_")}
        variables["LANG"] = "C.UTF-8"
        command = shlex.join(map(str, (sys.executable, "-m", "soban", *words)))
        # The shell hears every Ctrl-C, too, and must outlive it; what was left behind stays to be looked at.
        state = r"stty -a | grep -o -E -e '-?(icrnl|icanon|echo|isig)\b'"
        script = f"trap : INT; {command}; echo left with $?; {state}; exec sleep 60"
        given = itertools.chain(*(("-e", f"{name}={value}") for name, value in variables.items()))
        size = ("-x", str(columns), "-y", str(rows))
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, *given, f"sh -c {shlex.quote(script)}")

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run([*self._server, "kill-server"], capture_output=True, check=False)

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(
            [*self._server, *words], capture_output=True, encoding="utf-8", timeout=30, check=True, env=environment()
        )
        return done.stdout

    def type(self, text: str) -> None:
        """Characters, as they are."""
        self._tmux("send-keys", "-l", "--", text)

    def press(self, *keys: str) -> None:
        """Keys by tmux's names: Enter, C-c, M-Enter, BSpace."""
        self._tmux("send-keys", *keys)

    def paste(self, text: str) -> None:
        """As a terminal pastes: marked, if the program has asked for that."""
        self._tmux("set-buffer", "--", text)
        self._tmux("paste-buffer", "-p")

    def resize(self, columns: int, rows: int) -> None:
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def screen(self, *, looks: bool = False) -> str:
        """What stands there now, without the empty lines below; `looks`: with escape sequences."""
        lines = self._tmux("capture-pane", "-p", *(["-e"] if looks else [])).split("\n")
        return "\n".join(line.rstrip() for line in lines).rstrip()

    def all(self) -> str:
        """What has stood there since the beginning, lines joined that the terminal has wrapped."""
        return self._tmux("capture-pane", "-p", "-J", "-S", "-")

    def wait(self, wanted: Callable[[str], bool]) -> str:
        """The first screen that is as wanted, and stays so for a moment."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if wanted(found := self.screen()) and (time.sleep(0.15), self.screen())[1] == found:
                return found
            time.sleep(0.05)
        raise AssertionError(f"not the screen that was awaited:\n{self.screen()}")

    def see(self, text: str) -> str:
        """The first screen with that text."""
        return self.wait(lambda screen: text in screen)
