"""What the benchmarks share: engines in processes of their own, turns that nobody disturbs, tables, results."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial, reduce
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
FILES = HERE.parent / "out" / "bench"
DISTURBED = 0.08  # share of the cores that other programs may take from a measurement
LONG = 8.0  # seconds; a turn that took longer is not repeated
BITS = {"q4": 4, "Q4_0": 4, "int4": 4, "q8": 8, "Q8_0": 8, "int8": 8}  # others, 16 and 32, are compared with each other
FROM_MEMORY = 1 << 28  # bytes of a model of which no cache holds much
# What a peer leaves out of a model, and so need not compute
SKIPPED_BY_CTRANSLATE2 = {"gemma2": " (no caps, no windows)"}
SKIPPED_BY_OPENVINO = {"gemma2": " (no cap in attention)"}
TURNS = 2  # how often a disturbed measurement is tried; the least disturbed one counts
ISAS = ("avx2", "avxvnni", "avx512vnni", "amx")  # of which SOBAN_BENCH_LLAMA_AVX2 and so on name a folder with a build


@dataclass
class Contestant:
    """An engine with a model, in its own process from `start` to `close`."""

    text: str  # its name in tables
    spec: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)
    python: str = sys.executable
    process: Any = None
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def ours(self) -> bool:
        return bool(self.spec["engine"] == "soban")

    def start(self) -> "Contestant":
        environment = {**os.environ, "SOBAN_THREADS": str(self.spec["threads"]), **self.environment}
        self.process = subprocess.Popen(
            [self.python, str(HERE / "engines.py"), json.dumps(self.spec)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=None if os.environ.get("SOBAN_BENCH_DEBUG") else subprocess.DEVNULL,
            text=True, env=environment,
        )  # fmt: skip
        self.about = self.ask({"about": 1})
        return self

    def ask(self, request: dict[str, Any]) -> Any:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.text} ended while it was measured; SOBAN_BENCH_DEBUG=1 shows why")
        return json.loads(line)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def soban(
    model: Path, kind: str, threads: int, positions: int, isa: str | None = None, **more: Any
) -> Contestant | None:
    """Us; None where this machine does not run the instruction set."""
    from soban.ops import native

    if isa and isa not in native.isas():
        return None
    name = f"soban {kind}" + (f" {isa}" if isa else "") + (f" {more['cache']} cache" if "cache" in more else "")
    spec = {"engine": "soban", "model": str(model), "kind": kind, "threads": threads, "positions": positions, **more}
    return Contestant(name, spec, {"SOBAN_ISA": isa} if isa else {})


def llama(
    gguf: Path, kind: str, threads: int, positions: int, isa: str | None = None, **more: Any
) -> Contestant | None:
    """llama.cpp; with `isa` the build for it that an environment variable names, or None."""
    folder = os.environ.get(f"SOBAN_BENCH_LLAMA_{isa.upper()}" if isa else "SOBAN_BENCH_LLAMA")
    if isa and not folder:
        return None
    environment = {"LLAMA_CPP_LIB_PATH": folder} if folder else {}
    name = f"llama.cpp {kind}" + (f" {isa}" if isa else "")
    spec = {"engine": "llama", "model": str(gguf), "kind": kind, "threads": threads, "positions": positions, **more}
    return Contestant(name, spec, environment)


def ik(gguf: Path, kind: str, threads: int) -> Contestant | None:
    if not os.environ.get("SOBAN_BENCH_IK"):
        return None
    spec = {"engine": "ik", "model": str(gguf), "kind": kind, "threads": threads}
    return Contestant(f"ik_llama.cpp {kind}", spec)


def ctranslate2(model: Path, threads: int, files: Path) -> Contestant | None:
    """CTranslate2 in 8 bits (it has no 4); None, with a line, where it is not installed."""
    from importlib.util import find_spec

    if not find_spec("ctranslate2"):
        tell("ctranslate2 is not installed: left out (pip install ctranslate2)")
        return None
    path = files / f"{model.name}.ctranslate2-int8"
    if not path.is_dir():
        from ctranslate2.converters import TransformersConverter

        tell(f"writing {path}, once")
        files.mkdir(parents=True, exist_ok=True)
        TransformersConverter(str(model), load_as_float16=False, low_cpu_mem_usage=True).convert(
            str(path), quantization="int8"
        )
    spec = {"engine": "ctranslate2", "model": str(path), "kind": "int8", "threads": threads}
    return Contestant(f"CTranslate2 int8{SKIPPED_BY_CTRANSLATE2.get(kind_of(model), '')}", spec)


def openvino(model: Path, kind: str, threads: int, files: Path) -> Contestant | None:
    """OpenVINO GenAI in an environment of its own, whose Python SOBAN_BENCH_OPENVINO names; else None, with a line."""
    python = os.environ.get("SOBAN_BENCH_OPENVINO")
    if not python:
        tell("SOBAN_BENCH_OPENVINO names no Python with optimum-intel and openvino-genai: OpenVINO is left out")
        return None
    path = files / f"{model.name}.openvino-{kind}"
    if not path.is_dir():
        tell(f"writing {path}, once")
        partial = path.with_suffix(".partial")
        subprocess.run(
            [str(Path(python).with_name("optimum-cli")), "export", "openvino", "--model", str(model), "--task",
             "text-generation-with-past", "--weight-format", kind, str(partial)],
            check=True, stdout=sys.stderr,
        )  # fmt: skip
        partial.rename(path)
    spec = {"engine": "openvino", "model": str(path), "kind": kind, "threads": threads}
    name = f"OpenVINO {kind}{SKIPPED_BY_OPENVINO.get(kind_of(model), '')}"
    return Contestant(name, spec, {"PYTHONPATH": str(HERE.parent / "src")}, python)


def kind_of(model: Path) -> str:
    """The model_type in a folder's config.json."""
    return str(json.loads((model / "config.json").read_text("utf-8"))["model_type"])


def transformers(model: Path, kind: str, threads: int) -> Contestant:
    return Contestant(f"torch {kind}", {"engine": "torch", "model": str(model), "kind": kind, "threads": threads})


def parser(description: str | None, model: bool = True) -> argparse.ArgumentParser:
    """The flags that all have."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if model:
        made.add_argument("model", type=Path, help="a Hugging Face folder")
    made.add_argument("--threads", type=int, default=os.cpu_count())
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--files", type=Path, default=FILES, help="where files for the peers lie, or are made")
    made.add_argument("--peers", nargs="*", default=["llama"], help="llama; some scripts know more")
    return made


def random_gguf(model: Path, kind: str, files: Path) -> Path:
    """A GGUF file of the shape that the model's config.json tells, made once."""
    import random_gguf as maker

    path = files / f"{model.name}.{kind}.gguf"
    if not path.is_file():
        files.mkdir(parents=True, exist_ok=True)
        print(f"writing {path}, once", file=sys.stderr)
        partial = path.with_suffix(".partial")
        maker.write(model, kind, partial)
        partial.rename(path)
    return path


@dataclass
class Row:
    """What one contestant did in one task: tokens per second of each round."""

    benchmark: str
    task: str
    engine: str
    kind: str
    threads: int
    rates: list[float]
    disturbed: float  # the largest share of the cores that others took in a round
    about: dict[str, Any]
    share: float | None = None  # of this machine's limit
    limit: str = ""

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def ours(self) -> bool:
        return self.engine.startswith("soban")


@dataclass(frozen=True)
class Task:
    """A request to an engine, tokens per second of its answer, and what goes on around it."""

    name: str
    request: dict[str, Any]
    rate: Callable[[float], float]
    around: Callable[[], AbstractContextManager[Any]] = nullcontext


def prefill(tokens: int) -> Task:
    return Task(f"prefill {tokens}", {"prefill": tokens}, lambda seconds: tokens / seconds)


def decode(context: int, count: int = 24, sequences: int = 1) -> Task:
    name = f"decode at {context}" if sequences == 1 else f"step of {sequences}"
    return Task(name, {"decode": [context, count, sequences]}, lambda seconds: sequences / seconds)


def compete(
    benchmark: str,
    contestants: Iterable[Contestant | None],
    tasks: Iterable[Task],
    rounds: int,
    after_round: Callable[[], object],
) -> list[Row]:
    """Everybody's rates: all are loaded, then take turns at each task, one at a time."""
    here = [contestant.start() for contestant in contestants if contestant]
    tasks = list(tasks)
    rows = {
        (task.name, one.text): Row(benchmark, task.name, one.text, one.spec["kind"], one.spec["threads"], [], 0, {})
        for task in tasks for one in here
    }  # fmt: skip
    try:
        for one in here:  # touches the weights, starts the threads
            one.ask({"prefill": 16})
        for number in range(rounds):
            for task in tasks:
                for one in here if number % 2 == 0 else reversed(here):
                    with task.around():
                        seconds, disturbed = undisturbed(partial(one.ask, task.request))
                    row = rows[task.name, one.text]
                    row.rates.append(task.rate(seconds))
                    row.disturbed = max(row.disturbed, disturbed)
                    tell(f"{benchmark}, round {number + 1}: {task.name}, {one.text}: {row.rates[-1]:.2f} tokens/s")
            after_round()
        for row in rows.values():
            row.about = next(one for one in here if one.text == row.engine).ask({"about": 1})
    finally:
        for one in here:
            one.close()
    return list(rows.values())


def undisturbed(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result of a turn that others hardly disturbed, or of the least disturbed one; the share that they took."""
    best: tuple[Any, float] = (None, 2.0)
    for _ in range(TURNS):
        before, start = others_seconds(), time.perf_counter()
        result = work()
        elapsed = time.perf_counter() - start
        # the kernel counts in hundredths of a second
        share = max(0.0, others_seconds() - before - 0.02) / (elapsed * (os.cpu_count() or 1))
        if share < best[1]:
            best = result, share
        if share < DISTURBED or elapsed > LONG:
            break
    return best


def others_seconds() -> float:
    """CPU seconds so far of all programs but this one and its children, the host's stealing included (Linux)."""
    path = Path("/proc/stat")
    if not path.is_file():
        return 0.0
    ticks = os.sysconf("SC_CLK_TCK")
    user, nice, system, _, _, irq, soft, steal = map(int, path.read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + irq + soft + steal) / ticks - tree_seconds(os.getpid(), ticks)


def tree_seconds(process: int, ticks: int) -> float:
    """CPU seconds of a process, its living children and those that ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / ticks + sum(tree_seconds(int(child), ticks) for child in children)


def run(benchmark: str, contestants: Iterable[Contestant | None], tasks: Iterable[Task], rounds: int) -> list[Row]:
    """The whole of a benchmark: this machine's limits, everybody's turns, the table, the record."""
    from soban.measure.limits import better, measure_limits

    found = [measure_limits()]
    rows = compete(benchmark, contestants, tasks, rounds, lambda: found.append(measure_limits()))
    limits = reduce(better, found)
    peaks = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in limits.products.items())
    read = f"{limits.bandwidth / 1e9:.1f} GB/s, usually {limits.usual / 1e9:.1f}"
    tell(f"bandwidth {read}; int8 G multiply-adds/s: {peaks}")
    add_shares(rows, limits)
    show(rows)
    save(rows, limits)
    return rows


def add_shares(rows: Iterable[Row], limits: Any) -> None:
    """Tells each row its share of the limit: of the multipliers in prefill, of the bandwidth in decoding."""
    for row in rows:
        what, number = row.task.split()[0].strip(","), row.task.split()[-1]
        if what == "prefill" and "body_multiply_adds" in row.about:
            isa = row.about["isa"]
            if (peak := limits.multiply_adds(isa)) and row.kind in ("gguf", "q4", "q8"):
                row.share, row.limit = row.rate * row.about["body_multiply_adds"] / peak, f"int8 peak, {isa}"
        elif what == "decode" and row.about.get("bytes_per_token", 0) > FROM_MEMORY:
            read = row.about["bytes_per_token"] + (int(number) if number.isdigit() else 0) * row.about.get(
                "cache_bytes", 0
            )
            row.share, row.limit = row.rate * read / limits.bandwidth, "bandwidth"


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show(rows: list[Row]) -> None:
    """The table of medians: a block for each task, ratios to our best."""
    for task in dict.fromkeys(row.task for row in rows):
        block = [row for row in rows if row.task == task]
        heads = f"{'tokens/s':>10}{'spread':>16}{'to us':>8}{'of limit':>10}{'bits':>13}{'memory, own + mapped':>24}"
        print(f"\n{task:24}{heads}")
        for row in block:
            base = next((r for r in block if r.ours and comparable(r, row)), None)
            ratio = f"{row.rate / base.rate:.2f}x" if base and row is not base else ""
            share = f"{row.share:.0%}" if row.share else ""
            spread = f"{min(row.rates):.1f} - {max(row.rates):.1f}"
            print(f"{row.engine:24}{row.rate:10.2f}{spread:>16}{ratio:>8}{share:>10}{bits(row):>13}{memory(row):>24}")


def comparable(ours: Row, other: Row) -> bool:
    """Whether they have as many bits and the same instruction set."""
    same_bits = ours.kind == "gguf" or BITS.get(ours.kind) == BITS.get(other.kind)
    isas = [[name for name in ISAS if row.engine.endswith(f" {name}")] for row in (ours, other)]
    return same_bits and isas[0] == isas[1] and ours.threads == other.threads


def bits(row: Row) -> str:
    return f"{row.about['body_bits']:.2f} / {row.about['head_bits']:.2f}" if "body_bits" in row.about else ""


def memory(row: Row) -> str:
    own, mapped = row.about.get("anonymous_bytes"), row.about.get("mapped_bytes")
    return f"{own / 1e9:.2f} + {mapped / 1e9:.2f} GB" if own is not None else ""


def save(rows: list[Row], found: Any = None) -> None:
    """One line for each row."""
    common = {"when": time.strftime("%Y-%m-%d %H:%M"), "machine": cpu(), "cores": os.cpu_count()}
    if found is not None:
        common["bandwidth_gb"], common["usual_gb"] = round(found.bandwidth / 1e9, 2), round(found.usual / 1e9, 2)
        common["int8_g"] = {name: round(rate / 1e9, 1) for name, rate in found.products.items()}
    for row in rows:
        rates = [round(rate, 3) for rate in row.rates]
        append(row.benchmark, {**common, **asdict(row), "rate": round(row.rate, 3), "rates": rates})


def append(benchmark: str, record: dict[str, Any]) -> None:
    """One line to results/<benchmark>.jsonl."""
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{benchmark}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def cpu() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
