"""An older revision and this checkout by turns: what a change has cost, or brought.

    python benchmarks/against.py HEAD~20
    python benchmarks/against.py HEAD~20 --model out/gemma-2-2b-random    # of scripts/make_random_gemma2.py

The older revision is laid out under out/against, and its native library built there, once; this checkout's is taken as
it was built. Each side runs its own benchmarks/engines.py and training.py, on the same weights. Told is the median of
the rounds' ratios (above 1: this checkout is better), with the anonymous memory. --tasks: decode, prefill, tiny (15 M
weights, a text of 250 tokens), help (`soban --help`), first (from the shell to the first token of the bundled model),
training (preset 5m, float32).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import common
import numpy as np
import tiny

ROOT = common.HERE.parent
TREES = ROOT / "out" / "against"
TASKS = ("decode", "prefill", "tiny", "help", "first", "training")
STEPS = 3  # of training in a turn
# An editable install finds its own checkout before any path, so its finder goes; then a script runs as if by its name.
BOOT = """
import runpy, sys
sys.meta_path[:] = [one for one in sys.meta_path if type(one).__name__ != "ScikitBuildRedirectingFinder"]
tree, script = sys.argv[1:3]
sys.path[:0] = [tree + "/src", tree + "/benchmarks"]
sys.argv[:] = [script, *sys.argv[3:]]
runpy.run_path(script, run_name="__main__") if script.endswith(".py") else runpy.run_module(script, run_name="__main__")
"""


@dataclass(frozen=True)
class Side:
    """A revision that is laid out and built."""

    name: str
    tree: Path

    def command(self, script: str, *arguments: str) -> list[str]:
        return [sys.executable, "-c", BOOT, str(self.tree), script, *arguments]

    def soban(self, *arguments: str) -> list[str]:
        return self.command("soban", *arguments)


class Server:
    """A script of one side that answers one line for each line it is sent."""

    def __init__(self, side: Side, script: str, *arguments: str, threads: int) -> None:
        self.side = side
        shown = None if os.environ.get("SOBAN_BENCH_DEBUG") else subprocess.DEVNULL
        self.process = subprocess.Popen(
            side.command(str(side.tree / "benchmarks" / script), *arguments), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=shown, text=True, env={**os.environ, "SOBAN_THREADS": str(threads)},
        )  # fmt: skip

    def ask(self, line: str) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> Any:
        assert self.process.stdout
        if not (line := self.process.stdout.readline()):
            raise SystemExit(f"{self.side.name} ended while it was measured; SOBAN_BENCH_DEBUG=1 shows why")
        return json.loads(line)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Duel:
    """One task: what a turn of each side measures, in a unit of which more is better, and the memory in the end."""

    name: str
    unit: str
    turns: list[Callable[[], float]]  # before, after
    memory: list[Callable[[], int | None]]
    close: Callable[[], None] = lambda: None


def laid_out(revision: str) -> Side:
    """The older revision in a folder of its own, with its native library."""
    sha = git("rev-parse", "--short=12", f"{revision}^{{commit}}")
    tree = TREES / sha
    if not (tree / "src" / "soban" / library_name()).is_file():
        common.tell(f"building {sha} ({git('log', '-1', '--format=%s', sha)}), once")
        tree.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run(["git", "archive", sha], cwd=ROOT, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=BytesIO(archive)) as files:
            files.extractall(tree, filter="data")
        build = ["-S", str(tree), "-B", str(tree / "build"), "-DCMAKE_BUILD_TYPE=Release"]
        for command in (build, ["--build", str(tree / "build"), "--target", "develop", "--parallel"]):
            subprocess.run([cmake(), *command], check=True, stdout=subprocess.DEVNULL)
    return Side(sha, tree)


def library_name() -> str:
    from soban.ops.native import library_path

    return library_path().name


def cmake() -> str:
    beside = Path(sys.executable).with_name("cmake")
    return str(beside) if beside.is_file() else "cmake"


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    return done.stdout.strip()


def engines(name: str, sides: list[Side], model: Path, kind: str, requests: dict[str, Any], threads: int) -> list[Duel]:
    """Duels of two engines that stay loaded; `requests`: for each task what is asked, and tokens of its answer."""
    spec = {"engine": "soban", "model": str(model), "kind": kind, "threads": threads, "positions": 640}
    servers = [Server(side, "engines.py", json.dumps(spec), threads=threads) for side in sides]
    for server in servers:
        server.ask('{"prefill": 16}')  # touches the weights, starts the threads

    def turn(server: Server, request: Any, tokens: int) -> Callable[[], float]:
        return lambda: tokens / server.ask(json.dumps(request))

    def memory(server: Server) -> Callable[[], int | None]:
        return lambda: server.ask('{"about": 1}')["anonymous_bytes"]

    def close() -> None:
        for server in servers:
            server.close()

    duels = [
        Duel(
            f"{name} {kind}, {task}", "tokens/s", [turn(one, *request) for one in servers],
            [memory(one) for one in servers],
        )
        for task, request in requests.items()
    ]  # fmt: skip
    duels[-1].close = close
    return duels


def starts(name: str, sides: list[Side], arguments: list[str]) -> Duel:
    """A process from the shell to the first byte that it writes."""

    def turn(side: Side) -> Callable[[], float]:
        def measured() -> float:
            begun = time.perf_counter()
            environment = {**os.environ, "SOBAN_LANG": "en", "PYTHONUNBUFFERED": "1"}
            process = subprocess.Popen(
                side.soban(*arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env=environment,
            )  # fmt: skip
            assert process.stdout
            process.stdout.read(1)
            seconds = time.perf_counter() - begun
            process.communicate()
            if process.returncode:
                raise SystemExit(f"{side.name}: soban {' '.join(arguments)} ended with {process.returncode}")
            return 1 / seconds

        return measured

    turns = [turn(side) for side in sides]
    for warm in turns:
        warm()
    return Duel(name, "starts/s", turns, [lambda: None] * 2)


def trainings(sides: list[Side], threads: int) -> Duel:
    flags = ["--worker", "soban", "--dtype", "float32", "--steps", str(STEPS)]
    servers = [Server(side, "training.py", *flags, threads=threads) for side in sides]
    peaks: dict[str, int] = {}
    for server in servers:
        server.answer()
        server.ask("2")

    def turn(server: Server) -> Callable[[], float]:
        def measured() -> float:
            found = server.ask(str(STEPS))
            peaks[server.side.name] = found["peak"]
            return float(STEPS * 8192 / found["seconds"])

        return measured

    def close() -> None:
        for server in servers:
            server.close()

    peak: list[Callable[[], int | None]] = [lambda side=side: peaks[side.name] for side in sides]  # type: ignore[misc]
    return Duel("training 5m, float32", "tokens/s", [turn(one) for one in servers], peak, close)


def tiny_model() -> Path:
    """The 15 M model of llama2.c with random weights, and a vocabulary of as many made-up words."""
    folder = TREES / "tiny"
    path = folder / "model.bin"
    if not path.is_file():
        from soban.text.tokenizers.llama2c_writing import tokenizer_bin

        folder.mkdir(parents=True, exist_ok=True)
        count = tiny.SHAPE["vocabulary"]
        pieces = [b"<unk>", b"\n<s>\n", b"\n</s>\n", *(b"<0x%02X>" % byte for byte in range(256)), b" "]
        pieces += [b"w%d" % number for number in range(count - len(pieces))]
        (folder / "tokenizer.bin").write_bytes(tokenizer_bin(pieces, [0.0] * count))
        tiny.write_v0(path, tiny.weights(np.random.default_rng(15)))
    return path


def fight(duel: Duel, rounds: int, sides: list[Side]) -> common.Row:
    """The turns of a task, each side first in every other round; told as this checkout's row."""
    rates: list[list[float]] = [[], []]
    disturbed = 0.0
    for number in range(rounds):
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            rate, share = common.undisturbed(duel.turns[which])
            rates[which].append(rate)
            disturbed = max(disturbed, share)
        common.tell(f"round {number + 1}: {duel.name}: {rates[0][-1]:.2f} and {rates[1][-1]:.2f} {duel.unit}")
    ratios = [after / before for before, after in zip(*rates, strict=True)]
    about = {
        "before": sides[0].name, "after": sides[1].name, "before_rates": [round(rate, 3) for rate in rates[0]],
        "ratio": round(statistics.median(ratios), 4), "unit": duel.unit, "memory": [one() for one in duel.memory],
    }  # fmt: skip
    return common.Row("against", duel.name, "soban", "", os.cpu_count() or 1, rates[1], disturbed, about)


def show(rows: list[common.Row]) -> None:
    print(f"\n{'':32}{'before':>12}{'after':>12}{'':>10}{'ratio':>8}{'memory, before and after':>28}{'disturbed':>11}")
    for row in rows:
        memory = row.about["memory"]
        told = f"{memory[0] / 1e6:.0f} and {memory[1] / 1e6:.0f} MB" if None not in memory else ""
        before = statistics.median(row.about["before_rates"])
        print(
            f"{row.task:32}{before:12.2f}{row.rate:12.2f} {row.about['unit']:9}{row.about['ratio']:7.3f}x{told:>28}"
            f"{row.disturbed:>11.0%}"
        )


def duels_of(task: str, sides: list[Side], options: argparse.Namespace) -> list[Duel]:
    reading, writing = {"prefill 512": ({"prefill": 512}, 512)}, {"decode at 32": ({"decode": [32, 24, 1]}, 1)}
    if task in ("decode", "prefill"):
        if options.model is None:
            return []
        asked = reading if task == "prefill" else writing
        return [
            duel for kind in options.kinds
            for duel in engines(options.model.name, sides, options.model, kind, asked, options.threads)
        ]  # fmt: skip
    if task == "tiny":
        asked = {"a text of 250": ({"write": 250}, 1)}
        return engines("15 M", sides, tiny_model(), "q8", asked, options.threads)
    if task == "help":
        return [starts("soban --help", sides, ["--help"])]
    if task == "first":
        words = ["run", "Once upon a time", "--greedy", "--max-new-tokens", "1", "--no-echo"]
        return [starts("first token, bundled model", sides, words)]
    return [trainings(sides, options.threads)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", help="the older one, as git names it")
    parser.add_argument("--model", type=Path, help="a Hugging Face folder, for decode and prefill")
    parser.add_argument("--kinds", nargs="+", default=["q4", "q8"], choices=["q4", "q8", "bf16", "f32"])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    if options.model is None and {"decode", "prefill"} & set(options.tasks):
        common.tell("decode and prefill need --model FOLDER, and are left out")
    sides = [laid_out(options.revision), Side("this checkout", ROOT)]
    rows = []
    for task in options.tasks:
        duels = duels_of(task, sides, options)
        try:
            rows += [fight(duel, options.rounds, sides) for duel in duels]
        finally:
            for duel in duels:
                duel.close()
    show(rows)
    common.save(rows)


if __name__ == "__main__":
    main()
