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
from soban.models import Architecture
from soban.ops.formats import Floats
from soban.weights.checkpoint import Checkpoint, Tensor

# Both sides of a channel's excess are halved, so this is a factor of four between it and the ordinary channels. Below
# that nothing was gained on trained models, and packing is faster where nothing is moved.
LEAST_EXPONENT = 1.0
SAMPLES, SAMPLE_ROWS = 16, 32  # so many times so many rows of a matrix tell how large its columns are
READERS = {"attention_norm": "qkv", "ffn_norm": "gate_up"}  # norm -> who reads it, by the families' own names


@dataclass(frozen=True)
class Balance:
    """By what to multiply the checkpoint's tensors; those that stay as they are have no entry."""

    vectors: dict[str, Floats] = field(default_factory=dict)  # norms and biases, with their new values
    rows: dict[str, Floats] = field(default_factory=dict)
    columns: dict[str, Floats] = field(default_factory=dict)


def balance(architecture: Architecture, checkpoint: Checkpoint) -> Balance:
    """What makes the channels of every layer's norms, and between up and down, about equally large."""
    made = Balance()
    with ThreadPoolExecutor(system.threads()) as pool:  # NumPy lets go of the GIL, and waits for the disk side by side
        layers = range(architecture.config.num_hidden_layers)
        for one in pool.map(functools.partial(_balance_layer, architecture, checkpoint), layers):
            made.vectors.update(one.vectors)
            made.rows.update(one.rows)
            made.columns.update(one.columns)
    return made


def _balance_layer(architecture: Architecture, checkpoint: Checkpoint, layer: int) -> Balance:
    made, tensors = Balance(), checkpoint.tensors
    offset = np.float32(architecture.family.NORM_OFFSET)
    table = architecture.family.tensors(architecture.config)
    names = {ours: [f"model.layers.{layer}.{name}" for name in stacked] for ours, stacked in table.items()}
    for norm, reader in READERS.items():
        readers = [name for name in names[reader] if name.endswith(".weight")]
        values = tensors[names[norm][0]].float32() + offset
        factors = _factors(np.abs(values), _columns([tensors[name] for name in readers]))
        if factors is not None:
            made.vectors[names[norm][0]] = values / factors - offset
            made.columns.update(dict.fromkeys(readers, factors))
    up, down, bias = (
        f"model.layers.{layer}.mlp.{name}" for name in ("up_proj.weight", "down_proj.weight", "up_proj.bias")
    )
    factors = _factors(_rows(tensors[up]), _columns([tensors[down]]))
    if factors is not None:
        made.rows[up], made.columns[down] = np.float32(1) / factors, factors
        if bias in names["gate_up"]:
            made.vectors[bias] = (tensors[bias].float32() / factors).astype(np.float32)
    return made


def _factors(source: Floats, reader: Floats) -> Floats | None:
    """Powers of two by which the reader's columns grow and the source shrinks; None where all is well already."""
    exponents = (_excess(source) - _excess(reader)) / 2
    exponents = np.where(np.abs(exponents) < LEAST_EXPONENT, 0, np.rint(exponents))
    return np.exp2(exponents).astype(np.float32) if exponents.any() else None


def _excess(sizes: Floats) -> npt.NDArray[np.float64]:
    """How many doublings each size is above the middle one; a channel of zeros counts as an ordinary one."""
    known = sizes > 0
    logs = np.log2(sizes, out=np.zeros(sizes.shape), where=known)
    return np.where(known, logs - np.median(logs[known]), 0.0) if known.any() else logs


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
