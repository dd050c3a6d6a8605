"""A recorded program as the list of instructions that the native library runs, and the memory it runs in."""

import os
from collections.abc import Mapping
from ctypes import c_int32
from typing import Any

import numpy as np
import numpy.typing as npt

from soban.base.errors import UserError
from soban.ops import native, schema
from soban.ops.adapters import Adapter, Piece
from soban.ops.batch import Batch
from soban.ops.cache import CACHE_FORMATS, Cache
from soban.ops.formats import NUMBERED, PANEL, Floats, Matrix, Rows
from soban.ops.native.structs import (
    AdaptersStruct,
    AdapterStruct,
    BatchStruct,
    CacheStruct,
    Instruction,
    LayerStruct,
    Part,
    PieceStruct,
    ProgramStruct,
    Vector,
    View,
)
from soban.ops.recorder import Program, Recorded, Step


class NativeProgram:
    """A recorded program as native instructions, with the arena that its values live in.

    The arena has room for `outputs` at first, and for all of `max_outputs` from the run on that has more.
    """

    def __init__(
        self,
        program: Program,
        max_tokens: int,
        max_outputs: int,
        threads: native.Pool | None = None,
        outputs: int | None = None,
    ) -> None:
        assert program.result is not None
        self.pool = threads or native.pool()
        self.program, self.max_tokens, self.max_outputs = program, max_tokens, max_outputs
        self.widths = [_stride(width) for width in program.widths]
        self.result = program.result
        self.cancel = np.zeros(1, np.int32)
        self._cancel_address = self.cancel.ctypes.data
        self.spent: npt.NDArray[np.int64] | None = None  # nanoseconds of each step, added up by runs from then on
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
            self.pool = native.pool(self.pool.threads)
        with self.pool.lock:
            status = self.pool.library.soban_run(
                self.pool.handle, self._program, self._arena_address, self._batch_struct, self._cache_struct,
                self._adapters_struct, self._cancel_address, None if self.spent is None else self.spent.ctypes.data,
            )  # fmt: skip
        if status == native.CANCELLED:
            raise native.Cancelled
        if status == native.NO_MEMORY:
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
            case schema.Vector() | schema.Numbers():
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
        return Part(rows.data.ctypes.data, NUMBERED.index(rows.format), rows.rows, rows.columns, 0)

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
                addresses[2 * i], addresses[2 * i + 1], NUMBERED.index(piece.format), piece.b.shape[1], piece.first,
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
    tables = starts + 4 * (batch.sequence_count + 1)
    outputs = address + 4 * (count - batch.output_count)
    choices = outputs - 4 * batch.sequence_count * bool(batch.adapters)
    return BatchStruct(
        batch.token_count, batch.sequence_count, batch.output_count, batch.table_width, address, positions, starts,
        tables, outputs, choices if batch.adapters else None,
        choices - 4 * batch.token_count if batch.typed else None,
        tables + 4 * batch.sequence_count * batch.table_width if batch.with_states else None,
    )  # fmt: skip


def _cache_struct(cache: Cache | None) -> CacheStruct:
    if cache is None:
        return CacheStruct()
    layers = [
        LayerStruct(
            x.keys.ctypes.data, x.values.ctypes.data, x.states.ctypes.data, x.states.shape[1], x.heads, x.size
        )
        for x in cache.layers
    ]  # fmt: skip
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
