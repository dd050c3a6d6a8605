"""A model without its weights: config.json and the names, shapes and formats of its tensors, wherever it lies."""

import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from soban.base import system
from soban.base.errors import UserError
from soban.base.files import is_there, parse_object
from soban.hub import choosing, meant, names
from soban.hub.choosing import RemoteFile
from soban.hub.names import Repository
from soban.loading import custom
from soban.loading.loaded import BUNDLED
from soban.models import ties_embeddings
from soban.ops.formats import PLAIN
from soban.weights import folder, llama2c, naming
from soban.weights.checkpoint import LLAMA2C, Checkpoint, Tensor
from soban.weights.gguf import blocks as gguf_blocks
from soban.weights.gguf.architectures import ROTATIONS
from soban.weights.gguf.header import Header, Placed, read_gguf_header
from soban.weights.gguf.opening import checkpoint_of
from soban.weights.gguf.reading import Contents
from soban.weights.naming import EMBEDDING, HEAD
from soban.weights.opening import open_checkpoint
from soban.weights.safetensors import DTYPES, read_header

AT_ONCE = 4  # headers that are fetched side by side
GGUF_BEGINNINGS = (1 << 20, 8 << 20, 64 << 20)  # bytes that are asked for until the header is whole
COMPARED = 1 << 16  # bytes by which a head is known to be the embedding
Read = Callable[[str, int, int], bytes]  # file, first byte, end


@dataclass(frozen=True, eq=False)
class Outline:
    """A model as its files' headers tell it. The checkpoint's tensors have names, shapes and formats, but no numbers
    if the model is not on this disk."""

    name: str
    checkpoint: Checkpoint
    repository: Repository | None
    download: int  # bytes that are not here yet


def outline(name: str | None) -> Outline:
    """The outline of a folder, a file, a name of the catalogue or a repository; None: the bundled model.

    Raises UserError for what is missing, damaged, not to be reached, or no model's name.
    """
    if name is not None and not name.strip():
        raise names.empty()
    name = None if name is None else custom.base_of(name)
    path = BUNDLED if name is None else system.extended(Path(name))
    if name is None or is_there(path):
        return _of_path(path.name if name is None else name, path, None)
    from soban.hub import neighbours, remote, store

    if (other := neighbours.locate(name)) is not None:
        return _of_path(name, other, None)
    repository = meant.require(name)
    if (place := store.complete_folder(repository)) is not None:
        return _of_path(name, place, repository)
    files = remote.files(repository)
    return remote_outline(repository, files, lambda file, start, stop: remote.read_range(repository, file, start, stop))


def _of_path(name: str, path: Path, repository: Repository | None) -> Outline:
    checkpoint = open_checkpoint(path)
    return Outline(name, checkpoint, repository, 0)


def remote_outline(repository: Repository, files: Sequence[RemoteFile], read: Read) -> Outline:
    """The outline of a repository with these files. Of the weights the beginnings of two tensors are read at most."""
    place, sizes = Path(repository.id), {file.name: file.size for file in files}

    def read_all(name: str, start: int, stop: int) -> bytes:
        data = read(name, start, stop)
        if len(data) != stop - start:
            raise UserError(
                "{path}: {count} bytes came where {wanted} were asked for", path=(place / name).as_posix(),
                count=len(data), wanted=stop - start, hint="try again later",
            )  # fmt: skip
        return data

    if choosing.is_gguf(sizes, repository):
        return _of_gguf(repository, files, read_all)
    small = choosing.beside(files, repository)
    if binary := next((file for file in small if file.name.endswith(".bin") and file.name != "tokenizer.bin"), None):
        return _of_bin(repository, binary, sum(file.size for file in small), read_all)
    config = _json(place, _config(small, repository), read_all)
    weight_map = None
    if index := next((file for file in small if file.name == naming.INDEX and naming.SINGLE not in sizes), None):
        weight_map = folder.checked_weight_map(place / index.name, _json(place, index, read_all))
    shards = choosing.weights(files, repository, set(weight_map.values()) if weight_map else None)

    beginnings: dict[str, Callable[[int], bytes]] = {}

    def header(shard: RemoteFile) -> tuple[dict[str, Tensor], dict[str, str]]:
        path = place / shard.name
        places, metadata = read_header(path, lambda start, stop: read_all(shard.name, start, stop), shard.size)
        for name in (name for name in (EMBEDDING, HEAD) if name in places):
            beginnings[name] = functools.partial(_beginning, read_all, shard.name, places[name][2])
        return {name: hollow(name, path, *about[:2]) for name, about in places.items()}, metadata

    with ThreadPoolExecutor(AT_ONCE) as pool:
        tensors, metadata = folder.joined(pool.map(header, shards))
    _leave_out_copy(config, tensors, beginnings)
    download = sum(file.size for file in {file.name: file for file in (*small, *shards)}.values())
    return Outline(str(repository), Checkpoint(place, config, {}, tensors, (), metadata), repository, download)


def _config(small: Sequence[RemoteFile], repository: Repository) -> RemoteFile:
    """The repository's config.json. Raises UserError where it has none."""
    for file in small:
        if file.name == naming.CONFIG:
            return file
    raise UserError(
        "{name}: the repository has no {file}", name=repository.id, file=naming.CONFIG,
        hint="choose a repository in Hugging Face's layout",
    )  # fmt: skip


def _of_bin(repository: Repository, file: RemoteFile, download: int, read: Read) -> Outline:
    path = Path(repository.id) / file.name
    head = read(file.name, 0, min(llama2c.PADDED_HEADER, file.size))
    config, shapes = llama2c.read_bin_header(path, head)
    tensors = {name: _of_format(name, path, format, shape) for name, (format, shape) in shapes.items()}
    checkpoint = Checkpoint(path, config, {}, tensors, (), {}, form=LLAMA2C, interleaved=True)
    return Outline(str(repository), checkpoint, repository, download)


def _of_gguf(repository: Repository, files: Sequence[RemoteFile], read: Read) -> Outline:
    """Of each file as much is read as its header takes."""
    parts, place = choosing.weights(files, repository, None), Path(repository.id)
    keys: Mapping[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    for file in parts:
        header = _gguf_header(place / file.name, file, read)
        keys = keys or header.metadata
        tensors |= {name: _hollow_blocks(name, place / file.name, placed) for name, placed in header.tensors.items()}
    for name in ROTATIONS:  # whose numbers are not here
        tensors.pop(name, None)
    checkpoint = checkpoint_of(place / parts[0].name, Contents((), keys, tensors))
    download = sum(file.size for file in (*choosing.beside(files, repository), *parts))
    return Outline(str(repository), checkpoint, repository, download)


def _gguf_header(path: Path, file: RemoteFile, read: Read) -> Header:
    """The header, of which nobody knows before how long it is: a vocabulary takes megabytes."""
    for size in GGUF_BEGINNINGS:
        data = read(file.name, 0, min(size, file.size))
        try:
            return read_gguf_header(path, data, file.size)
        except UserError:
            if size >= min(GGUF_BEGINNINGS[-1], file.size):
                raise
    raise AssertionError


def _hollow_blocks(name: str, path: Path, placed: Placed) -> Tensor:
    kind = placed.type.name
    shape = placed.shape if kind in gguf_blocks.PLAIN else (*placed.shape[:-1], placed.row_bytes)
    number = np.zeros((), gguf_blocks.PLAIN.get(kind, np.uint8))
    return Tensor(name, kind, placed.shape, np.broadcast_to(number, shape), source=path)


def _json(place: Path, file: RemoteFile, read: Read) -> dict[str, Any]:
    """A JSON file of the repository."""
    try:
        return parse_object(read(file.name, 0, file.size).removeprefix(b"\xef\xbb\xbf"))
    except ValueError as error:
        raise UserError(
            "{path}: not a valid JSON object: {reason}", path=(place / file.name).as_posix(), reason=error,
            hint="choose another repository of this model",
        ) from error  # fmt: skip


def hollow(name: str, path: Path, dtype: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor of that shape, every number of which is the same one in memory."""
    return Tensor(name, dtype.lower(), shape, np.broadcast_to(np.zeros((), DTYPES[dtype]), shape), source=path)


def _of_format(name: str, path: Path, format: str, shape: tuple[int, ...]) -> Tensor:
    return Tensor(name, format, shape, np.broadcast_to(np.zeros((), PLAIN.get(format, np.int8)), shape), source=path)


def _beginning(read: Read, file: str, start: int, size: int) -> bytes:
    """A file's bytes from a place on."""
    return read(file, start, start + size)


def _leave_out_copy(
    config: Mapping[str, Any], tensors: dict[str, Tensor], beginnings: Mapping[str, Callable[[int], bytes]]
) -> None:
    """A tied head's second copy takes no place; a head that begins otherwise is one of its own, whatever is said."""
    if EMBEDDING not in tensors or HEAD not in tensors:
        return
    if not ties_embeddings(config):
        return
    head, embedding = tensors[HEAD], tensors[EMBEDDING]
    alike = (head.format, head.shape) == (embedding.format, embedding.shape)
    size = min(COMPARED, head.data.nbytes)
    if not alike or beginnings[HEAD](size) == beginnings[EMBEDDING](size):
        del tensors[HEAD]
    else:
        tensors[HEAD] = replace(head, data=np.broadcast_to(np.ones((), head.data.dtype), head.shape))
