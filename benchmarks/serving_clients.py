"""Clients of a server's /v1/completions that cost little themselves: sockets, and the time of every event."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any


@dataclass
class Answer:
    """One request's times, in `time.perf_counter()`'s seconds."""

    sent: float = 0.0
    events: list[float] = field(default_factory=list)  # when each piece of text came
    tokens: int = 0
    text: str = ""
    reason: str | None = None

    @property
    def first(self) -> float:
        """Seconds to the first token."""
        return self.events[0] - self.sent

    @property
    def gaps(self) -> list[float]:
        return [b - a for a, b in pairwise(self.events)]


async def complete(port: int, body: dict[str, Any]) -> Answer:
    """The answer to a streamed request. Raises RuntimeError where there is none."""
    data = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    answer = Answer(time.perf_counter())
    try:
        writer.write(f"{head}Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data)
        status = (await reader.readline()).decode()
        if " 200 " not in status:
            raise RuntimeError(status + (await reader.read()).decode(errors="replace"))
        while await reader.readline() not in (b"\r\n", b""):
            pass
        while line := await reader.readline():
            if line.startswith(b"data: {"):
                _take(answer, json.loads(line[6:]))
    finally:
        writer.close()
    if not answer.events:
        raise RuntimeError("an answer without any text")
    return answer


def _take(answer: Answer, event: dict[str, Any]) -> None:
    if "error" in event:
        raise RuntimeError(json.dumps(event["error"]))
    now = time.perf_counter()
    for choice in event.get("choices", ()):
        if text := choice.get("text"):
            answer.events.append(now)
            answer.text += text
        answer.reason = choice.get("finish_reason") or answer.reason
    if usage := event.get("usage"):
        answer.tokens = usage["completion_tokens"]


async def many(port: int, bodies: list[list[dict[str, Any]]], stagger: float = 0.0) -> list[list[Answer]]:
    """A client for each list of bodies, which it sends one after the other; each begins `stagger` seconds later."""

    async def client(number: int, mine: list[dict[str, Any]]) -> list[Answer]:
        await asyncio.sleep(number * stagger)
        return [await complete(port, body) for body in mine]

    return await asyncio.gather(*(client(number, mine) for number, mine in enumerate(bodies)))
