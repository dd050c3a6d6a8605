"""What is made beside a path before it takes its name, and what processes that were killed have left of it."""

import contextlib
import glob
import os
import secrets
import shutil
import sys
import time
from pathlib import Path

STALE_SECONDS = 24 * 3600  # a temporary file that nobody has written for so long belongs to a process that died
SLACK_SECONDS = 10  # between the clock of a disk, which may be another machine's, and that of processes


def temporary(path: Path) -> Path:
    """Where something is made that will be at `path`: a name that tells whose it is, and as long as any other."""
    return path.with_name(f".{path.name}.{os.getpid():06x}{secrets.token_hex(1)}.tmp")


def remove_leftovers(path: Path) -> None:
    """Deletes what processes that were killed have begun for this path."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}.tmp"):
        with contextlib.suppress(OSError):
            if _is_abandoned(leftover):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def _is_abandoned(leftover: Path) -> bool:
    """Whether no process that lives has begun it. Its number may be another's by now: in a container it often is."""
    modified = leftover.stat().st_mtime
    if sys.platform != "win32":  # where asking for a process would end it
        process = int(leftover.name[-12:-6], 16)
        try:
            os.kill(process, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:  # there is one, of another user
            pass
        if (began := _began(process)) is not None:
            return modified < began - SLACK_SECONDS
    return time.time() - modified > STALE_SECONDS


def _began(process: int) -> float | None:
    """When a process began, as time.time() counts; None where the system does not tell."""
    if sys.platform != "linux":
        return None
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        since_boot = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        # the boot time in /proc/stat is a container's own under some hosts, the processes' times are not
        return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot)
    except (OSError, ValueError, IndexError):
        return None
