"""The native library in another process, maybe under an emulator: what ctypes would call, through runner.cpp.

Memory that a call reads is sent before it, with pointers put right, and what it writes is fetched after it.
"""

import ctypes
import functools
import itertools
import os
import shlex
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from soban.ops.batch import PAGE
from soban.ops.cache import CACHE_FORMATS, LayerGeometry, position_bytes
from soban.ops.formats import HALVES, NUMBERED, PANEL, stored_bytes
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
from soban.ops.schema import NAMES
from soban.text.tokenizers.bpe import Pieces

ROOT = Path(__file__).resolve().parents[2]
# The order is the one in runner.cpp.
(
    ALLOCATE, FREE, WRITE, READ, RUNS, CREATE, DESTROY, RUN, ENCODE, FIND, READ_ALL, MULTIPLY, BPE, WORKS, STORED, ABI,
    LEARN,
) = range(17)  # fmt: skip
LEARNING = (
    "glu_forward", "glu_backward", "norm_forward", "norm_backward", "turn_pairs", "next_token_loss",
    "attention_shares", "attention_room", "attention_forward", "attention_backward",
)  # fmt: skip


class Remote:
    """Stands in for the ctypes.CDLL of the library; `command` starts the runner."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.held: list[int] = []  # memory of the call at hand
        # ctypes' functions take attributes, and so do these.
        self.soban_bpe = functools.partial(self._bpe)
        self.soban_stored_bytes = functools.partial(self._ask, STORED)
        for number, name in enumerate(LEARNING):
            setattr(self, f"soban_{name}", functools.partial(self._learn, number))
        weakref.finalize(self, self.process.kill)

    def close(self) -> None:
        """Ends the other process."""
        self.process.communicate()

    def soban_abi(self) -> int:
        return self._ask(ABI)

    def soban_isa_runs(self, isa: int) -> int:
        return self._ask(RUNS, isa)

    def soban_isa_works(self, isa: int) -> int:
        return self._ask(WORKS, isa)

    def soban_pool_create(self, threads: int, isa: int) -> int:
        return self._ask(CREATE, threads, isa)

    def soban_pool_destroy(self, pool: int) -> None:
        if self.process.poll() is None:
            self._ask(DESTROY, pool)

    def soban_multiply(self, pool: int, isa: int, chunks: int, rate: object) -> int:
        return self._ask(MULTIPLY, pool, isa, chunks)

    def soban_read(self, pool: int, data: int, size: int, streams: int, cache: int, ahead: int) -> int:
        with self._memory():
            return self._ask(READ_ALL, pool, self._send(data, size), size, streams, cache, ahead) % 2**64

    def soban_find_not_finite(self, pool: int, values: int, format: int, count: int) -> int:
        with self._memory():
            return self._ask(FIND, pool, self._send(values, stored_bytes(NUMBERED[format], 1, count)), format, count)

    def soban_encode(
        self, pool: int, source: int, source_format: int, rows: int, columns: int, format: int, target: int
    ) -> int:
        size = stored_bytes((*NUMBERED, *HALVES)[format], rows, columns)
        with self._memory():
            there = self._send(source, stored_bytes(NUMBERED[source_format], rows, columns))
            result = self._send(target, size)
            bad = self._ask(ENCODE, pool, there, source_format, rows, columns, format, result)
            self._fetch(result, target, size)
        return bad

    def soban_run(
        self, pool: int, program: ProgramStruct, arena: int, batch: BatchStruct, cache: CacheStruct,
        adapters: AdaptersStruct, cancel: int, spent: int | None,
    ) -> int:  # fmt: skip
        count = program.instruction_count
        instructions = copies(Instruction, program.instructions, count)
        parts = copies(Part, program.parts, program.part_count)
        vectors = copies(Vector, program.vectors, program.vector_count)
        with self._memory():
            for part in parts:
                part.data = self._send(part.data, stored_bytes(NUMBERED[part.format], part.rows, part.columns))
            for vector in vectors:
                vector.data = self._send(vector.data, 4 * vector.count) if vector.data else None
            arena_size = 4 * max(end_of(view, batch) for now in instructions for view in (now.out, now.a, now.b, now.c))
            there = self._send(arena, arena_size)
            layers = copies(LayerStruct, cache.layers, cache.layer_count)
            sizes = {layer.keys: layer_bytes(cache, layer) for layer in layers}
            sizes |= {layer.values: sizes[layer.keys] for layer in layers}
            slots = slots_of(batch)
            sizes |= {layer.states: 4 * slots * layer.state_floats for layer in layers if layer.state_floats}
            stored = {data: self._send(data, size) for data, size in sizes.items()}  # once, where layers share
            for layer in layers:
                layer.keys, layer.values = stored[layer.keys], stored[layer.values]
                layer.states = stored.get(layer.states)
            batch_size = 4 * (2 * batch.tokens + batch.sequences + 1 + batch.sequences * batch.table_stride)
            lists = self._send(batch.token_ids, batch_size)
            shift = lists - batch.token_ids
            starts, tables = batch.starts + shift, batch.tables + shift
            outputs = self._send(batch.output_rows, 4 * batch.outputs)
            chosen = self._send(batch.adapters, 4 * batch.sequences) if batch.adapters else None
            types = self._send(batch.types, 4 * batch.tokens) if batch.types else None
            states = self._send(batch.states, 16 * batch.sequences) if batch.states else None
            status = self._ask(
                RUN, pool, self._struct(ProgramStruct(
                    ctypes.cast(self._struct(instructions), ctypes.POINTER(Instruction)),
                    ctypes.cast(self._struct(parts), ctypes.POINTER(Part)),
                    ctypes.cast(self._struct(vectors), ctypes.POINTER(Vector)), count, len(parts), len(vectors), 0,
                )), there,
                self._struct(BatchStruct(batch.tokens, batch.sequences, batch.outputs, batch.table_stride, lists,
                                         batch.positions + shift, starts, tables, outputs, chosen, types, states)),
                self._struct(CacheStruct(
                    ctypes.cast(self._struct(layers), ctypes.POINTER(LayerStruct)), len(layers), cache.format,
                    cache.pages, 0,
                )),
                self._adapters(adapters, instructions), self._send(cancel, 4),
            )  # fmt: skip
            self._fetch(there, arena, arena_size)
            for data, address in stored.items():
                self._fetch(address, data, sizes[data])
        return status

    def _adapters(self, adapters: AdaptersStruct, instructions: Any) -> int:
        linears = [now for now in instructions if NAMES[now.op] == "linear" and now.i[0] >= 0]
        columns = {now.i[0]: now.a.columns for now in linears}
        there = copies(AdapterStruct, adapters.adapters, adapters.count)
        for adapter in there:
            starts = (ctypes.c_int32 * (len(columns) + 1))(*adapter.starts[: len(columns) + 1])
            pieces = copies(PieceStruct, adapter.pieces, starts[-1])
            for place, (first, end) in enumerate(itertools.pairwise(starts)):
                for piece in pieces[first:end]:
                    format, padded = NUMBERED[piece.format], -(-piece.rows // PANEL) * PANEL
                    piece.a = self._send(piece.a, stored_bytes(format, piece.rank, columns[place]))
                    piece.b = self._send(piece.b, stored_bytes(format, piece.rank, padded))
            adapter.pieces = ctypes.cast(self._struct(pieces), ctypes.POINTER(PieceStruct))
            adapter.starts = ctypes.cast(self._struct(starts), ctypes.POINTER(ctypes.c_int32))
        pointer = ctypes.cast(self._struct(there), ctypes.POINTER(AdapterStruct))
        return self._struct(AdaptersStruct(pointer, adapters.count, 0))

    def _bpe(self, pieces: Pieces, text: bytes, length: int, cut: bool, ids: int) -> int:
        sizes = (
            ("characters", 8 * ((1 << pieces.character_bits) + pieces.character_reach)),
            ("merges", 16 * ((1 << pieces.merge_bits) + pieces.merge_reach)), ("bytes", 4 * 256),
        )  # fmt: skip
        there = Pieces.from_buffer_copy(pieces)
        with self._memory():
            for name, size in sizes:
                setattr(there, name, self._send(getattr(pieces, name), size))
            data = ctypes.create_string_buffer(text, max(1, length))
            result = self._send(ids, 4 * length)
            count = self._ask(BPE, self._struct(there), self._struct(data), length, cut, result)
            self._fetch(result, ids, 4 * length)
        return count

    def _learn(self, number: int, isa: int, task: Any) -> float:
        ours = task._obj  # of ctypes.byref
        there = type(ours).from_buffer_copy(ours)
        sizes = learning_bytes(ours, lambda: [int(self._learn(LEARNING.index(f"attention_{x}"), isa, task))
                                              for x in ("shares", "room")]
                               if LEARNING[number].endswith("ward") else [0, 0])  # fmt: skip
        with self._memory():
            given = {name: getattr(ours, name) for name in sizes if getattr(ours, name)}
            for name, address in given.items():
                setattr(there, name, self._send(address, sizes[name]))
            answer = self._ask(LEARN, number, isa, self._struct(there))
            for name, address in given.items():
                self._fetch(getattr(there, name), address, sizes[name])
        is_loss = LEARNING[number] == "next_token_loss"  # a number of another kind in the same bits
        return ctypes.c_double.from_buffer(ctypes.c_int64(answer)).value if is_loss else answer

    @contextmanager
    def _memory(self) -> Iterator[None]:
        """What is sent inside is freed at the end."""
        try:
            yield
        finally:
            for address in self.held:
                self._ask(FREE, address)
            self.held.clear()

    def _send(self, address: int, size: int) -> int:
        """A copy of our memory in the other process, as far off a multiple of 64 as it is here."""
        base = self._ask(ALLOCATE, size + 128)  # what follows may be prefetched
        self.held.append(base)
        there = base + address % 64
        if size:
            self._ask(WRITE, there, size, data=ctypes.string_at(address, size))
        return there

    def _struct(self, value: ctypes.Structure | ctypes.Array) -> int:
        return self._send(ctypes.addressof(value), ctypes.sizeof(value))

    def _fetch(self, there: int, address: int, size: int) -> None:
        if size:
            self._ask(READ, there, size)
            ctypes.memmove(address, self._read(size), size)

    def _ask(self, what: int, *arguments: int, data: bytes = b"") -> int:
        assert self.process.stdin is not None
        request = (ctypes.c_int64 * 9)(what, *arguments)
        self.process.stdin.write(bytes(request) + data)
        self.process.stdin.flush()
        return ctypes.c_int64.from_buffer_copy(self._read(8)).value

    def _read(self, size: int) -> bytes:
        assert self.process.stdout is not None
        found = self.process.stdout.read(size)
        assert len(found) == size, f"the runner ended with {self.process.wait()}"
        return found


def native_tests(command: list[str], choice: str) -> None:
    """The tests of this folder that `choice` names, with the library behind a command."""
    words = ["-m", "pytest", "-p", "no:cacheprovider", "-m", "not slow", "-k", choice, str(ROOT / "tests" / "native")]
    environment = os.environ | {
        "SOBAN_RUNNER": shlex.join(command), "PYTHONPATH": str(ROOT / "src"), "WINEDEBUG": "-all",
        "WINEPREFIX": str(ROOT / "build" / "wine"),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-6000:] + done.stderr[-2000:]


def copies(kind: type[ctypes.Structure], first: Any, count: int) -> Any:
    """An array of our own with the structures that a pointer points to."""
    return (kind * count).from_buffer_copy(ctypes.string_at(first, ctypes.sizeof(kind) * count))


def learning_bytes(task: Any, rooms: Callable[[], list[int]]) -> dict[str, int]:
    """Bytes of what a task of training points to; `rooms`: floats that attention keeps, and that it works in."""
    item = stored_bytes(NUMBERED[task.format], 1, 1) if hasattr(task, "format") else 4
    match type(task).__name__:
        case "Glu":
            return dict.fromkeys(("gate", "up", "out", "of_gate", "of_up"), task.count * item)
        case "Norm":
            rows = dict.fromkeys(("x", "out", "of_x"), task.rows * task.columns * item)
            return rows | {"weight": task.columns * item, "inverse": task.rows * 4, "of_weight": task.columns * 4}
        case "Turn":
            ends = [
                task.size + sum((count - 1) * step for count, step in zip(task.shape, strides, strict=True))
                for strides in (task.from_strides, task.to_strides)
            ]
            angles = task.shape[2] * task.size * 4
            return {"source": ends[0] * item, "to": ends[1] * item, "angles": angles}
        case "Loss":
            return {
                "logits": task.rows * task.columns * item, "targets": task.rows * 8, "scratch": task.columns * 4,
            }  # fmt: skip
        case _:
            keys = task.rows * task.key_heads * task.tokens * task.size * 4
            shares, room = rooms()
            return dict.fromkeys(("k", "v", "of_k", "of_v"), keys) | dict.fromkeys(
                ("q", "out", "of_q"), keys * task.queries
            ) | {"first": task.rows * task.tokens * 4, "shares": 4 * shares, "scratch": 4 * room}  # fmt: skip


def slots_of(batch: BatchStruct) -> int:
    """How many of the first slots a batch reads or writes."""
    if not batch.states:
        return int(batch.sequences)
    states = (ctypes.c_int32 * (4 * batch.sequences)).from_address(batch.states)
    return 1 + max(slot for n, slot in enumerate(states) if n % 4 < 3)


def end_of(view: View, batch: BatchStruct) -> int:
    """Floats of the arena up to a view's end."""
    rows = batch.outputs if view.rows else batch.tokens
    return view.offset + max(0, rows - 1) * view.stride + view.columns


def layer_bytes(cache: CacheStruct, layer: LayerStruct) -> int:
    """Bytes of a layer's keys, and of its values."""
    each = position_bytes([LayerGeometry(layer.heads, layer.size)], CACHE_FORMATS[cache.format])
    return each // 2 * PAGE * cache.pages
