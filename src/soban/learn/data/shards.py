"""Token shards: documents as ids in memory-mapped arrays, with a manifest that says what they are.

The format, in a folder:
    manifest.json                  written last: a folder without it is not finished
    tokenizer.json, tokenizer_config.json
    train/00000.npy                token ids, uint16 (uint32 where the vocabulary has more than 65,536 entries); every
                                   document is BOS, its text's ids, EOS
    train/00000.starts.npy         int64: where each document begins, and last the number of ids
    train/00001.npy ...            a document lies in one shard; validation/ and test/ are alike
"""

import hashlib
import json
import os
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soban.base.border import reason
from soban.base.errors import UserError
from soban.base.files import quoted, read_json, write_error
from soban.learn.data.manifest import check
from soban.messages import translate

MANIFEST = "manifest.json"
KIND = "soban-data "  # what every version's format begins with
FORMAT = f"{KIND}1"
SHARD_TOKENS = 32 << 20  # of a shard, and so in memory while it is made
# What NumPy raises at headers that are damaged
HEADERS = (
    ValueError,
    EOFError,
    SyntaxError,
    TypeError,
    OverflowError,
    RecursionError,
    UnicodeError,
    tokenize.TokenError,
)
HASHED_AT_ONCE = 1 << 20
Ids = NDArray[np.uint16] | NDArray[np.uint32]


@dataclass(frozen=True)
class Shard:
    """One array of ids, as the manifest has it."""

    name: str  # in the folder
    documents: int
    tokens: int
    sha256: str
    starts_sha256: str = ""  # of the index beside it; data made before have none


def dtype_for(entries: int) -> type[np.uint16] | type[np.uint32]:
    """The smallest type that holds the ids of a vocabulary."""
    return np.uint16 if entries <= 1 << 16 else np.uint32


def write_shards(
    folder: Path, split: str, documents: Iterable[NDArray[np.integer[Any]]], entries: int,
    shard_tokens: int = SHARD_TOKENS,
) -> list[Shard]:  # fmt: skip
    """Writes documents, each with its BOS and EOS, and returns the shards. Raises UserError where they do not fit."""
    shards: list[Shard] = []
    waiting: list[NDArray[np.integer[Any]]] = []
    size = 0
    (folder / split).mkdir(parents=True, exist_ok=True)
    for ids in documents:
        if waiting and size + len(ids) > shard_tokens:
            shards.append(_write(folder, f"{split}/{len(shards):05}.npy", waiting, entries))
            waiting, size = [], 0
        waiting.append(ids.astype(dtype_for(entries)))
        size += len(ids)
    if waiting:
        shards.append(_write(folder, f"{split}/{len(shards):05}.npy", waiting, entries))
    return shards


def _write(folder: Path, name: str, documents: list[NDArray[np.integer[Any]]], entries: int) -> Shard:
    path = folder / name
    tokens = np.concatenate(documents).astype(dtype_for(entries))
    starts = np.cumsum([0, *map(len, documents)], dtype=np.int64)
    try:
        _save(path, tokens)
        _save(starts_of(path), starts)
    except OSError as error:
        raise write_error(path, tokens.nbytes, error) from error
    return Shard(name, len(documents), len(tokens), file_hash(path), file_hash(starts_of(path)))


def _save(path: Path, array: NDArray[Any]) -> None:
    """As np.save does, whose own way to the disk does not say why it fails."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.tobytes())


def starts_of(path: Path) -> Path:
    """The index beside a shard."""
    return path.with_name(path.stem + ".starts.npy")


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(HASHED_AT_ONCE):
            digest.update(piece)
    return digest.hexdigest()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """A JSON file, whole or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    data = json.dumps(content, indent=2, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise write_error(path, len(data), error) from error


def shard_json(shards: Iterable[Shard]) -> list[dict[str, Any]]:
    """Shards for the manifest."""
    return [asdict(shard) for shard in shards]


class Documents:
    """The documents of a split, by number; their ids stay on the disk until they are read."""

    def __init__(self, arrays: list[Ids], starts: list[NDArray[np.int64]]) -> None:
        self._arrays, self._starts = arrays, starts
        self._firsts = np.cumsum([0, *(len(index) - 1 for index in starts)])
        self.lengths = np.concatenate([np.zeros(0, np.int64), *(np.diff(index) for index in starts)])

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def __getitem__(self, number: int) -> Ids:
        """The ids of one document, from its BOS to its EOS."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        shard = int(np.searchsorted(self._firsts, number, "right")) - 1
        within = number - int(self._firsts[shard])
        first, last = self._starts[shard][within : within + 2]
        return self._arrays[shard][first:last]

    def sample(self, most: int) -> NDArray[np.int64]:
        """Numbers of documents from all over that have so many ids together, or of all; always the same, in order."""
        order = np.random.default_rng(0).permutation(len(self))
        count = int(np.searchsorted(np.cumsum(self.lengths[order]), most)) + 1
        return np.sort(order[:count])

    def __iter__(self) -> Iterator[Ids]:
        return (self[number] for number in range(len(self)))


class Shards:
    """One split of a folder of shards. Raises UserError for a folder that is not finished, or whose files differ."""

    def __init__(self, folder: str | Path, split: str = "train") -> None:
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        self.split = split
        about = split_of(self.folder, self.manifest, split)
        self.entries: int = self.manifest["tokenizer"]["entries"]
        self.bos_id: int = self.manifest["tokenizer"]["bos_token_id"]
        self.eos_id: int = self.manifest["tokenizer"]["eos_token_id"]
        self.data_hash: str = self.manifest["data_hash"]
        self.bytes: int = about["bytes"]  # of the documents as text: bits per byte are over these
        parts = [_open(self.folder, shard, self.entries) for shard in about["shards"]]
        self.documents = Documents([tokens for tokens, _ in parts], [starts for _, starts in parts])

    @property
    def tokens(self) -> int:
        """How many ids there are, BOS and EOS with them."""
        return int(self.documents.lengths.sum())


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a folder holds. Raises UserError where it holds no shards, or of another kind."""
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(
            "{path}: no prepared data in it, or not all of it", path=folder,
            hint="make it: soban data YOUR-TEXTS --out {path}",
        )  # fmt: skip
    manifest = read_json(path)
    if manifest.get("format") != FORMAT:
        raise UserError(
            "{path}: its format is {format}, this reads {known}", path=path, format=quoted(manifest.get("format")),
            known=FORMAT, hint="prepare the data again with this version",
        )  # fmt: skip
    try:
        check(manifest)
    except ValueError as error:
        raise UserError(
            "{path}: damaged: {what} is missing, or not as it should be", path=path, what=error,
            hint="prepare the data again: soban data ... --force",
        ) from error  # fmt: skip
    return manifest


def split_of(folder: Path, manifest: dict[str, Any], name: str) -> dict[str, Any]:
    """What a manifest says of a split. Raises UserError where there is none of that name."""
    if (split := manifest["splits"].get(name)) is None:
        raise UserError(
            "{path}: it has no {split} split", path=folder, split=name, known=", ".join(manifest["splits"]),
            hint="it has {known}",
        )  # fmt: skip
    return dict(split)


def check_hashes(folder: Path) -> None:
    """Reads every shard of a folder. Raises UserError for one that is not, bit for bit, what was made."""
    for split in read_manifest(folder)["splits"].values():
        for shard in split["shards"]:
            path = folder / shard["name"]
            for file, expected in ((path, shard["sha256"]), (starts_of(path), shard.get("starts_sha256"))):
                try:
                    digest = file_hash(file)
                except OSError as error:
                    raise _damaged(file, reason(error)) from error
                if expected and digest != expected:
                    raise _damaged(file, "sha256")


def _open(folder: Path, about: dict[str, Any], entries: int) -> tuple[Ids, NDArray[np.int64]]:
    """A shard's ids, mapped, and where its documents begin; both checked against the manifest.

    The ids are all below `entries`: for that they are read once, at the speed of the disk.
    """
    path = folder / about["name"]
    tokens, mapped = _mapped(path), _mapped(starts_of(path))  # a header may lie about sizes: mapped, nothing is taken
    if tokens.dtype != dtype_for(entries) or tokens.shape != (about["tokens"],):
        raise _damaged(path, f"{tokens.dtype} {tokens.shape}")
    if (top := int(tokens.max())) >= entries:
        raise _damaged(path, translate("id {id} in a vocabulary of {size}", id=top, size=entries))
    if mapped.dtype != np.int64 or mapped.shape != (about["documents"] + 1,):
        raise _damaged(starts_of(path), f"{mapped.dtype} {mapped.shape}")
    starts = np.array(mapped)
    if starts[0] != 0 or starts[-1] != len(tokens) or (np.diff(starts) <= 0).any():
        raise _damaged(starts_of(path), translate("not in order"))
    return tokens, starts


def _mapped(path: Path) -> NDArray[Any]:
    """The array in a file. Raises UserError for what is none: NumPy reads its header as a piece of Python."""
    try:
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")  # not np.load, which opens zips, too
    except (*HEADERS, OSError, MemoryError) as error:
        raise _damaged(path, reason(error)) from error
    return array


def _damaged(path: Path, problem: str) -> UserError:
    return UserError(
        "{path}: not as the manifest has it ({reason})", path=path, reason=problem[:100],
        hint="prepare the data again: soban data ... --force",
    )  # fmt: skip
