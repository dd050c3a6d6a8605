"""The native library: finding it, its instruction sets, its threads, and what they do besides running programs."""

import ctypes
import functools
import os
import sys
import threading
from ctypes import POINTER, c_int32, c_int64, c_uint64, c_void_p
from pathlib import Path

import numpy as np
import numpy.typing as npt

from soban import messages
from soban.base import system
from soban.base.errors import UserError
from soban.ops import gguf, probe
from soban.ops.formats import HALVES, NUMBERED, stored_bytes
from soban.ops.native.structs import AdaptersStruct, BatchStruct, CacheStruct, ProgramStruct

ABI = 18
# The index is the number in native/soban.h; later ones are faster.
ISAS = ("scalar", "avx2", "avxvnni", "avx512vl", "avx512vnni", "amx", "neon", "neon_i8mm")
ARM = ("neon", "neon_i8mm")
CANCELLED, NO_MEMORY = 1, 2


def library_path() -> Path:
    """Where the native library lies once it is built: inside the package."""
    name = {"win32": "soban_native.dll", "darwin": "libsoban_native.dylib"}.get(sys.platform, "libsoban_native.so")
    return Path(__file__).resolve().parents[2] / name


@functools.cache
def library() -> ctypes.CDLL | None:
    """The native library, or None where it is missing or of another version."""
    try:
        loaded = ctypes.CDLL(str(library_path()))
    except OSError:
        return None
    if loaded.soban_abi() != ABI:
        return None
    loaded.soban_pool_create.restype = c_void_p
    loaded.soban_pool_destroy.argtypes = (c_void_p,)
    loaded.soban_run.argtypes = (
        c_void_p, POINTER(ProgramStruct), c_void_p, POINTER(BatchStruct), POINTER(CacheStruct), POINTER(AdaptersStruct),
        c_void_p, c_void_p,
    )  # fmt: skip
    loaded.soban_encode.argtypes = (c_void_p, c_void_p, c_int32, c_int64, c_int64, c_int32, c_void_p)
    loaded.soban_encode.restype = c_int64
    loaded.soban_repack.argtypes = (c_void_p, c_void_p, c_int32, c_int64, c_int64, c_void_p)
    loaded.soban_repack.restype = c_int64
    loaded.soban_find_not_finite.argtypes = (c_void_p, c_void_p, c_int32, c_int64)
    loaded.soban_find_not_finite.restype = c_int64
    loaded.soban_read.argtypes = (c_void_p, c_void_p, c_int64, c_int32, c_int32, c_int64)
    loaded.soban_read.restype = c_uint64
    loaded.soban_multiply.argtypes = (c_void_p, c_int32, c_int32, c_void_p)
    loaded.soban_multiply.restype = c_int64
    return loaded


@functools.cache
def isas() -> tuple[str, ...]:
    """The instruction sets that this machine runs, the fastest last."""
    loaded = library()
    return () if loaded is None else tuple(name for i, name in enumerate(ISAS) if loaded.soban_isa_runs(i))


def chosen_isa() -> str:
    """SOBAN_ISA, or the fastest that works on this machine. Raises UserError for one that it does not run."""
    here = isas()
    name = os.environ.get("SOBAN_ISA")
    if name is None:
        return _fastest(here)
    if name not in here:
        raise UserError(
            "SOBAN_ISA={name}: not an instruction set that this machine runs",
            name=name, known=", ".join(here), hint="choose one of {known}, or unset it",
        )  # fmt: skip
    return name


@functools.cache
def _fastest(here: tuple[str, ...]) -> str:
    """The last of these that keeps what the processor claims; a line for each that does not, and for slow ones."""
    name = next(name for name in reversed(here) if probe.works(library_path(), name, ISAS.index(name)))
    for broken in here[here.index(name) + 1 :]:
        messages.warn("this processor claims {isa} and fails with it, so {next} takes its place", isa=broken, next=name)
    if name == "scalar":
        messages.warn(
            "this processor has neither AVX2 nor ARM's dot products, so plain code computes, several times slower"
        )
    return name


class Pool:
    """Threads and scratch memory of one instruction set. One run at a time; a second caller waits."""

    def __init__(self, threads: int, isa: str) -> None:
        loaded = library()
        assert loaded is not None, "the native library is missing"
        self.library, self.threads, self.isa, self.lock = loaded, threads, isa, threading.Lock()
        self.process = os.getpid()
        self.handle = loaded.soban_pool_create(threads, ISAS.index(isa))
        if not self.handle:
            raise UserError(
                "{threads} threads cannot be started", threads=threads, hint="set SOBAN_THREADS to a smaller number"
            )

    def __del__(self) -> None:
        if getattr(self, "handle", None) and self.process == os.getpid():  # a forked child has none of the threads
            self.library.soban_pool_destroy(self.handle)


@functools.cache
def _pool(threads: int, isa: str, process: int) -> Pool:
    return Pool(threads, isa)


def pool(threads: int | None = None) -> Pool:
    """The pool of this process with so many threads, or SOBAN_THREADS, on SOBAN_ISA, or the best defaults."""
    # a forked child has no threads: it gets its own
    return _pool(threads or system.threads(), chosen_isa(), os.getpid())


def encode(rows: npt.NDArray, source_format: str, format: str, out: npt.NDArray[np.uint8]) -> int | None:
    """Writes plain (n, columns) rows in a format to `out`, as `formats.encode` does; the first bad row, or None.

    A bad row holds a NaN or an infinity.
    """
    assert rows.flags.c_contiguous and out.flags.c_contiguous
    n, columns = rows.shape
    assert out.nbytes == stored_bytes(format, n, columns)
    threads = pool()
    with threads.lock:
        bad = threads.library.soban_encode(
            threads.handle, rows.ctypes.data, NUMBERED.index(source_format), n, columns,
            (*NUMBERED, *HALVES).index(format), out.ctypes.data,
        )  # fmt: skip
    return None if bad < 0 else int(bad)


def repack(rows: npt.NDArray[np.uint8], format: str, columns: int, out: npt.NDArray[np.uint8]) -> int | None:
    """Writes rows of a GGUF file's blocks (n, bytes of a row) in panels to `out`, as `gguf.pack` does.

    Returns the first row that has a NaN or an infinity for a scale, or None.
    """
    assert rows.flags.c_contiguous and out.flags.c_contiguous
    assert out.nbytes == stored_bytes(format, len(rows), columns) and rows.shape[1] == gguf.row_bytes(format, columns)
    threads = pool()
    with threads.lock:
        bad = threads.library.soban_repack(
            threads.handle, rows.ctypes.data, NUMBERED.index(format), len(rows), columns, out.ctypes.data
        )
    return None if bad < 0 else int(bad)


def find_not_finite(values: npt.NDArray, format: str) -> int | None:
    """The index of the first NaN or infinity of a contiguous plain array, or None."""
    threads = pool()
    with threads.lock:
        found = threads.library.soban_find_not_finite(
            threads.handle, values.ctypes.data, NUMBERED.index(format), values.size
        )
    return None if found < 0 else int(found)


def read(threads: Pool, data: npt.NDArray[np.uint8], streams: int, cache: int, ahead: int) -> int:
    """Reads contiguous bytes, for a benchmark, and returns the exclusive or of their 64-bit words."""
    assert data.nbytes % (64 * streams) == 0 and streams in (1, 2, 4, 8)
    with threads.lock:
        return int(
            threads.library.soban_read(threads.handle, data.ctypes.data, data.nbytes, streams, cache, ahead)
        )  # fmt: skip


def multiply(threads: Pool, isa: str, chunks: int) -> tuple[int, int]:
    """Multiplies in registers, for a benchmark: how many multiply-adds, or -1 where there are no such instructions, and
    how many a second in each thread's best chunk, all threads together.
    """
    rate = np.zeros(1, np.int64)
    with threads.lock:
        count = int(threads.library.soban_multiply(threads.handle, ISAS.index(isa), chunks, rate.ctypes.data))
    return count, int(rate[0])


class Cancelled(Exception):
    """A run was stopped by its cancel flag."""
