"""The folder that training data is put into: one process at a time, nothing half-written, other things left alone."""

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from soban.base.border import reason
from soban.base.errors import UserError
from soban.base.files import free_bytes, is_there, no_space
from soban.learn.data import shards
from soban.learn.data.splitting import SPLITS

REPORT = "report.json"
WORK, LOCK = ".work", ".lock"
OLD, ASIDE = ".replaced", "all"  # older data while new ones take their place; a mark that all of them are in it
REPLACED = (*SPLITS, "tokenizer.json", "tokenizer_config.json", REPORT, shards.MANIFEST)
OURS = {WORK, LOCK, OLD, *REPLACED}
LEFT_BY_SYSTEMS = {".DS_Store", "Thumbs.db", "desktop.ini"}  # in any folder that somebody has looked into
# What the working files take beside the shards, in bytes for a byte of input: the text itself, and half as much in ids
ROOM = 2


def room(out: Path, size: int) -> None:
    """UserError where the disk is too full for what comes of `size` bytes of input."""
    size_needed, free = ROOM * size, free_bytes(out.absolute())
    if size_needed > free:
        raise no_space(out, size_needed, free)


def finished_report(out: Path, mark: str) -> dict[str, Any] | None:
    """The report of an earlier run that made the same; None where there is none."""
    try:
        manifest = json.loads((out / shards.MANIFEST).read_text(encoding="utf-8"))
        report = json.loads((out / REPORT).read_text(encoding="utf-8"))
        whole = all((out / one["name"]).is_file() for split in manifest["splits"].values() for one in split["shards"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return report if whole and manifest.get("fingerprint") == mark else None


def earlier_files(folder: Path) -> set[Path] | None:
    """The shards that an earlier run's manifest tells, and what lies beside them; None where there is no such one."""
    try:
        manifest = json.loads((folder / shards.MANIFEST).read_text(encoding="utf-8"))
        if not manifest["format"].startswith(shards.KIND):
            return None
        files = [
            folder / split / Path(shard["name"]).name  # never outside of the split, whatever the manifest has
            for split, about in manifest["splits"].items() if split in SPLITS for shard in about["shards"]
        ]  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return {*files, *map(shards.starts_of, files)}


def check_own(out: Path, beside: frozenset[str]) -> None:
    """UserError where the folder holds what no earlier run has made and the next would replace."""
    earlier = earlier_files(out)
    if earlier is None:
        others = [path for path in out.iterdir() if path.name not in {WORK, LOCK, OLD} | beside]
    else:
        splits = [out / name for name in SPLITS]
        others = [path for split in splits for path in split.rglob("*") if path not in earlier]
        others += [split for split in splits if split.is_file()]
    if others := sorted(path for path in others if path.name not in LEFT_BY_SYSTEMS):
        raise UserError(
            "{path}: holds other files ({name})", path=out, name=others[0].relative_to(out).as_posix()[:60],
            hint="choose a new folder with --out",
        )  # fmt: skip


@contextlib.contextmanager
def alone(out: Path, beside: frozenset[str]) -> Iterator[None]:
    """The folder, made where it is missing, and no second run in it. Raises UserError where it holds other things."""
    from filelock import FileLock, Timeout

    killed = is_there(out / OLD / ASIDE) or earlier_files(out / OLD) is not None
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not killed:  # else it was looked at before
            check_own(out, beside)
    except OSError as error:
        raise UserError(
            "{path}: cannot be made ({reason})", path=out, reason=reason(error), hint="choose another folder with --out"
        ) from error
    try:
        lock = FileLock(out / LOCK)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError("{path}: another soban data is at work there", path=out, hint="wait for it") from error
    except OSError as error:
        raise UserError(
            "{path}: cannot be written: {reason}",
            path=out,
            reason=reason(error),
            hint="choose another folder with --out",
        ) from error
    try:
        if killed:
            settle(out)
        yield
    finally:
        lock.release()


def publish(work: Path, out: Path) -> None:
    """Puts the finished files in place of older ones; the manifest goes first and comes last.

    Raises UserError where that fails: the older ones are then back, and the finished ones in `work`.
    """
    with moving(out):
        check_own(out, frozenset(path.name for path in out.iterdir()) - OURS)
        with contextlib.suppress(FileNotFoundError):
            (out / OLD).rmdir()  # what could not be deleted before is in use: nothing is moved onto it
        (out / OLD).mkdir()
        try:
            move(out, out / OLD, reversed(REPLACED))
            (out / OLD / ASIDE).touch()
            move(work, out, REPLACED)
        except BaseException:
            with contextlib.suppress(OSError):  # what cannot be put back now, the next run puts back
                put_back(out)
            raise
    discard(out / OLD)


@contextlib.contextmanager
def moving(out: Path) -> Iterator[None]:
    """UserError where files in the folder cannot be moved."""
    try:
        yield
    except OSError as error:
        raise UserError(
            "{path}: cannot be written: {reason}", path=out, reason=reason(error),
            hint="close what uses the folder, and run the same command again: what it has made is kept",
        ) from error  # fmt: skip


def move(source: Path, target: Path, names: Iterable[str]) -> None:
    """Moves those that are there."""
    for name in names:
        if (source / name).exists():
            (source / name).replace(target / name)


def put_back(out: Path) -> None:
    """Older data to their place again, and new ones that were there already back to the working folder."""
    if (out / OLD / ASIDE).exists():
        (out / WORK).mkdir(exist_ok=True)
        move(out, out / WORK, REPLACED)
        (out / OLD / ASIDE).unlink()
    move(out / OLD, out, REPLACED)
    with contextlib.suppress(OSError):
        (out / OLD).rmdir()


def discard(old: Path) -> None:
    """Deletes what its manifest tells, and the folders where nothing else is in them; what is in use is left."""
    files = earlier_files(old) or set()
    junk = {old / split / name for split in SPLITS for name in LEFT_BY_SYSTEMS} if files else set()
    with contextlib.suppress(OSError):
        for path in (old / ASIDE, *files, *junk):
            path.unlink(missing_ok=True)
        for split in SPLITS:
            if (old / split).is_dir():
                (old / split).rmdir()
        for name in REPLACED[len(SPLITS) :] if files else ():
            (old / name).unlink(missing_ok=True)
        old.rmdir()


def settle(out: Path) -> None:
    """Ends what a killed run has begun: the new data stay where all of them are in place, else the old ones come back.

    Raises UserError where they cannot be moved.
    """
    with moving(out):
        if (out / shards.MANIFEST).exists():
            discard(out / OLD)
        else:
            put_back(out)
