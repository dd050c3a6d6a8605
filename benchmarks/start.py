"""The start: from the shell to the first token, and the memory that it takes, with a warm page cache.

    python scripts/make_random_gemma2.py out/gemma-2-2b-random
    python benchmarks/start.py out/gemma-2-2b-random --transformers --gguf out/gemma-2-2b-random-q4_0.gguf

Each figure is of a process of its own: soban with its packed tokenizer, soban with the tokenizers library in its place,
and the peers that are asked for, in turn; medians. "long" is a prompt of about 500 tokens. Appends one line for each
to benchmarks/results/start.jsonl.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import cpu

RESULTS = Path(__file__).parent / "results" / "start.jsonl"
SHORT = "Once upon a time"
LONG = "Once upon a time there lived a fox. " * 31  # 490 to 510 tokens of a vocabulary that knows no long words
SOBAN = "import sys; from soban.cli import main; sys.exit(main())"
# the same program where nothing is packed: every start reads tokenizer.json anew
LIBRARY = f"import soban.text.tokenizers.tokenizer as t; t.use_native = lambda: False; {SOBAN}"
PEERS = {
    "transformers": """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
words = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16)
ids = words(sys.argv[2], return_tensors="pt").input_ids
out = model.generate(ids, max_new_tokens=1, do_sample=False)
print(words.decode(out[0, -1:]), flush=True)
""",
    "llama.cpp": """
import sys, llama_cpp
model = llama_cpp.Llama(sys.argv[1], n_ctx=1024, verbose=False)
print(model(sys.argv[2], max_tokens=1)["choices"][0]["text"], flush=True)
""",
}
MEMORY = """
from soban.base import system
found = system.memory_use()
print(f"memory {found.anonymous / 1e6:.0f} MB", file=sys.stderr)
"""


def measure(command: list[str]) -> dict[str, float]:
    """Seconds until something comes out of a process, and its anonymous memory in the end, as it says itself."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"SOBAN_LANG": "en", "PYTHONUNBUFFERED": "1"}
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.read(1)
    seconds = time.perf_counter() - start
    _, talk = process.communicate()
    found = re.search(r"memory (\d+) MB", talk.decode())
    if process.returncode or found is None:
        raise SystemExit(f"{command}: {talk.decode()}")
    return {"seconds": seconds, "anonymous_mb": float(found[1])}


def contestants(options: argparse.Namespace, folder: Path | None) -> dict[str, list[str]]:
    """What is run, but for the prompt; the bundled model where there is no folder."""
    model = ["run", *([str(folder), "--dtype", options.kind] if folder else []), "--greedy", "--max-new-tokens", "1"]
    model += ["--no-echo"]
    found = {"soban": [SOBAN, *model, "-i"], "soban, library": [LIBRARY, *model, "-i"]}
    if folder and options.transformers:
        found["transformers"] = [PEERS["transformers"] + MEMORY, str(folder)]
    if folder and options.gguf:
        found["llama.cpp"] = [PEERS["llama.cpp"] + MEMORY, str(options.gguf)]
    return found


def compare(options: argparse.Namespace, folder: Path | None) -> dict[str, dict[str, float]]:
    """Medians for each contestant, who take turns; the first round warms the caches and does not count."""
    rounds: dict[str, list[dict[str, float]]] = {}
    commands = contestants(options, folder)
    for n in range(options.rounds + 1):
        for name, command in commands.items():
            row = measure([*command, SHORT])
            if n:
                rounds.setdefault(name, []).append(row)
    medians = {name: {c: statistics.median(r[c] for r in rows) for c in rows[0]} for name, rows in rounds.items()}
    for name, command in commands.items() if folder else ():
        long = measure([*command, LONG])
        medians[name] |= {"long_seconds": long["seconds"], "long_anonymous_mb": long["anonymous_mb"]}
    return medians


def report(title: str, medians: dict[str, dict[str, float]]) -> None:
    columns = list(next(iter(medians.values())))
    print(f"{title:24}" + "".join(f"{column:>20}" for column in columns))
    for name, row in medians.items():
        print(f"  {name:22}" + "".join(f"{row[column]:20.2f}" for column in columns))


def save(title: str, medians: dict[str, dict[str, float]], rounds: int) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        for name, row in medians.items():
            record: dict[str, Any] = {"when": time.strftime("%Y-%m-%d"), "machine": cpu(), "model": title, "who": name}
            record |= {"rounds": rounds, **{column: round(value, 3) for column, value in row.items()}}
            file.write(json.dumps(record) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="a 2B model; without one only the bundled is measured")
    parser.add_argument("--kind", default="q4")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--transformers", action="store_true", help="measure transformers in bfloat16, too")
    parser.add_argument("--gguf", type=Path, help="measure llama-cpp-python on this file, too")
    options = parser.parse_args()
    models = {"bundled": None} | ({f"{options.folder.name} {options.kind}": options.folder} if options.folder else {})
    for title, folder in models.items():
        medians = compare(options, folder)
        report(title, medians)
        save(title, medians, options.rounds)


if __name__ == "__main__":
    main()
