"""The command as a user has it, in a process of its own, and tiny models for it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli import tiny

SOURCE = Path(__file__).resolve().parents[2] / "src"
# Before an import: an installation that can be edited finds soban by itself, whatever PYTHONPATH says.
BY_PATH = "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'Redirecting' not in type(f).__name__]; "
Command = Callable[..., subprocess.CompletedProcess[bytes]]


def environment(**changes: str) -> dict[str, str]:
    """English, and NumPy for exact comparisons; `changes` on top."""
    given = {k: v for k, v in os.environ.items() if k not in ("SOBAN_ISA", "SOBAN_THREADS", "PYTHONIOENCODING")}
    return {**given, "PYTHONPATH": str(SOURCE), "SOBAN_OPS": "reference", "SOBAN_LANG": "en", **changes}


@pytest.fixture
def soban() -> Command:
    """Runs the command with these words; stdin as bytes, by default empty."""

    def run(*words: str | bytes | Path, stdin: bytes = b"", **changes: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "soban", *words], input=stdin, capture_output=True, timeout=60,
            env=environment(**changes),
        )  # fmt: skip

    return run


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
