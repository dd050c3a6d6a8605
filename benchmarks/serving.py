"""Many clients of one server: soban serve, and llama-server with the same weights, by turns.

python benchmarks/serving.py out/gemma-2-2b-random --small src/soban/assets/bundled

SOBAN_BENCH_LLAMA_SERVER names llama-server's program; without it, there is no peer. The clients are asyncio's sockets
in this process, whose own CPU time is told. Every text is drawn at temperature 1 and never ends by itself, so no engine
gains by guessing what repeats.
"""

import argparse
import asyncio
import contextlib
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import common
import serving_clients
from serving_clients import Answer

PROMPT, NEW, LONG = 128, 128, 4000  # tokens
SHORT = 32
PATIENCE = 300  # seconds for a server to be ready


@dataclass
class Server:
    """A server that runs: its name in tables, its port, its process, and what its requests have besides."""

    name: str
    port: int
    process: "subprocess.Popen[bytes]"
    extra: dict[str, Any]

    def body(self, prompt: list[int], tokens: int, seed: int = 1) -> dict[str, Any]:
        return {"prompt": prompt, "max_tokens": tokens, "temperature": 1.0, "seed": seed, **self.extra}


@dataclass
class Figure:
    """What one server did in one task, by rounds."""

    model: str
    task: str
    server: str
    unit: str
    values: list[float]
    clients_cpu: float = 0.0  # seconds of this process in all rounds

    @property
    def value(self) -> float:
        return statistics.median(self.values)


class Bench:
    """A model, its servers, and the figures that come of them."""

    def __init__(self, name: str, servers: list[Server], vocabulary: int) -> None:
        self.name, self.servers, self.vocabulary = name, servers, vocabulary
        self.figures: dict[tuple[str, str], Figure] = {}
        self.random = random.Random(7)

    def prompt(self, tokens: int) -> list[int]:
        """A prompt that no other begins like."""
        return [self.random.randrange(self.vocabulary // 8, self.vocabulary // 2) for _ in range(tokens)]

    def note(self, task: str, server: str, unit: str, value: float, cpu: float = 0.0) -> None:
        figure = self.figures.setdefault((task, server), Figure(self.name, task, server, unit, []))
        figure.values.append(value)
        figure.clients_cpu += cpu
        common.tell(f"{self.name}: {task}, {server}: {value:.4g} {unit}")

    def ask(
        self, server: Server, clients: int, each: int = 1, prompt: int = PROMPT, new: int = NEW, stagger: float = 0.0
    ) -> tuple[list[Answer], float, float]:
        """What `clients` clients get for `each` requests one after the other; seconds of all, and of our own CPU."""
        bodies = [[server.body(self.prompt(prompt), new, seed) for seed in range(each)] for _ in range(clients)]
        start, cpu = time.perf_counter(), time.process_time()
        answers = asyncio.run(serving_clients.many(server.port, bodies, stagger))
        took, own = time.perf_counter() - start, time.process_time() - cpu
        for answer in (one for client in answers for one in client):
            if answer.tokens != new:
                raise SystemExit(f"{server.name} wrote {answer.tokens} tokens where {new} were wanted")
        return [one for client in answers for one in client], took, own

    def throughput(self, server: Server, clients: int, each: int = 1) -> None:
        """Tokens per second of all clients together; the gaps between tokens."""
        answers, took, own = self.ask(server, clients, each, stagger=0.05)
        self.note(f"{clients} clients", server.name, "tokens/s", clients * each * NEW / took, own)
        gaps = sorted(gap for answer in answers for gap in answer.gaps)
        median, late = statistics.median(gaps), gaps[int(len(gaps) * 0.99)]
        self.note(f"{clients} clients: gap", server.name, "ms", 1000 * median)
        self.note(f"{clients} clients: 99 % of gaps", server.name, "times the median", late / median)

    def staggered(self, server: Server, waits: tuple[float, ...] = (0.6, 1.7, 2.9)) -> None:
        """Seconds to the first token of short requests while a prompt of 4,000 tokens is read."""

        async def ask() -> tuple[Answer, list[Answer]]:
            long = asyncio.ensure_future(serving_clients.complete(server.port, server.body(self.prompt(LONG), 4)))

            async def short(wait: float) -> Answer:
                await asyncio.sleep(wait)
                return await serving_clients.complete(server.port, server.body(self.prompt(SHORT), 4))

            shorts = await asyncio.gather(*map(short, waits))
            return await long, shorts

        long, shorts = asyncio.run(ask())
        if any(one.sent > long.events[0] for one in shorts):
            raise SystemExit("the long prompt was read before all short ones had come: choose earlier times")
        self.note("first token beside 4,000", server.name, "ms", 1000 * max(one.first for one in shorts))
        self.note("first token of the 4,000", server.name, "s", long.first)

    def queue(self, server: Server, clients: int = 32) -> None:
        """Whether all have a first token, and in the order of arrival (1: all pairs of neighbours)."""
        answers, _, _ = self.ask(server, clients, 1, 64, 8, stagger=0.02)
        firsts = [answer.events[0] for answer in answers]
        kept = sum(a <= b for a, b in pairwise(firsts)) / (clients - 1)
        self.note(f"{clients} in the queue: in order", server.name, "of neighbours", kept)
        self.note(f"{clients} in the queue: last first token", server.name, "s", max(one.first for one in answers))

    def library(self, server: Server, model: Any) -> None:
        """One client's tokens per second, of the server and of the library, by turns."""
        for which in random.sample(("server", "library"), 2):
            if which == "server":
                _, took, own = self.ask(server, 1)
                self.note("one client", server.name, "tokens/s", NEW / took, own)
            else:
                prompt = self.prompt(PROMPT)
                bias = {int(token): value for token, value in server.extra["logit_bias"].items()}
                start = time.perf_counter()
                for _ in model.start(prompt, max_new_tokens=NEW, temperature=1.0, seed=1, logit_bias=bias):
                    pass
                self.note("one client", "the library", "tokens/s", NEW / (time.perf_counter() - start))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def running(name: str, words: list[str], port: int, extra: dict[str, Any], threads: int) -> Iterator[Server]:
    """The server that these words start, from its being ready to the end of the block."""
    with tempfile.TemporaryFile() as log:
        environment = {**os.environ, "SOBAN_THREADS": str(threads)}
        process = subprocess.Popen(words, stdout=log, stderr=log, env=environment)
        try:
            until = time.monotonic() + PATIENCE
            while not answers(port):
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    raise SystemExit(log.read().decode(errors="replace")[-2000:] + f"\n{name} does not start")
                time.sleep(0.2)
            yield Server(name, port, process, extra)
        finally:
            process.terminate()
            process.wait(60)


def answers(port: int) -> bool:
    try:
        return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).status == 200)
    except OSError:
        return False


@contextlib.contextmanager
def servers(model: Path, kind: str, options: argparse.Namespace, ends: list[int]) -> Iterator[list[Server]]:
    """Us and, where it is named, the peer, both ready."""
    with contextlib.ExitStack() as stack:
        port = free_port()
        words = [sys.executable, "-m", "soban", "serve", str(model), "--port", str(port), "--dtype", kind, "--quiet"]
        words += ["--force"]
        extra: dict[str, Any] = {"logit_bias": {str(end): -100 for end in ends}}
        here = [stack.enter_context(running("soban", words, port, extra, options.threads))]
        program = os.environ.get("SOBAN_BENCH_LLAMA_SERVER")
        if program is None:
            common.tell("no peer: SOBAN_BENCH_LLAMA_SERVER names no llama-server")
            yield here
            return
        gguf = converted(model, {"q4": "q4_0", "q8": "q8_0"}[kind], options.files)
        port = free_port()
        slots = max(8, options.slots)
        words = [program, "-m", str(gguf), "--port", str(port), "-np", str(slots), "-cb", "-fa"]
        words += ["on"] if "on|off|auto" in helped(program) else []  # newer ones want a word
        words += ["-c", str(slots * (4608 if slots == 8 else 512)), "-t", str(options.threads)]
        here.append(stack.enter_context(running("llama-server", words, port, {"ignore_eos": True}, options.threads)))
        yield here


def helped(program: str) -> str:
    return subprocess.run([program, "--help"], capture_output=True, text=True, check=False).stdout


def converted(model: Path, kind: str, files: Path) -> Path:
    """The model's weights as a GGUF file, made once."""
    path = files / f"{model.name}.{kind}.real.gguf"
    if not path.is_file():
        files.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, "-m", "soban", "convert", str(model), str(path), "--type", kind]
        subprocess.run(words, check=True)
    return path


def measure(model: Path, kind: str, options: argparse.Namespace, large: bool) -> list[Figure]:
    """All tasks of a model, servers by turns in each round."""
    import soban

    library = soban.load(model, dtype=kind, force=True)
    with servers(model, kind, options, sorted(library.ends)) as here:
        bench = Bench(model.name, here, library.config.vocab_size)
        for server in here:  # touches the weights, starts the threads
            bench.ask(server, 1, 1, 16, 8)
        for number in range(options.rounds):
            order = here if number % 2 == 0 else list(reversed(here))
            if "one" in options.tasks:
                bench.library(here[0], library)
            for server in order:
                if "many" in options.tasks:
                    if large and server is not here[0]:
                        bench.throughput(server, 1)
                    bench.throughput(server, 8 if large else 64, 1 if large else 2)
                if "long" in options.tasks and large:
                    bench.staggered(server)
                if "queue" in options.tasks:
                    bench.queue(server)
    return list(bench.figures.values())


def show(figures: list[Figure]) -> None:
    """A line for each figure: the median, and from where to where it went."""
    for figure in figures:
        spread = f"{min(figure.values):.4g} - {max(figure.values):.4g}"
        own = f"  clients' CPU {figure.clients_cpu:.1f} s" if figure.clients_cpu else ""
        print(f"{figure.model:24}{figure.task:38}{figure.server:14}{figure.value:10.4g} {figure.unit:18}{spread}{own}")


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--small", type=Path, help="a model of some 15 M parameters, for 64 clients")
    parser.add_argument("--kind", default="q4", choices=("q4", "q8"))
    parser.add_argument("--tasks", nargs="+", default=["one", "many", "long", "queue"])
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers end, too
    options.slots = 8
    figures = measure(options.model, options.kind, options, large=True)
    if options.small:
        options.slots = 64
        figures += measure(options.small, "q8", options, large=False)
    show(figures)
    machine = {"when": time.strftime("%Y-%m-%d %H:%M"), "machine": common.cpu(), "cores": os.cpu_count()}
    for figure in figures:
        common.append("serving", {**machine, "threads": options.threads, **asdict(figure), "value": figure.value})


if __name__ == "__main__":
    main()
