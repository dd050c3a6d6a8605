"""What the hub has: a repository's files with their sizes and hashes, and parts of them."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from soban.base.errors import UserError
from soban.hub import access, place, session
from soban.hub.choosing import RemoteFile
from soban.hub.names import DEVICE, Repository

MOST_FILES = 20_000
MOST_BYTES = 1 << 50  # of one file
LONGEST_NAME = 200  # characters, with its folders
MOST_RANGE = 256 << 20  # bytes that are read at once into memory
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+")
HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class Listing:
    """A repository as it is at one commit."""

    repository: Repository
    commit: str
    gated: bool
    files: tuple[RemoteFile, ...]


def files(repository: Repository) -> list[RemoteFile]:
    """All files of a repository, by the network.

    Raises UserError: no such repository or revision, not granted (AccessError), offline, no trust, no proxy.
    """
    return list(listing(repository).files)


def listing(repository: Repository) -> Listing:
    """The files and the commit that they are of. Raises as `files`."""
    from huggingface_hub.errors import HfHubHTTPError

    token = access.token()
    with session.open_client() as client:
        try:
            reply = session.json_answer(client, _api(repository.id, repository), session.headers(token))
            if _has_moved(reply, repository):  # a redirect to its new name may have lost the question for sizes
                reply = session.json_answer(client, _api(reply["id"], repository), session.headers(token))
        except HfHubHTTPError as error:
            raise access.refusal(error, repository, token) from error
    return listing_of(repository, reply)


def listing_of(repository: Repository, reply: Any) -> Listing:
    """The listing in the hub's answer. Raises UserError for an answer that is none."""
    try:
        return _listing(repository, reply)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            "{repository}: the hub's list of its files is not one that this version understands", repository=repository,
            hint="check HF_ENDPOINT",
        ) from error  # fmt: skip


def _api(identity: str, repository: Repository) -> str:
    revision = quote(_revision(repository), safe="")
    return f"{place.endpoint()}/api/{repository.kind}/{identity}/revision/{revision}?blobs=true"


def _has_moved(reply: Any, repository: Repository) -> bool:
    """Whether this is what the hub says of a repository that has another name now."""
    new = reply.get("id") if isinstance(reply, dict) else None
    return isinstance(new, str) and new != repository.id and bool(NAME.fullmatch(new))


def read_range(repository: Repository, name: str, start: int, stop: int) -> bytes:
    """The bytes from `start` up to `stop`, fewer where the file ends before. Raises as `files`."""
    from huggingface_hub.errors import HfHubHTTPError

    if not 0 <= start < stop <= start + MOST_RANGE:
        raise ValueError(f"{start} to {stop} is no part of a file that is read at once")
    token = access.token()
    headers = {**session.headers(token), "range": f"bytes={start}-{stop - 1}"}
    address = url(repository, _revision(repository), name)

    def ask() -> bytes:
        with session.answer(client, address, headers) as response:
            session.check(response)
            # a server without ranges sends all from the beginning
            skip = 0 if response.status_code == 206 else start
            if response.status_code == 206:
                check_range(response, start, stop)
            content = b""
            for piece in response.iter_bytes():
                content += piece
                if len(content) >= skip + stop - start:
                    break
                if skip > MOST_RANGE:
                    raise _no_ranges(response)
            return content[skip : skip + stop - start]

    with session.open_client() as client:
        try:
            return bytes(session.patiently(ask))
        except HfHubHTTPError as error:
            raise access.refusal(error, repository, token) from error


def url(repository: Repository, commit: str, name: str) -> str:
    """Where a file's content is fetched."""
    return f"{place.endpoint()}/{repository.page}/resolve/{quote(commit, safe='')}/{quote(name)}"


def check_range(response: Any, start: int, stop: int) -> int:
    """The file's whole size as an answer with a part of it tells it; UserError where it is another part."""
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("content-range", "").strip())
    if not match or int(match[1]) != start or int(match[2]) + 1 != min(stop, int(match[3])):
        raise UserError(
            "{host} sends another part of the file than was asked for ({part})", host=response.url.host,
            part=ascii(response.headers.get("content-range", "-"))[1:-1][:60],
            hint="a proxy may be in the way: check HTTPS_PROXY",
        )  # fmt: skip
    return int(match[3])


def _no_ranges(response: Any) -> UserError:
    return UserError(
        "{host} sends no parts of files", host=response.url.host, hint="a proxy may be in the way: check HTTPS_PROXY"
    )


def _revision(repository: Repository) -> str:
    if not place.REVISION.fullmatch(repository.revision):
        raise UserError(
            "{revision}: not a branch, tag or commit", revision=ascii(repository.revision)[1:-1][:60],
            hint="leave it out",
        )  # fmt: skip
    return repository.revision


def _listing(repository: Repository, reply: Any) -> Listing:
    commit, siblings = reply["sha"], reply["siblings"]
    if not place.COMMIT.fullmatch(commit) or not isinstance(siblings, list) or len(siblings) > MOST_FILES:
        raise ValueError
    members = (_file(repository, one) for one in siblings if _is_fit(one["rfilename"], repository))
    return Listing(repository, commit, bool(reply.get("gated")), tuple(members))


def _file(repository: Repository, sibling: Any) -> RemoteFile:
    name, lfs = sibling["rfilename"], sibling.get("lfs") or {}
    size, hash = lfs.get("size", sibling.get("size")), lfs.get("sha256", sibling.get("blobId"))
    if type(size) is not int or not 0 <= size <= MOST_BYTES or not HASH.fullmatch(hash):
        raise ValueError
    return RemoteFile(name, size, hash)


def _is_fit(name: str, repository: Repository) -> bool:
    """Whether every system can make a file of this name; a model needs no others.

    Raises UserError for a name that could lead out of the model's folder, here or on any other system.
    """
    parts = name.split("/")
    if not name.isprintable() or "\\" in name or ".." in parts or parts[0] == "" or name[1:2] == ":":
        raise UserError(
            "{repository}: the hub lists a file called {name}, which could lie outside of the model's folder",
            repository=repository, name=ascii(name)[1:-1][:80], hint="choose another repository",
        )  # fmt: skip
    strange = any(part in ("", ".") or part.endswith((".", " ")) or DEVICE.fullmatch(part) for part in parts)
    return not strange and not any(sign in name for sign in ':*?"<>|') and len(name) <= LONGEST_NAME
