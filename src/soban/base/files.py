"""Files, read strictly: bytes, mappings and JSON objects, with one UserError for each way it can fail."""

import contextlib
import json
import math
import mmap
import os
import reprlib
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from soban.base import leftovers
from soban.base.border import FULL, reason
from soban.base.errors import UserError
from soban.messages import translate

JSON_LIMIT = 100_000_000  # bytes; what the safetensors library allows a header, and far above any config.json

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 100
_short.maxlist = 8


def quoted(value: object) -> str:
    """A value out of a file as it may stand in a one-line message: escaped, and shortened where it is long."""
    return _short.repr(value)


def unreadable(path: Path | str, error: OSError) -> UserError:
    """What to tell of a path that the system does not let us read."""
    return UserError(
        "{path}: cannot be read: {reason}", path=path, reason=reason(error),
        hint="check that the file is there and that you may read it",
    )  # fmt: skip


def is_there(path: Path) -> bool:
    """Whether something is at a path; no name that a file cannot have is. UserError where it cannot be asked."""
    try:
        path.stat()
    except PermissionError as error:
        raise unreadable(path, error) from error
    except (OSError, ValueError):
        return False
    return True


def on_disk(status: os.stat_result) -> int:
    """The bytes that a file takes: of one with holes only what is there."""
    blocks = getattr(status, "st_blocks", None)  # of 512 bytes; Windows has none
    return status.st_size if blocks is None else min(status.st_size, blocks * 512)


def open_regular(path: Path) -> BinaryIO:
    """The file, opened for reading bytes; UserError for what is missing, unreadable, or no regular file."""
    try:
        # Asked before opening: a named pipe would wait for its writer for ever.
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UserError("{path}: a folder, where a file is expected", path=path, hint="name a file")
        if not stat.S_ISREG(mode):
            raise UserError("{path}: not a regular file", path=path, hint="name a file")
        return path.open("rb")
    except FileNotFoundError as error:
        raise UserError("{path}: no such file", path=path, hint="check the spelling") from error
    except OSError as error:
        raise unreadable(path, error) from error


def map_file(path: Path) -> mmap.mmap:
    """The whole file as read-only memory that the system loads page by page; it lives as long as its views do.

    Whoever shortens a file while it is mapped stops this process (SIGBUS on Linux); no check can prevent that.
    """
    with open_regular(path) as file:
        try:
            size = file.seek(0, 2)
            if size == 0:
                raise UserError("{path}: the file is empty", path=path, hint="fetch it again")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError, OverflowError, MemoryError) as error:
            raise UserError(
                "{path}: cannot be mapped: {reason}", path=path, reason=reason(error), hint="move it to a local disk"
            ) from error
    if mapped[:24] == b"version https://git-lfs.":
        raise UserError(
            "{path}: a Git LFS pointer ({size} bytes), not the file itself",
            path=path,
            size=size,
            hint="run `git lfs pull` in its folder",
        )
    return mapped


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; a byte order mark, which some editors add, is skipped."""
    with open_regular(path) as file:
        try:
            data = file.read(JSON_LIMIT + 1)
        except OSError as error:
            raise unreadable(path, error) from error
    if not data:
        raise UserError("{path}: the file is empty", path=path, hint="fetch it again")
    if len(data) > JSON_LIMIT:
        raise UserError("{path}: more than {limit} bytes of JSON", path=path, limit=JSON_LIMIT, hint="fetch it again")
    try:
        return parse_object(data.removeprefix(b"\xef\xbb\xbf"))
    except ValueError as error:
        raise UserError(
            "{path}: not a valid JSON object: {reason}", path=path, reason=reason(error), hint="fetch it again"
        ) from error


def parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object in these bytes; ValueError for anything else, duplicate keys, NaN and infinities."""
    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError as error:
        raise ValueError(reason(error)) from error
    if not isinstance(value, dict):
        raise ValueError(translate("it holds {value}", value=quoted(value)))
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys: set[str] = set()
        for key, _ in pairs:
            if key in keys:
                raise ValueError(translate("the key {key} stands twice", key=quoted(key)))
            keys.add(key)
    return result


def _no_constant(name: str) -> float:
    raise ValueError(translate("{name} is no JSON number", name=name))


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(translate("the number {number} is too large", number=quoted(text)))
    return value


@contextlib.contextmanager
def new_file(path: Path, size: int) -> Iterator[BinaryIO]:
    """A file to be filled with `size` bytes, which appears whole or not at all, and never replaces another.

    One that appears meanwhile is kept, since Windows cannot replace a mapped file. Raises UserError where the path is
    taken, or the file does not fit or cannot be written.
    """
    begun = leftovers.temporary(path)
    try:
        check_absent(path)
        leftovers.remove_leftovers(path)
        check_room(path, size)
        with begun.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            if not path.exists():
                begun.rename(path)
    except OSError as error:
        raise write_error(path, size, error) from error
    finally:
        with contextlib.suppress(OSError):
            begun.unlink()


@contextlib.contextmanager
def new_folder(path: Path, size: int) -> Iterator[Path]:
    """A folder to be filled with about `size` bytes, which takes its name when all is in it; an empty one gives way.

    Raises UserError where the path is taken, or there is no room.
    """
    begun = leftovers.temporary(path)
    try:
        if not path.is_dir() or any(path.iterdir()):
            check_absent(path)
        leftovers.remove_leftovers(path)
        check_room(path, size)
        begun.mkdir()
        yield begun
        with contextlib.suppress(FileNotFoundError):
            path.rmdir()
        begun.rename(path)
    except OSError as error:
        raise write_error(path, size, error) from error
    finally:
        shutil.rmtree(begun, ignore_errors=True)


def check_absent(path: Path) -> None:
    """Raise UserError where something has this name already."""
    if path.exists():
        raise UserError(
            "{path}: exists already; nothing is written over it", path=path, hint="delete it or choose another name"
        )


def check_room(path: Path, size: int) -> None:
    """Raise UserError where `size` bytes do not fit beside `path`."""
    if (free := free_bytes(path.parent)) < size:
        raise no_space(path, size, free)


def free_bytes(folder: Path) -> int:
    """How many bytes this user may still write where `folder` is, or will be made."""
    while not is_there(folder) and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def write_error(path: Path, size: int, error: OSError) -> UserError:
    """A failed write of `size` bytes, told with the space that is left where space was the reason."""
    if error.errno in FULL:
        return no_space(path, size, free_bytes(path.parent))
    return UserError(
        "{path}: cannot be written: {reason}",
        path=path,
        reason=reason(error),
        hint="make room, or choose another folder",
    )


def no_space(path: Path, size: int, free: int) -> UserError:
    """The error for a file that does not fit."""
    return UserError(
        "{path}: no room: {needed:,} bytes needed, {free:,} free",
        path=path,
        needed=size,
        free=free,
        hint="free some space or choose another folder",
    )


def last_use(path: Path) -> float:
    """When a file was last read or written, in seconds since 1970; 0 where nobody can tell."""
    try:
        status = path.stat()
    except OSError:
        return 0.0
    return max(status.st_atime, status.st_mtime)
