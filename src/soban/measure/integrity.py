"""Whether a model's files are what they were: read whole, against checksums, the hub's hashes, or for numbers alone."""

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from soban.base.border import crossing
from soban.base.errors import Finding, UserError
from soban.base.files import open_regular, quoted
from soban.packing import stored
from soban.packing.layout import check_numbers, packed_layout
from soban.weights import checksums
from soban.weights.checkpoint import WEIGHTS, Checkpoint, finite_check
from soban.weights.inspect import open_any
from soban.weights.safetensors import read_safetensors

HASH = re.compile(r"[0-9a-f]{64}")  # by its sha256 the hub's cache calls a large file
PIECE = 4 << 20


@dataclass(frozen=True)
class Checked:
    """A file that was read whole; `by`: "hash", "checksums", or "numbers" where nothing says what it was."""

    path: Path
    bytes: int
    by: str
    damage: tuple[Finding, ...] = ()


def check(path: Path, progress: Callable[[int], None] = lambda count: None) -> list[Checked]:
    """The model's files with weights, and its packed forms in the cache; of these a damaged one is deleted.

    `progress` hears of the bytes that were read. Raises UserError where a file cannot be opened at all.
    """
    checkpoint = open_any(path)
    results = []
    for file in checkpoint.weight_files:
        results.append(_checked(file, checkpoint))
        progress(results[-1].bytes)
    for one in stored.packed_files():
        if one.source == path.resolve() and one.state == "current":
            results.append(_check_packed(one))
            progress(results[-1].bytes)
    return results


def _checked(file: Path, checkpoint: Checkpoint) -> Checked:
    size, by = file.stat().st_size, "numbers"
    try:
        if HASH.fullmatch(name := file.resolve().name):
            by = "hash"
            _check_hash(file, name)
        elif sums := checksums.read(file, checkpoint.metadata):
            by = "checksums"
            check_sums(checkpoint, file, sums)
        else:
            _check_numbers(file, checkpoint)
    except UserError as error:
        return Checked(file, size, by, (Finding("file-damaged", error, file.name),))
    return Checked(file, size, by)


def _check_packed(one: stored.Kept) -> Checked:
    """A packed file of the cache, which goes where it is damaged: the model is there to make it anew."""
    checked = Checked(one.path, one.bytes, "checksums")
    try:
        tensors, metadata = read_safetensors(one.path)
        checkpoint = Checkpoint(one.path, {}, {}, tensors, (one.path,), metadata)
        if sums := checksums.read(one.path, metadata):
            check_sums(checkpoint, one.path, sums)
        elif one.kind != "tokenizer":
            checked = replace(checked, by="numbers")
            check_numbers(checkpoint, math.inf)
    except UserError:
        stored.remove(one)
        error = UserError(
            "{path}: it was damaged and is deleted", path=one.path, hint="the next run with this model makes it anew"
        )
        return replace(checked, damage=(Finding("packed-damaged", error, one.path.name),))
    return checked


def check_sums(checkpoint: Checkpoint, file: Path, sums: Mapping[str, int]) -> None:
    """Raises UserError for the first tensor of a file that has not the checksum that it should."""
    arrays = {name: tensor.data for name, tensor in checkpoint.tensors.items() if tensor.source == file}
    for name in checksums.damaged(arrays, sums):
        raise UserError(
            "{path}: damaged: tensor {name} does not have the checksum that it had when it was written", path=file,
            name=quoted(name), hint="delete the file, or fetch it again",
        )  # fmt: skip


def _check_hash(file: Path, expected: str) -> None:
    digest = hashlib.sha256()
    with crossing(file), open_regular(file) as stream:
        while piece := stream.read(PIECE):
            digest.update(piece)
    if digest.hexdigest() != expected:
        raise UserError(
            "{path}: damaged: it does not have the SHA-256 by which the hub knows it", path=file,
            hint="delete the model with soban rm, and fetch it again",
        )  # fmt: skip


def _check_numbers(file: Path, checkpoint: Checkpoint) -> None:
    if packed_layout(checkpoint):
        check_numbers(checkpoint, math.inf)
        return
    for tensor in checkpoint.tensors.values():
        if tensor.source == file and tensor.format in WEIGHTS:
            finite_check(tensor)
