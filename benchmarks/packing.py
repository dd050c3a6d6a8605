"""Packing: from bfloat16 weights to the form that is run, against llama.cpp's quantiser on a file of the same shape.

    python scripts/make_random_gemma2.py out/gemma-2-2b-random
    python benchmarks/packing.py out/gemma-2-2b-random

Everybody takes turns, each in a process of its own; megabytes of bfloat16 a second, medians. `writing` is this disk's
share: as many bytes as q4 has, written and flushed. Appends one line for each to benchmarks/results/packing.jsonl.
"""

import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import common

SOBAN = """
import sys, threading
from pathlib import Path
from soban.base import system
from soban.models import architecture
from soban.packing.assemble import pack
from soban.weights.opening import open_checkpoint
most, done = [0], threading.Event()
def watch():
    while not done.wait(0.05):
        most[0] = max(most[0], system.memory_use().anonymous)
threading.Thread(target=watch, daemon=True).start()
checkpoint = open_checkpoint(Path(sys.argv[1]))
pack(architecture(checkpoint.config, compute_dtype="bfloat16"), checkpoint, sys.argv[2], Path(sys.argv[3]))
done.set()
print("anonymous", most[0])
"""
LLAMA = """
import sys, llama_cpp
params = llama_cpp.llama_model_quantize_default_params()
params.ftype = getattr(llama_cpp, "LLAMA_FTYPE_MOSTLY_" + sys.argv[2])
params.nthread = int(sys.argv[4])
llama_cpp.llama_backend_init()
sys.exit(llama_cpp.llama_model_quantize(sys.argv[1].encode(), sys.argv[3].encode(), params))
"""
WRITING = """
import os, sys
piece = os.urandom(1 << 24)
with open(sys.argv[3], "wb") as file:
    for _ in range(int(sys.argv[2]) >> 24):
        file.write(piece)
    file.flush()
    os.fsync(file.fileno())
"""


def measure(code: str, source: Path, kind: str, target: Path, threads: int) -> tuple[float, float | None]:
    """Seconds from start to end of a process, and the most memory of its own that it took, if it says so."""
    target.unlink(missing_ok=True)
    environment = {**os.environ, "SOBAN_THREADS": str(threads)}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, str(source), kind, str(target), str(threads)], capture_output=True, text=True,
        env=environment,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    target.unlink(missing_ok=True)
    if done.returncode:
        raise SystemExit(f"{source} {kind}: {done.stderr[-2000:]}")
    found = re.search(r"anonymous (\d+)", done.stdout)
    return seconds, int(found[1]) / 1e6 if found else None


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--out", type=Path, help="a folder on the disk to write to (default: that of --files)")
    options = parser.parse_args()
    size = sum(file.stat().st_size for file in options.model.glob("*.safetensors"))
    target = (options.out or options.files) / "packing.tmp"
    target.parent.mkdir(parents=True, exist_ok=True)
    turns = [(f"soban {kind}", SOBAN, options.model, kind) for kind in ("q4", "q8")]
    if "llama" in options.peers:
        gguf = common.random_gguf(options.model, "BF16", options.files)
        turns += [(f"llama.cpp {kind}", LLAMA, gguf, kind) for kind in ("Q4_0", "Q8_0")]
    turns.append(("writing", WRITING, options.model, str(size * 9 // 32)))  # 4.5 bits of each 16
    rates: dict[str, list[float]] = {}
    memory: dict[str, float | None] = {}
    for number in range(options.rounds):
        for name, code, source, kind in turns:
            seconds, memory[name] = measure(code, source, kind, target, options.threads)
            rates.setdefault(name, []).append(size / seconds / 1e6)
            common.tell(f"round {number + 1}: {name}: {seconds:.1f} s")
    best = statistics.median(rates["soban q4"])
    print(f"{'':20}{'MB/s of bf16':>14}{'spread':>16}{'to soban q4':>13}{'memory, own':>14}")
    for name, each in rates.items():
        rate, own = statistics.median(each), memory[name]
        spread = f"{min(each):.0f} - {max(each):.0f}"
        shown = f"{own:.0f} MB" if own else ""
        print(f"{name:20}{rate:14.0f}{spread:>16}{rate / best:>12.2f}x{shown:>14}")
        record = {"when": time.strftime("%Y-%m-%d %H:%M"), "machine": common.cpu(), "threads": options.threads}
        record |= {"model": options.model.name, "engine": name, "rates": [round(one, 1) for one in each]}
        common.append("packing", {**record, "anonymous_mb": own and round(own)})


if __name__ == "__main__":
    main()
