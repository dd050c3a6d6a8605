"""The border to the system: whatever it refuses of files, memory or libraries becomes one UserError, told in one way.

`crossing` stands around what opens, reads, writes or allocates: around whole calls of the public API, so that nothing
is left out, and closer where more can be said. A fault of the program's own (KeyError, ValueError) passes through.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from soban.base.errors import UserError
from soban.messages import translate

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ERRORS = (OSError, MemoryError, ImportError)  # of the system


def user_error(error: OSError | MemoryError | ImportError, path: str | os.PathLike[str] | None = None) -> UserError:
    """What to tell of an error of the system; `path`: of what, where the error itself does not say."""
    if isinstance(error, MemoryError):
        return UserError("memory ran out", hint="close other programs, or take a smaller model or a shorter context")
    if isinstance(error, ImportError):
        return UserError(
            "{module} cannot be loaded: {reason}", module=error.name or "a library", reason=reason(_innermost(error)),
            hint="make room in memory (ulimit -v), or install soban again",
        )  # fmt: skip
    name = error.filename2 if isinstance(error.filename2, str) else error.filename
    place = name if isinstance(name, str | os.PathLike) else path
    if error.errno == errno.ENOMEM:
        return user_error(MemoryError())
    if place is None:
        return UserError("the system refuses: {reason}", reason=reason(error), hint="try again")
    if error.errno in FULL:
        return UserError(
            "{path}: cannot be written: {reason}", path=place, reason=reason(error), hint="make room on that disk"
        )
    return UserError(
        "{path}: cannot be read or written: {reason}", path=place, reason=reason(error),
        hint="check that it is there and that you may read and write there",
    )  # fmt: skip


@contextlib.contextmanager
def crossing(path: str | os.PathLike[str] | None = None) -> Iterator[None]:
    """Errors of the system become UserErrors meanwhile."""
    try:
        yield
    except ERRORS as error:
        raise user_error(error, path) from error


def is_file(path: Path) -> bool:
    """Whether a file is there that may be looked at; one behind a folder that is closed to us is as good as none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _innermost(error: BaseException) -> Exception:
    """What an error comes from: NumPy, say, puts a page of advice around the system's one line."""
    while isinstance(error.__cause__, ImportError | OSError | MemoryError):
        error = error.__cause__
    assert isinstance(error, Exception)
    return error


def reason(error: Exception) -> str:
    """Why a call failed, in one line, without Python's number and path: common reasons in the user's language."""
    import json

    if isinstance(error, json.JSONDecodeError):
        return translate(
            "line {line}, column {column}: {problem}", line=error.lineno, column=error.colno,
            problem=_json_problem(error.msg),
        )  # fmt: skip
    if isinstance(error, UnicodeDecodeError):
        return translate("byte {number} is not UTF-8", number=error.start)
    if isinstance(error, RecursionError):
        return translate("nested too deeply")
    if isinstance(error, MemoryError):
        return translate("memory ran out")
    if not isinstance(error, OSError):
        return " ".join(str(error).split()) or type(error).__name__
    return _system_reasons().get(error.errno or 0) or error.strerror or " ".join(str(error).split())


def _system_reasons() -> dict[int, str]:
    return {
        errno.ENOENT: translate("no such file or folder"),
        errno.EACCES: translate("permission denied"),
        errno.EPERM: translate("operation not permitted"),
        errno.EEXIST: translate("it is there already"),
        errno.EISDIR: translate("it is a folder"),
        errno.ENOTDIR: translate("part of the path is no folder"),
        errno.ENAMETOOLONG: translate("the name is too long"),
        errno.ENOSPC: translate("no space left"),
        errno.EFBIG: translate("no space left"),
        errno.EDQUOT: translate("the disk quota is used up"),
        errno.EROFS: translate("the disk can only be read"),
        errno.EIO: translate("the disk fails"),
        errno.EMFILE: translate("too many open files"),
    }


def _json_problem(message: str) -> str:
    """What is wrong at a place in JSON, in the user's language; the library's own words, set off, if they are new."""
    phrases = {
        "Expecting value": translate("a value is missing"),
        "Expecting property name enclosed in double quotes": translate("a name in double quotes is missing"),
        "Expecting ':' delimiter": translate("a colon is missing"),
        "Expecting ',' delimiter": translate("a comma or a closing bracket is missing"),
        "Extra data": translate("something stands behind the end"),
        "Unterminated string starting at": translate("the quotation mark that ends this text is missing"),
        "Invalid control character at": translate("a control character stands in a text"),
        "Invalid \\escape": translate("a backslash stands before a wrong character"),
        "Invalid \\uXXXX escape": translate("four hexadecimal digits are missing"),
    }
    return next((ours for theirs, ours in phrases.items() if message.startswith(theirs)), f'"{message}"')
