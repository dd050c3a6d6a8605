"""A Hugging Face folder as a checkpoint: config.json and safetensors, in one file or in shards with an index."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from soban.errors import UserError
from soban.weights.checkpoint import PICKLE_SUFFIXES, Checkpoint, Tensor, gguf_refused, pickle_refused
from soban.weights.files import quoted, read_json
from soban.weights.safetensors import read_safetensors

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
# A shard lies in the folder itself: no separators and no drive, so that an index cannot point elsewhere.
SHARD = re.compile(r"[^/\\:\0\ud800-\udfff]+\.safetensors")


def open_folder(path: Path) -> Checkpoint:
    """The checkpoint in a Hugging Face folder; model.safetensors goes before an index, as in transformers.

    Raises UserError for what is missing, damaged, not where the index says, or in a format that is not read.
    """
    if (path / SINGLE).exists():
        return _opened(path, path, [path / SINGLE], None)
    if (path / INDEX).exists():
        return _open_index(path)
    for name in (SINGLE, INDEX):
        if (path / name).is_symlink():
            raise UserError(
                "{path}: a link to {target}, which is not there", path=path / name, target=(path / name).resolve(),
                hint="fetch the model again, or plug in the disk that the file is on",
            )  # fmt: skip
    raise _no_weights(path)


def open_file(path: Path) -> Checkpoint:
    """The checkpoint in one .safetensors file, with the configuration beside it; a shard opens its whole folder."""
    index = path.parent / INDEX
    if path.name != SINGLE and index.exists() and path.name in _weight_map(index).values():
        return _open_index(path.parent)
    return _opened(path, path.parent, [path], None)


def _open_index(path: Path) -> Checkpoint:
    weight_map = _weight_map(path / INDEX)
    return _opened(path, path, [path / name for name in sorted(set(weight_map.values()))], weight_map)


def _opened(path: Path, folder: Path, shards: list[Path], weight_map: dict[str, str] | None) -> Checkpoint:
    """The checkpoint of these shards; with a weight map, each tensor has to lie exactly where it says."""
    if not (folder / CONFIG).exists():
        raise UserError("{path}: no config.json", path=folder, hint="fetch the model's config.json into this folder")
    config = read_json(folder / CONFIG)
    generation = folder / "generation_config.json"
    tensors, metadata = joined({shard: read_safetensors(shard) for shard in shards}, weight_map)
    if not tensors:
        raise UserError("{path}: no tensors in it", path=path, hint="fetch it again")
    return Checkpoint(
        path=path,
        config=config,
        generation_config=read_json(generation) if generation.exists() else {},
        tensors=tensors,
        files=(folder / CONFIG, *([] if weight_map is None else [folder / INDEX]), *shards),
        metadata=metadata,
    )


def joined(
    shards: Mapping[Path, tuple[dict[str, Tensor], dict[str, str]]], weight_map: dict[str, str] | None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of all shards; UserError for what is not where the weight map says."""
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for shard, (found, notes) in shards.items():
        if weight_map is not None:
            _check_shard(shard, set(found), {name for name, file in weight_map.items() if file == shard.name})
        tensors |= found
        metadata |= notes
    # Of tensors that share their memory, safetensors' save_model keeps one and notes the others: left out -> kept.
    for name, kept in metadata.items():
        if kept in tensors and name not in tensors:
            tensors[name] = replace(tensors[kept], name=name)
    return tensors, metadata


def _weight_map(index: Path) -> dict[str, str]:
    return checked_weight_map(index, read_json(index))


def checked_weight_map(index: Path, held: Mapping[str, Any]) -> dict[str, str]:
    """Which shard holds which tensor, by what the index file holds; every shard a plain file name."""
    weight_map: Any = held.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError(
            "{path}: weight_map is {value}; it has to map tensor names to files",
            path=index,
            value=quoted(weight_map),
            hint="fetch it again",
        )
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str) or not SHARD.fullmatch(shard):
            raise UserError(
                "{path}: tensor {name} is said to be in {shard}; only .safetensors files in this folder are read",
                path=index,
                name=quoted(tensor),
                shard=quoted(shard),
                hint="fetch the model again",
            )
    return weight_map


def _check_shard(shard: Path, found: set[str], expected: set[str]) -> None:
    if missing := sorted(expected - found):
        raise UserError(
            "{path}: {count} tensors that the index puts here are missing, first {name}",
            path=shard,
            count=len(missing),
            name=quoted(missing[0]),
            hint="fetch this file and the index again",
        )
    if extra := sorted(found - expected):
        raise UserError(
            "{path}: {count} tensors that the index does not put here, first {name}",
            path=shard,
            count=len(extra),
            name=quoted(extra[0]),
            hint="fetch this file and the index again",
        )


def _no_weights(path: Path) -> UserError:
    """Why a folder holds no weights that are read, by what it holds instead."""
    names = sorted(entry.name for entry in path.iterdir())
    if not names:
        return UserError(
            "{path}: the folder is empty", path=path, hint="give a folder with config.json and model.safetensors"
        )
    if "adapter_config.json" in names:
        return UserError("{path}: an adapter, not a whole model", path=path, hint="give the folder of its base model")
    by_suffix = {Path(name).suffix.lower(): path / name for name in names}
    if pickles := [name for name in names if name.startswith("pytorch_model")]:
        return pickle_refused(path / pickles[0])
    if ".gguf" in by_suffix:
        return gguf_refused(by_suffix[".gguf"])
    if others := [name for name in names if name.endswith((".safetensors", ".bin"))]:
        return UserError(
            "{path}: no model.safetensors in this folder, but {others}",
            path=path,
            others=", ".join(others[:5]),
            hint="give the path of the model's own file",
        )
    for suffix in PICKLE_SUFFIXES:
        if suffix in by_suffix:
            return pickle_refused(by_suffix[suffix])
    return UserError(
        "{path}: no model.safetensors in this folder",
        path=path,
        hint="give a folder with config.json and model.safetensors",
    )
