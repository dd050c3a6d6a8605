"""Single products with packed matrices, outside of a program, each in the thread that calls: for training."""

import threading

import numpy as np
import numpy.typing as npt

from soban.ops import formats, native, reference, run, schema
from soban.ops.formats import NUMBERED, PANEL, Floats, Matrix, Rows
from soban.ops.native.structs import (
    AdaptersStruct,
    BatchStruct,
    CacheStruct,
    Instruction,
    Part,
    ProgramStruct,
    Vector,
    View,
)

_own = threading.local()


def linear(x: Floats, w: Matrix) -> Floats:
    """(T, K) -> (T, N): as ops.linear without adapters: x rounded to int8 where the format asks for it."""
    x = np.ascontiguousarray(x, np.float32)
    if not run.use_native():
        return reference.linear(x, Matrix(w.parts, w.bias))
    out = np.empty((len(x), w.shape[0]), np.float32)
    instruction = Instruction(op=schema.NAMES.index("linear"), part_count=len(w.parts))
    instruction.i[0] = -1  # of no place, so that nothing is added there
    _run(instruction, w, np.arange(len(x), dtype=np.int32), out, x)
    return out


def rows(w: Matrix, numbers: npt.NDArray[np.integer]) -> Floats:
    """(n, K): the rows of these numbers, decoded."""
    wanted = np.ascontiguousarray(numbers, np.int32)
    if not run.use_native():
        whole = [formats.decode(part) for part in w.parts]
        return np.concatenate(whole)[wanted]
    out = np.empty((len(wanted), w.shape[1]), np.float32)
    instruction = Instruction(op=schema.NAMES.index("embed"), part_count=len(w.parts))
    instruction.f[0] = 1.0
    _run(instruction, w, wanted, out)
    return out


def panels(part: Rows, start: int, stop: int) -> Rows:
    """Rows `start` to `stop` of a part without a copy; `start` is a whole number of panels."""
    assert start % PANEL == 0
    if part.format in formats.PLAIN:
        return Rows(part.format, min(stop, part.rows) - start, part.columns, part.data[start:stop])
    stop = min(stop, part.rows)
    size = formats.stored_bytes(part.format, PANEL, part.columns)
    data = part.data[start // PANEL * size : -(-stop // PANEL) * size]
    return Rows(part.format, stop - start, part.columns, data)


def _pool() -> native.Pool:
    """The calling thread's own, which has no other thread: several of them compute side by side."""
    if getattr(_own, "pool", None) is None:
        _own.pool = native.Pool(1, native.chosen_isa())
    return _own.pool


def _run(
    instruction: Instruction, w: Matrix, numbers: npt.NDArray[np.int32], out: Floats, x: Floats | None = None
) -> None:
    """One instruction over the rows of `out`; its arena is all memory, from the first of both arrays on."""
    count = len(numbers)
    parts = [Part(p.data.ctypes.data, NUMBERED.index(p.format), p.rows, p.columns, 0) for p in w.parts]
    bias = Vector() if w.bias is None else Vector(w.bias.ctypes.data, len(w.bias))
    addresses = [out.ctypes.data] if x is None else [out.ctypes.data, x.ctypes.data]
    arena = min(addresses)
    instruction.out = View((addresses[0] - arena) // 4, out.shape[1], out.shape[1], 0, 0)
    if x is not None:
        instruction.a = View((addresses[1] - arena) // 4, x.shape[1], x.shape[1], 0, 0)
    program = ProgramStruct(
        (Instruction * 1)(instruction), (Part * len(parts))(*parts), (Vector * 1)(bias), 1, len(parts), 1, 0
    )
    starts, nothing = np.array([0, count], np.int32), np.zeros(1, np.int32)
    batch = BatchStruct(
        count, 1, 0, 1, numbers.ctypes.data, numbers.ctypes.data, starts.ctypes.data, nothing.ctypes.data,
        nothing.ctypes.data, None,
    )  # fmt: skip
    pool = _pool()
    status = pool.library.soban_run(
        pool.handle, program, arena, batch, CacheStruct(), AdaptersStruct(), nothing.ctypes.data, None
    )
    assert status == 0, status
