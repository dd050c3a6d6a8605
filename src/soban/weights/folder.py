"""A Hugging Face folder as a checkpoint: config.json and safetensors, in one file or in shards with an index."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from soban.base.errors import UserError
from soban.base.files import quoted, read_json
from soban.weights.checkpoint import PICKLE_SUFFIXES, Checkpoint, Tensor, pickle_refused
from soban.weights.naming import CONFIG, INDEX, NAMED, SHARD, SINGLE, gguf_models, unlisted
from soban.weights.safetensors import read_safetensors


def open_folder(path: Path) -> Checkpoint:
    """The checkpoint in a Hugging Face folder; model.safetensors goes before an index, as in transformers.

    Where there is neither, the only file of weights is taken, or all parts of one. Raises UserError for what is
    missing, damaged, or in a format that is not read.
    """
    if (own := _own_file(path)) is not None:
        return _of_shards(path, path, [path / own]) if SHARD.fullmatch(own) else _open_index(path, own)
    if (path / SINGLE).exists():
        return _of_shards(path, path, [path / SINGLE])
    if (path / INDEX).exists():
        return _open_index(path)
    for name in (SINGLE, INDEX):
        if (path / name).is_symlink():
            raise UserError(
                "{path}: a link to {target}, which is not there", path=path / name, target=(path / name).resolve(),
                hint="fetch the model again, or plug in the disk that the file is on",
            )  # fmt: skip
    if names := unlisted(entry.name for entry in path.iterdir()):
        return _of_shards(path, path, [path / name for name in names])
    if (file := gguf_in(path)) is not None:
        from soban.weights.gguf.opening import open_gguf

        return open_gguf(file)
    raise _no_weights(path)


def gguf_in(folder: Path) -> Path | None:
    """The folder's only GGUF model, or the first of its files; None where there is none. UserError for several."""
    names = [entry.name for entry in folder.iterdir() if entry.name.lower().endswith(".gguf")]
    models = gguf_models(names)
    if len(models) > 1:
        raise UserError(
            "{path}: {count} GGUF models: {names}", path=folder, count=len(models), names=", ".join(models[:5]),
            hint="name one of these files",
        )  # fmt: skip
    return folder / models[0] if models else None


def open_file(path: Path) -> Checkpoint:
    """The checkpoint in one .safetensors file, with the configuration beside it; a shard opens its whole folder."""
    folder, index = path.parent, path.parent / INDEX
    if path.name != SINGLE and index.exists() and path.name in _weight_map(index).values():
        return _open_index(folder)
    if not (folder / SINGLE).exists() and path.name in (names := unlisted(entry.name for entry in folder.iterdir())):
        return _of_shards(path if len(names) == 1 else folder, folder, [folder / name for name in names])
    return _of_shards(path, folder, [path])


def _own_file(folder: Path) -> str | None:
    """The file, or the index, that config.json itself says the weights are in."""
    try:
        name = read_json(folder / CONFIG).get(NAMED)
    except (UserError, OSError):
        return None  # which is told once there are weights
    if name is None:
        return None
    if not isinstance(name, str) or not SHARD.fullmatch(name.removesuffix(".index.json")):
        raise UserError(
            "{path}: {key}={value}; only .safetensors files in this folder and their indices are read",
            path=folder / CONFIG, key=NAMED, value=quoted(name), hint="take it out, or fetch config.json again",
        )  # fmt: skip
    return name


def _open_index(path: Path, name: str = INDEX) -> Checkpoint:
    shards = sorted(set(_weight_map(path / name).values()))
    return _of_shards(path, path, [path / shard for shard in shards], (path / name,))


def _of_shards(path: Path, folder: Path, shards: list[Path], indices: tuple[Path, ...] = ()) -> Checkpoint:
    """The checkpoint of these shards. What lies where, each shard's own header says."""
    if not (folder / CONFIG).exists():
        raise UserError("{path}: no config.json", path=folder, hint="fetch the model's config.json into this folder")
    config = read_json(folder / CONFIG)
    generation = folder / "generation_config.json"
    tensors, metadata = joined([read_safetensors(shard) for shard in shards])
    if not tensors:
        raise UserError("{path}: no tensors in it", path=path, hint="fetch it again")
    return Checkpoint(
        path=path,
        config=config,
        generation_config=read_json(generation) if generation.exists() else {},
        tensors=tensors,
        files=(folder / CONFIG, *indices, *shards),
        metadata=metadata,
    )


def joined(
    shards: Iterable[tuple[dict[str, Tensor], dict[str, str]]],
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of all shards; of a name in several the last shard's, as in transformers.

    An index may leave out a tensor, or list one that has gone: what is missed is found by whoever needs it.
    """
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for some, notes in shards:
        tensors |= some
        metadata |= notes
    # Of tensors that share their memory, safetensors' save_model keeps one and notes the others: left out -> kept.
    for name, twin in metadata.items():
        if twin in tensors and name not in tensors:
            tensors[name] = replace(tensors[twin], name=name)
    return tensors, metadata


def _weight_map(index: Path) -> dict[str, str]:
    return checked_weight_map(index, read_json(index))


def checked_weight_map(index: Path, content: Mapping[str, Any]) -> dict[str, str]:
    """Which shard holds which tensor, by what the index file holds; every shard a plain file name."""
    weight_map: Any = content.get("weight_map")
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
