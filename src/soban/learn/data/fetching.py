"""A file of one of the hub's datasets to this PC: resumed where it was stopped, its size and hash checked.

The one place that knows the network: whoever fetches calls `fetch` and knows no more.
"""

import contextlib
import hashlib
import http.client
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from soban.errors import UserError
from soban.hub import place
from soban.weights.files import free_bytes, no_space, reason, write_error

Tell = Callable[[int, int | None], None]  # bytes that are there, bytes of the whole file
SECONDS = 30.0  # without a byte
PIECE = 1 << 18
TRIES = 4  # that follow one another without a byte between them
SHA256 = re.compile(r"[0-9a-f]{64}")


def fetch(repository: str, name: str, path: Path, tell: Tell, revision: str = "main") -> None:
    """Puts the file at `path`; what an earlier run has fetched of it is kept. Raises UserError."""
    if place.is_offline():
        raise UserError("{name} is not here, and HF_HUB_OFFLINE=1 forbids the network", name=name, hint="unset it")
    url = f"{place.endpoint()}/datasets/{repository}/resolve/{quote(revision, safe='')}/{quote(name)}"
    part = path.with_name(path.name + ".part")
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            digest = _rest(url, part, tell)
            break
        except _BrokenOffError as error:
            failures = 0 if part.exists() and part.stat().st_size > before else failures + 1
            if failures == TRIES:
                raise UserError(
                    "{url} cannot be fetched: {reason}", url=url, reason=error,
                    hint="check the network; the same command goes on from where it stopped",
                ) from error  # fmt: skip
    if digest is not None and _sha256(part) != digest:
        part.unlink()
        _mark(part).unlink(missing_ok=True)
        raise UserError(
            "{name} arrived damaged: its hash is not the one that the hub lists", name=name,
            hint="run the same command again; a proxy or virus scanner may be changing it",
        )  # fmt: skip
    os.replace(part, path)
    _mark(part).unlink(missing_ok=True)


class _BrokenOffError(Exception):
    """A connection that failed, and may work again."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Keeps what the hub tells of a file before it sends us to another server."""

    def __init__(self) -> None:
        self.told: dict[str, str] = {}

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        self.told |= {key.lower(): value for key, value in headers.items()}
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _mark(part: Path) -> Path:
    """Where it is noted which version of a file a part is of."""
    return part.with_name(part.name + ".json")


def _rest(url: str, part: Path, tell: Tell) -> str | None:
    """Fetches what is missing; the SHA-256 that the hub lists, if it does. Raises _BrokenOffError, UserError."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "soban", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    redirects = _Redirects()
    try:
        with urllib.request.build_opener(redirects).open(request, timeout=SECONDS) as response:
            told = {key.lower(): value for key, value in response.headers.items()} | redirects.told
            version = told.get("x-linked-etag", told.get("etag", "")).strip('W/"')
            length = int(response.headers.get("Content-Length") or -1)
            if response.status != 206 or (have and _version(part) != version):
                if response.status == 206:
                    part.unlink()  # it has been replaced on the hub since
                    raise _BrokenOffError("another version")
                have = 0
            total = have + length if length >= 0 else None
            _keep_version(part, version)
            _receive(response, part, have, total, tell)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is left of it, or it is another file now
            version = error.headers.get("X-Linked-Etag") or redirects.told.get("x-linked-etag") or ""
            if version and version.strip('W/"') == _version(part):
                return _digest(_version(part))
            part.unlink()
            raise _BrokenOffError("another version") from error
        if error.code in (408, 429) or error.code >= 500:
            raise _BrokenOffError(f"HTTP {error.code}") from error
        raise UserError(
            "{url}: the hub answers {code}", url=url, code=error.code, hint="check HF_ENDPOINT, or try again later"
        ) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise _BrokenOffError(str(getattr(error, "reason", error))) from error
    return _digest(version)


def _digest(version: str) -> str | None:
    return version if SHA256.fullmatch(version) else None


def _version(part: Path) -> str:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(_mark(part).read_text(encoding="utf-8"))["etag"])
    return ""


def _keep_version(part: Path, version: str) -> None:
    part.parent.mkdir(parents=True, exist_ok=True)
    _mark(part).write_text(json.dumps({"etag": version}), encoding="utf-8")


def _receive(response: Any, part: Path, have: int, total: int | None, tell: Tell) -> None:
    """Appends what comes. Raises _BrokenOffError where it ends early, UserError where it does not fit."""
    if total is not None and (free := free_bytes(part.parent)) < total - have:
        raise no_space(part, total - have, free)
    with part.open("r+b" if have else "wb") as file:
        file.seek(have)
        while data := response.read(PIECE):
            try:
                file.write(data)
            except OSError as error:
                raise write_error(part, len(data), error) from error
            have += len(data)
            tell(have, total)
    if total is not None and have < total:
        raise _BrokenOffError("the connection ended early")


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while data := file.read(PIECE):
                found.update(data)
    except OSError as error:
        raise UserError(
            "{path}: cannot be read: {reason}", path=path, reason=reason(error), hint="check the disk"
        ) from error
    return found.hexdigest()
