"""Running a few recorded ops natively and by NumPy, and comparing."""

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from soban import ops
from soban.ops import formats, native, recorder, reference
from soban.ops.batch import Batch
from soban.ops.cache import Cache
from soban.ops.native.program import NativeProgram
from soban.ops.recorder import Program, Recorded

Floats = npt.NDArray[np.float32]
Record = Callable[[Recorded, Program], Recorded]


@functools.cache
def pool(threads: int, isa: str) -> native.Pool:
    return native.Pool(threads, isa)


def tokens_batch(count: int) -> Batch:
    """One sequence of tokens 0, 1, ... that asks for every row."""
    pages = -(-count // 32)
    return ops.make_batch([range(count)], [0], [range(pages)], range(count))


def recorded(x: Floats, record: Record) -> Program:
    """`record` applied to x, which enters the program as an embedding table of one row for each token."""
    program = Program()
    values = ops.embed(program.batch().tokens, formats.matrix(x), 1.0)
    program.result = record(values, program)
    return program


def run_native(
    x: Floats, record: Record, isa: str, threads: int = 1, batch: Batch | None = None, cache: Cache | None = None
) -> Floats:
    """The recorded ops' result on x, row t being token t's."""
    batch = batch or tokens_batch(len(x))
    program, outputs = recorded(x, record), max(1, len(batch.outputs))
    runner = NativeProgram(program, len(batch.tokens), outputs, pool(threads, isa))
    return runner.run(batch, cache).copy()


def run_reference(x: Floats, record: Record, batch: Batch | None = None, cache: Cache | None = None) -> Floats:
    """The same by NumPy."""
    return recorder.replay(recorded(x, record), reference, batch or tokens_batch(len(x)), cache)


def any_rows(seed: int, format: str, rows: int, columns: int, scales: Floats) -> formats.Rows:
    """Quantised rows of any levels that a file may hold, with scales drawn of these."""
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, formats.stored_bytes(format, rows, columns), dtype=np.uint8)  # -128 too
    start = 0
    panels = data.reshape(-(-rows // formats.PANEL), -1)
    for groups in formats.groups_of_blocks(columns):
        block = panels[:, start : start + formats.block_bytes(format, groups)]
        block[:, :64] = rng.choice(scales, (len(panels), 16)).view(np.uint8)
        if format == "q4":
            codes = block[:, 64 : 64 + 16 * groups].reshape(-1, groups, 16)
            steps = np.stack([codes & 15, codes >> 4], axis=-1).astype(int) + 1
            offsets = rng.integers(15 * steps - 127, 128).astype(np.int8)
            block[:, 64 + 16 * groups : 64 + 48 * groups] = offsets.view(np.uint8).reshape(len(panels), -1)
        start += block.shape[1]
    return formats.Rows(format, rows, columns, data)


def normal(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def assert_close(got: Floats, wanted: Floats, bound: Floats | float, by: str = "") -> None:
    """|got - wanted| <= bound, element by element; `by` is who got it."""
    assert got.shape == wanted.shape
    difference = np.abs(got.astype(np.float64) - wanted)
    excess = difference / np.maximum(np.float64(bound), 1e-300)
    worst = np.unravel_index(excess.argmax(), got.shape)
    assert np.all(difference <= bound), f"{by} {excess.max():.3g} times the bound at {worst}"


def assert_same_bits(got: Floats, wanted: Floats) -> None:
    assert got.shape == wanted.shape
    different = np.flatnonzero((got.view(np.uint32) != np.ascontiguousarray(wanted).view(np.uint32)).reshape(-1))
    assert not len(different), f"{len(different)} of {got.size} values differ, the first at {different[0]}"


def unaligned(array: npt.NDArray, offset: int = 1) -> npt.NDArray:
    """A contiguous copy that starts `offset` bytes off a 64-byte boundary."""
    raw = np.zeros(array.nbytes + 128, np.uint8)
    start = -raw.ctypes.data % 64 + offset
    copy = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[:] = array
    return copy
