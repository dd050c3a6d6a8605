"""The hub's cache, moved to another disk: every tool still finds it, for a link stays where it was."""

import contextlib
import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from soban.base.border import reason
from soban.base.errors import UserError
from soban.base.files import free_bytes
from soban.base.units import of_bytes
from soban.hub.fetching import Progress, Speed
from soban.hub.place import cache_folder, identity

BLOCK = 8 << 20
OLD = ".moved"  # the end of the old folder's name, while it is deleted
SPARE = 64 << 20

Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Moved:
    """Where the cache is now, and whether what looks at the old place finds it."""

    folder: Path
    linked: bool
    left: Path | None  # what could not be deleted of the old one


def move(folder: Path, progress: Report, cache: Path | None = None) -> Moved:
    """Moves the whole cache into `folder`, and leaves a link to it.

    Stopped in the middle of copying, the old cache is as it was, and the next attempt copies only the rest.
    Raises UserError: nothing to move, no room, a place that does not fit, a model that is just being fetched.
    """
    place = cache_folder(cache)
    source, target = Path(os.path.realpath(place)), Path(os.path.realpath(folder.expanduser()))
    left = None
    try:
        _check(source, target)
        with _unused(source):
            target.mkdir(parents=True, exist_ok=True)
            if os.stat(source).st_dev == os.stat(target).st_dev:
                _rename(source, target)
            else:
                _copy(source, target, progress)
                left = _cleared(source)
    except (PermissionError, NotADirectoryError) as error:
        raise UserError(
            "{path}: {reason}; the cache is still at {source}", path=error.filename or target, reason=reason(error),
            source=source, hint="name a folder that you may write in, as the user whose cache this is",
        ) from error  # fmt: skip
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UserError(
                "{path}: {reason}", path=target, reason=reason(error), hint="name another folder"
            ) from error
        raise UserError(
            "{path}: {reason}; the cache is still at {source}", path=error.filename or target, reason=reason(error),
            source=source, hint="run the same command again: it goes on from there",
        ) from error  # fmt: skip
    if os.path.lexists(place) and _is_link(place):
        _unlink(place)
        shutil.rmtree(source / ".locks", ignore_errors=True)
        with contextlib.suppress(OSError):
            source.rmdir()  # empty after renaming, and nothing leads to it any more
    return Moved(target, _link(place, target), left)


def _check(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise UserError("{path}: there are no models to move", path=source, hint="soban pull fetches one")
    if source == target:
        raise UserError("{path}: the models are there already", path=target, hint="name another folder")
    if target in source.parents or source in target.parents:
        raise UserError(
            "{path}: one folder lies within the other ({source})", path=target, source=source,
            hint="name another folder",
        )  # fmt: skip
    if target.exists() and not target.is_dir():
        raise UserError("{path}: not a folder", path=target, hint="name another folder")
    for child in source.iterdir():
        if (target / child.name).is_file():
            raise UserError("{path}: there is a file of that name", path=target / child.name, hint="move it away")


def _rename(source: Path, target: Path) -> None:
    """On one disk only names change."""
    for child in sorted(source.iterdir()):
        if child.name == ".locks":
            continue  # held by this process; they are made again
        if (target / child.name).exists():
            raise UserError(
                "{path}: there is one already", path=target / child.name, hint="delete one of the two, or move it away"
            )
        child.rename(target / child.name)


def _copy(source: Path, target: Path, progress: Report) -> None:
    """Copies what is not there yet. Raises UserError where there is no room for it."""
    files = [path for path in _files(source) if ".locks" not in path.relative_to(source).parts]
    sizes = {path: path.stat().st_size for path in files if not path.is_symlink()}
    total = sum(sizes.values())
    position = sum(size for path, size in sizes.items() if _is_copied(path, target / path.relative_to(source)))
    if (rest := total - position) > (free := max(0, free_bytes(target) - SPARE)):
        raise UserError(
            "{path}: no room for the models: {needed} needed, {free} free", path=target, needed=of_bytes(rest),
            free=of_bytes(free), hint="make room there, or delete models: soban rm",
        )  # fmt: skip
    speed = Speed()
    for path in sorted(files, key=lambda path: path.is_symlink()):  # files first: a link needs its goal on Windows
        new = target / path.relative_to(source)
        new.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            _copy_link(path, new)
        elif not _is_copied(path, new):
            for count in _copied(path, new):
                position += count
                progress(Progress(position, total, speed(position), "copying"))


def _is_copied(path: Path, new: Path) -> bool:
    try:
        before, after = path.stat(), new.stat()
    except OSError:
        return False
    return before.st_size == after.st_size and int(before.st_mtime) == int(after.st_mtime)


def _copied(path: Path, new: Path) -> Iterator[int]:
    """Copies a file under another name first, so that a file of the right name is whole."""
    begun = new.with_name(new.name + ".moving")
    with path.open("rb") as source, begun.open("wb") as goal:
        while block := source.read(BLOCK):
            goal.write(block)
            yield len(block)
        goal.flush()
        os.fsync(goal.fileno())
    shutil.copystat(path, begun)
    os.replace(begun, new)


def _copy_link(path: Path, new: Path) -> None:
    """The same link or, on a disk without links, the file that it names."""
    if new.is_symlink() or new.exists():
        return
    try:
        new.symlink_to(os.readlink(path))
    except (OSError, NotImplementedError):
        with contextlib.suppress(FileNotFoundError):  # a link to nothing
            shutil.copyfile(path, new)


def _cleared(source: Path) -> Path | None:
    """The old folder makes room for the link, and is deleted; what of it could not be, if anything."""
    old = source.with_name(source.name + OLD)
    source.rename(old)
    shutil.rmtree(old, ignore_errors=True)
    return old if old.exists() else None


def _link(place: Path, target: Path) -> bool:
    """Leaves a link where the cache was: a symbolic one or, on Windows, a junction, which needs no rights."""
    with contextlib.suppress(OSError):
        shutil.rmtree(place / ".locks", ignore_errors=True)
        place.rmdir()  # empty after renaming
    if place.exists():
        return False
    place.parent.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        subprocess.run(["cmd", "/c", "mklink", "/J", str(place), str(target)], capture_output=True, check=False)
    else:
        with contextlib.suppress(OSError):
            place.symlink_to(target, target_is_directory=True)
    return place.exists()


def _is_link(place: Path) -> bool:
    """Whether the path itself, and not one of its parents, is a link or, on Windows, a junction."""
    status = os.lstat(place)
    junction = getattr(status, "st_file_attributes", 0) & stat.FILE_ATTRIBUTE_REPARSE_POINT
    return stat.S_ISLNK(status.st_mode) or bool(junction)


def _unlink(place: Path) -> None:
    try:
        place.unlink()
    except OSError:
        place.rmdir()  # a junction


@contextlib.contextmanager
def _unused(source: Path) -> Iterator[None]:
    """Holds the locks of all repositories. Raises UserError where another process is fetching one."""
    from filelock import FileLock, Timeout

    with contextlib.ExitStack() as stack:
        for name in sorted(path.name for path in source.iterdir() if identity(path.name)):
            path = source / ".locks" / name / "soban.lock"
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(FileLock(path).acquire(timeout=0))
            except Timeout:
                raise UserError(
                    "{name} is just being fetched", name=identity(name),
                    hint="wait until that is done",
                ) from None  # fmt: skip
        yield


def _files(folder: Path) -> list[Path]:
    """All files and links below a folder; no link is followed."""
    return [Path(at, name) for at, _, names in os.walk(folder) for name in sorted(names)]
