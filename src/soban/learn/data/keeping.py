"""The folder that training data is put into: one process at a time, nothing half-written, other things left alone."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from soban.errors import UserError
from soban.learn.data import shards
from soban.learn.data.splitting import SPLITS
from soban.weights.files import free_bytes, no_space, reason

REPORT = "report.json"
WORK, LOCK = ".work", ".lock"
OURS = {shards.MANIFEST, REPORT, WORK, LOCK, *SPLITS, "tokenizer.json", "tokenizer_config.json"}
LEFT_BY_SYSTEMS = {".DS_Store", "Thumbs.db", "desktop.ini"}  # in any folder that somebody has looked into
# What the working files take beside the shards, in bytes for a byte of input: the text itself, and half as much in ids
ROOM = 2


def room(out: Path, size: int) -> None:
    """UserError where the disk is too full for what comes of `size` bytes of input."""
    needed, free = ROOM * size, free_bytes(out.absolute())
    if needed > free:
        raise no_space(out, needed, free)


def held(out: Path, mark: str) -> dict[str, Any] | None:
    """The report of an earlier run that made the same; None where there is none."""
    try:
        manifest = json.loads((out / shards.MANIFEST).read_text(encoding="utf-8"))
        report = json.loads((out / REPORT).read_text(encoding="utf-8"))
        whole = all((out / one["name"]).is_file() for told in manifest["splits"].values() for one in told["shards"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return report if whole and manifest.get("fingerprint") == mark else None


def made_earlier(folder: Path) -> set[Path] | None:
    """The shards that an earlier run's manifest tells, and what lies beside them; None where there is no such one."""
    try:
        manifest = json.loads((folder / shards.MANIFEST).read_text(encoding="utf-8"))
        if not manifest["format"].startswith(shards.KIND):
            return None
        told = [
            folder / split / Path(shard["name"]).name  # never outside of the split, whatever the manifest has
            for split, about in manifest["splits"].items() if split in SPLITS for shard in about["shards"]
        ]  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return {*told, *map(shards.starts_of, told)}


def check_own(out: Path, beside: frozenset[str]) -> None:
    """UserError where the folder holds what no earlier run has made and the next would replace."""
    made = made_earlier(out)
    if made is None:
        others = [path for path in out.iterdir() if path.name not in {WORK, LOCK} | beside]
    else:
        splits = [out / name for name in SPLITS]
        others = [path for split in splits for path in split.rglob("*") if path not in made]
        others += [split for split in splits if split.is_file()]
    if others := sorted(path for path in others if path.name not in LEFT_BY_SYSTEMS):
        raise UserError(
            "{path}: holds other files ({name})", path=out, name=others[0].relative_to(out).as_posix()[:60],
            hint="choose a new folder with --out",
        )  # fmt: skip


def delete(folder: Path, made: set[Path]) -> None:
    """Deletes an earlier run's shards, and the folders of the splits where nothing else is in them."""
    for path in made:
        path.unlink(missing_ok=True)
    for split in SPLITS:
        for name in LEFT_BY_SYSTEMS:
            (folder / split / name).unlink(missing_ok=True)
        if (folder / split).is_dir():
            (folder / split).rmdir()


@contextlib.contextmanager
def alone(out: Path, beside: frozenset[str]) -> Iterator[None]:
    """The folder, made where it is missing, and no second run in it. Raises UserError where it holds other things."""
    from filelock import FileLock, Timeout

    try:
        out.mkdir(parents=True, exist_ok=True)
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
        yield
    finally:
        lock.release()


def publish(work: Path, out: Path, manifest: dict[str, Any]) -> None:
    """Puts the finished files in place of older ones; the manifest goes first and comes back last."""
    made = made_earlier(out)
    (out / shards.MANIFEST).unlink(missing_ok=True)
    try:
        delete(out, made or set())
        for name in (*SPLITS, "tokenizer.json", "tokenizer_config.json", REPORT):
            if (work / name).exists():
                (work / name).replace(out / name)
    except OSError as error:
        raise UserError(
            "{path}: cannot be written: {reason}", path=out, reason=reason(error),
            hint="close what uses the folder, and run the same command again",
        ) from error  # fmt: skip
    shards.write_json(out / shards.MANIFEST, manifest)
