"""What stands before every request: who may ask, by which name, and how much; one line and figures about each.

A page of another site may make a browser send requests to a server on its own machine. It can be told by the Host
that the browser thinks it talks to (a name that was made to point here), and by the Origin of the page.
"""

import asyncio
import hmac
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from soban.serve.errors import ApiError
from soban.serve.keys import digest
from soban.serve.settings import Settings
from soban.talk.generation import Figures

LOCAL = ("localhost", "127.0.0.1", "[::1]")
OPEN = ("/health", "/livez", "/readyz")  # which say no more than that the server is there
BODY_SECONDS = 60.0  # for a body to arrive
# Whose request a task answers. It is known here, and wanted where texts begin; no handler between can forget it.
owner: ContextVar[str] = ContextVar("owner", default="")


@dataclass
class Record:
    """What a request was about, for its line; the handlers fill it in."""

    model: str = ""
    prompt_tokens: int = 0
    new_tokens: int = 0
    status: int = 0
    path: str = ""
    method: str = ""
    seconds: float = 0.0
    client: str = ""
    owner: str = ""  # of the key that it brought
    outcome: str = ""  # "left" where whoever asked went away
    route: str = ""  # the path without what differs from request to request
    begun: float = field(default_factory=time.monotonic)

    def note(self, figures: Figures) -> None:
        """Adds what a text of it took."""
        self.prompt_tokens += figures.prompt_tokens
        self.new_tokens += figures.new_tokens


class Guard:
    """The ASGI application behind the checks."""

    def __init__(self, app: ASGIApp, settings: Settings, log: Callable[[Record], None]) -> None:
        """`log` is given the record of every request that has ended."""
        self.app, self.settings, self.log = app, settings, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client = scope.get("client")
        record = Record(path=scope["path"], method=scope["method"], client=client[0] if client else "")
        scope.setdefault("state", {})["record"] = record

        refused: list[ApiError] = []  # a body that was given up, whatever the application makes of that

        async def sending(message: Message) -> None:
            if refused:
                if not record.status:
                    record.status = refused[0].status
                    await JSONResponse(refused[0].body(_inner(scope)), refused[0].status)(scope, receive, send)
                return
            if message["type"] == "http.response.start":
                record.status = message["status"]
            await send(message)

        try:
            record.owner = self._check(Request(scope))
            owner.set(record.owner)
            await self.app(scope, self._bounded(receive, scope, refused), sending)
        except ApiError as error:
            if record.status:
                raise
            answer = JSONResponse(error.body(_inner(scope)), error.status, error.all_headers)
            await answer(scope, receive, sending)
        finally:
            record.seconds = time.monotonic() - record.begun
            route = scope.get("route")
            record.route = getattr(route, "path", "") if record.status != 404 else ""
            self.log(record)

    def _check(self, request: Request) -> str:
        """Whose request it is, by the name of the key, or "" where none is asked for. Raises ApiError."""
        settings = self.settings
        if settings.hosts is not None:
            host = _without_port(request.headers.get("host", ""))
            if host not in (*LOCAL, *settings.hosts):
                raise ApiError(
                    f"this server is not called '{host}'; start it with --allow-host to let that name in", 403
                )
            origin = request.headers.get("origin")
            if origin and not self._welcome(origin, request):
                raise ApiError(f"pages of '{origin}' may not ask here; start it with --allow-origin to let them", 403)
        if settings.keys and request.url.path not in OPEN and request.method != "OPTIONS":
            own = digest(_key(request))
            names = [name for other, name in settings.keys.items() if hmac.compare_digest(own, other)]
            if not names:
                raise ApiError(
                    "no key that this server knows; send one as Authorization: Bearer KEY", 401, code="invalid_api_key",
                    headers={"WWW-Authenticate": "Bearer"},
                )  # fmt: skip
            return names[0]
        return ""

    def _welcome(self, origin: str, request: Request) -> bool:
        """Whether a page may call: one of ours, or of a site that was let in."""
        own = f"{request.url.scheme}://{request.headers.get('host', '')}"
        return origin == own or origin in self.settings.origins or "*" in self.settings.origins

    def _bounded(self, receive: Receive, scope: Scope, refused: list[ApiError]) -> Receive:
        """The body, as long as it is neither too long nor too slow; else it ends, and `refused` says why."""
        most = self.settings.limits.body
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > most:
            raise _too_long(most)
        size, whole = 0, False

        async def bounded() -> Message:
            nonlocal size, whole
            if whole:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), BODY_SECONDS)
            except asyncio.TimeoutError as error:
                refused.append(ApiError(f"the body did not arrive within {BODY_SECONDS:.0f} seconds", 408))
                raise refused[0] from error
            if message["type"] == "http.request":
                size += len(message.get("body", b""))
                whole = not message.get("more_body", False)
                if size > most:
                    refused.append(_too_long(most))
                    raise refused[0]
            return message

        return bounded


def _inner(scope: Scope) -> str:
    """The path within this application, wherever it is mounted."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def _too_long(most: int) -> ApiError:
    return ApiError(f"the body is longer than {most >> 20} MB", 413, code="body_too_long")


def _without_port(host: str) -> str:
    return host.lower() if host.endswith("]") else host.lower().rpartition(":")[0] or host.lower()


def _key(request: Request) -> str:
    """OpenAI's way and Anthropic's newer one, or Anthropic's older one."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
