"""Streams come to their end, whenever a client leaves and however slowly it reads."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from soban.serve import replies
from soban.serve.guard import Record
from soban.serve.replies import Stream


async def endless() -> AsyncIterator[str]:
    yield "a"
    await asyncio.get_running_loop().create_future()  # a text that nobody writes any more


def run(receive: Any, send: Any) -> Record:
    """The record of a stream that is sent by these; it has to end within seconds."""
    record, left = Record(), []

    async def whole() -> None:
        stream = Stream(endless(), lambda: left.append(1), "text/plain")
        task = asyncio.ensure_future(stream({"state": {"record": record}}, receive, send))
        done, _ = await asyncio.wait({task}, timeout=5)
        assert done, "it goes on"

    asyncio.run(whole())
    assert left == [1]
    return record


@pytest.mark.parametrize("ticks", range(12))
def test_a_client_that_leaves_while_a_piece_is_sent_ends_the_stream(ticks: int) -> None:
    """`ticks`: of the event loop by which the piece is sent after the client has left."""
    gone = asyncio.Event()

    async def receive() -> dict[str, str]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            gone.set()
            for _ in range(ticks):
                await asyncio.sleep(0)

    assert run(receive, send).outcome == "left"


def test_a_reader_that_takes_nothing_is_left_alone_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "SEND_SECONDS", 0.1)

    async def never(*_: Any) -> Any:
        await asyncio.get_running_loop().create_future()

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            await never()

    assert run(never, send).outcome == "left"
