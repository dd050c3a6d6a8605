"""The command as a user has it, and tiny models for it."""

import io
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub.constants  # here: it reads the environment once, and some tests set HF_HUB_OFFLINE
import pytest

from soban import cli
from soban.hub import place
from tests.cli import tiny

if TYPE_CHECKING:
    from soban.talk.dialogue import Dialogue
    from tests.cli.conversation import Start

SOURCE = Path(__file__).resolve().parents[2] / "src"
# Before an import: an installation that can be edited finds soban by itself, whatever PYTHONPATH says.
BY_PATH = "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'Redirecting' not in type(f).__name__]; "
Command = Callable[..., subprocess.CompletedProcess[bytes]]


# What would change what is said; GNU readline sets the size of its terminal for whoever imports it.
STRANGE = ("SOBAN_ISA", "SOBAN_THREADS", "PYTHONIOENCODING", "COLUMNS", "LINES")


def environment(**changes: str) -> dict[str, str]:
    """English, and NumPy for exact comparisons; `changes` on top."""
    given = {k: v for k, v in os.environ.items() if k not in STRANGE}
    return {**given, "PYTHONPATH": str(SOURCE), "SOBAN_OPS": "reference", "SOBAN_LANG": "en", **changes}


def in_process(*words: str | bytes | Path, stdin: bytes = b"", **changes: str) -> subprocess.CompletedProcess[bytes]:
    """The command with these words, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "soban", *words], input=stdin, capture_output=True, timeout=60,
        env=environment(**changes),
    )  # fmt: skip


def called(*words: str | bytes | Path, stdin: bytes = b"", **changes: str) -> subprocess.CompletedProcess[bytes]:
    """The same without a process, in a twentieth of the time: streams and the environment are as they would be there.

    What the system does with a process (its locale, signals, arguments that are no text) needs `in_process`.
    """
    before, wanted, notes = dict(os.environ), environment(**changes), logging.getLogger("soban").propagate
    streams = [io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2)]
    with tempfile.TemporaryFile() as given, pytest.MonkeyPatch.context() as patch:
        given.write(stdin)
        given.seek(0)
        old = os.dup(0)
        os.dup2(given.fileno(), 0)  # pipes are read by their number
        try:
            os.environ.clear()
            os.environ.update(wanted)
            patch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(place.token_file()))  # read at its import
            patch.setattr(sys, "stdin", io.TextIOWrapper(given))
            patch.setattr(sys, "stdout", streams[0])
            patch.setattr(sys, "stderr", streams[1])
            code = cli.main([os.fsdecode(word) for word in words])
        finally:
            os.dup2(old, 0)
            os.close(old)
            os.environ.clear()
            os.environ.update(before)
            logging.getLogger("soban").propagate = notes
    out, err = (stream.buffer.getvalue() for stream in streams)  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(words, code, out, err)


def text(done: subprocess.CompletedProcess[bytes], code: int = 0) -> str:
    """What a command wrote, which ended with that code."""
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    return done.stdout.decode()


@pytest.fixture
def soban() -> Command:
    """Runs the command with these words; stdin as bytes, by default empty."""
    return called


@pytest.fixture
def process() -> Command:
    """The same in a process of its own, for what the system decides."""
    return in_process


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base model, at a path with Hangul and a space."""
    return tiny.folder(tmp_path_factory.mktemp("models") / "작은 모델")


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a chat template."""
    template = "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    return tiny.folder(tmp_path_factory.mktemp("models") / "chat", template=template)


@pytest.fixture(scope="session")
def llama2c_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama2.c model with its tokenizer beside it."""
    return tiny.llama2c(tmp_path_factory.mktemp("models") / "llama2c")


@pytest.fixture
def start(tmp_path: Path) -> "Start":
    """A chat with the bundled model, or with the words given; no history but the test's own."""
    from tests.cli.conversation import FLAGS
    from tests.cli.tmux import Terminal

    def chat(*words: str | Path, **changes: str | int) -> Terminal:
        return Terminal("chat", *(words or FLAGS), XDG_STATE_HOME=str(tmp_path), **changes)  # type: ignore[arg-type]

    return chat


@pytest.fixture
def dialogue() -> "Dialogue":
    """The same conversation through the library, to know what the terminal has to show."""
    import soban
    from tests.cli.conversation import SAMPLING

    return soban.Dialogue(soban.load(), template="plain", **SAMPLING)
