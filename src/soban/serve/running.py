"""A server from its start to its end: the port, the models that it begins with, signals, and who may stop it."""

import asyncio
import contextlib
import dataclasses
import errno
import hmac
import signal
import socket
import time
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI, Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from soban.base import system
from soban.base.errors import UserError
from soban.serve.app import application
from soban.serve.errors import ApiError
from soban.serve.guard import Record
from soban.serve.pool import Pool
from soban.serve.presence import Presence, present
from soban.serve.settings import Settings

PATIENCE = 30.0  # seconds for a request's head to arrive, and for answers to end when the server is to stop
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Protocol(H11Protocol):
    """uvicorn's, without endless patience for a request whose head does not end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.deadline = self.loop.call_later(PATIENCE, self._give_up)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None:
            self.deadline.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self.deadline.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        if self.cycle is None:
            self.transport.close()


class Server(uvicorn.Server):
    """uvicorn's, for which a signal is the usual way to end, and not what the process dies of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        numbers = [signal.SIGINT, signal.SIGTERM]
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def bound(host: str, port: int) -> socket.socket:
    """A listening socket. Raises UserError where the port is taken, or the address is none of this PC's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                "port {port} is in use", port=port, hint="soban ps shows soban's own servers; or choose another --port"
            ) from error
        if error.errno == errno.EACCES:
            raise UserError(
                "port {port} is not for everybody to open", port=port, hint="choose one from 1024 to 65535"
            ) from error
        raise UserError(
            "{host}: no address of this PC", host=host, hint="127.0.0.1 is for this PC alone, 0.0.0.0 for all networks"
        ) from error
    return listening


def serve(
    settings: Settings,
    host: str,
    port: int,
    *,
    log: Callable[[Record], None],
    ready: Callable[[Presence], None],
    loading: Callable[[str], None] = lambda name: None,
) -> None:
    """Serves until a signal or `soban stop` ends it; what is being written then is written to its end.

    `loading` is told the name of each model that is loaded at the start, `ready` that all are. Raises UserError for a
    port that is in use, and where a model that was named cannot be loaded.
    """
    system.share_heap()  # a request is prepared in any of several threads, and each would keep megabytes
    listening = bound(host, port)
    port = listening.getsockname()[1]
    address = f"[{host}]" if ":" in host else "127.0.0.1" if host in ("0.0.0.0", "localhost") else host
    with present(f"http://{address}:{port}", port, time.time()) as presence, contextlib.closing(listening):
        if settings.keys:
            settings = dataclasses.replace(settings, keys={**settings.keys, presence.digest: "soban"})
        app = application(settings, log)
        asyncio.run(_serve(app, listening, presence, ready, loading))


async def _serve(
    app: FastAPI, listening: socket.socket, presence: Presence, ready: Callable[[Presence], None],
    loading: Callable[[str], None],
) -> None:  # fmt: skip
    config = uvicorn.Config(
        app, http=Protocol, ws="none", log_config=None, access_log=False, server_header=False, lifespan="on",
        timeout_graceful_shutdown=int(PATIENCE), backlog=1024,
    )  # fmt: skip
    server = Server(config)
    _let_stop(app, server, presence)
    pool: Pool = app.state.pool
    failure: list[BaseException] = []

    async def prepare() -> None:
        try:
            await pool.preload(loading)
        except ApiError as error:
            cause = error.__cause__
            failure.append(cause if isinstance(cause, UserError) else RuntimeError(error.message))
            server.should_exit = True
        else:
            ready(presence)

    preparing = asyncio.ensure_future(prepare())
    await server.serve(sockets=[listening])
    if not preparing.done():
        preparing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await preparing
    if failure:
        raise failure[0]


def _let_stop(app: FastAPI, server: uvicorn.Server, presence: Presence) -> None:
    """A path by which whoever can read the server's note ends it, on systems without signals, too."""

    @app.post("/soban/stop", include_in_schema=False)
    async def stop(request: Request) -> dict[str, str]:
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(key.encode(), presence.key.encode()):
            raise ApiError("only whoever started this server may stop it", 403)
        server.should_exit = True
        return {"status": "stopping"}
