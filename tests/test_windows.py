"""What Windows does otherwise, as far as another system can show it: modules, paths, mapped files, consoles."""

import ast
import io
import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import soban
from soban.base import system
from soban.cli import main

from .tiny import make_model

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "soban"
FILES = sorted(PACKAGE.rglob("*.py"))
PLATFORM_FILE = PACKAGE / "base/system.py"
POSIX_MODULES = {"curses", "fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
POSIX_NAMES = {
    "os": {"chown", "fork", "forkpty", "getuid", "geteuid", "getgid", "killpg", "mkfifo", "nice", "sched_getaffinity",
           "setsid", "symlink", "sync", "ttyname", "wait", "rename"},
    "signal": {"SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGSTOP", "SIGTSTP", "SIGUSR1", "SIGWINCH",
               "alarm", "pause", "sigwait"},
}  # fmt: skip
TEXT_CALLS = {"open", "read_text", "write_text"}


def test_what_only_posix_has_stands_in_the_platform_file() -> None:
    found = {path: only_posix(path) for path in FILES if path != PLATFORM_FILE}
    assert not {path: names for path, names in found.items() if names}


def only_posix(path: Path) -> set[str | None]:
    """The names in a file that Windows lacks."""
    found: set[str | None] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & POSIX_MODULES
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} & POSIX_MODULES
            found |= {alias.name for alias in node.names} & POSIX_NAMES.get(node.module or "", set())
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found |= {node.attr} & POSIX_NAMES.get(node.value.id, set())
    return found


def test_text_files_are_opened_as_utf_8() -> None:
    wanting = {path: without_encoding(path) for path in FILES}
    assert not {path: calls for path, calls in wanting.items() if calls}


def without_encoding(path: Path) -> list[str]:
    """The calls in a file that open text and do not say in which encoding."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
        if name in TEXT_CALLS and owner.split(".")[0] not in ("os", "webbrowser", "zipfile", "tarfile", "urllib"):
            constants = [part for arg in node.args for part in ast.walk(arg) if isinstance(part, ast.Constant)]
            binary = any("b" in str(part.value) for part in constants)
            if not binary and not any(word.arg == "encoding" for word in node.keywords):
                found.append(ast.unparse(node))
    return found


def is_mapped(path: Path) -> bool:
    maps = Path("/proc/self/maps")
    return str(path.resolve()) in maps.read_text(encoding="utf-8", errors="replace")


@pytest.fixture
def mapped_files_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is mapped is neither replaced nor deleted, as on Windows."""
    if sys.platform != "linux":
        pytest.skip("needs /proc/self/maps")

    def guarded(name: str) -> Callable[..., object]:
        original = getattr(os, name)

        def call(*paths: str, **options: object) -> object:
            if is_mapped(Path(os.fspath(paths[-1]))):
                raise PermissionError(13, "mapped", paths[-1])
            return original(*paths, **options)

        return call

    for name in ("replace", "rename", "unlink", "remove"):
        monkeypatch.setattr(os, name, guarded(name))


def test_the_stand_in_for_windows_keeps_mapped_files(tmp_path: Path, mapped_files_stay: None) -> None:
    path, other = tmp_path / "x", tmp_path / "y"
    path.write_bytes(b"abc")
    other.write_bytes(b"d")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        for act in (path.unlink, lambda: other.replace(path)):
            with pytest.raises(PermissionError):
                act()
    other.replace(path)
    path.unlink()


@pytest.mark.parametrize("dtype", ["f32", "q8", "q4"])
def test_a_model_whose_files_are_mapped_is_loaded_again_and_packed_anew_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapped_files_stay: None, dtype: str
) -> None:
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path / "cache"))
    folder = make_model(tmp_path / "model")
    first = soban.load(folder, dtype=dtype)
    again = soban.load(folder, dtype=dtype)
    np.testing.assert_array_equal(first.logits("abc"), again.logits("abc"))
    os.utime(folder / "config.json", (1, 1))  # another state of the checkpoint: packed again, beside the old one
    np.testing.assert_array_equal(soban.load(folder, dtype=dtype).logits("abc"), first.logits("abc"))


def test_paths_may_be_long_and_hold_blanks_and_hangul(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "홍 길동" / "모델"
    while len(str(base)) < 400:
        base = base / "아주 긴 이름의 폴더 "[:-1]
    monkeypatch.setenv("SOBAN_CACHE", str(base / "캐시"))
    folder = make_model(base / ("긴" * 80))  # 240 bytes, of 255 that a name may have
    assert main(["run", str(folder), "안녕", "--dtype", "q4", "--max-new-tokens", "2", "-q"]) == 0
    assert capfd.readouterr().err.count("\n") <= 2  # notes of packing, no error
    assert list((base / "캐시" / "packed").glob("*.safetensors"))


def test_long_paths_have_the_form_that_windows_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    long = "\\".join(["C:", "Users", "홍 길동", *["모델"] * 60])
    assert str(system.extended(Path(long))) == "\\\\?\\" + long
    assert str(system.extended(Path("\\\\server\\share\\" + "x" * 200))).startswith("\\\\?\\UNC\\server\\share\\x")
    for same in ("C:\\short", "\\\\?\\" + long):
        assert system.extended(Path(same)) == Path(same)


@pytest.mark.parametrize("encoding", ["cp949", "cp437", "ascii"])
def test_a_console_that_lacks_a_character_gets_another_and_nothing_crashes(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    class Stream(io.TextIOWrapper):  # as of an IDE: its encoding stays what it is
        reconfigure = None

        def __getattribute__(self, name: str) -> object:
            if name == "reconfigure":
                raise AttributeError(name)
            return super().__getattribute__(name)

    out, err = (Stream(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert main(["run", "Once upon a time, 옛날 😀", "--max-new-tokens", "3", "--greedy"]) == 0
    assert main(["run", "없는 폴더😀/x.bin", "a"]) == 2
    text = out.buffer.getvalue().decode(encoding)
    assert text.startswith("Once upon a time, ") and "?" in text
    assert ("옛날" in text) == (encoding == "cp949")
    assert b"x.bin" in err.buffer.getvalue()
