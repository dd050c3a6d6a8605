"""Writing llama2.c's .bin files: v0 and v1 in float32, v2 in groups of int8, as its export.py lays them out."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from soban.base.files import new_file
from soban.weights.llama2c import MAGIC, MODERN, NUMBERS, PADDED_HEADER, ROTATIONS, Header

LARGEST_GROUP = 64  # weights that share a scale, where the model's widths allow it
THETA = 10000.0  # of the rotary positions: run.c has it in its code

Floats = npt.NDArray[np.float32]


def group_size(hidden: int, intermediate: int) -> int:
    """The group for v2: 64, halved until it divides both widths.

    export.py looks at the first only. Where the second is no multiple, groups run on into the next row, and its own
    runq.c, which counts them by row, reads other scales.
    """
    group = LARGEST_GROUP
    while hidden % group or intermediate % group:
        group //= 2
    return group


def write_bin(
    path: Path,
    header: Header,
    rows: Callable[[str], Iterable[Floats]],
    progress: Callable[[float], None] = lambda share: None,
) -> None:
    """Writes the .bin that the header describes: `rows` gives a tensor's rows in pieces, by its name there.

    Matrices of v2 are quantised here. The file appears whole or not at all; UserError where it cannot be written.
    """
    size, position = header.file_size, header.length
    with new_file(path, size) as file:
        file.write(_header(header))
        for kind in header.kinds():
            for i in range(header.copies(kind)):
                values = [rotations(header)] if kind == ROTATIONS else rows(kind.format(i=i))
                for piece in _in_file(values, header.group_of(kind)):
                    position += file.write(np.ascontiguousarray(piece).data)
                    progress(position / size)
        assert position == size, (position, size)


def _header(header: Header) -> bytes:
    h = header
    # v0 says by a negative vocabulary that the head has weights of its own
    vocabulary = -h.vocabulary if h.version == 0 and not h.tied else h.vocabulary
    numbers = (h.hidden, h.intermediate, h.layers, h.heads, h.kv_heads, vocabulary, h.context)
    if h.version == 0:
        return NUMBERS.pack(*numbers)
    modern = MAGIC.to_bytes(4, "little") + MODERN.pack(h.version, *numbers, h.tied, h.group or 0)
    return modern.ljust(PADDED_HEADER, b"\0")


def rotations(header: Header) -> Floats:
    """v0's tables: the cosines of every position and pair, then the sines. Programs skip them: they compute their own.

    These are the exact ones, rounded; torch's, which export.py writes, differ from them here and there in the last bit.
    """
    size = header.hidden // header.heads
    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    frequencies = (1 / np.float32(THETA) ** exponents).astype(np.float32)
    angles = np.outer(np.arange(header.context, dtype=np.float32), frequencies).astype(np.float64)
    return np.concatenate([np.cos(angles), np.sin(angles)]).astype(np.float32)


def _in_file(pieces: Iterable[Floats], group: int | None) -> Iterator[npt.NDArray]:
    """What stands in the file: the numbers, or all integers and then all scales."""
    if group is None:
        yield from (np.asarray(piece, "<f4") for piece in pieces)
        return
    scales = []
    for piece in pieces:
        integers, scale = quantised(piece, group)
        scales.append(scale)
        yield integers
    yield np.concatenate(scales)


def quantised(values: Floats, group: int) -> tuple[npt.NDArray[np.int8], Floats]:
    """int8 in -127..127 and a float32 scale for each group; a group of zeros has the scale 0."""
    groups = values.reshape(-1, group)
    scales = np.abs(groups).max(axis=1) / np.float32(127)
    steps = np.divide(groups, scales[:, None], out=np.zeros_like(groups), where=scales[:, None] != 0)
    return np.rint(steps).astype(np.int8), scales.astype("<f4")
