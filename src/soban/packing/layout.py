"""Which tensors of a packed file are packed matrices, that list checked, and whether their scales are numbers."""

import json

import numpy as np

from soban import ops
from soban.base.border import reason
from soban.base.errors import UserError
from soban.base.files import parse_object, quoted
from soban.ops import formats, gguf
from soban.weights.checkpoint import Checkpoint, finite_check

LAYOUT = "soban.blocks"  # metadata key of a packed file: JSON, tensor name -> [format, rows, columns]
OLD_LAYOUT = "soban.layout"  # the key of files whose q8 and q4 had a scale for each 64 weights
RESIDUAL = ".residual"  # after a tensor's name: what its first four bits leave out
FINITE_LIMIT = 1 << 30  # bytes up to which mapped weights are searched for NaN; above, the logits will tell
PACKED_LIMIT = 1 << 27  # the same of packed ones, which are to be there at once: 0.9 GB took 0.08 of 0.1 s
MOST = 1 << 31  # rows or columns

Layout = dict[str, tuple[str, int, int]]  # tensor name -> format, rows, columns


def packed_layout(checkpoint: Checkpoint) -> Layout:
    """Which tensors are packed matrices. Raises UserError where that list is damaged, or the file an old one."""
    if OLD_LAYOUT in checkpoint.metadata:
        raise UserError(
            "{path} was packed by an older soban, in blocks that are no longer read", path=checkpoint.path,
            hint="fetch or convert the model again",
        )  # fmt: skip
    try:
        entries = parse_object(checkpoint.metadata.get(LAYOUT, "{}").encode())
        return {name: _entry(name, entry) for name, entry in entries.items()}
    except ValueError as error:
        raise UserError(
            "{path}: the list of packed tensors is damaged: {reason}", path=checkpoint.path, reason=reason(error),
            hint="delete the file, or fetch the model again",
        ) from error  # fmt: skip


def _entry(name: str, entry: object) -> tuple[str, int, int]:
    match entry:
        case [str(format), int(rows), int(columns)] if format in formats.NUMBERED and min(rows, columns) > 0:
            whole = format not in gguf.TYPES or columns % gguf.TYPES[format].values == 0
            if whole and max(rows, columns) < MOST and not isinstance(rows, bool) and not isinstance(columns, bool):
                return format, rows, columns
    raise ValueError(f"{quoted(name)}: {quoted(entry)}")


def layout_text(layout: Layout) -> str:
    """The value of the metadata key."""
    return json.dumps(layout)


def check_numbers(checkpoint: Checkpoint, most: float = PACKED_LIMIT) -> None:
    """Raises UserError where a scale of a packed matrix, or a number of any other tensor, is NaN or an infinity.

    One such number makes every answer nonsense, or all of it NaN. Reads a thirtieth of the bytes, but every page: not
    of files that have more than `most`. The matrices' sizes are known to be right.
    """
    layout = packed_layout(checkpoint)
    if sum(tensor.data.nbytes for tensor in checkpoint.tensors.values()) > most:
        return
    for name, tensor in checkpoint.tensors.items():
        if name not in layout:
            if not ops.all_finite(tensor.data, tensor.format):
                finite_check(tensor)
            continue
        format, rows, columns = layout[name]
        data = tensor.data[: formats.stored_bytes(format, rows, columns)]
        if format in formats.PLAIN:
            sound = ops.all_finite(data.view(formats.PLAIN[format]), format) or _all_finite(data, format)
        else:
            sound = formats.scales_are_finite(format, columns, data)
        if not sound:
            raise UserError(
                "{path}: {name} holds a NaN or an infinity", path=checkpoint.path, name=name,
                hint="delete the file, or fetch the model again",
            )  # fmt: skip


def _all_finite(data: np.ndarray, format: str) -> bool:
    values = data.view(formats.PLAIN[format])
    return bool(np.isfinite(formats.bf16_values(values) if format == "bf16" else values).all())
