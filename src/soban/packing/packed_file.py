"""The packed cache: where the converted form of a checkpoint is kept, and that only one process makes it.

To load a model, make the file by `write_safetensors` inside `locked(path)` if it does not exist, then map it.
Whatever lies in the cache can be deleted at any time.
"""

import contextlib
import glob
import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from soban import messages
from soban.base.border import reason
from soban.base.files import unreadable
from soban.base.leftovers import STALE_SECONDS
from soban.base.system import CacheUnavailableError, cache_folder
from soban.hub import place
from soban.weights.checkpoint import Checkpoint
from soban.weights.naming import is_manifest

ORIGIN = "soban.origin"  # metadata key of a packed file: JSON, [path of the model, names of its files]
VERSION = 4  # raised whenever the same kind of packed file comes to hold other bytes
LONGEST_NAME = 40  # characters: 120 bytes in Korean, so that kind, hash and endings fit the 255 of most file systems


def packed_path(checkpoint: Checkpoint, kind: str, folder: Path | None = None) -> Path:
    """Where the packed form of a checkpoint belongs: another file as soon as one of the checkpoint's files changes.

    `kind` names the form (format and layout); `folder` stands in for the cache folder. Nothing is made or opened.
    """
    return cached_path(checkpoint.path, checkpoint.files, kind, folder)


def cached_path(source: Path, files: Iterable[Path], kind: str, folder: Path | None = None) -> Path:
    """Where what is made of these files of a model belongs; otherwise as `packed_path`.

    It stays where it is when the hub's cache is moved to another disk.
    """
    assert re.fullmatch(r"[a-z0-9_.-]{1,40}", kind), kind
    source = source.resolve()
    try:
        states = [(file.name, (state := file.stat()).st_size, state.st_mtime_ns) for file in files]
    except OSError as error:
        raise unreadable(error.filename, error) from error
    content = json.dumps([VERSION, kind, os.path.normcase(in_hub(source) or source), states])
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    return (folder or cache_folder()) / "packed" / f"{_readable(source)}-{kind}-{digest}.safetensors"


def origin(source: Path, files: Iterable[Path]) -> dict[str, str]:
    """Metadata for a packed file that says of what it was made, so that it can be told when that has gone."""
    return {ORIGIN: json.dumps([str(source.resolve()), [file.name for file in files]])}


def in_hub(source: Path) -> Path | None:
    """The part of a path by which the hub's cache knows a model, wherever that cache lies; None outside of one."""
    parts = source.parts
    first = next((at for at, part in enumerate(parts) if place.identity(part)), None)
    return None if first is None else Path(*parts[first:])


def model_name(source: Path) -> str:
    """What people call the model at a path: owner/name in the hub's cache, where folders are called by numbers."""
    if is_manifest(source):
        return f"{source.parent.name}:{source.name}"  # Ollama's model:tag
    inner = in_hub(source.absolute())
    return source.name if inner is None else place.identity(inner.parts[0]) or source.name


def _readable(source: Path) -> str:
    """A name by which people know the checkpoint again in the cache folder."""
    name = model_name(source) if is_manifest(source) else source.stem if source.is_file() else source.name
    if (inner := in_hub(source)) is not None:  # models--owner--name/snapshots/commit
        name = inner.parts[0]
    return re.sub(r"[^\w.-]+", "_", name)[:LONGEST_NAME]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process at a time is inside this for a path; another waits, with a note to its user.

    Makes the folder and clears it of what dead processes left. Raises CacheUnavailableError where it cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            messages.warn("{name} is being packed by another process; waiting for it", name=path.name)
            lock.acquire()
        remove_stale(path.parent)
        for leftover in path.parent.glob(
            f".{glob.escape(path.name)}.*.tmp"
        ):  # of one that was killed: we have the lock
            leftover.unlink(missing_ok=True)
    except (OSError, NotImplementedError) as error:  # NotImplementedError: a file system without locks
        raise CacheUnavailableError(
            "{path}: the cache folder cannot be used: {reason}",
            path=path.parent,
            reason=reason(error),
            hint="set SOBAN_CACHE to a folder that can be written",
        ) from error
    try:
        yield
    finally:
        lock.release()


def remove_stale(folder: Path) -> None:
    """Delete temporary files of packed models that are older than a day; one still in use on Windows is left."""
    for leftover in folder.glob(".*.safetensors.*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > STALE_SECONDS:
                leftover.unlink()
