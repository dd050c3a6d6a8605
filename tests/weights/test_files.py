"""Why a file cannot be had: in one line and in the user's language."""

import errno
import json
import os
from pathlib import Path

import pytest

import soban
from soban.transcript import read_transcript
from soban.weights.files import reason

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
    assert users == {"hub/session.py", "weights/files.py"}


def test_other_reasons_are_the_systems_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_LANG", "ko")
    assert reason(OSError(errno.ELOOP, os.strerror(errno.ELOOP))) == os.strerror(errno.ELOOP)
    assert reason(OSError("it is wet")) == "it is wet"
    assert reason(ValueError("a\nb")) == "a\nb"


def test_the_error_of_a_missing_conversation_is_wholly_korean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_LANG", "ko")
    with pytest.raises(soban.UserError) as caught:
        read_transcript(tmp_path / "none")
    told = str(caught.value).removeprefix(str(tmp_path / "none"))
    assert not any(letter.isascii() and letter.isalpha() for letter in told), json.dumps(told)
