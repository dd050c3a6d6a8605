"""Servers that run on this PC: each leaves a note about itself, by which `soban ps` and `soban stop` find it."""

import contextlib
import http.client
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from soban.base import system
from soban.base.errors import UserError
from soban.serve.keys import digest

SECONDS = 5.0  # for a server on this PC to answer


@dataclass(frozen=True)
class Presence:
    """Where a server is, since when (seconds since 1970), and a key that only whoever started it can read."""

    url: str
    port: int
    process: int
    started: float
    key: str

    @property
    def digest(self) -> str:
        return digest(self.key)

    def ask(self, path: str, method: str = "GET") -> Any:
        """What the server answers, from JSON. OSError where it does not."""
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "", self.port, timeout=SECONDS)
        with contextlib.closing(connection):
            connection.request(method, path, headers={"Authorization": f"Bearer {self.key}"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise ConnectionError(answer.reason)
            return json.loads(answer.read())


def folder() -> Path:
    """Where the notes are."""
    return system.state_folder() / "servers"


@contextlib.contextmanager
def present(url: str, port: int, started: float) -> Iterator[Presence]:
    """The note is there meanwhile; where it cannot be written, the server runs unseen."""
    one = Presence(url, port, os.getpid(), started, secrets.token_urlsafe(32))
    path = folder() / f"{port}.json"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(one)), encoding="utf-8")
    try:
        yield one
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def is_noted(one: Presence) -> bool:
    """Whether the server's note is still there: its last act is to remove it."""
    return (folder() / f"{one.port}.json").exists()


def servers() -> list[Presence]:
    """Those that are there, by their ports; the notes of others, which ended without a word, are removed."""
    answering = []
    paths = sorted(folder().glob("*.json")) if folder().is_dir() else []
    for path in paths:
        try:
            one = Presence(**json.loads(path.read_text(encoding="utf-8")))
            one.ask("/livez")
        except ConnectionError:
            path.unlink(missing_ok=True)
        except (OSError, ValueError, TypeError):
            continue
        else:
            answering.append(one)
    return sorted(answering, key=lambda one: one.port)


def server_at(port: int | None) -> Presence:
    """The server at a port, or the only one. Raises UserError."""
    candidates = servers()
    if port is not None:
        candidates = [one for one in candidates if one.port == port]
    if not candidates:
        raise UserError("no server is running here", hint="soban serve starts one")
    if len(candidates) > 1:
        ports = ", ".join(str(one.port) for one in candidates)
        raise UserError("{count} servers are running", count=len(candidates), ports=ports, hint="name a port: {ports}")
    return candidates[0]
