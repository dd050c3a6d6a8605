"""A repository's files into the hub's cache: what is missing of them, resumed, checked, and shared with other tools."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from soban.base.border import reason
from soban.base.errors import UserError
from soban.base.files import check_room, free_bytes, write_error
from soban.base.units import of_bytes
from soban.hub import access, choosing, place, remote, session, store
from soban.hub.choosing import RemoteFile
from soban.hub.fetching import Fetching, Job, Progress
from soban.hub.names import Repository
from soban.hub.partial import Partial, there
from soban.hub.remote import Listing
from soban.messages import warn
from soban.weights.naming import CONFIG, INDEX, SINGLE

SPARE = 64 << 20  # bytes of the disk that are left to others
MOST_TOKENIZER = 16 << 20  # bytes of one that lies outside of the hub

Report = Callable[[Progress], None]
Look = Callable[[Listing, bytes], None]  # at a repository's files and its config.json


def pull(
    repository: Repository, progress: Report, cache: Path | None = None, look: Look = lambda listing, config: None
) -> Path:
    """The folder with the newest files of a model, whatever of them was still to be fetched.

    What an earlier process began is continued, and what other tools have fetched is used. `progress` is called a few
    times a second; `look` sees what is about to be fetched, and may raise. Raises UserError (AccessError where the hub
    wants something first), KeyboardInterrupt at Ctrl-C.
    """
    choosing.check_form(repository)
    if place.is_offline():
        raise UserError(
            "{repository} is not on this PC, and HF_HUB_OFFLINE=1 forbids the network", repository=repository,
            hint="unset it to fetch models",
        )  # fmt: skip
    folder = place.model_folder(place.cache_folder(cache), repository.id)
    listing = remote.listing(repository)
    if listing.gated:
        access.check(repository)
    with _writing(folder), _alone(folder, progress):
        (folder / "snapshots").mkdir(parents=True, exist_ok=True)  # without it others take the folder for damaged
        files = _files_of(listing, folder)
        if missing(listing, files, folder) and (config := _config(listing, files, folder)) is not None:
            look(listing, config)
        _fetch(listing, files, folder, progress)
        snapshot = folder / "snapshots" / listing.commit
        for file in files:  # the weights last: a folder that has them all is whole
            twins = [snapshot / other.name for other in files if other.hash == file.hash]
            _link(folder / "blobs" / file.hash, snapshot / file.name, file.size, twins)
        if repository.entry and repository.entry.tokenizer:
            _bring_tokenizer(repository, repository.entry.tokenizer, snapshot)
        _refer(folder, repository.revision, listing.commit)
        _clean(folder, {file.hash for file in listing.files})
    return snapshot


def to_file(repository: Repository, name: str, path: Path, progress: Report) -> None:
    """Puts one file of a repository at `path`, outside of the cache; what an earlier process began is continued.

    Raises as `pull`.
    """
    if place.is_offline():
        raise UserError("{name} is not here, and HF_HUB_OFFLINE=1 forbids the network", name=name, hint="unset it")
    listing = remote.listing(repository)
    file = next((file for file in listing.files if file.name == name), None)
    if file is None:
        raise UserError(
            "{repository}: no file {name} in it", repository=repository, name=name,
            page=access.consent_page(repository), hint="{page} tells what became of it",
        )  # fmt: skip
    rest = file.size - there(path, file.size)
    try:
        check_room(path, rest)
        Fetching(listing, [Job(file, Partial(path, file.size))], access.token(), 0, progress).run()
    except OSError as error:
        raise write_error(path, rest, error) from error


def bytes_to_fetch(repository: Repository, cache: Path | None = None) -> int:
    """How many bytes `pull` would fetch; the index of a sharded model is fetched to know. Raises UserError."""
    choosing.check_form(repository)
    folder = place.model_folder(place.cache_folder(cache), repository.id)
    listing = remote.listing(repository)
    if listing.gated:
        access.check(repository)
    with _writing(folder), _alone(folder, lambda _: None):
        files = missing(listing, _files_of(listing, folder), folder)
    return sum(file.size - there(folder / "blobs" / file.hash, file.size) for file in files)


def _files_of(listing: Listing, folder: Path) -> list[RemoteFile]:
    """The files that a model needs."""
    shards = _shards(listing, folder)
    return choosing.beside(listing.files, listing.repository) + choosing.weights(
        listing.files, listing.repository, shards
    )


def _config(listing: Listing, files: list[RemoteFile], folder: Path) -> bytes | None:
    """The model's config.json, before anything large is fetched; None where there is none, or it does not come."""
    file = next((file for file in files if file.name == CONFIG), None)
    if file is None or not file.size:
        return None
    try:
        if _is_there(blob := folder / "blobs" / file.hash, file.size):
            return blob.read_bytes()
        return remote.read_range(listing.repository, file.name, 0, file.size)
    except (UserError, OSError):
        return None  # the fetching itself will tell


def missing(listing: Listing, files: list[RemoteFile], folder: Path) -> list[RemoteFile]:
    """The files that are not in the cache, each content once."""
    snapshot = folder / "snapshots" / listing.commit
    there = {file.hash for file in files if _is_there(snapshot / file.name, file.size)}
    there |= {file.hash for file in files if _is_there(folder / "blobs" / file.hash, file.size)}
    return list({file.hash: file for file in files if file.hash not in there}.values())


def _fetch(listing: Listing, files: list[RemoteFile], folder: Path, progress: Report) -> None:
    """Every chosen file becomes a blob. Raises UserError where there is no room for them."""
    absent = missing(listing, files, folder)
    blobs = {file.name: folder / "blobs" / file.hash for file in absent}
    size = sum(file.size - there(blobs[file.name], file.size) for file in absent)
    free = free_bytes(folder) - SPARE
    if size > max(free, 0):
        raise UserError(
            "{path}: no room for {repository}: {needed} to fetch, {free} free", path=folder.parent,
            repository=listing.repository, needed=of_bytes(size), free=of_bytes(max(free, 0)),
            missing=of_bytes(size - max(free, 0)),
            hint="make room for {missing} more, or move the cache to another disk: soban move FOLDER",
        )  # fmt: skip
    if absent:
        absent.sort(key=lambda file: file.size)
        jobs = [Job(file, Partial(blobs[file.name], file.size)) for file in absent]
        present = sum(file.size for file in files) - sum(file.size for file in absent)
        Fetching(listing, jobs, access.token(), present, progress).run()


def _shards(listing: Listing, folder: Path) -> set[str] | None:
    """The files that the index of a sharded model names; it is fetched for that. None without an index."""
    by_name = {file.name: file for file in listing.files}
    if INDEX not in by_name or SINGLE in by_name or choosing.is_gguf(by_name, listing.repository):
        return None
    if listing.repository.entry and listing.repository.entry.files:
        return None
    index = by_name[INDEX]
    choosing.beside([index], listing.repository)  # not larger than an index can be
    _fetch(listing, [index], folder, lambda _: None)
    blob = folder / "blobs" / index.hash
    path = blob if blob.exists() else folder / "snapshots" / listing.commit / INDEX
    try:
        shards = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
        if shards and all(isinstance(shard, str) for shard in shards):
            return shards
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise UserError(
        "{repository}: its {name} does not say which files hold the weights", repository=listing.repository,
        name=INDEX, hint="choose another repository of this model",
    )  # fmt: skip


def _bring_tokenizer(repository: Repository, address: str, snapshot: Path) -> None:
    """A tokenizer that is kept outside of the hub, into the model's folder; a note where it cannot be had."""
    path = snapshot / store.OWN_TOKENIZER
    if path.is_file():
        return
    try:
        with session.open_client() as client:
            content = session.content(client, address, MOST_TOKENIZER)
    except UserError as problem:
        warn(
            "{model}: its tokenizer is not on the hub, and {address} does not give it: {problem}", model=repository,
            address=address, problem=problem,
        )  # fmt: skip
        return
    new = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    new.write_bytes(content)
    os.replace(new, path)


def _is_there(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _link(blob: Path, pointer: Path, size: int, twins: list[Path]) -> None:
    """A file of the snapshot: a link to its blob or, where the system makes none, the file itself.

    `twins` are the places of all files with this content.
    """
    if _is_there(pointer, size):
        return
    pointer.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        pointer.unlink()
    if blob.exists():
        if (os.environ.get("HF_HUB_DISABLE_SYMLINKS") or "").upper() not in place.TRUE:
            # Windows makes them only for those with the right to, some disks for nobody
            with contextlib.suppress(OSError, NotImplementedError):
                pointer.symlink_to(os.path.relpath(blob, pointer.parent))
                return
        with contextlib.suppress(OSError, NotImplementedError):
            os.link(blob, pointer)  # the same file by another name, so that a later commit finds its blob
            return
    twin = next((other for other in twins if other != pointer and _is_there(other, size)), None)
    if twin is None:
        os.replace(blob, pointer)
    else:
        shutil.copyfile(twin, pointer)


def _refer(folder: Path, revision: str, commit: str) -> None:
    """Notes which commit a branch or tag is at, whole or not at all."""
    if revision == commit:
        return
    path = folder / "refs" / revision
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    new.write_text(commit, encoding="utf-8")
    os.replace(new, path)


def _clean(folder: Path, hashes: set[str]) -> None:
    """Deletes what was begun of contents that the repository no longer has."""
    for path in (folder / "blobs").glob("*.part*"):
        if path.name.partition(".")[0] not in hashes:
            with contextlib.suppress(OSError):
                path.unlink()


@contextlib.contextmanager
def _alone(folder: Path, progress: Report) -> Iterator[None]:
    """One process at a time fetches a repository; the others wait, and then find what it has fetched."""
    from filelock import FileLock, Timeout

    path = folder.parent / ".locks" / folder.name / "soban.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
            progress(Progress(0, 0, phase="waiting"))
            time.sleep(0.3)
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """A cache that cannot be written, in words."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HfHubHTTPError:
        raise
    except OSError as error:
        raise UserError(
            "{path}: cannot be written: {reason}", path=error.filename or folder.parent,
            reason=reason(error), hint="choose another folder with --cache-dir, or HF_HOME",
        ) from error  # fmt: skip
