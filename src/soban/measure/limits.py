"""What this machine can do at most: bytes read per second, and int8 multiply-adds per second.

Decoding reads every weight once for a token, so bandwidth bounds it; prefill uses each weight for many tokens, so
the multipliers do. A figure of a model is best told as a share of these. See docs/performance.md.
"""

import mmap
import statistics
import sys
import time
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from soban.base import system
from soban.base.errors import UserError
from soban.base.machine import cpu_name
from soban.ops import native
from soban.ops.run import use_native

BUFFER = 1 << 30  # bytes: far beyond any cache of a PC, so that what is read comes from memory
WINDOW = 256 << 20  # bytes that are read in one go: 10 ms, in which a busy system leaves us alone now and then
# (streams of each thread, cache that is prefetched into, bytes ahead): which is best differs between machines.
VARIANTS = (
    (8, 1, 2048), (4, 1, 2048), (4, 1, 1024), (8, 1, 1024), (8, 2, 1024), (4, 2, 2048), (4, 2, 4096), (8, 0, 0),
    (4, 0, 0), (1, 0, 0),
)  # fmt: skip
WINDOW_STEP = 1 << 20
SECONDS = 1.2  # for reading
MEMORY = "bandwidth.json"  # in the cache folder
LITTLE = 2 * WINDOW  # bytes that suffice to know about how fast memory is
UNBELIEVABLE = 1e13  # bytes per second
QUIET = 0.8  # of the time of all threads, which they have where nothing else runs
PRODUCT_CHUNKS = 48  # for each thread, of half a millisecond each
PRODUCT_ROUNDS = 3  # for each kind of products, some tenths of a second apart: a core may be slow for as long


@dataclass(frozen=True)
class Limits:
    """Bytes read per second, with what it took to read them, and multiply-adds per second by instruction set.

    `bandwidth` is the best of many windows, `usual` their median: they differ where others share the memory.
    """

    threads: int
    bandwidth: float
    usual: float
    streams: int
    cache: int
    ahead: int
    products: dict[str, float]

    def multiply_adds(self, isa: str) -> float | None:
        """The peak of what an instruction set of `native.ISAS` multiplies with; None where it has no such products."""
        return self.products.get(isa)


def better(one: Limits, other: Limits) -> Limits:
    """What two measurements of one machine found together: the best of each, and the mean of what is usual."""
    best, usual = max(one, other, key=lambda limits: limits.bandwidth), (one.usual + other.usual) / 2
    products = {name: max(rate, other.products.get(name, 0.0)) for name, rate in one.products.items()}
    return replace(best, usual=usual, products=products)


def measure_limits(buffer_bytes: int = BUFFER) -> Limits:
    """The best of many tries with all threads, in about two seconds. Raises UserError without the native library."""
    if native.library() is None:
        raise UserError(
            "the native library is missing, so nothing can be measured", hint="build it: python dev.py native"
        )
    pool = native.pool()
    rounds = [{name: multiply_rate(pool, name) for name in native.ISAS} for _ in range(PRODUCT_ROUNDS)]
    products = {name: max(one[name] or 0.0 for one in rounds) for name, rate in rounds[0].items() if rate is not None}
    variant, rates = read_rates(pool, buffer_bytes)
    return Limits(pool.threads, max(rates), statistics.median(rates), *variant, products)


def bandwidth() -> float | None:
    """Bytes read per second by all threads: as an earlier call has found, else in a second. None: NumPy computes.

    Where other programs had the cores meanwhile, it is what is to be expected without them, and not remembered.
    """
    if not use_native():
        return None
    pool = native.pool()
    key, records = f"{cpu_name()} {pool.threads}", system.recalled(MEMORY)
    if isinstance(rate := records.get(key), float) and 0 < rate < UNBELIEVABLE:
        return rate
    begun, processor_start = time.perf_counter(), time.process_time()
    rates = read_rates(pool, LITTLE)[1]
    share = (time.process_time() - processor_start) / (time.perf_counter() - begun) / pool.threads
    if share < QUIET:
        return max(*rates, statistics.median(rates) / share)
    system.remember(MEMORY, {**records, key: max(rates)})
    return max(rates)


def read_rates(pool: native.Pool, buffer_bytes: int) -> tuple[tuple[int, int, int], list[float]]:
    """The best way to read, and its bytes per second in each window."""
    memory = ordinary_pages(buffer_bytes)
    window = min(WINDOW, len(memory))
    windows = [memory[first : first + window] for first in range(0, len(memory) - window + 1, window)]
    rates: dict[tuple[int, int, int], list[float]] = {variant: [0.0] for variant in VARIANTS}
    end, turn = time.perf_counter() + SECONDS, 0
    while turn < 2 * len(VARIANTS) or time.perf_counter() < end:
        # Every variant once; then the better half, for the maximum of a few tries is too low on a busy machine.
        order = sorted(VARIANTS, key=lambda variant: -max(rates[variant]))
        variant = VARIANTS[turn] if turn < len(VARIANTS) else order[turn % (len(VARIANTS) // 2)]
        part = windows[turn % len(windows)]
        rates[variant].append(len(part) / _seconds_to_read(pool, part, variant))
        turn += 1
    best = max(rates, key=lambda variant: max(rates[variant]))
    return best, rates[best][1:]


def _seconds_to_read(pool: native.Pool, part: npt.NDArray[np.uint8], variant: tuple[int, int, int]) -> float:
    start = time.perf_counter()
    native.read(pool, part, *variant)
    return time.perf_counter() - start


def multiply_rate(pool: native.Pool, isa: str) -> float | None:
    """Multiply-adds per second with the products of an instruction set; None where this machine has none of them.

    Every thread's best half millisecond of its own time: a longer one, or the clock, would tell what others left over.
    """
    count, rate = native.multiply(pool, isa, PRODUCT_CHUNKS * pool.threads)
    return None if count < 0 else float(rate)


def ordinary_pages(most: int) -> npt.NDArray[np.uint8]:
    """Memory as model files are mapped, in pages of 4 KB; no more than a quarter of what is free."""
    free = system.available_memory()
    size = max(mmap.PAGESIZE, min(most, (free or 4 * most) // 4) // WINDOW_STEP * WINDOW_STEP)
    if sys.platform == "linux":
        mapped = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        mapped.madvise(mmap.MADV_NOHUGEPAGE)
    else:
        mapped = mmap.mmap(-1, size)
    values = np.frombuffer(mapped, np.uint8)
    values[:: mmap.PAGESIZE] = 1  # a page that was never written is not there
    return values
