"""The folder that training data is put into: one process at a time, nothing half-written, other things left alone."""

import contextlib
import json
import shutil
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


@contextlib.contextmanager
def alone(out: Path, beside: frozenset[str]) -> Iterator[None]:
    """The folder, made where it is missing, and no second run in it. Raises UserError where it holds other things."""
    from filelock import FileLock, Timeout

    try:
        out.mkdir(parents=True, exist_ok=True)
        others = sorted(path.name for path in out.iterdir() if path.name not in OURS | beside)
    except OSError as error:
        raise UserError(
            "{path}: cannot be made ({reason})", path=out, reason=reason(error), hint="choose another folder with --out"
        ) from error
    if others and not (out / shards.MANIFEST).exists():
        raise UserError(
            "{path}: holds other files ({name})", path=out, name=others[0][:60], hint="choose a new folder with --out"
        )
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
    (out / shards.MANIFEST).unlink(missing_ok=True)
    try:
        for name in SPLITS:
            shutil.rmtree(out / name, ignore_errors=True)
        for name in (*SPLITS, "tokenizer.json", "tokenizer_config.json", REPORT):
            if (work / name).exists():
                (work / name).replace(out / name)
    except OSError as error:
        raise UserError(
            "{path}: cannot be written: {reason}", path=out, reason=reason(error),
            hint="close what uses the folder, and run the same command again",
        ) from error  # fmt: skip
    shards.write_json(out / shards.MANIFEST, manifest)
