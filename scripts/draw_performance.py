"""The tables and pictures of docs/performance.md, from the last results of each benchmark.

    python scripts/draw_performance.py            needs matplotlib: pip install -e ".[bench]"

Rewrites what stands between <!-- NAME --> and <!-- end --> in docs/performance.md, and docs/performance-*.svg.
With --png FOLDER the pictures are kept as PNG there, to be looked at.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
OURS, PEER, QUIET, INK = "#c8553d", "#9aa5a0", "#d9d4c7", "#2f3437"

Result = dict[str, Any]


def results(benchmark: str) -> list[Result]:
    """Each (task, engine)'s last line."""
    path = RESULTS / f"{benchmark}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found: dict[tuple[Any, ...], Result] = {}
    for line in map(json.loads, lines):
        key = tuple(line.get(name) for name in ("task", "engine", "threads", "trace", "dtype", "model", "who"))
        found.pop(key, None)
        found[key] = line
    return list(found.values())


def one(benchmark: str, task: str, engine: str) -> Result | None:
    return next((r for r in results(benchmark) if r["task"] == task and r["engine"] == engine), None)


def rate(benchmark: str, task: str, engine: str) -> float | None:
    found = one(benchmark, task, engine)
    return None if found is None else float(found["rate"])


def ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above and below else None


# --- tables -----------------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "Not measured yet."
    line = "|".join(["", "---", *["---:"] * (len(head) - 1), ""])
    return "\n".join([f"| {' | '.join(head)} |", line, *(f"| {' | '.join(row)} |" for row in rows)])


def engines_table(benchmark: str) -> str:
    """A row for each task and engine of a benchmark."""
    rows = []
    found = results(benchmark)
    for task in dict.fromkeys(r["task"] for r in found):
        for r in sorted((r for r in found if r["task"] == task), key=lambda r: -r["rate"]):
            about = r["about"]
            bits = f"{about['body_bits']:.2f} / {about['head_bits']:.2f}" if "body_bits" in about else ""
            share = f"{r['share']:.0%}" if r.get("share") else ""
            spread = f"{min(r['rates']):.1f} - {max(r['rates']):.1f}"
            rows.append([task, bold(r), f"{r['rate']:.2f}", spread, share, bits, gigabytes(about)])
    head = ("task", "engine", "tokens/s", "spread", "of its limit", "bits, body / head", "memory, own + mapped")
    return table(head, rows)


def bold(r: Result) -> str:
    return f"**{r['engine']}**" if r["engine"].startswith("soban") else str(r["engine"])


def gigabytes(about: dict[str, Any]) -> str:
    own, mapped = about.get("anonymous_bytes"), about.get("mapped_bytes")
    return f"{own / 1e9:.2f} + {mapped / 1e9:.2f} GB" if own else ""


def limits_table() -> str:
    found = results("limits")
    rows = []
    if found:
        last = found[-1]
        rows = [["read by all threads", f"{last['bandwidth_gb']:.1f} GB/s (usually {last['usual_gb']:.1f})"]]
        rows += [[f"int8, {name}", f"{peak:.0f} G multiply-adds/s"] for name, peak in last["int8_g"].items()]
    return table(("limit", "measured"), rows)


def batch_table() -> str:
    found = results("batch")
    sizes = (1, 2, 4, 8, 16)
    rows = []
    for engine in dict.fromkeys(r["engine"] for r in found):
        times = step_times(engine, found)
        if times.get(1):
            name = f"**{engine}**" if engine.startswith("soban") else engine
            rows.append([name, *(f"{times[n] / times[1]:.2f}" if n in times else "" for n in sizes)])
    return table(("time of a step, to that of one sequence", *map(str, sizes)), rows)


def step_times(engine: str, found: Sequence[Result]) -> dict[int, float]:
    """Seconds of a step by its number of sequences."""
    made = {}
    for r in found:
        if r["engine"] == engine:
            n = int(r["task"].split()[-1]) if r["task"].startswith("step of ") else 1
            made[n] = n / r["rate"]
    return made


def targets_table() -> str:
    """The aims, and where each stands."""
    rows = []
    for work, aim, higher, measure, unit in TARGETS:
        value = measure()
        if value is None:
            rows.append([work, unit.format(aim), "not measured yet", ""])
        else:
            met = value >= aim if higher else value <= aim
            rows.append([work, unit.format(aim), unit.format(value), "reached" if met else "not yet"])
    return table(("work", "aim", "measured", ""), rows)


def share(task: str, engine: str) -> Callable[[], float | None]:
    return lambda: (one("decode_prefill", task, engine) or {}).get("share")


def to_peer(task: str, ours: str, peer: str, benchmark: str = "decode_prefill") -> Callable[[], float | None]:
    return lambda: ratio(rate(benchmark, task, ours), rate(benchmark, task, peer))


def step_cost(n: int) -> Callable[[], float | None]:
    def cost() -> float | None:
        times = step_times("soban q4", results("batch"))
        return ratio(times.get(n), times.get(1))

    return cost


def within(benchmark: str, task: str, base: str, engine: str) -> Callable[[], float | None]:
    return lambda: ratio(rate(benchmark, task, engine), rate(benchmark, base, engine))


def lookup(trace: str) -> Callable[[], float | None]:
    return lambda: next((r["ratio"] for r in results("lookup") if r["trace"] == trace), None)


def best_tiny(threads: int, peers: Sequence[str]) -> Callable[[], float | None]:
    def factor() -> float | None:
        found = {r["engine"]: r["rate"] for r in results("tiny") if r["threads"] == threads}
        ours = [value for name, value in found.items() if name.startswith("soban")]
        theirs = [value for name, value in found.items() if name.rsplit(" ", 1)[0] in peers]
        return max(ours) / max(theirs) if ours and theirs else None

    return factor


def start(model: str, field: str) -> Callable[[], float | None]:
    """What benchmarks/start.py saw of soban's own start."""
    return lambda: next(
        (r.get(field) for r in results("start") if r["model"] == model and r["who"] == "soban"), None
    )  # fmt: skip


D, P = "decode at 32", "prefill 512"
PERCENT, TIMES, MB, SECONDS = "{:.0%}", "{:.2f}x", "{:.0f} MB", "{:.2f} s"
# Work, aim, whether more is better, the figure, how it is written.
TARGETS: tuple[tuple[str, float, bool, Callable[[], float | None], str], ...] = (
    ("decode, 4-bit, of the bandwidth", 0.80, True, share(D, "soban q4"), PERCENT),
    ("decode, 4-bit, to llama.cpp Q4_0", 2.0, True, to_peer(D, "soban q4", "llama.cpp Q4_0"), TIMES),
    ("decode, 4-bit, to ik_llama.cpp", 1.7, True, to_peer(D, "soban q4", "ik_llama.cpp Q4_0"), TIMES),
    ("decode, 8-bit, of the bandwidth", 0.85, True, share(D, "soban q8"), PERCENT),
    ("decode, 8-bit, to llama.cpp Q8_0", 1.8, True, to_peer(D, "soban q8", "llama.cpp Q8_0"), TIMES),
    ("prefill 256, 4-bit, AVX-512 VNNI alone, of its int8 peak", 0.55, True,
     share("prefill 256", "soban q4 avx512vnni"), PERCENT),
    ("prefill 512, 4-bit, of the int8 peak in use, AMX where there is one", 0.55, True, share(P, "soban q4"), PERCENT),
    ("prefill 512, 8-bit, of the int8 peak in use, AMX where there is one", 0.55, True, share(P, "soban q8"), PERCENT),
    ("prefill 512, 4-bit, to llama.cpp", 4.0, True, to_peer(P, "soban q4", "llama.cpp Q4_0"), TIMES),
    ("prefill 512, 8-bit, to llama.cpp", 4.0, True, to_peer(P, "soban q8", "llama.cpp Q8_0"), TIMES),
    ("prefill 512, 4-bit, to ik_llama.cpp", 2.5, True, to_peer(P, "soban q4", "ik_llama.cpp Q4_0"), TIMES),
    ("prefill 4096, of the rate at 512", 0.70, True, within("long_context", "prefill 4096", P, "soban q4"), PERCENT),
    ("a step of 4 sequences, to one", 1.15, False, step_cost(4), TIMES),
    ("a step of 8 sequences, to one", 1.40, False, step_cost(8), TIMES),
    ("decode at 4,000 tokens, of that at 100, f16 cache", 0.75, True,
     within("long_context", "decode at 4000", "decode at 100", "soban q4"), PERCENT),
    ("decode at 4,000 tokens, of that at 100, int8 cache", 0.84, True,
     within("long_context", "decode at 4000", "decode at 100", "soban q4 int8 cache"), PERCENT),
    ("prompt lookup, summarising", 2.0, True, lookup("summarising"), TIMES),
    ("prompt lookup, editing", 2.0, True, lookup("editing"), TIMES),
    ("15 M llama2.c model, 1 thread, to run.c and runq.c", 1.0, True, best_tiny(1, ("run.c", "runq.c")), TIMES),
    ("15 M llama2.c model, 2 threads, to run.c and runq.c", 1.0, True, best_tiny(2, ("run.c", "runq.c")), TIMES),
    ("15 M llama2.c model, 1 thread, to llama.cpp Q8_0", 1.0, True, best_tiny(1, ("llama.cpp Q8_0",)), TIMES),
    ("15 M llama2.c model, 2 threads, to llama.cpp Q8_0", 1.0, True, best_tiny(2, ("llama.cpp Q8_0",)), TIMES),
    ("first token of a packed 2B model, from the shell", 1.5, False, start("big q4", "seconds"), SECONDS),
    ("first token of the bundled model, from the shell", 0.5, False, start("bundled", "seconds"), SECONDS),
    ("own memory with 512 tokens", 300.0, False, start("big q4", "long_anonymous_mb"), MB),
    ("one of two cores taken, of the undisturbed rate", 0.45, True,
     within("noisy_neighbour", "decode, a pinned neighbour", "decode alone", "soban q4"), PERCENT),
    ("AVX2 alone: decode, to llama.cpp", 1.5, True, to_peer(D, "soban q4 avx2", "llama.cpp Q4_0 avx2"), TIMES),
    ("AVX2 alone: prefill 256, to llama.cpp", 1.5, True,
     to_peer("prefill 256", "soban q4 avx2", "llama.cpp Q4_0 avx2"), TIMES),
    ("256-bit VNNI: decode, to llama.cpp", 1.5, True,
     to_peer(D, "soban q4 avxvnni", "llama.cpp Q4_0 avxvnni"), TIMES),
    ("256-bit VNNI: prefill 256, to llama.cpp", 1.5, True,
     to_peer("prefill 256", "soban q4 avxvnni", "llama.cpp Q4_0 avxvnni"), TIMES),
)  # fmt: skip

TABLES: dict[str, Callable[[], str]] = {
    "limits": limits_table, "targets": targets_table, "batch": batch_table,
    **{name: partial(engines_table, name) for name in ("decode_prefill", "long_context", "tiny", "noisy_neighbour")},
}  # fmt: skip


def rewritten(page: str) -> str:
    for name, make in TABLES.items():
        begin, end = f"<!-- {name} -->\n", "<!-- end -->"
        start = page.index(begin) + len(begin)
        page = page[:start] + make() + "\n" + page[page.index(end, start) :]
    return page


# --- pictures ---------------------------------------------------------------------------------------------------


def bars(axes: Any, task: str, title: str) -> None:
    """Tokens per second of each engine, longest first; a mark where the machine's limit is for ours."""
    found = sorted((r for r in results("decode_prefill") if r["task"] == task), key=lambda r: r["rate"])
    found = [r for r in found if not r["engine"].endswith(("avx2", "avxvnni", "avx512vnni"))]
    names = [r["engine"] for r in found]
    colours = [OURS if name.startswith("soban") else PEER for name in names]
    axes.barh(names, [r["rate"] for r in found], color=colours, height=0.62)
    longest = max([r["rate"] / r["share"] if r.get("share") else r["rate"] for r in found], default=1)
    for y, r in enumerate(found):
        end, told = r["rate"], f"{r['rate']:.1f}"
        if r.get("share") and r["engine"].startswith("soban"):
            end = max(end, r["rate"] / r["share"])
            axes.barh([y], [end], color=QUIET, height=0.62, zorder=0)
            told += f"   {r['share']:.0%} of the limit"
        axes.text(end + 0.012 * longest, y, told, va="center", fontsize=9, color=INK)
    axes.set_xlim(0, longest * 1.5)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def draw_engines(plt: Any) -> Any:
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
    bars(left, D, "Writing: tokens per second")
    bars(right, P, "Reading 512 tokens: tokens per second")
    return figure


def draw_batch(plt: Any) -> Any:
    figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
    found = results("batch")
    for engine in dict.fromkeys(r["engine"] for r in found):
        times = step_times(engine, found)
        sizes = sorted(times)
        ours = engine.startswith("soban")
        axes.plot(sizes, [n * times[1] / times[n] for n in sizes], marker="o", color=OURS if ours else PEER, lw=2)
        axes.annotate(
            engine, (sizes[-1], sizes[-1] * times[1] / times[sizes[-1]]), xytext=(8, 0), textcoords="offset points",
            va="center", color=OURS if ours else INK, fontsize=9,
        )  # fmt: skip
    axes.plot([1, 16], [1, 16], color=QUIET, lw=1.5, ls=(0, (4, 3)), zorder=0)
    axes.annotate("free", (11, 11), xytext=(-8, 4), textcoords="offset points", ha="right", color=PEER, fontsize=9)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
    axes.set_yticks([1, 2, 4, 8, 16], ["1x", "2x", "4x", "8x", "16x"])
    axes.set_xlim(0.93, 32)
    axes.set_xlabel("sequences in a step", color=INK)
    axes.set_title(
        "Tokens per second of all sequences, to one alone", loc="left", fontsize=11, fontweight="bold", color=INK
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


PICTURES = {"engines": draw_engines, "batch": draw_batch}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--png", type=Path, help="keep PNGs here, too")
    options = parser.parse_args()
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams |= {"font.family": "DejaVu Sans", "font.size": 9, "svg.fonttype": "path", "svg.hashsalt": "soban"}
    for name, draw in PICTURES.items():
        figure = draw(plt)
        figure.savefig(ROOT / "docs" / f"performance-{name}.svg", metadata={"Date": None}, facecolor="white")
        if options.png:
            figure.savefig(options.png / f"performance-{name}.png", dpi=130, facecolor="white")
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
