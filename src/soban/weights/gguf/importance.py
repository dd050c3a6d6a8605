"""llama.cpp's importance matrix: how large the numbers are, column by column, that each matrix is multiplied with.

Its form of today is a GGUF file with NAME.in_sum2 and NAME.counts; the older .dat lists names and numbers
(llama.cpp: tools/imatrix/imatrix.cpp, common/imatrix-loader.cpp).
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from soban.base.border import reason
from soban.base.errors import UserError
from soban.base.files import map_file, quoted
from soban.messages import translate
from soban.ops.formats import Floats
from soban.weights.gguf.header import MAGIC, Texts
from soban.weights.gguf.reading import read_gguf
from soban.weights.gguf.writing import write_gguf

SUMS, COUNTS = ".in_sum2", ".counts"
KIND = "imatrix"  # general.type
MOST_ENTRIES, LONGEST_NAME = 1_000_000, 1 << 12
MOST_COLUMNS = 1 << 24


@dataclass(frozen=True, eq=False)
class Importance:
    """Of each matrix, by GGUF's name: sums of squares (experts, columns), and over how many tokens (experts,)."""

    sums: Mapping[str, Floats]
    counts: Mapping[str, Floats]
    datasets: tuple[str, ...]
    chunks: int
    chunk: int  # tokens of a chunk; 0 where the file does not say
    path: str

    def weights(self, columns: Mapping[str, int]) -> dict[str, Floats]:
        """The mean squares (columns,) of the matrices with these columns, by name; those that are not in it are left
        out. Raises UserError where it is that of another model."""
        result = {}
        for name in columns.keys() & self.sums.keys():
            sums, counts = self.sums[name], self.counts[name]
            if sums.shape[1] != columns[name]:
                raise UserError(
                    "{path}: {name} has {held} columns, the model's {wanted}", path=self.path, name=quoted(name),
                    held=sums.shape[1], wanted=columns[name], hint="take the importance matrix of this model",
                )  # fmt: skip
            result[name] = (sums.sum(axis=0) / max(float(counts.sum()), 1.0)).astype(np.float32)
        if not result:
            raise UserError(
                "{path}: no matrix of the model is in it; the first that is there is {name}", path=self.path,
                name=quoted(next(iter(self.sums), "")), hint="take the importance matrix of this model",
            )  # fmt: skip
        return result

    def keys(self) -> dict[str, Any]:
        """What a file that was quantised by it says of it."""
        return {
            "quantize.imatrix.file": Path(self.path).name,
            "quantize.imatrix.dataset": self.datasets[0] if self.datasets else "",
            "quantize.imatrix.entries_count": len(self.sums), "quantize.imatrix.chunks_count": self.chunks,
        }  # fmt: skip


def is_importance(path: Path) -> bool:
    """Whether a file is an importance matrix in either form, by its first bytes and its name."""
    return bytes(map_file(path)[:4]) == MAGIC or path.suffix.lower() == ".dat"


def read_importance(path: Path) -> Importance:
    """The importance matrix in a file of either form. Raises UserError for what is damaged or something else."""
    data = map_file(path)
    return _of_gguf(path) if bytes(data[:4]) == MAGIC else _of_dat(path, bytes(data))


def write_importance(path: Path, importance: Importance) -> None:
    """Writes the form of today. Raises UserError where the path is taken."""
    tensors = {}
    for name, sums in importance.sums.items():
        tensors[name + SUMS] = sums if len(sums) > 1 else sums[0]
        tensors[name + COUNTS] = importance.counts[name].reshape((-1, 1) if len(sums) > 1 else (1,))
    keys = {
        "general.type": KIND, "imatrix.datasets": list(importance.datasets), "imatrix.chunk_count": importance.chunks,
        "imatrix.chunk_size": importance.chunk,
    }  # fmt: skip
    entries = [(name, "f32", values.shape) for name, values in sorted(tensors.items())]
    write_gguf(path, keys, entries, lambda name: [np.ascontiguousarray(tensors[name], np.float32)])


def _of_gguf(path: Path) -> Importance:
    contents = read_gguf(path)
    if contents.keys.get("general.type") != KIND:
        raise UserError(
            "{path}: no importance matrix (general.type is {kind})", path=path,
            kind=quoted(contents.keys.get("general.type")), hint="give a text, or what llama-imatrix has written",
        )  # fmt: skip
    sums, counts = {}, {}
    for name, tensor in contents.tensors.items():
        if not name.endswith(SUMS):
            continue
        bare = name.removesuffix(SUMS)
        other = contents.tensors.get(bare + COUNTS)
        if other is None or tensor.format != "f32" or other.format != "f32":
            raise _damaged(path, translate("{name} without its counts", name=quoted(bare)))
        values = tensor.float32().reshape(-1, tensor.shape[-1])
        if other.data.size != len(values):
            raise _damaged(path, translate("{name} without its counts", name=quoted(bare)))
        sums[bare], counts[bare] = _checked(path, bare, values), other.float32().reshape(-1)
    datasets, chunks, chunk = (contents.keys.get(f"imatrix.{key}") for key in ("datasets", "chunk_count", "chunk_size"))
    names = tuple(datasets) if isinstance(datasets, Texts) else ()
    return Importance(
        sums, counts, names, chunks if type(chunks) is int else 0, chunk if type(chunk) is int else 0, str(path)
    )


def _of_dat(path: Path, data: bytes) -> Importance:
    sums: dict[str, Floats] = {}
    counts: dict[str, Floats] = {}
    at = 0

    def take(count: int) -> bytes:
        nonlocal at
        if count < 0 or at + count > len(data):
            raise _damaged(path, translate("it ends in the middle of a number"))
        at += count
        return data[at - count : at]

    def number() -> int:
        return int(struct.unpack("<i", take(4))[0])

    entries = number()
    if not 1 <= entries <= MOST_ENTRIES:
        raise _damaged(path, translate("it claims {count} matrices", count=entries))
    for _ in range(entries):
        length = number()
        if not 1 <= length <= LONGEST_NAME:
            raise _damaged(path, translate("a name of {length} bytes", length=length))
        try:
            name = take(length).decode()
        except UnicodeDecodeError as error:
            raise _damaged(path, reason(error)) from error
        calls, columns = number(), number()
        if not 1 <= columns <= MOST_COLUMNS:
            raise _damaged(path, translate("{name} with {count} columns", name=quoted(name), count=columns))
        # sums over the calls of means over tokens: divided by the calls they are mean squares
        sums[name] = _checked(path, name, np.frombuffer(take(4 * columns), "<f4").reshape(1, -1).copy())
        counts[name] = np.array([max(calls, 1)], np.float32)
    chunks, dataset = 0, b""
    if at + 4 <= len(data):
        chunks = number()
    if at + 4 <= len(data):
        dataset = take(number())
    datasets = (dataset.decode("utf-8", "replace"),) if dataset else ()
    return Importance(sums, counts, datasets, max(chunks, 0), 0, str(path))


def _checked(path: Path, name: str, values: Floats) -> Floats:
    if not np.isfinite(values).all() or (values < 0).any():
        raise _damaged(path, translate("{name} holds what is no sum of squares", name=quoted(name)))
    return values


def _damaged(path: Path, problem: str) -> UserError:
    return UserError(
        "{path}: no importance matrix: {reason}", path=path, reason=problem,
        hint="give a text, or what llama-imatrix has written",
    )  # fmt: skip
