"""What lies in the cache of packed models, and what of it can go because its model has gone or changed."""

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from soban.base.border import reason
from soban.base.errors import UserError
from soban.base.system import cache_folder
from soban.hub import place
from soban.packing.packed_file import ORIGIN, cached_path, in_hub
from soban.weights.safetensors import read_safetensors

NAME = re.compile(r"(?P<name>.+)-(?P<kind>[a-z0-9_]+)-[0-9a-f]{16}\.safetensors")
LEFTOVER = re.compile(r"\.(?P<whole>.+\.safetensors)\.[^.]+\.tmp")


@dataclass(frozen=True)
class Kept:
    """A packed file.

    `state`: the model is there as it was; it has changed since; it is gone; nothing tells of what the file was made;
    the file is the beginning of one that another process makes just now, or was left behind by one that ended.
    """

    path: Path
    bytes: int
    name: str  # by which people know the model
    kind: str  # f32, bf16, q8, q4, tokenizer
    source: Path | None
    state: Literal["current", "changed", "gone", "unknown", "begun", "unfinished"]

    @property
    def spare(self) -> bool:
        """Whether nothing would be missed."""
        return self.state in ("changed", "gone", "unfinished")


def packed_files(folder: Path | None = None) -> list[Kept]:
    """All packed files of the cache folder, the largest first."""
    cache = (folder or cache_folder()) / "packed"
    try:
        paths = [path for path in cache.iterdir() if path.is_file() and not path.is_symlink()]
    except OSError:
        return []
    return sorted((one for path in paths for one in _entry(path)), key=lambda one: (-one.bytes, one.path.name))


def _entry(path: Path) -> Iterator[Kept]:
    with contextlib.suppress(OSError):  # another process may delete it meanwhile
        size = path.stat().st_size
        if begun := LEFTOVER.fullmatch(path.name):
            state: Literal["begun", "unfinished"] = "begun" if _is_locked(path, begun["whole"]) else "unfinished"
            yield Kept(path, size, begun["whole"], "", None, state)
        elif match := NAME.fullmatch(path.name):
            source, names = _origin(path)
            yield Kept(path, size, match["name"], match["kind"], source, _state(path, source, names, match["kind"]))


def _is_locked(path: Path, whole: str) -> bool:
    """Whether a process holds the lock under which the packed file `whole` is made."""
    from filelock import FileLock, Timeout

    lock = path.with_name(f"{whole}.lock")
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except (Timeout, OSError, NotImplementedError):
        return True  # where that cannot be told, it is left alone


def _origin(path: Path) -> tuple[Path | None, list[str]]:
    try:
        _, metadata = read_safetensors(path)
        source, names = json.loads(metadata[ORIGIN])
        return _now(Path(str(source))), [str(name) for name in names]
    except (UserError, OSError, ValueError, TypeError, KeyError):
        return None, []


def _now(source: Path) -> Path:
    """Where a model is now that the hub's cache may have been moved."""
    if not source.exists() and (inner := in_hub(source)) is not None:
        moved = place.cache_folder() / inner
        source = moved if moved.exists() else source
    return source.resolve()


def _state(
    path: Path, source: Path | None, names: list[str], kind: str
) -> Literal["current", "changed", "gone", "unknown"]:
    if source is None:
        return "unknown"
    if not source.exists():
        return "gone"
    folder = source if source.is_dir() else source.parent
    try:
        expected = cached_path(source, [folder / name for name in names], kind, path.parent.parent)
    except UserError:
        return "changed"  # a file that it was made of is missing
    return "current" if expected.name == path.name else "changed"


def remove(one: Kept) -> int:
    """Deletes a packed file and its lock; the bytes that this freed. UserError where the system does not let us."""
    try:
        one.path.unlink(missing_ok=True)
        one.path.with_name(f"{one.path.name}.lock").unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            "{path}: cannot be deleted: {reason}", path=one.path, reason=reason(error),
            hint="close the programs that use it, and try again",
        ) from error  # fmt: skip
    return one.bytes
