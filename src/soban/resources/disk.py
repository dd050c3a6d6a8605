"""A model larger than memory: its mapped weights come from the disk again for every token, at the disk's speed."""

import contextlib
import math
import mmap
import time
from pathlib import Path

import numpy as np

from soban.base import system

MEMORY = "disks.json"  # in the cache folder
PIECE = 64 << 20  # bytes read in one go
PIECES = 4
SECONDS = 1.0


def disk_rate(path: Path) -> float | None:
    """Bytes per second at which a mapped file comes from its disk, measured once for each disk; None if unknown."""
    try:
        disk = str(path.stat().st_dev)
    except OSError:
        return None
    rates = system.recalled(MEMORY)
    with contextlib.suppress(TypeError, ValueError):
        if 0 < (remembered := float(rates.get(disk, 0))) < math.inf:
            return remembered
    rate = measure(path)
    if rate is not None:
        system.remember(MEMORY, {**rates, disk: rate})
    return rate


def measure(path: Path) -> float | None:
    """The same, measured now on pages that are dropped from memory first; None where the system cannot drop them."""
    rates = []
    with contextlib.suppress(OSError, ValueError), path.open("rb") as file:
        size = file.seek(0, 2)
        end = time.perf_counter() + SECONDS
        for start in range(0, size - PIECE + 1, max(PIECE, size // PIECES // PIECE * PIECE)):
            if not system.forget_pages(file, start, PIECE):
                return None
            mapped = mmap.mmap(file.fileno(), PIECE, access=mmap.ACCESS_READ, offset=start)
            begun = time.perf_counter()
            int(np.frombuffer(mapped, np.uint8)[:: mmap.PAGESIZE].sum())
            rates.append(PIECE / (time.perf_counter() - begun))
            if time.perf_counter() > end:
                break
    return sorted(rates)[len(rates) // 2] if rates else None


def decode_rate(weights: int, room: int, disk: float | None, in_memory: float | None = None) -> float | None:
    """Tokens per second of weights for which there is only so much room; None where the disk's speed is unknown.

    They are read in the same order for every token, so by the time that a page is wanted again it is the one longest
    unused, and has gone: as soon as they do not fit, all of them come from the disk. `in_memory`: the rate if they fit.
    """
    if weights <= room:
        return in_memory
    if disk is None:
        return None
    return 1 / (weights / disk + (1 / in_memory if in_memory else 0.0))
