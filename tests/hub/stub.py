"""A hub on loopback: the part of huggingface.co's API that downloads use, with faults on request.

As a program (`python -m tests.hub.stub FOLDER [owner/name]`) it serves a folder as one repository.
"""

import functools
import hashlib
import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LFS_FROM = 10_000  # bytes; smaller files lie in git, and so does JSON
BLOCK = 64 << 10


@dataclass
class Fault:
    """What goes wrong with a file; `times` says for how many requests for its content, -1 for all."""

    times: int = -1
    status: int | None = None  # this, instead of the content
    headers: dict[str, str] = field(default_factory=dict)  # these, whatever would be true
    cut: int | None = None  # bytes after which the connection breaks
    rate: float | None = None  # bytes per second of a connection
    wait: float = 0.0  # seconds before the answer
    whole: bool = False  # ranges are ignored
    content: bytes | None = None  # other bytes than the listing says
    redirect: str | None = None  # to this address


@dataclass
class Model:
    """A repository: its files, and who may read it."""

    files: dict[str, bytes | Path]
    gated: str | bool = False  # "auto", "manual", or open to all
    private: bool = False
    commit: str = ""
    faults: dict[str, Fault] = field(default_factory=dict)
    listing: dict[str, dict[str, Any]] = field(default_factory=dict)  # lies: what the listing says of a file instead

    def __post_init__(self) -> None:
        if not self.commit:
            named = "".join(f"{name}{blob_id(content(data))}" for name, data in sorted(self.files.items()))
            self.commit = hashlib.sha1(named.encode()).hexdigest()


@dataclass
class Token:
    """An access token: what it is, and which gated models its owner may read."""

    role: str = "read"  # "read", "write" or "fineGrained"
    reads_gated: bool = True  # a fine-grained token's tick box
    consented: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)  # asked for, and not yet granted


@dataclass
class Request:
    """One request as it came, and how many bytes of content it got."""

    method: str
    host: str
    path: str
    range: str | None
    authorization: str | None
    status: int = 0
    sent: int = 0


class Hub:
    """The hub: fill `models` and `tokens`, read `requests`. Use as a context manager."""

    def __init__(self, port: int = 0) -> None:
        self.models: dict[str, Model] = {}  # by the name, "datasets/owner/name" for one of data
        self.moved: dict[str, str] = {}  # old name -> new name
        self.tokens: dict[str, Token] = {}
        self.requests: list[Request] = []
        self.connections = 0
        self.answers_checks = True  # mirrors may not know the question whether a model is granted
        self.rate: float | None = None  # bytes per second for all connections together
        self._budget = threading.Lock()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.hub = self
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.cdn = f"http://localhost:{self.port}"  # the same server, for a client another host

    def __enter__(self) -> "Hub":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path) -> dict[str, str]:
        """What points huggingface_hub, and soban, to this hub and to a cache of their own."""
        return {
            "HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "127.0.0.1,localhost",
        }  # fmt: skip

    def content_requests(self, name: str | None = None) -> list[Request]:
        """The GETs that were answered with content, of one file or of all."""
        found = [one for one in self.requests if one.method == "GET" and one.status in (200, 206) and one.sent]
        paths = {f"/cdn/{self._sha256(name)}"} if name else set()
        return [one for one in found if not name or one.path in paths or one.path.endswith(f"/{name}")]

    def sent(self, name: str | None = None) -> int:
        """How many bytes of content left for a file, or for all files."""
        return sum(one.sent for one in self.content_requests(name) if "/api/" not in one.path)

    def _sha256(self, name: str) -> str:
        data = next(model.files[name] for model in self.models.values() if name in model.files)
        return sha256(content(data))

    def spend(self, count: int) -> None:
        """Waits as long as `count` bytes take on the line that all connections share."""
        if self.rate:
            with self._budget:
                time.sleep(count / self.rate)


def content(data: bytes | Path) -> bytes:
    """The bytes of a file."""
    return data if isinstance(data, bytes) else _read(data)


@functools.cache
def _read(path: Path) -> bytes:
    return path.read_bytes()


@functools.cache
def sha256(data: bytes) -> str:
    """What LFS calls these bytes."""
    return hashlib.sha256(data).hexdigest()


@functools.cache
def blob_id(data: bytes) -> str:
    """What git calls these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def in_lfs(name: str, data: bytes) -> bool:
    """Whether the hub keeps a file outside of git."""
    return len(data) >= LFS_FROM and not name.endswith((".json", ".md", ".jinja"))


def etag(name: str, data: bytes) -> str:
    """What the hub, and the cache, call a file's content."""
    return sha256(data) if in_lfs(name, data) else blob_id(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: Hub

    def get_request(self) -> Any:
        self.hub.connections += 1
        return super().get_request()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what is tested."""


class _Refused(Exception):
    """A request that gets no content: the status, the hub's code for it, and its words."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """Nothing: tests read `requests`."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        self.seen = Request(
            self.command, self.headers.get("Host", ""), path, self.headers.get("Range"),
            self.headers.get("Authorization"),
        )  # fmt: skip
        self.server.hub.requests.append(self.seen)
        try:
            self._route(path, parse_qs(parts.query))
        except _Refused as refused:
            headers = {"X-Error-Message": refused.message}
            if refused.code:
                headers["X-Error-Code"] = refused.code
            self._answer(json.dumps({"error": refused.message}).encode(), status=refused.status, headers=headers)

    def _route(self, path: str, query: dict[str, list[str]]) -> None:
        hub = self.server.hub
        if path == "/api/whoami-v2":
            return self._json(self._whoami())
        if found := re.fullmatch(r"/cdn/([0-9a-f]{64})", path):
            for model in hub.models.values():
                for name, data in model.files.items():
                    if sha256(content(data)) == found[1]:
                        return self._file(name, content(data), model, {})
            raise _Refused(404, None, "no such object")
        if found := re.fullmatch(
            r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(auth-check|revision|tree)(?:/(.+))?)?", path
        ):
            kind, name, what, revision = found.groups()
            name = name if kind == "models" else f"{kind}/{name}"
            if name in hub.moved:
                return self._redirect(f"{hub.url}/api/models/{hub.moved[name]}{path.split(name, 1)[1]}", 307)
            model = self._model(name, revision)
            if what == "auth-check" and not hub.answers_checks:
                raise _Refused(404, None, "Not Found")
            if what == "auth-check":
                self._check_access(name, model)
                return self._json({})
            return self._json(_tree(model) if what == "tree" else _information(name, model, "blobs" in query))
        if found := re.fullmatch(r"/((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            name, revision, file = found.groups()
            if name in hub.moved:
                return self._redirect(f"/{hub.moved[name]}/resolve/{revision}/{file}", 307)
            model = self._model(name, revision)
            self._check_access(name, model)
            if file not in model.files:
                raise _Refused(404, "EntryNotFound", "Entry not found")
            return self._resolve(file, content(model.files[file]), model)
        raise _Refused(404, None, "Not Found")

    def _resolve(self, name: str, data: bytes, model: Model) -> None:
        """A file of git at once; one of LFS by a redirect to the other host."""
        headers = {"X-Repo-Commit": model.commit, "ETag": f'"{etag(name, data)}"'}
        if not in_lfs(name, data):
            return self._file(name, data, model, headers)
        digest = sha256(data)
        headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data)), "ETag": '"of-the-redirect"'}
        return self._redirect(f"{self.server.hub.cdn}/cdn/{digest}?Signature=abc", 302, headers)

    def _file(self, name: str, data: bytes, model: Model, headers: dict[str, str]) -> None:
        fault = model.faults.get(name)
        if fault is None or fault.times == 0 or self.command == "HEAD":
            return self._content(data, headers, Fault())
        fault.times -= 1
        time.sleep(fault.wait)
        if fault.redirect:
            return self._redirect(fault.redirect, 302)
        if fault.status:
            return self._answer(b"trouble", status=fault.status, headers=fault.headers)
        return self._content(data if fault.content is None else fault.content, headers, fault)

    def _content(self, data: bytes, headers: dict[str, str], fault: Fault) -> None:
        start, stop, status = 0, len(data), 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.seen.range or "")
        if asked and not fault.whole:
            start, stop, status = int(asked[1]), min(len(data), int(asked[2] or len(data)) + 1), 206
            if start >= len(data):
                return self._answer(b"", status=416, headers={"Content-Range": f"bytes */{len(data)}"})
            headers = {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
        headers = {**headers, "Content-Type": "application/octet-stream", **fault.headers}
        return self._answer(data[start:stop], status, headers, fault)

    def _answer(
        self, body: bytes, status: int = 200, headers: dict[str, str] | None = None, fault: Fault | None = None
    ) -> None:
        fault = fault or Fault()
        self.seen.status = status
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        for block in _blocks(body if fault.cut is None else body[: fault.cut]):
            if fault.rate:
                time.sleep(len(block) / fault.rate)
            self.server.hub.spend(len(block))
            self.seen.sent += len(block)  # before, for the client may look as soon as it has them
            self.wfile.write(block)
        if fault.cut is not None:
            self.close_connection = True

    def _json(self, value: Any) -> None:
        self._answer(json.dumps(value).encode(), headers={"Content-Type": "application/json"})

    def _redirect(self, address: str, status: int, headers: dict[str, str] | None = None) -> None:
        self._answer(b"Found. Redirecting", status, {"Location": address, **(headers or {})})

    def _token(self) -> Token | None:
        """The token of the request; None without one. A wrong one is refused."""
        if self.seen.authorization is None:
            return None
        name = self.seen.authorization.removeprefix("Bearer ")
        if name not in self.server.hub.tokens:
            raise _Refused(401, None, "Invalid credentials in Authorization header")
        return self.server.hub.tokens[name]

    def _whoami(self) -> dict[str, Any]:
        token = self._token()
        if token is None:
            raise _Refused(401, None, "Invalid username or password.")
        access: dict[str, Any] = {"displayName": "of the test", "role": token.role}
        if token.role == "fineGrained":
            access["fineGrained"] = {"canReadGatedRepos": token.reads_gated, "global": [], "scoped": []}
        return {"type": "user", "name": "tester", "auth": {"type": "access_token", "accessToken": access}}

    def _model(self, name: str, revision: str | None) -> Model:
        token, model = self._token(), self.server.hub.models.get(name)
        if model is None or (model.private and token is None):
            raise _Refused(404 if token else 401, "RepoNotFound", "Repository not found")
        if revision and revision not in ("main", model.commit):
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return model

    def _check_access(self, name: str, model: Model) -> None:
        """The refusals of a gated model, in the hub's own words."""
        token = self._token()
        if not model.gated:
            return
        restricted = f"Access to model {name} is restricted"
        if token is None:
            message = f"{restricted}. You must have access to it and be authenticated to access it. Please log in."
            raise _Refused(401, "GatedRepo", message)
        if token.role == "fineGrained" and not token.reads_gated:
            message = "Please enable access to public gated repositories in your fine-grained token settings to view"
            raise _Refused(403, None, f"{message} this repository.")
        if name in token.waiting:
            raise _Refused(
                403, "GatedRepo", f"Your request to access model {name} is awaiting a review from the repo authors."
            )
        if name not in token.consented:
            visit = f"Visit {self.server.hub.url}/{name} to ask for access."
            raise _Refused(403, "GatedRepo", f"{restricted} and you are not in the authorized list. {visit}")


def _blocks(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), BLOCK):
        yield data[start : start + BLOCK]


def _entry(name: str, data: bytes, lie: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {"size": len(data), "oid": blob_id(data)}
    if in_lfs(name, data):
        entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 134}
    return entry | lie


def _tree(model: Model) -> list[dict[str, Any]]:
    return [
        {"type": "file", "path": name, **_entry(name, content(data), model.listing.get(name, {}))}
        for name, data in model.files.items()
    ]


def _information(name: str, model: Model, blobs: bool) -> dict[str, Any]:
    siblings = []
    for file, data in model.files.items():
        about: dict[str, Any] = {"rfilename": file}
        if blobs:
            entry = _entry(file, content(data), model.listing.get(file, {}))
            about |= {"size": entry["size"], "blobId": entry["oid"]}
            if "lfs" in entry:
                lfs = entry["lfs"]
                about["lfs"] = {"sha256": lfs["oid"], "size": lfs["size"], "pointerSize": lfs["pointerSize"]}
        siblings.append(about)
    return {
        "_id": "0", "id": name, "modelId": name, "sha": model.commit, "private": model.private, "gated": model.gated,
        "disabled": False, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings,
    }  # fmt: skip


def main() -> None:
    """Serves a folder until Ctrl-C."""
    folder, name = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "owner/model"
    with Hub(int(sys.argv[3]) if len(sys.argv) > 3 else 8765) as hub:
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        hub.models[name] = Model({path.relative_to(folder).as_posix(): path for path in found})
        hub.rate = 20e6
        print(f"HF_ENDPOINT={hub.url} soban pull {name}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
