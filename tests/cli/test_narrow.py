"""What is written to a terminal of few columns: no line wider than it, no word broken, in English and in Korean."""

import io
import itertools
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from wcwidth import wcswidth

from soban.cli.terminal import console
from tests.cli import tiny
from tests.cli.conftest import environment
from tests.hub.stub import Hub, Model

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the hub with a model of the catalogue and one of a long name."""
    home = tmp_path_factory.mktemp("h")
    folder = tiny.folder(tmp_path_factory.mktemp("model") / "tiny")
    files: dict[str, bytes | Path] = {path.name: path.read_bytes() for path in folder.iterdir()}
    names = ("google/gemma-2-2b-it", "owner/a-model-with-quite-a-long-name")
    with Hub() as hub:
        hub.models = {name: Model(files) for name in names}
        code = f"import huggingface_hub as h; [h.snapshot_download(name) for name in {names!r}]"
        subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **hub.environment(home)})
    return home


def screen(columns: int, language: str, home: Path, *words: str, typed: bytes = b"") -> list[str]:
    """The lines that a command writes to a terminal, by what it writes alone."""
    import fcntl
    import pty
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    own = environment(
        SOBAN_LANG=language, HF_HOME=str(home), HF_HUB_OFFLINE="1", SOBAN_CACHE=str(home / "c"), SOBAN_OPS="native"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "soban", *words], stdin=theirs, stdout=theirs, stderr=theirs, env=own
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # Linux says so of a terminal that nobody holds any more
            break
        if not piece:
            break
        written += piece
        if typed and written.endswith(b": "):  # only now: getpass throws away what was typed before
            os.write(ours, typed)
            typed = b""
    os.close(ours)
    process.wait()
    lines = written.decode().replace("\r\n", "\n").split("\n")
    return [line.rsplit("\r", 1)[-1] for line in lines]  # what a status line leaves


OFTEN = ((40, "ko"), (80, "en"))  # the others are among the slow tests


@pytest.mark.parametrize(
    ("columns", "language"),
    [
        one if one in OFTEN else pytest.param(*one, marks=pytest.mark.slow)
        for one in itertools.product((40, 50, 60, 80), ("en", "ko"))
    ],
)
def test_no_line_is_wider_than_the_terminal(home: Path, columns: int, language: str) -> None:
    model = str(next((home / "hub" / "models--google--gemma-2-2b-it" / "snapshots").iterdir()))
    calls = {
        "list": ("list",), "catalogue": ("list", "--catalogue"), "du": ("du",),
        "recommend": ("recommend", "--ram", "8"),
        "search": ("search", "gemma"), "nothing": ("search", "zzzz"), "show": ("show", "gemma2:9b"),
        "stats": ("run", model, "a", "--max-new-tokens", "3", "--stats"),
    }  # fmt: skip
    for name, words in calls.items():
        lines = [line for line in screen(columns, language, home, *words) if "/" not in line]  # addresses are longer
        assert max(map(wcswidth, lines)) <= columns, (name, max(lines, key=wcswidth))


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("columns", [50, 60])
def test_login_explains_in_whole_words(home: Path, columns: int, language: str) -> None:
    wide = screen(500, language, home, "login", typed=b"\n")
    narrow = screen(columns, language, home, "login", typed=b"\n")
    assert len(narrow) > len(wide) > 2
    assert " ".join(narrow).split() == " ".join(wide).split()
    assert all(wcswidth(line) <= columns or "://" in line for line in narrow)


def test_a_narrow_table_says_what_each_figure_is(home: Path) -> None:
    lines = screen(40, "en", home, "list")
    (at,) = (number for number, line in enumerate(lines) if line == "gemma2:2b")
    assert lines[at + 1].startswith("    fetched ") and "last used 20" in " ".join(lines[at : at + 3])


def test_a_plan_is_read_in_forty_columns(home: Path) -> None:
    model = str(next((home / "hub" / "models--google--gemma-2-2b-it" / "snapshots").iterdir()))
    forms = {form["dtype"] for form in json.loads("\n".join(screen(80, "en", home, "plan", model, "--json")))["forms"]}
    lines = screen(40, "en", home, "plan", model)
    assert forms <= set(lines)
    assert max(len(line) for line in lines if "/" not in line) <= 40


@pytest.mark.parametrize("text", ["measuring a thing of a long name ...", "이 PC가 얼마나 빠른지 재는 중입니다 ..."])
def test_a_status_line_never_reaches_the_next_row_so_it_can_be_erased(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", written := Screen())
    monkeypatch.setenv("COLUMNS", "30")
    with console.Status(False) as status:
        status.show(text)
    shown, blanks, rest = written.getvalue().split("\r")
    assert 20 < wcswidth(shown) == len(blanks) < 30 and rest == "" == blanks.strip()
