"""The models on this disk, in the hub's cache: found at once and without the network, listed, removed."""

import contextlib
import fnmatch
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from soban.base.border import reason
from soban.base.errors import UserError
from soban.base.files import last_use, on_disk
from soban.hub import place
from soban.hub.choosing import TOKENIZERS, gguf_forms
from soban.hub.names import MAIN, Repository, entries_of
from soban.hub.place import COMMIT, REVISION, cache_folder, check_cache, model_folder
from soban.weights.naming import INDEX, SINGLE, SPLIT, unlisted

PARTIAL = ".part"  # the end of a blob's name while it is fetched
OWN_TOKENIZER = "tokenizer.bin"  # in a snapshot: one that does not come from the model's repository


@dataclass(frozen=True)
class Held:
    """A model of the cache, or the beginning of one."""

    id: str  # owner/name
    revision: str  # the branch or tag that it was fetched by, or its commit
    folder: Path  # its snapshot; where that is still missing, the repository's folder
    bytes: int  # on disk, with what is only begun
    complete: bool
    used: float  # seconds since 1970: when its files were last read or written
    cache: Path


def complete_folder(repository: Repository, cache: Path | None = None) -> Path | None:
    """The folder of the complete model, or None; asks no network. Raises UserError for a cache that is away."""
    folder = model_folder(check_cache(cache_folder(cache)), repository.id)
    snapshot = _snapshot(folder, repository.revision)
    entry = repository.entry
    if snapshot is not None and repository.form is not None:
        return snapshot if form_file(snapshot, repository.form) is not None else None
    if snapshot is None or not is_complete(snapshot, entry.files if entry else ()):
        return None
    lacks = entry is not None and entry.tokenizer is not None and not (snapshot / OWN_TOKENIZER).is_file()
    return None if lacks else snapshot


def form_file(snapshot: Path, form: str) -> Path | None:
    """The first file of a form of a model in GGUF files, where all of them are there."""
    names = [path.relative_to(snapshot).as_posix() for path in _files(snapshot) if path.is_file()]
    for name, files in gguf_forms(names).items():
        if name.lower() == form.lower() and is_whole(files):
            return snapshot / files[0]
    return None


def is_whole(names: list[str]) -> bool:
    """Whether these are all GGUF files of a model, by their names."""
    split = SPLIT.search(names[0])
    return len(names) == (int(split["count"]) if split else 1)


def is_begun(repository: Repository, cache: Path | None = None) -> bool:
    """Whether anything of a model has come."""
    return bool(_listed(model_folder(cache_folder(cache), repository.id) / "blobs"))


def _snapshot(folder: Path, revision: str) -> Path | None:
    """The folder of a branch, a tag or a commit."""
    if not REVISION.fullmatch(revision):
        return None
    commit = revision
    if not COMMIT.fullmatch(commit):
        try:
            commit = (folder / "refs" / revision).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
    return folder / "snapshots" / commit if COMMIT.fullmatch(commit) else None


def is_complete(snapshot: Path, patterns: tuple[str, ...] = ()) -> bool:
    """Whether all is there that the patterns name or, without any, a configuration, a tokenizer and all weights.

    Partial files lie elsewhere, and the links to what is whole are made last: what is there is whole.
    """
    if patterns:
        names = [path.relative_to(snapshot).as_posix() for path in _files(snapshot)]
        return all(any(fnmatch.fnmatchcase(name, pattern) for name in names) for pattern in patterns)
    if not (snapshot / "config.json").is_file():
        forms = gguf_forms(path.relative_to(snapshot).as_posix() for path in _files(snapshot) if path.is_file())
        if forms:
            return any(map(is_whole, forms.values()))
        return (snapshot / "adapter_config.json").is_file() and (snapshot / "adapter_model.safetensors").is_file()
    if not any((snapshot / name).is_file() for name in TOKENIZERS):
        return False
    if (snapshot / SINGLE).is_file():
        return True
    if (snapshot / INDEX).is_file():
        try:
            shards = set(json.loads((snapshot / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
            return all((snapshot / shard).is_file() for shard in shards)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False
    names = [path.name for path in snapshot.iterdir() if path.is_file()]
    return bool(unlisted(names)) or "adapter_model.safetensors" in names


def name_of(model: Held) -> str:
    """The name by which a model is fetched, run and removed: the catalogue's where it has one.

    A repository may hold several models of a file each: those that are there are named.
    """
    if model.revision != MAIN:
        return f"{model.id}@{model.revision[:12]}"
    entries = entries_of(model.id)
    if len(entries) > 1:
        entries = tuple(entry for entry in entries if is_complete(model.folder, entry.files))
    return ", ".join(entry.name for entry in entries) or model.id


def models(cache: Path | None = None) -> list[Held]:
    """Every model of the cache, also those that are only begun; repositories in the order of their names.

    Raises UserError for a cache that is unplugged.
    """
    folder = check_cache(cache_folder(cache))
    try:
        names = sorted(entry.name for entry in folder.iterdir() if place.identity(entry.name) and entry.is_dir())
    except OSError:
        return []
    return [model for name in names for model in _of_repository(folder, name)]


def _of_repository(cache: Path, name: str) -> Iterator[Held]:
    folder, identity = cache / name, place.identity(name) or name
    revisions = {commit: revision for revision, commit in _references(folder)}
    snapshots = [path for path in _listed(folder / "snapshots") if path.is_dir()]
    begun = [path for path in _listed(folder / "blobs") if PARTIAL in path.name or path.suffix == ".incomplete"]
    for number, snapshot in enumerate(snapshots):
        files = [path for path in _files(snapshot) if path.is_file()]
        real = files + (begun if number == 0 else [])
        yield Held(
            identity, revisions.get(snapshot.name, snapshot.name), snapshot, bytes_of(real),
            is_complete(snapshot) or (_is_single(files) and not begun), max(map(last_use, real), default=0.0), cache,
        )  # fmt: skip
    if begun and not snapshots:
        revision = next(iter(revisions.values()), "main")
        yield Held(identity, revision, folder, bytes_of(begun), False, max(map(last_use, begun)), cache)


def _is_single(files: list[Path]) -> bool:
    """Whether a model of llama2.c lies here, which is one file and has no configuration beside it."""
    names = {path.name for path in files}
    return "config.json" not in names and any(name.endswith(".bin") for name in names)


def remove(model: Held) -> int:
    """Deletes a model from the cache, other revisions of it stay; the bytes that this freed.

    Raises UserError where the system does not let us, as when another program reads a file on Windows.
    """
    folder = model_folder(model.cache, model.id)
    before = bytes_of(_files(folder))
    try:
        others = [path for path in _listed(folder / "snapshots") if path != model.folder]
        if not others:
            shutil.rmtree(folder)
            shutil.rmtree(model.cache / ".locks" / folder.name, ignore_errors=True)
            return before
        blobs = {path.resolve() for other in others for path in _files(other)}
        for revision, commit in _references(folder):
            if commit == model.folder.name:
                (folder / "refs" / revision).unlink()
        shutil.rmtree(model.folder)
        for blob in _listed(folder / "blobs"):
            if blob.resolve() not in blobs:
                blob.unlink()
    except OSError as error:
        if isinstance(error, PermissionError) and os.name == "posix":  # Windows says so of files in use, too
            raise UserError(
                "{path}: cannot be deleted: {reason}", path=error.filename or folder, reason=reason(error),
                hint="the model is another user's, or the folder is read-only: mend its permissions",
            ) from error  # fmt: skip
        raise UserError(
            "{path}: cannot be deleted: {reason}", path=error.filename or folder, reason=reason(error),
            hint="close the programs that use it, and try again",
        ) from error  # fmt: skip
    return before - bytes_of(_files(folder))


def _references(folder: Path) -> list[tuple[str, str]]:
    """(branch or tag, commit) of a repository; `main` last, so that it wins where several name one commit."""
    pairs = []
    for path in _files(folder / "refs"):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            pairs.append((path.relative_to(folder / "refs").as_posix(), path.read_text(encoding="utf-8").strip()))
    return sorted(pairs, key=lambda pair: pair[0] == "main")


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _files(folder: Path) -> list[Path]:
    """All files and links below a folder."""
    return [Path(at, name) for at, _, names in os.walk(folder) for name in sorted(names)]


def bytes_of(paths: list[Path]) -> int:
    """The bytes on disk of these files, each once by however many names and links; of one with holes what is there."""
    sizes = {}
    for path in paths:
        with contextlib.suppress(OSError):
            status = path.stat()
            sizes[status.st_dev, status.st_ino] = on_disk(status)
    return sum(sizes.values())
