"""Answers as they are sent: whole, or as a stream of events; whoever has gone away is noticed, and frees his place."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from soban.serve.errors import ApiError
from soban.serve.guard import Record

SEND_SECONDS = 120.0  # for a reader to take a piece
Result = TypeVar("Result")


def record_of(request: Request) -> Record:
    """What the log will say of the request; a server behind another application may have none."""
    record = request.scope.get("state", {}).get("record")
    return record if isinstance(record, Record) else Record()


async def gone(receive: Receive) -> None:
    """Returns when whoever asked has left; the body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(request: Request, work: Awaitable[Result], leave: Callable[[], None]) -> Result:
    """What the work gives; as soon as whoever asked leaves, `leave` is called and the work is given up."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(gone(request.receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            record_of(request).outcome = "left"
            raise ApiError("whoever asked has left", 499)
        return task.result()
    finally:
        leave()
        for each in (task, watch):
            if not each.done():
                each.cancel()
                with contextlib.suppress(asyncio.CancelledError, ApiError):
                    await each


class Stream(Response):
    """Chunks as they come. `leave` is called at the end, whichever way it comes."""

    def __init__(self, chunks: AsyncIterator[str], leave: Callable[[], None], media_type: str) -> None:
        self.chunks, self.leave = chunks, leave
        self.status_code, self.media_type, self.background = 200, media_type, None
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()

        async def write() -> None:
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)
            async for chunk in self.chunks:
                # not wait_for: before Python 3.12 it may forget that it was cancelled, and nobody ends this any more
                patience = loop.call_later(SEND_SECONDS, writing.cancel)
                try:
                    await send({"type": "http.response.body", "body": chunk.encode(), "more_body": True})
                finally:
                    patience.cancel()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        writing, watch = asyncio.ensure_future(write()), asyncio.ensure_future(gone(receive))
        try:
            await asyncio.wait({writing, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not writing.done() or writing.cancelled():
                scope["state"]["record"].outcome = "left"
            elif (error := writing.exception()) is not None and not isinstance(error, OSError):
                raise error
        finally:
            self.leave()
            for task in (writing, watch):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task


def as_json(value: Any) -> str:
    """On one line, whatever a reader takes for the end of one; Hangul as it is."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").replace("\u0085", "\\u0085")


def event(value: Any, name: str | None = None) -> str:
    """One event of a stream that browsers and the APIs' own clients read."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {value if isinstance(value, str) else as_json(value)}\n\n"
