"""Thousands of mixed requests at one server, to see that none fails, none hangs, and memory stays where it was.

python benchmarks/soak.py --requests 10000 --together 16

Short and long, whole and streamed, left in the middle, wrong, of a schema, with tools, in all three APIs; of the
bundled model. What is wrong is told on stdout, and the exit code is 1: a status 500, an answer that takes longer than
--patience, an answer that breaks its schema, memory that grew by more than 10 MB after the first tenth.
"""

import argparse
import asyncio
import collections
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import serving

GROWTH = 10_000_000  # bytes
SCHEMA = {
    "type": "object", "required": ["이름", "n"], "additionalProperties": False,
    "properties": {"이름": {"type": "string", "maxLength": 8}, "n": {"type": "integer", "minimum": 0, "maximum": 99}},
}  # fmt: skip
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": SCHEMA}}]
WORDS = ("Once upon a time ", "이야기 하나 해 줘. ", "the little dog ", "🦊 ", "안녕? ", "a\n\nb ", "\u2028", "x" * 40)
BAD: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/chat/completions", {"messages": []}),
    ("/v1/chat/completions", {"messages": "x"}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "temperature": "hot"}),
    ("/v1/chat/completions", {"messages": [{"role": "robot", "content": "x"}]}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "surprise": 1}),
    ("/v1/completions", {"prompt": [1 << 30], "max_tokens": 1}),
    ("/v1/completions", {"prompt": "x " * 5000, "max_tokens": 1}),
    ("/v1/completions", {"prompt": "x", "max_tokens": 1, "model": "nobody"}),
    ("/api/chat", {"messages": [{"role": "user", "content": "x"}], "format": "xml"}),
    ("/v1/messages", {"messages": [{"role": "user", "content": "x"}]}),
    ("/nowhere", {}),
)


class Client:
    """Sends requests of every kind and counts what came of them."""

    def __init__(self, port: int, seed: int, patience: float) -> None:
        self.port, self.dice, self.patience = port, random.Random(seed), patience
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.problems: list[str] = []
        self.slowest = 0.0

    async def one(self) -> None:
        """A request; what is wrong with its answer is kept."""
        kind, path, body, left = self.request()
        start = time.monotonic()
        try:
            status, text = await asyncio.wait_for(self.send(path, body, left), self.patience)
        except asyncio.TimeoutError:
            self.problems.append(f"{kind}: no answer within {self.patience:.0f} s: {json.dumps(body)[:200]}")
            return
        except OSError as error:
            self.problems.append(f"{kind}: {error!r}")
            return
        self.slowest = max(self.slowest, time.monotonic() - start)
        self.outcomes[f"{kind} {status or 'left'}"] += 1
        if status >= 500 or ((kind == "bad") == (status == 200) and not left):
            self.problems.append(f"{kind}: {status}: {text[:300]}")
        elif kind == "schema":
            self.check(text)

    def request(self) -> tuple[str, str, dict[str, Any], bool]:
        """Its kind, its path, its body, and whether the client leaves before the end."""
        dice = self.dice
        kind = dice.choices(("short", "long", "bad", "schema", "tools", "left"), (40, 15, 15, 12, 6, 12))[0]
        if kind == "bad":
            path, body = dice.choice(BAD)
            return kind, path, {"model": "soban", **body}, False
        text = "".join(dice.choices(WORDS, k=dice.randint(1, 16 if kind == "long" else 4)))
        messages = [{"role": "user", "content": text}]
        tokens = dice.randint(20, 120) if kind in ("long", "left") else dice.randint(1, 24)
        stream = kind == "left" or (kind != "schema" and dice.random() < 0.5)
        body = {"model": "soban", "messages": messages, "max_tokens": tokens, "stream": stream}
        if kind == "schema":
            form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
            return kind, "/v1/chat/completions", {**body, "max_tokens": 80, "response_format": form}, False
        if kind == "tools":
            return kind, "/v1/chat/completions", {**body, "max_tokens": 70, "tools": TOOLS}, False
        match dice.randrange(4):
            case 0:
                return kind, "/v1/messages", body, kind == "left"
            case 1:
                del body["max_tokens"]
                options = {"num_predict": tokens, "temperature": dice.choice((0, 0.8))}
                return kind, "/api/chat", {**body, "options": options}, kind == "left"
            case 2:
                del body["messages"]
                more = {"prompt": text, "logprobs": dice.choice((None, 2)), "echo": dice.random() < 0.3 and not stream}
                return kind, "/v1/completions", {**body, **more}, kind == "left"
        seed = {"seed": dice.randrange(1000), "n": dice.choice((1, 1, 3)), "temperature": 1.0}
        return kind, "/v1/chat/completions", {**body, **seed}, kind == "left"

    async def send(self, path: str, body: dict[str, Any], left: bool) -> tuple[int, str]:
        """The status and the text of the answer; 0 where the client has left."""
        data = json.dumps(body).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24)
        try:
            head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data)
            if left and self.dice.random() < 0.5:
                await asyncio.sleep(self.dice.random() * 0.02)
                return 0, ""
            status = int((await reader.readline()).split()[1])
            if left:
                await reader.read(self.dice.randint(1, 400))
                return 0, ""
            return status, (await reader.read()).decode()
        finally:
            writer.close()

    def check(self, text: str) -> None:
        """An answer of the schema, put together of what came in chunks."""
        try:
            body = text[text.index("{") : text.rindex("}") + 1]
            content = json.loads(json.loads(body)["choices"][0]["message"]["content"])
        except (ValueError, KeyError) as error:
            self.problems.append(f"schema: {error!r}: {text[-300:]}")
            return
        if set(content) != {"이름", "n"} or len(content["이름"]) > 8 or not 0 <= content["n"] <= 99:
            self.problems.append(f"schema: {content}")


def memory(process: int) -> int:
    """Bytes that a process has for itself (Linux)."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Anonymous:"))


async def soak(client: Client, process: int, requests: int, together: int) -> list[int]:
    """Sends them; the server's memory after each tenth."""
    sizes: list[int] = []
    left = iter(range(requests))

    async def worker() -> None:
        for number in left:
            await client.one()
            if (number + 1) % (requests // 10) == 0:
                sizes.append(memory(process))
                common.tell(f"{number + 1} requests, {sizes[-1] / 1e6:.1f} MB, {len(client.problems)} problems")

    await asyncio.gather(*(worker() for _ in range(together)))
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--together", type=int, default=16)
    parser.add_argument("--patience", type=float, default=120, help="seconds for an answer")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers end, too
    port = serving.free_port()
    words = [sys.executable, "-m", "soban", "serve", "soban", "--port", str(port), "--quiet", "--users", "8"]
    with tempfile.TemporaryDirectory() as state:
        os.environ["XDG_STATE_HOME"] = state
        with serving.running("soban", words, port, {}, os.cpu_count() or 1) as server:
            client = Client(port, options.seed, options.patience)
            start = time.monotonic()
            sizes = asyncio.run(soak(client, server.process.pid, options.requests, options.together))
            took = time.monotonic() - start
            alive = server.process.poll() is None and serving.answers(port)
    growth = sizes[-1] - sizes[0]
    for outcome, count in sorted(client.outcomes.items()):
        print(f"{outcome:14}{count:7}")
    print(f"{options.requests} requests in {took:.0f} s, the slowest took {client.slowest:.1f} s")
    print(f"memory {sizes[-1] / 1e6:.1f} MB, {growth / 1e6:+.1f} MB since the first tenth")
    for problem in client.problems[:20]:
        print(problem)
    if not alive:
        print("the server has gone")
    sys.exit(bool(client.problems) or growth > GROWTH or not alive)


if __name__ == "__main__":
    main()
