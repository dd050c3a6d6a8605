"""Choosing who computes: the native library, or the NumPy reference where that is asked for or all there is."""

import os

import numpy as np
import numpy.typing as npt

from soban import messages
from soban.base.errors import UserError
from soban.ops import formats, gguf, native, recorder, reference
from soban.ops.batch import Batch
from soban.ops.cache import Cache
from soban.ops.formats import Floats
from soban.ops.native.program import NativeProgram
from soban.ops.recorder import Program


def use_native() -> bool:
    """Whether the native library computes. SOBAN_OPS=reference forces NumPy."""
    choice = os.environ.get("SOBAN_OPS", "native")
    if choice not in ("native", "reference"):
        raise UserError(
            "SOBAN_OPS={value}: not known", value=choice, hint="set it to native or reference, or unset it"
        )  # fmt: skip
    if choice == "reference":
        return False
    if native.library() is None:
        messages.warn("the native library is missing, so NumPy computes: expect a tenth of the speed or less")
        return False
    return True


class ReferenceProgram:
    """A recorded program replayed by NumPy; the same interface as `NativeProgram`."""

    def __init__(self, program: Program, max_tokens: int, max_outputs: int) -> None:
        self.program, self.max_tokens, self.max_outputs = program, max_tokens, max_outputs
        self.cancel = np.zeros(1, np.int32)

    def run(self, batch: Batch, cache: Cache | None) -> Floats:
        """The program's result (R, columns)."""
        if self.cancel[0]:
            raise native.Cancelled
        return recorder.replay(self.program, reference, batch, cache)


Runner = NativeProgram | ReferenceProgram


def runner(
    program: Program, max_tokens: int, max_outputs: int, threads: int | None = None, outputs: int | None = None
) -> Runner:
    """The program, ready to run batches of up to that many tokens and outputs; NumPy has threads of its own.

    There is memory for `outputs` of them (None: for all); more is taken when they are first asked for.
    """
    if not use_native():
        return ReferenceProgram(program, max_tokens, max_outputs)
    return NativeProgram(program, max_tokens, max_outputs, native.pool(threads), outputs)


def all_finite(values: npt.NDArray, format: str) -> bool:
    """Whether a contiguous array of a plain format is known to hold no NaN or infinity; False where nobody looked."""
    return format in formats.PLAIN and use_native() and native.find_not_finite(values, format) is None


def repack(rows: npt.NDArray[np.uint8], format: str, columns: int, name: str) -> npt.NDArray[np.uint8]:
    """Rows of a GGUF file's blocks (n, bytes) in panels, as flat bytes. Raises UserError for NaN in tensor `name`."""
    if use_native():
        out = np.empty(formats.stored_bytes(format, len(rows), columns), np.uint8)
        bad = native.repack(rows, format, columns, out)
    else:
        out = gguf.pack(format, rows, columns)
        bad = None if gguf.are_finite(format, columns, out) else 0
    if bad is not None:
        raise _not_finite(name, bad)
    return out


def _not_finite(name: str, row: int) -> UserError:
    return UserError(
        "tensor {name} holds a NaN or an infinity near row {row}",
        name=name, row=row, hint="the file is damaged or its training diverged: fetch it again",
    )  # fmt: skip


def encode(rows: npt.NDArray, source_format: str, format: str, name: str) -> npt.NDArray[np.uint8]:
    """Plain (n, columns) rows in a format, as flat bytes. Raises UserError for NaN and infinity in tensor `name`."""
    n, columns = rows.shape
    if use_native() and format not in ("f32", "f16"):  # which it does not write
        out = np.empty(formats.stored_bytes(format, n, columns), np.uint8)
        bad = native.encode(np.ascontiguousarray(rows), source_format, format, out)
    else:
        values = formats.bf16_values(rows) if source_format == "bf16" else rows.astype(np.float32)
        finite = np.isfinite(values).all(axis=1)
        bad = None if finite.all() else int(np.argmin(finite))
        if bad is None:
            out = np.ascontiguousarray(formats.encode(values, format).data).reshape(-1).view(np.uint8)
    if bad is not None:
        raise _not_finite(name, bad)
    return out
