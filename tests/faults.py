"""Faults of the system at each call in turn: what concerns files below a folder is counted, and one of it fails."""

import builtins
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# What Python tells its audit hooks of before it asks the system, and which arguments are paths.
AUDITED = {
    "open": (0,), "os.mkdir": (0,), "os.rename": (0, 1), "os.remove": (0,), "os.rmdir": (0,), "os.listdir": (0,),
    "os.scandir": (0,), "os.link": (0, 1), "os.symlink": (0, 1), "os.chmod": (0,), "os.truncate": (0,),
}  # fmt: skip
# Errors that each call may end in, one after the other.
ENDS: dict[str, tuple[BaseException, ...]] = {
    "open": (PermissionError(errno.EACCES, "Permission denied"), OSError(errno.EMFILE, "Too many open files")),
    "os.mkdir": (PermissionError(errno.EACCES, "Permission denied"), OSError(errno.ENOSPC, "No space left on device")),
    "os.rename": (PermissionError(errno.EACCES, "Permission denied"), OSError(errno.EIO, "Input/output error")),
    "read": (OSError(errno.EIO, "Input/output error"), MemoryError()),
    "write": (OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EIO, "Input/output error")),
    "fsync": (OSError(errno.EIO, "Input/output error"),),
    "stat": (PermissionError(errno.EACCES, "Permission denied"), OSError(errno.EIO, "Input/output error")),
    "mmap.mmap": (OSError(errno.ENOMEM, "Cannot allocate memory"), OSError(errno.ENODEV, "No such device")),
}
USUAL = (PermissionError(errno.EACCES, "Permission denied"),)


class Faults:
    """Counts the calls for files below a folder; the one that `fail` names ends in an error."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.calls: list[str] = []
        self.wanted: tuple[int | None, BaseException] | None = None  # None: each of them
        sys.addaudithook(self._audit)  # which stays for ever, and is silent outside of `watching`

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event in AUDITED:
            if any(self._ours(arguments[index]) for index in AUDITED[event]):
                self.meet(event, arguments[AUDITED[event][0]])
        elif event == "mmap.__new__" and arguments[0] >= 0 and self._ours(_name(arguments[0])):
            self.meet("mmap.mmap", f"file {arguments[0]}")

    def _ours(self, path: object) -> bool:
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(str(self.folder))

    def meet(self, call: str, what: object) -> None:
        """One more call, which may be the one that fails."""
        number = len(self.calls)
        self.calls.append(f"{call} {what}")
        if self.wanted is not None and self.wanted[0] in (None, number):
            error = self.wanted[1]
            raise type(error)(*error.args, str(what)) if isinstance(error, OSError) and error.args else error

    @contextmanager
    def watching(self, folder: Path, wanted: tuple[int | None, BaseException] | None = None) -> Iterator[None]:
        self.calls, self.wanted = [], wanted
        with pytest.MonkeyPatch.context() as patch:
            for module in (io, builtins):
                patch.setattr(module, "open", self._opened(io.open))
            patch.setattr(os, "fsync", self._followed("fsync", os.fsync))
            patch.setattr(os, "stat", self._asked(os.stat))
            self.folder = str(folder)
            try:
                yield
            finally:
                self.folder = None

    def _followed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def followed(descriptor: Any, *rest: Any) -> Any:
            self.meet(name, f"file {descriptor}")
            return call(descriptor, *rest)

        return followed

    def _asked(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def asked(path: Any, **options: Any) -> Any:
            if self.folder is not None and self._ours(path):
                self.meet("stat", path)
            return call(path, **options)

        return asked

    def _opened(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """`open`, whose files below the folder read and write as this says."""

        def opened(
            file: Any, mode: str = "r", buffering: int = -1, encoding: str | None = None, errors: str | None = None,
            newline: str | None = None, closefd: bool = True, opener: Any = None,
        ) -> Any:  # fmt: skip
            if self.folder is None or not self._ours(file):
                return call(file, mode, buffering, encoding, errors, newline, closefd, opener)
            raw = _File(self, file, mode.replace("b", "").replace("t", ""), closefd, opener)
            if buffering == 0:
                return raw
            kind: Any = io.BufferedRandom if "+" in mode else io.BufferedReader if "r" in mode else io.BufferedWriter
            buffered = kind(raw, buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

        return opened


def _name(descriptor: int) -> str:
    """The path of an open file; "" where the system does not tell."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


class _File(io.FileIO):
    """A file whose every read and write is a call that may fail."""

    def __init__(self, faults: Faults, path: Any, mode: str, closefd: bool, opener: Any) -> None:
        self._faults, self._path = faults, path
        super().__init__(path, mode, closefd, opener)

    def readinto(self, buffer: Any) -> int:
        self._faults.meet("read", self._path)
        return super().readinto(buffer)  # type: ignore[return-value]

    def readall(self) -> bytes:
        self._faults.meet("read", self._path)
        return super().readall()  # type: ignore[return-value]

    def write(self, data: Any) -> int:
        self._faults.meet("write", self._path)
        return super().write(data)  # type: ignore[return-value]


FAULTS = Faults()


def each_fault(
    fresh: Callable[[], Path], flow: Callable[[Path], object], *, every: int = 1
) -> Iterator[tuple[str, Path, Callable[[], object]]]:
    """Each call of a flow with each error that it may end in: what fails, the folder, and how to run the flow so.

    `fresh` makes the folder that the flow works in. `every`: of so many one is tried.
    """
    with FAULTS.watching(fresh()):
        flow(Path(str(FAULTS.folder)))
    calls = list(FAULTS.calls)
    number = 0
    for at, call in enumerate(calls):
        for error in ENDS.get(call.split(" ")[0], USUAL):
            number += 1
            if number % every:
                continue
            folder = fresh()

            def run(folder: Path = folder, at: int = at, error: BaseException = error) -> object:
                with FAULTS.watching(folder, (at, error)):
                    return flow(folder)

            yield f"{call}: {error!r}", folder, run


def leftovers(folder: Path) -> list[str]:
    """Files and folders that were begun and not finished."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    return [name for name in names if name.endswith((".tmp", ".part")) or "/.model-" in f"/{name}"]
