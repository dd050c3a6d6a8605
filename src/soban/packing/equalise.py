"""Outlier channels: powers of two moved from a norm, or from a matrix's rows, to the columns that read them.

Where a few channels are far larger than the others and the columns that read them far smaller, what the model computes
is the same, but a group of 64 that shares a scale loses everything else. Moving a power of two changes no float32.
"""

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from soban.base import system
from soban.models.plan import Layer, Plan
from soban.ops.formats import Floats
from soban.weights.checkpoint import Checkpoint, Tensor

# Both sides of a channel's excess are halved, so this is a factor of four between it and the ordinary channels. Below
# that nothing was gained on trained models, and packing is faster where nothing is moved.
LEAST_EXPONENT = 1.0
SAMPLES, SAMPLE_ROWS = 16, 32  # so many times so many rows of a matrix tell how large its columns are


@dataclass(frozen=True)
class Factors:
    """By what to multiply the checkpoint's tensors; those that stay as they are have no entry."""

    vectors: dict[str, Floats] = field(default_factory=dict)  # norms and biases, with their new values
    rows: dict[str, Floats] = field(default_factory=dict)
    columns: dict[str, Floats] = field(default_factory=dict)


def equalise(plan: Plan, checkpoint: Checkpoint) -> Factors:
    """What makes the channels of every pair of the plan about equally large on both sides."""
    whole = Factors()
    with ThreadPoolExecutor(system.threads()) as pool:  # NumPy lets go of the GIL, and waits for the disk side by side
        for one in pool.map(functools.partial(_equalise_layer, checkpoint), plan.layers):
            whole.vectors.update(one.vectors)
            whole.rows.update(one.rows)
            whole.columns.update(one.columns)
    return whole


def _equalise_layer(checkpoint: Checkpoint, layer: Layer) -> Factors:
    moved, tensors = Factors(), checkpoint.tensors
    for pair in layer.pairs:
        source, readers = pair.source.name, [part.name for part in pair.readers]
        columns = _columns([tensors[name] for name in readers])
        if len(pair.source.shape) == 1:
            offset = np.float32(pair.offset)
            values = tensors[source].float32() + offset
            if (factors := _factors(np.abs(values), columns)) is None:
                continue
            moved.vectors[source] = values / factors - offset
        else:
            if (factors := _factors(_rows(tensors[source]), columns)) is None:
                continue
            moved.rows[source] = np.float32(1) / factors
        if pair.bias is not None:
            moved.vectors[pair.bias.name] = (tensors[pair.bias.name].float32() / factors).astype(np.float32)
        moved.columns.update(dict.fromkeys(readers, factors))
    return moved


def _factors(source: Floats, reader: Floats) -> Floats | None:
    """Powers of two by which the reader's columns grow and the source shrinks; None where all is well already."""
    exponents = (_excess(source) - _excess(reader)) / 2
    exponents = np.where(np.abs(exponents) < LEAST_EXPONENT, 0, np.rint(exponents))
    return np.exp2(exponents).astype(np.float32) if exponents.any() else None


def _excess(sizes: Floats) -> npt.NDArray[np.float64]:
    """How many doublings each size is above the middle one; a channel of zeros counts as an ordinary one."""
    positive = sizes > 0
    logs = np.log2(sizes, out=np.zeros(sizes.shape), where=positive)
    return np.where(positive, logs - np.median(logs[positive]), 0.0) if positive.any() else logs


def _columns(matrices: Sequence[Tensor]) -> Floats:
    """The root mean square of each column over a sample of rows of all the matrices."""
    pieces = [
        tensor.float32(start, start + SAMPLE_ROWS)
        for tensor in matrices
        for start in range(0, tensor.shape[0], max(SAMPLE_ROWS, tensor.shape[0] // SAMPLES))
    ]
    squares = np.sum([np.einsum("ij,ij->j", piece, piece, dtype=np.float64) for piece in pieces], axis=0)
    return np.sqrt(squares / sum(map(len, pieces))).astype(np.float32)


def _rows(tensor: Tensor, at_once: int = 256) -> Floats:
    """The root mean square of each row."""
    pieces = [tensor.float32(start, start + at_once) for start in range(0, tensor.shape[0], at_once)]
    return np.sqrt(np.concatenate([np.einsum("ij,ij->i", piece, piece) for piece in pieces]) / tensor.shape[1])
