"""What lies where in a model's files: each tensor's format, shape, place and size, and whose bytes it shares."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from soban.base.files import map_file
from soban.weights import llama2c, naming
from soban.weights.checkpoint import LLAMA2C, Checkpoint, Tensor
from soban.weights.opening import open_checkpoint
from soban.weights.safetensors import read_safetensors

# The kinds of tensors in a .bin under the names that llama2.c's run.c gives them (TransformerWeights).
FIELDS = {
    llama2c.EMBEDDING: "token_embedding_table", llama2c.ATTENTION_NORM: "rms_att_weight",
    llama2c.MLP_NORM: "rms_ffn_weight", llama2c.QUERY: "wq", llama2c.KEY: "wk", llama2c.VALUE: "wv",
    llama2c.OUTPUT: "wo", llama2c.GATE: "w1", llama2c.DOWN: "w2", llama2c.UP: "w3",
    llama2c.FINAL_NORM: "rms_final_weight", llama2c.HEAD: "wcls",
}  # fmt: skip
ROTATIONS = ("freq_cis_real", "freq_cis_imag")  # halves of v0's tables


@dataclass(frozen=True)
class Stored:
    """One tensor as it lies in a file: its bytes are [offset, offset + bytes) there.

    `shared`: the tensor whose bytes these are. `known_as`: the name under which soban takes it, where that differs;
    {i} stands for the layers, which lie one after the other.
    """

    name: str
    format: str
    shape: tuple[int, ...]
    file: str
    offset: int
    bytes: int
    shared: str = ""
    known_as: str = ""


def open_any(path: Path) -> Checkpoint:
    """A model's checkpoint, or what tensors a .safetensors file holds that has no config.json beside it."""
    if path.is_file() and path.suffix.lower() == ".safetensors" and not (path.parent / naming.CONFIG).exists():
        tensors, metadata = read_safetensors(path)
        return Checkpoint(path, {}, {}, tensors, (path,), metadata)
    return open_checkpoint(path)


def listing(checkpoint: Checkpoint, layout: dict[str, tuple[str, int, int]], tied: bool) -> list[Stored]:
    """Every tensor in the order of the files; nothing of them is read.

    layout: which of them are packed matrices (name -> format, rows, columns). tied: the config says that the head is
    the embedding's table.
    """
    if checkpoint.form == LLAMA2C:
        return list(_fields(checkpoint.path))
    entries = [_entry(tensor, layout.get(name)) for name, tensor in checkpoint.tensors.items()]
    first: dict[tuple[str, int, int], str] = {}
    for n, one in enumerate(entries):
        place = (one.file, one.offset, one.bytes)
        if one.bytes and (owner := first.setdefault(place, one.name)) != one.name:
            entries[n] = Stored(one.name, one.format, one.shape, *place, shared=owner)
    entries.sort(key=lambda one: (one.file, one.offset))
    embedding = next((one for one in entries if one.name == naming.EMBEDDING), None)
    if tied and embedding and not any(one.name == naming.HEAD for one in entries):
        place = (embedding.file, embedding.offset, embedding.bytes)
        entries.append(Stored(naming.HEAD, embedding.format, embedding.shape, *place, shared=embedding.name))
    return entries


def _entry(tensor: Tensor, layout: tuple[str, int, int] | None) -> Stored:
    format, shape = (tensor.format, tensor.shape) if layout is None else (layout[0], layout[1:])
    return Stored(tensor.name, format, shape, tensor.source.name, _offset(tensor), tensor.data.nbytes)


def _offset(tensor: Tensor) -> int:
    """Where the tensor's numbers begin in the file that is mapped."""
    mapped = tensor.data
    while isinstance(mapped.base, np.ndarray):  # a part of a larger tensor is a view of its view
        mapped = mapped.base
    assert mapped.base is not None, "a tensor of a file is a view of it"
    return int(tensor.data.ctypes.data - np.frombuffer(mapped.base, np.uint8).ctypes.data)


def _fields(path: Path) -> Iterator[Stored]:
    """The parts of a .bin in their order, each with all layers; a shared classifier is said to be one."""
    header = llama2c.read_header(path, map_file(path))
    position, embedding = header.length, 0
    for kind in header.kinds():
        size, copies, shape = header.size(kind), header.copies(kind), header.shapes()[kind]
        if kind == llama2c.ROTATIONS:
            half = (shape[0], shape[1] // 2)
            for name in ROTATIONS:
                yield Stored(name, "f32", half, path.name, position, 4 * math.prod(half))
                position += 4 * math.prod(half)
            continue
        if kind == llama2c.EMBEDDING:
            embedding = position
        group = header.group_of(kind)
        format = "f32" if group is None else f"i8 / {group}"
        whole = (copies, *shape) if "{i}" in kind else shape
        yield Stored(FIELDS[kind], format, whole, path.name, position, copies * size, known_as=kind)
        position += copies * size
    if header.tied:
        group, table = header.group_of(llama2c.EMBEDDING), FIELDS[llama2c.EMBEDDING]
        yield Stored(
            FIELDS[llama2c.HEAD], "f32" if group is None else f"i8 / {group}", header.shapes()[llama2c.HEAD], path.name,
            embedding, header.size(llama2c.EMBEDDING), shared=table, known_as=llama2c.HEAD,
        )  # fmt: skip
