"""How fast a model will be on this machine, before its weights are here: a slice of it is timed, filled with anything.

A slice is some of the model's layers and as large a share of its vocabulary. Time goes with bytes and products, so
the whole takes as many times longer as it has more layers. The result is remembered.
"""

import contextlib
import dataclasses
import json
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from soban.base import system
from soban.base.machine import cpu_name
from soban.base.version import VERSION
from soban.engine.engine import Engine
from soban.engine.sampling import Sampling
from soban.engine.sequence import Request
from soban.models import Architecture
from soban.ops import formats, make_cache, native, runner
from soban.ops.batch import PAGE
from soban.ops.formats import Matrix, Rows
from soban.resources import memory
from soban.resources.speed import FILLING
from soban.weights.checkpoint import Checkpoint

MEMORY = "forecasts.json"  # in the cache folder
SLICE = 400 << 20  # bytes of weights: no cache of a PC holds much of them
PROMPT = 256  # tokens, a whole step's
STEPS, LEAST_STEPS = 256, 5  # tokens that are written after it
SECONDS = 0.8  # for what is repeated
PROMPTS = 3
BUSY = 0.8  # of the time of all threads; they wait for each other for less than a tenth of it
SHORT = 0.002  # seconds of a step, below which threads wait for Python, too


@dataclass(frozen=True)
class Rates:
    """Tokens per second of a prompt of PROMPT tokens that is read, and of what is written after it, by all users."""

    prefill: float
    decode: float
    busy: bool = False  # the cores had other work meanwhile, so this may be too low


def rates(arch: Architecture, checkpoint: Checkpoint, dtype: str, users: int, cache: str) -> Rates | None:
    """What is to be expected with weights of a dtype: a second of measuring, or what was measured before.

    None where the memory that is free does not hold a single layer twice.
    """
    layers, part = slice_of(arch, checkpoint, dtype)
    takes, free = memory.needs(part, checkpoint, dtype, PROMPT, users, cache), system.available_memory()
    if free is not None and 2 * takes.total > free:
        return None
    scale = arch.config.num_hidden_layers / layers
    key = _key(part, checkpoint, dtype, users, cache)
    records = system.recalled(MEMORY)
    result = _checked(records.get(key))
    if result is None:
        result = measure(part, checkpoint, dtype, users, cache)
        if not result.busy:
            system.remember(MEMORY, {**system.recalled(MEMORY), key: dataclasses.asdict(result)})
    return Rates(result.prefill / scale, result.decode / scale, result.busy)


def slice_of(arch: Architecture, checkpoint: Checkpoint, dtype: str) -> tuple[int, Architecture]:
    """How many layers are timed, and the model that has just these and their share of the vocabulary."""
    c = arch.config
    total = memory.stored_weights(arch, checkpoint, dtype)
    layers = min(c.num_hidden_layers, max(1, math.ceil(SLICE * c.num_hidden_layers / max(1, total))))
    vocabulary = max(formats.PANEL, round(c.vocab_size * layers / c.num_hidden_layers))
    return layers, memory.shortened(arch, layers, vocabulary)


def measure(part: Architecture, checkpoint: Checkpoint, dtype: str, users: int, cache: str) -> Rates:
    """Times the engine with a model of these shapes, whose numbers mean nothing."""
    c = part.config
    program = runner(part.record(filled(memory.hollow(part, checkpoint, dtype))), memory.CHUNK, memory.OUTPUTS)
    length = min(PROMPT, c.longest // 2)
    context = min(c.longest, length + STEPS)
    pages = users * (-(-context // PAGE) + 1)
    layers = c.geometries
    engine = Engine(program, make_cache(pages, layers, cache, memory.state_slots(part, users)), context)

    def seconds(prompt: list[int], new: int, sequences: int) -> tuple[float, list[float]]:
        """Of the prompt, and of each step that follows."""
        sampling = Sampling(
            do_sample=sequences > 1, num_return_sequences=sequences, max_new_tokens=new, prompt_lookup_num_tokens=0
        )
        engine.add(Request(prompt, sampling))
        durations, end = [], math.inf
        while engine.busy:
            start = time.perf_counter()
            engine.step()
            durations.append(time.perf_counter() - start)
            end = min(end, start + SECONDS)
            if time.perf_counter() > end and len(durations) > LEAST_STEPS:
                for sequence in list(engine.scheduler.running):
                    engine.cancel(sequence)
        return durations[0], durations[1:]

    seconds([1] * min(16, length), 2, 1)  # touches the weights, starts the threads
    begun, processor_start = time.perf_counter(), time.process_time()
    prefill, steps = seconds([0] * length, min(STEPS, context - length), users)
    for token in range(2, 2 + PROMPTS):  # another one each, for the engine knows again what it has read
        if prefill < SECONDS / PROMPTS:
            prefill = min(prefill, seconds([token] * length, 2, 1)[0])
    # What else the machine does makes some steps slower and none quicker.
    share = (time.process_time() - processor_start) / (time.perf_counter() - begun) / system.threads()
    step = sorted(steps)[len(steps) // 4]
    return Rates(length / prefill, users / step, share < BUSY and step > SHORT)


def filled(weights: Any) -> Any:
    """The same weights with memory of their own, written once, in place of the hollow arrays."""

    def part(rows: Rows) -> Rows:
        data = aligned(rows.data.nbytes)
        if rows.format in formats.PLAIN:
            data = data.view(formats.PLAIN[rows.format]).reshape(rows.rows, rows.columns)
        return Rows(rows.format, rows.rows, rows.columns, data)

    def value(old: Any) -> Any:
        if isinstance(old, Matrix):
            return Matrix(tuple(map(part, old.parts)), old.bias, part(old.residual) if old.residual else None)
        return np.ones_like(old)

    tied = weights.head is weights.embed
    for place in (weights, *weights.layers):
        for name, old in vars(place).items():
            if name not in ("layers", "head") or (name == "head" and not tied):
                setattr(place, name, value(old))
    weights.head = weights.embed if tied else weights.head
    return weights


def aligned(size: int) -> npt.NDArray[np.uint8]:
    """Written memory on 64 bytes."""
    memory = np.full(size + 64, FILLING, np.uint8)
    skip = -memory.ctypes.data % 64
    return memory[skip : skip + size]


def _key(part: Architecture, checkpoint: Checkpoint, dtype: str, users: int, cache: str) -> str:
    """All that a rate depends on, as the name under which it is remembered."""
    built = native.library_path().stat().st_mtime_ns if native.library() else 0
    machine = [cpu_name(), native.chosen_isa() if built else "numpy", system.threads(), VERSION, built]
    dtypes = sorted({checkpoint.tensors[name].format for name in part.plan.shapes()})
    shape = [part.family.name, dataclasses.asdict(part.config), dtypes]
    return json.dumps([*machine, dtype, users, cache, shape], ensure_ascii=False)


def _checked(entry: Any) -> Rates | None:
    """What is remembered, if it can be true."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        result = Rates(float(entry["prefill"]), float(entry["decode"]))
        if 0 < result.prefill < math.inf and 0 < result.decode < math.inf:
            return result
    return None
