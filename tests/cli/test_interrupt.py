"""Ctrl-C: the answer ends at once, what there is of it stands, and nothing looks like a crash."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from soban.cli.terminal.interrupt import cancelling
from tests.cli import tiny
from tests.cli.conftest import BY_PATH, environment
from tests.processes import ended

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process there")


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.folder(tmp_path_factory.mktemp("models") / "endless", context=8192)


@pytest.mark.parametrize("more", [[], ["--num-return-sequences", "2", "--do-sample", "--top-k", "1"]])
def test_ctrl_c_ends_an_answer_with_its_text_its_figures_and_130(endless: Path, more: list[str]) -> None:
    with ended(subprocess.Popen(
        [sys.executable, "-m", "soban", "run", endless, "abc", *more], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
    )) as running:  # fmt: skip
        assert running.stdout is not None
        if more:
            time.sleep(2 + 2 * os.getloadavg()[0])  # several texts come at the end: there is nothing to see before
            begun = b""
        else:
            begun = running.stdout.read(10)
        running.send_signal(signal.SIGINT)
        pressed = time.monotonic()
        text, talk = running.communicate(timeout=30)
        assert time.monotonic() - pressed < 2
    assert running.returncode == 130
    assert (begun + text).startswith(b"abc") and text.endswith(b"\n")
    assert talk.startswith(b"load ") and talk.count(b"\n") == 1


def test_the_flag_is_set_while_the_main_thread_is_in_native_code() -> None:
    # One long sleep in C stands for a step: Python calls its signal handlers only when it is over.
    import ctypes

    cancel = np.zeros(1, np.int32)
    seen: list[float] = []

    def watch() -> None:
        while not cancel[0]:
            time.sleep(0.005)
        seen.append(time.monotonic())

    with cancelling(lambda: cancel.fill(1)) as pressed:
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        threading.Timer(0.1, lambda: signal.raise_signal(signal.SIGINT)).start()
        ctypes.CDLL(None).usleep(700_000)
        end = time.monotonic()
        watcher.join(5)
        assert pressed.yes
    assert seen[0] < end - 0.3


def test_what_is_begun_after_ctrl_c_was_pressed_is_stopped_at_once() -> None:
    calls: list[str] = []
    with cancelling(lambda: calls.append("first")) as pressed:
        signal.raise_signal(signal.SIGINT)
        until = time.monotonic() + 5
        while not calls and time.monotonic() < until:
            time.sleep(0.005)
        assert pressed.yes and calls == ["first"]
        pressed.stops(lambda: calls.append("second"))
        assert calls == ["first", "second"]


def test_afterwards_ctrl_c_is_python_s_again() -> None:
    before = signal.getsignal(signal.SIGINT)
    with cancelling():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_ends_even_a_program_that_does_not_listen() -> None:
    code = (
        "import time\n"
        "from soban.cli.terminal.interrupt import cancelling\n"
        "with cancelling():\n"
        "    print('ready', flush=True)\n"
        "    while True: time.sleep(0.05)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment()) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert running.poll() is None
        running.send_signal(signal.SIGINT)
        assert running.wait(5) == 130


# Presses Ctrl-C when a module is looked for. Its name, then what is run.
PRESS = """
import os, signal, sys
wanted = sys.argv.pop(1)
class Finder:
    def find_spec(name, path=None, target=None):
        if name == wanted:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder)
from soban.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    "module",
    ["soban.cli", "logging", "soban.cli.chat", "numpy", "datetime", "soban.engine.sampling"],
)
def test_ctrl_c_while_modules_are_imported_ends_quietly(module: str) -> None:
    words = [sys.executable, "-c", PRESS, module, "chat", "-q"]
    done = subprocess.run(words, input=b"", capture_output=True, env=environment(), timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_nothing_is_imported_before_ctrl_c_is_minded() -> None:
    code = "before = set(sys.modules); import soban.__main__; print(*sorted({*sys.modules} - before))"
    done = subprocess.run([sys.executable, "-c", BY_PATH + code], capture_output=True, env=environment(), check=True)
    assert done.stdout.split() == [b"soban", b"soban.__main__"]
    project = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert '\nsoban = "soban.__main__:main"\n' in project
