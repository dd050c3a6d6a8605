"""The native library: finding it, and turning a recorded program into the list of instructions that it runs."""

import ctypes
import functools
import os
import sys
import threading
from collections.abc import Mapping
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_uint64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from soban import messages
from soban.base import system
from soban.base.errors import UserError
from soban.ops import probe, schema
from soban.ops.adapters import Adapter, Piece
from soban.ops.batch import Batch
from soban.ops.cache import CACHE_FORMATS, Cache
from soban.ops.formats import FORMATS, HALVES, PANEL, Floats, Matrix, Rows, stored_bytes
from soban.ops.recorder import Program, Recorded, Step

ABI = 9
# The index is the number in native/soban.h; later ones are faster.
ISAS = ("scalar", "avx2", "avxvnni", "avx512vl", "avx512vnni", "amx", "neon", "neon_i8mm")
ARM = ("neon", "neon_i8mm")
CANCELLED, NO_MEMORY = 1, 2


class View(Structure):
    _fields_ = (
        ("offset", c_int64), ("stride", c_int32), ("columns", c_int32), ("rows", c_int32), ("unused", c_int32),
    )  # fmt: skip


class Part(Structure):
    _fields_ = (
        ("data", c_void_p), ("format", c_int32), ("rows", c_int32), ("columns", c_int32), ("unused", c_int32),
    )  # fmt: skip


class Vector(Structure):
    _fields_ = (("data", c_void_p), ("count", c_int64))


class Instruction(Structure):
    _fields_ = (
        ("op", c_int32), ("slot", c_int32), ("first_part", c_int32), ("part_count", c_int32), ("first_vector", c_int32),
        ("unused", c_int32), ("i", c_int32 * 4), ("f", c_float * 4), ("out", View), ("a", View), ("b", View),
        ("c", View),
    )  # fmt: skip


class ProgramStruct(Structure):
    _fields_ = (
        ("instructions", POINTER(Instruction)), ("parts", POINTER(Part)), ("vectors", POINTER(Vector)),
        ("instruction_count", c_int32), ("part_count", c_int32), ("vector_count", c_int32), ("unused", c_int32),
    )  # fmt: skip


class BatchStruct(Structure):
    _fields_ = (
        ("tokens", c_int32), ("sequences", c_int32), ("outputs", c_int32), ("table_stride", c_int32),
        ("token_ids", c_void_p), ("positions", c_void_p), ("starts", c_void_p), ("tables", c_void_p),
        ("output_rows", c_void_p), ("adapters", c_void_p),
    )  # fmt: skip


class LayerStruct(Structure):
    _fields_ = (("keys", c_void_p), ("values", c_void_p), ("heads", c_int32), ("size", c_int32))


class CacheStruct(Structure):
    _fields_ = (
        ("layers", POINTER(LayerStruct)), ("layer_count", c_int32), ("format", c_int32), ("pages", c_int32),
        ("unused", c_int32),
    )  # fmt: skip


class PieceStruct(Structure):
    _fields_ = (
        ("a", c_void_p), ("b", c_void_p), ("format", c_int32), ("rank", c_int32), ("first", c_int32),
        ("rows", c_int32), ("scale", c_float), ("unused", c_int32),
    )  # fmt: skip


class AdapterStruct(Structure):
    _fields_ = (("pieces", POINTER(PieceStruct)), ("starts", POINTER(c_int32)))


class AdaptersStruct(Structure):
    _fields_ = (("adapters", POINTER(AdapterStruct)), ("count", c_int32), ("unused", c_int32))


def library_path() -> Path:
    """Where the native library lies once it is built: inside the package."""
    name = {"win32": "soban_native.dll", "darwin": "libsoban_native.dylib"}.get(sys.platform, "libsoban_native.so")
    return Path(__file__).resolve().parents[1] / name


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
        c_void_p,
    )  # fmt: skip
    loaded.soban_encode.argtypes = (c_void_p, c_void_p, c_int32, c_int64, c_int64, c_int32, c_void_p)
    loaded.soban_encode.restype = c_int64
    loaded.soban_find_not_finite.argtypes = (c_void_p, c_void_p, c_int32, c_int64)
    loaded.soban_find_not_finite.restype = c_int64
    loaded.soban_read.argtypes = (c_void_p, c_void_p, c_int64, c_int32, c_int32, c_int64)
    loaded.soban_read.restype = c_uint64
    loaded.soban_multiply.argtypes = (c_void_p, c_int32, c_int32)
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
            threads.handle, rows.ctypes.data, FORMATS.index(source_format), n, columns,
            (*FORMATS, *HALVES).index(format), out.ctypes.data,
        )  # fmt: skip
    return None if bad < 0 else int(bad)


def find_not_finite(values: npt.NDArray, format: str) -> int | None:
    """The index of the first NaN or infinity of a contiguous plain array, or None."""
    threads = pool()
    with threads.lock:
        found = threads.library.soban_find_not_finite(
            threads.handle, values.ctypes.data, FORMATS.index(format), values.size
        )
    return None if found < 0 else int(found)


def read(threads: Pool, data: npt.NDArray[np.uint8], streams: int, cache: int, ahead: int) -> int:
    """Reads contiguous bytes, for a benchmark, and returns the exclusive or of their 64-bit words."""
    assert data.nbytes % (64 * streams) == 0 and streams in (1, 2, 4, 8)
    with threads.lock:
        return int(
            threads.library.soban_read(threads.handle, data.ctypes.data, data.nbytes, streams, cache, ahead)
        )  # fmt: skip


def multiply(threads: Pool, isa: str, chunks: int) -> int:
    """Multiplies in registers, for a benchmark; how many multiply-adds, or -1 where there are no such instructions."""
    with threads.lock:
        return int(threads.library.soban_multiply(threads.handle, ISAS.index(isa), chunks))


class Cancelled(Exception):
    """A run was stopped by its cancel flag."""


class NativeProgram:
    """A recorded program as native instructions, with the arena that its values live in.

    The arena has room for `outputs` at first, and for all of `max_outputs` from the run on that has more.
    """

    def __init__(
        self,
        program: Program,
        max_tokens: int,
        max_outputs: int,
        threads: Pool | None = None,
        outputs: int | None = None,
    ) -> None:
        assert program.result is not None
        self.pool = threads or pool()
        self.program, self.max_tokens, self.max_outputs = program, max_tokens, max_outputs
        self.widths = [_stride(width) for width in program.widths]
        self.result = program.result
        self.cancel = np.zeros(1, np.int32)
        self._cancel_address = self.cancel.ctypes.data
        self._cache: Cache | None = None
        self._cache_struct = CacheStruct()
        self._adapters: tuple[Adapter, ...] = ()
        self._packed: dict[Adapter, _PackedAdapter] = {}
        self._adapters_struct = AdaptersStruct()
        self._batch: Batch | None = None
        self._batch_struct = BatchStruct()
        self._lay_out(min(outputs or max_outputs, max_outputs))

    def _lay_out(self, outputs: int) -> None:
        """An arena with room for so many outputs, and the instructions that work in it."""
        program, self.outputs = self.program, outputs
        self.offsets, size = plan_arena(program, {"tokens": self.max_tokens, "outputs": outputs})
        self.arena = _aligned(size)
        self.parts: list[Part] = []
        self.vectors: list[Vector] = []
        self.kept: list[Any] = []  # arrays whose memory the instructions point into
        self.places: dict[str, Matrix] = {}  # the index is the number of the place
        self.rotations: list[tuple[Floats, Floats]] = []  # rotary frequencies: the table, and the row that holds now
        self.rotation = 0
        instructions = [self._instruction(step) for step in program.steps]
        self._program = ProgramStruct(
            (Instruction * len(instructions))(*instructions), (Part * len(self.parts))(*self.parts),
            (Vector * len(self.vectors))(*self.vectors), len(instructions), len(self.parts), len(self.vectors), 0,
        )  # fmt: skip
        # What stays the same from step to step is looked up once: NumPy takes a microsecond to tell an address.
        self._arena_address = self.arena.ctypes.data
        self._results = self._result_rows()

    def run(self, batch: Batch, cache: Cache | None) -> Floats:
        """The program's result (R, columns), a view that the next run overwrites. Raises Cancelled."""
        tokens, outputs = batch.token_count, batch.output_count
        assert tokens <= self.max_tokens and outputs <= self.max_outputs
        if outputs > self.outputs:
            self._lay_out(self.max_outputs)
        if cache is not self._cache:
            self._cache, self._cache_struct = cache, _cache_struct(cache)
        if batch.rotation != self.rotation:
            self.rotation = batch.rotation
            for table, live in self.rotations:
                live[:] = table[batch.rotation]
        if batch.adapters and batch.adapters != self._adapters:  # which are kept for a batch that has none
            self._take_adapters(batch.adapters)
        if batch is not self._batch:
            self._batch, self._batch_struct = batch, _batch_struct(batch)
        if self.pool.process != os.getpid():
            self.pool = pool(self.pool.threads)
        with self.pool.lock:
            status = self.pool.library.soban_run(
                self.pool.handle, self._program, self._arena_address, self._batch_struct, self._cache_struct,
                self._adapters_struct, self._cancel_address,
            )  # fmt: skip
        if status == CANCELLED:
            raise Cancelled
        if status == NO_MEMORY:
            raise UserError(
                "memory ran out in the middle of a step", hint="close other programs, or take a smaller model"
            )
        return self._results[: outputs if self.result.rows == "outputs" else tokens]

    def _result_rows(self) -> Floats:
        """The result's place in the arena, for as many rows as it can have."""
        rows = self.outputs if self.result.rows == "outputs" else self.max_tokens
        stride, start = self.widths[self.result.buffer], self.offsets[self.result.buffer]
        whole = self.arena[start : start + rows * stride].reshape(rows, stride)
        return whole[:, self.result.start : self.result.start + self.result.columns]

    def _view(self, value: Recorded) -> View:
        kind = ("tokens", "outputs").index(value.rows)
        start = self.offsets[value.buffer] + value.start
        return View(start, self.widths[value.buffer], value.columns, kind, 0)

    def _instruction(self, step: Step) -> Instruction:
        """The step's operands in the fields that `schema` names for its operation."""
        operation = schema.OPERATIONS[step.op]
        instruction = Instruction(
            op=schema.NAMES.index(step.op), out=self._view(step.out), first_vector=len(self.vectors)
        )  # fmt: skip
        places = operation.places()
        for name, operand in operation.operands.items():
            place = places.get(f"{name}.place", places[name])
            self._write(instruction, operand, place, step.arguments[name])
        return instruction

    def _write(self, instruction: Instruction, operand: schema.Operand, place: tuple[str, int], value: Any) -> None:
        field, n = place
        match operand:
            case schema.Value():
                setattr(instruction, field, View() if value is None else self._view(value))
            case schema.Ids():
                instruction.slot = schema.SLOTS.index(value.name)
            case schema.Weights(adapted):
                instruction.first_part, instruction.part_count = len(self.parts), len(value.parts)
                self.parts += [self._part(rows) for rows in value.parts]
                if adapted:
                    self._keep(value.bias)
                    instruction.i[n] = -1 if value.place is None else self._place(value)
            case schema.Vector():
                self._keep(value)
            case schema.Frequencies():
                self.rotations.append((value, value[0].copy()))
                self._keep(self.rotations[-1][1])
            case schema.Choice(among):
                instruction.i[n] = among.index(value)
            case schema.Integer():
                instruction.i[n] = value or 0
            case schema.Layer():
                instruction.i[n] = value.index
            case schema.Number():
                instruction.f[n] = value or 0.0

    def _place(self, matrix: Matrix) -> int:
        assert matrix.place is not None
        self.places.setdefault(matrix.place, matrix)
        return list(self.places).index(matrix.place)

    def _take_adapters(self, adapters: tuple[Adapter, ...]) -> None:
        """Those that the batch at hand chooses from, packed once each for this program."""
        self._packed = {x: self._packed.get(x) or _PackedAdapter(x, self.places) for x in adapters}
        structs = [self._packed[adapter].struct for adapter in adapters]
        self._adapters, self._adapters_struct = (
            adapters,
            AdaptersStruct((AdapterStruct * len(structs))(*structs), len(structs), 0),
        )

    def _part(self, rows: Rows) -> Part:
        assert rows.data.flags.c_contiguous
        self.kept.append(rows.data)
        return Part(rows.data.ctypes.data, FORMATS.index(rows.format), rows.rows, rows.columns, 0)

    def _keep(self, vector: Floats | None) -> None:
        """The next of the vectors; None where the instruction has none."""
        if vector is None:
            self.vectors.append(Vector())
            return
        kept = np.ascontiguousarray(vector, np.float32)
        self.kept.append(kept)
        self.vectors.append(Vector(kept.ctypes.data, len(kept)))


class _PackedAdapter:
    """An adapter as native/soban.h has it, for the places of a program: one array, in the order in which it is read.

    Many small ones would lie on small pages of memory, and finding those takes longer than reading them.
    """

    def __init__(self, adapter: Adapter, places: Mapping[str, Matrix]) -> None:
        pieces = [(matrix, piece) for place, matrix in places.items() for piece in adapter.pieces.get(place, ())]
        arrays = [array for matrix, piece in pieces for array in _packed(piece, matrix)]
        ends = np.cumsum([0, *(-(-array.nbytes // 64) * 64 for array in arrays)])
        self.memory = _aligned(int(ends[-1]) // 4).view(np.uint8)
        for array, start in zip(arrays, ends, strict=False):
            self.memory[start : start + array.nbytes] = array.reshape(-1).view(np.uint8)
        addresses = (ends + self.memory.ctypes.data).tolist()
        structs = [
            PieceStruct(
                addresses[2 * i], addresses[2 * i + 1], FORMATS.index(piece.format), piece.b.shape[1], piece.first,
                len(piece.b), piece.scale, 0,
            )
            for i, (_, piece) in enumerate(pieces)
        ]  # fmt: skip
        starts = np.cumsum([0, *(len(adapter.pieces.get(place, ())) for place in places)]).tolist()
        self.struct = AdapterStruct((PieceStruct * len(structs))(*structs), (c_int32 * len(starts))(*starts))


def _packed(piece: Piece, matrix: Matrix) -> tuple[npt.NDArray, npt.NDArray]:
    """A as it is, and B in panels of 16 rows, [panel][rank][16]."""
    rows, rank = piece.b.shape
    assert piece.a.shape[1] == matrix.shape[1], (matrix.place, piece.a.shape)
    assert piece.first >= 0 and piece.first + rows <= matrix.shape[0], (matrix.place, piece.first, rows)
    panels = np.zeros((-(-rows // PANEL) * PANEL, rank), piece.b.dtype)
    panels[:rows] = piece.b
    return np.ascontiguousarray(piece.a), np.ascontiguousarray(panels.reshape(-1, PANEL, rank).swapaxes(1, 2))


def _batch_struct(batch: Batch) -> BatchStruct:
    address, count = batch.memory.buffer_info()
    positions = address + 4 * batch.token_count
    starts = positions + 4 * batch.token_count
    outputs = address + 4 * (count - batch.output_count)
    return BatchStruct(
        batch.token_count, batch.sequence_count, batch.output_count, batch.table_width, address, positions, starts,
        starts + 4 * (batch.sequence_count + 1), outputs,
        outputs - 4 * batch.sequence_count if batch.adapters else None,
    )  # fmt: skip


def _cache_struct(cache: Cache | None) -> CacheStruct:
    if cache is None:
        return CacheStruct()
    layers = [LayerStruct(x.keys.ctypes.data, x.values.ctypes.data, x.heads, x.size) for x in cache.layers]
    return CacheStruct(
        (LayerStruct * len(layers))(*layers), len(layers), CACHE_FORMATS.index(cache.format), cache.pages, 0
    )  # fmt: skip


def _stride(columns: int) -> int:
    """Rows start on 64 bytes."""
    return -(-columns // 16) * 16


def _aligned(floats: int) -> Floats:
    """An array on 64 bytes; the system gives it memory as it is written."""
    raw = np.empty(floats + 16, np.float32)
    skip = -raw.ctypes.data % 64 // 4
    return raw[skip : skip + floats]


def plan_arena(program: Program, rows: dict[str, int]) -> tuple[list[int], int]:
    """Where each buffer starts, in floats, and the arena's size: buffers that never live together share memory."""
    born: dict[int, int] = {}
    dies: dict[int, int] = {}
    for i, step in enumerate(program.steps):
        born[step.out.buffer] = dies[step.out.buffer] = i
        for value in step.arguments.values():
            if isinstance(value, Recorded):
                dies[value.buffer] = i
    assert program.result is not None
    dies[program.result.buffer] = len(program.steps)
    offsets = [0] * len(program.widths)
    live: list[tuple[int, int, int]] = []  # (start, end, dies), by start
    size = 0
    for buffer, i in born.items():
        live = sorted(space for space in live if space[2] >= i)
        needed = _stride(program.widths[buffer]) * rows[program.rows[buffer]]
        start = 0
        for taken, end, _ in live:
            if start + needed <= taken:
                break
            start = max(start, end)
        offsets[buffer] = start
        live.append((start, start + needed, dies[buffer]))
        size = max(size, start + needed)
    return offsets, size
