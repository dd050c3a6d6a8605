"""How fast each dtype of weights is on this machine: measured when it is first asked, then remembered."""

import contextlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from soban import ops
from soban.base import system
from soban.base.machine import cpu_name
from soban.base.version import VERSION
from soban.models import Architecture
from soban.models.plan import EMBED, HEAD
from soban.ops import formats, native
from soban.ops.formats import Matrix, Rows
from soban.ops.recorder import Program
from soban.packing.assemble import target_format
from soban.weights.checkpoint import Checkpoint

TRIAL_WEIGHTS = 8_000_000  # 32 MB in float32, more than most caches hold; filled in some hundredths of a second
MEMORY = "speeds.json"  # in the cache folder
PREFILL = 16  # tokens
SECONDS = 0.02  # for each figure: what takes longer is measured once
# Four of these bytes are 0.0115 as float32, two 0.0115 as bfloat16 or 1.06 as float16, and scales and numbers of the
# quantised formats: no kernel's time depends on which, as long as it is neither NaN nor denormal.
FILLING = 0x3C


@dataclass(frozen=True)
class Speed:
    """Seconds that the matrices of one layer or some take, for one token and for PREFILL tokens."""

    decode: float
    prefill: float


Shapes = list[tuple[int, int, str]]  # rows, columns and format of matrices


def speeds(arch: Architecture, checkpoint: Checkpoint, dtypes: Sequence[str]) -> list[Speed]:
    """The speed of each dtype for a model's matrices on this machine, from an earlier time if it was measured then."""
    results = _read()
    trials = [trial_matrices(arch, checkpoint, dtype) for dtype in dtypes]
    missing = [matrices for matrices in trials if _key(matrices) not in results]
    for matrices in missing:
        results[_key(matrices)] = measure(matrices)
    if missing:
        _write(results)
    return [results[_key(matrices)] for matrices in trials]


def trial_matrices(arch: Architecture, checkpoint: Checkpoint, dtype: str) -> Shapes:
    """A layer's matrices and its share of the head, in the formats of a dtype; about TRIAL_WEIGHTS together.

    A small model's layers are taken several times, a large one's matrices are cut.
    """
    plan, layers = arch.plan, arch.config.num_hidden_layers
    head = plan.end(HEAD) or plan.end(EMBED)
    assert head is not None
    parts = [(part, part.shape[0]) for part in plan.layers[0].matrices()]
    parts.append((head, -(-head.shape[0] // layers)))
    size = sum(rows * part.shape[1] for part, rows in parts)
    share = min(1.0, TRIAL_WEIGHTS / size)
    shapes = []
    for part, rows in parts:
        format = target_format(part, checkpoint.tensors[part.name], dtype)
        shapes.append((max(formats.PANEL, int(rows * share)), part.shape[1], format))
    return shapes * max(1, min(layers, TRIAL_WEIGHTS // size))


def measure(matrices: Shapes) -> Speed:
    """Times matrices (rows, columns, format) of numbers that mean nothing."""
    sizes = [-(-formats.stored_bytes(format, rows, columns) // 64) * 64 for rows, columns, format in matrices]
    memory = _aligned(sum(sizes))
    starts = np.cumsum([0, *sizes])
    widest = max(columns for _, columns, _ in matrices)
    program = Program()
    x = ops.embed(program.batch().tokens, formats.matrix(np.full((1, widest), 0.5, np.float32)), 1.0)
    for (rows, columns, format), start in zip(matrices, starts, strict=False):
        data = memory[start : start + formats.stored_bytes(format, rows, columns)]
        if format in formats.PLAIN:
            data = data.view(formats.PLAIN[format]).reshape(rows, columns)
        program.result = ops.linear(x[:, :columns], Matrix((Rows(format, rows, columns, data),)))  # type: ignore[assignment]
    runner = ops.runner(program, PREFILL, 1)

    def seconds(tokens: int) -> float:
        batch = ops.make_batch([[0] * tokens], [0], [[0]], [0])
        best, end = math.inf, time.perf_counter() + SECONDS
        while True:
            start = time.perf_counter()
            runner.run(batch, None)
            now = time.perf_counter()
            best = min(best, now - start)
            if now > end:
                return best

    return Speed(seconds(1), seconds(PREFILL))


def _aligned(size: int) -> npt.NDArray[np.uint8]:
    raw = np.full(size + 64, FILLING, np.uint8)
    skip = -raw.ctypes.data % 64
    return raw[skip : skip + size]


def _key(matrices: Shapes) -> str:
    """All that a speed depends on, as the name under which it is remembered."""
    built = native.library_path().stat().st_mtime_ns
    machine = [cpu_name(), native.chosen_isa(), system.threads(), VERSION, built]
    return json.dumps([*machine, matrices], ensure_ascii=False)


def _read() -> dict[str, Speed]:
    """What is remembered and can be true."""
    results = {}
    for key, entry in system.recalled(MEMORY).items():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            speed = Speed(float(entry["decode"]), float(entry["prefill"]))
            if 0 < speed.decode < math.inf and 0 < speed.prefill < math.inf:
                results[key] = speed
    return results


def _write(results: dict[str, Speed]) -> None:
    system.remember(MEMORY, {key: asdict(speed) for key, speed in results.items()})
