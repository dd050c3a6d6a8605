"""Why a file cannot be had: in one line and in the user's language."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import soban
from soban.base import files
from soban.base.border import reason
from soban.base.errors import UserError
from soban.talk.transcript import read_transcript

COMMON = (
    "ENOENT",
    "EACCES",
    "EPERM",
    "EEXIST",
    "EISDIR",
    "ENOTDIR",
    "ENAMETOOLONG",
    "ENOSPC",
    "EROFS",
    "EIO",
    "EMFILE",
)


@pytest.mark.parametrize("name", COMMON)
def test_common_reasons_are_told_in_korean(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    number = getattr(errno, name)
    monkeypatch.setenv("SOBAN_LANG", "ko")
    korean = reason(OSError(number, os.strerror(number)))
    assert not any("a" <= letter.lower() <= "z" for letter in korean) and len(korean) > 2


def test_the_words_of_the_system_are_shown_by_those_alone_who_translate_them() -> None:
    package = Path(soban.__file__).parent
    users = {
        path.relative_to(package).as_posix() for path in package.rglob("*.py") if ".strerror" in path.read_text("utf-8")
    }
    assert users == {"hub/session.py", "base/border.py"}


def test_other_reasons_are_the_systems_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_LANG", "ko")
    assert reason(OSError(errno.ELOOP, os.strerror(errno.ELOOP))) == os.strerror(errno.ELOOP)
    assert reason(OSError("it is wet")) == "it is wet"
    assert reason(ValueError("a\nb")) == "a b"  # an error is one line


def test_the_error_of_a_missing_conversation_is_wholly_korean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_LANG", "ko")
    with pytest.raises(soban.UserError) as caught:
        read_transcript(tmp_path / "none")
    told = str(caught.value).removeprefix(str(tmp_path / "none"))
    assert not any(letter.isascii() and letter.isalpha() for letter in told), json.dumps(told)


def test_what_a_killed_process_has_begun_goes_with_the_next_run_and_what_a_living_one_makes_stays(
    tmp_path: Path,
) -> None:
    code = (
        "import os, sys; from pathlib import Path; from soban.base import files\n"
        "with files.new_file(Path(sys.argv[1]), 1) as file, files.new_folder(Path(sys.argv[2]), 1) as folder:\n"
        "    (folder / 'half').write_text('x'); os.kill(os.getpid(), 9)"
    )
    names = [tmp_path / "한 글*.bin", tmp_path / "folder"]
    subprocess.run([sys.executable, "-c", code, *names])
    left = sorted(tmp_path.iterdir())
    assert len(left) == 2 and all(path.name.endswith(".tmp") for path in left)
    with files.new_file(names[0], 1) as file, files.new_folder(names[1], 1) as folder:
        begun = sorted(tmp_path.iterdir())
        assert len(begun) == 2 and not set(begun) & set(left)
        with pytest.raises(UserError), files.new_file(names[0], 1 << 60):
            pass
        assert sorted(tmp_path.iterdir()) == begun
        file.write(b"x")
    assert folder in begun and sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in names)
