"""A Gemma 2 2B of full size: load, first token, prefill, decode and memory for each kind of weights.

    python scripts/make_random_gemma2.py out/gemma-2-2b-random
    python benchmarks/full_size.py out/gemma-2-2b-random --peer

Each figure comes from a process of its own; with --peer, transformers (bfloat16, the file's own type) and soban
run in turn, and the ratios are of medians. Appends one line a kind to benchmarks/results/full_size.jsonl.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "full_size.jsonl"
PROMPT = "안녕하세요 the meaning of life "
COLUMNS = ("load_s", "first_token_s", "prefill_per_s", "decode_per_s", "anonymous_gb", "mapped_gb")


def measure_soban(folder: Path, kind: str, prompt_tokens: int, new_tokens: int) -> dict[str, float]:
    """Runs in a process of its own."""
    import soban
    from soban import system

    start = time.perf_counter()
    model = soban.load(folder, dtype=kind)
    load = time.perf_counter() - start
    ids = model.tokenize(PROMPT * prompt_tokens)[:prompt_tokens]
    generation = model.start(
        model.detokenize(ids), raw=True, do_sample=False, max_new_tokens=new_tokens, echo=False,
        prompt_lookup_num_tokens=0,
    )  # fmt: skip
    for _ in generation:
        pass
    figures, memory = generation.figures, system.memory_use()
    return {
        "load_s": load,
        "first_token_s": load + figures.prefill_seconds,
        "prefill_per_s": figures.prompt_tokens / figures.prefill_seconds,
        "decode_per_s": (figures.new_tokens - 1) / figures.decode_seconds,
        "anonymous_gb": memory.anonymous / 1e9 if memory else 0.0,
        "mapped_gb": memory.mapped / 1e9 if memory else 0.0,
    }


def measure_transformers(folder: Path, prompt_tokens: int, new_tokens: int) -> dict[str, float]:
    """Runs in a process of its own."""
    import torch
    from transformers import AutoModelForCausalLM

    from soban import system

    start = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager").eval()
    load = time.perf_counter() - start
    ids = torch.randint(300, 200000, (1, prompt_tokens))
    with torch.no_grad():
        start = time.perf_counter()
        out = model(ids, use_cache=True, logits_to_keep=1)
        prefill = time.perf_counter() - start
        start = time.perf_counter()
        for _ in range(new_tokens - 1):
            token = out.logits[:, -1:].argmax(-1)
            out = model(token, use_cache=True, past_key_values=out.past_key_values)
        decode = time.perf_counter() - start
    memory = system.memory_use()
    return {
        "load_s": load,
        "first_token_s": load + prefill,
        "prefill_per_s": prompt_tokens / prefill,
        "decode_per_s": (new_tokens - 1) / decode,
        "anonymous_gb": memory.anonymous / 1e9 if memory else 0.0,
        "mapped_gb": memory.mapped / 1e9 if memory else 0.0,
    }


def child(arguments: list[str]) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kinds", nargs="+", default=["bf16", "q8", "q4"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--peer", action="store_true", help="measure transformers, too")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    counts = (options.prompt_tokens, options.new_tokens)
    if options.one:
        one = options.one
        peer = one == "transformers"
        found = measure_transformers(options.folder, *counts) if peer else measure_soban(options.folder, one, *counts)
        print(json.dumps(found))
        return
    names = [*options.kinds, *(["transformers"] if options.peer else [])]
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for name in options.kinds:  # packs once, so that every measured load is a second load
        child([str(options.folder), "--one", name, "--prompt-tokens", "8", "--new-tokens", "2"])
    for _ in range(options.rounds):
        for name in names:
            flags = ["--prompt-tokens", str(counts[0]), "--new-tokens", str(counts[1])]
            rounds[name].append(child([str(options.folder), "--one", name, *flags]))
    medians = {name: {c: statistics.median(r[c] for r in found) for c in COLUMNS} for name, found in rounds.items()}
    report(medians)
    save(medians, options)


def report(medians: dict[str, dict[str, float]]) -> None:
    print(f"{'':14}" + "".join(f"{column:>15}" for column in COLUMNS))
    for name, row in medians.items():
        print(f"{name:14}" + "".join(f"{row[column]:15.2f}" for column in COLUMNS))
    if peer := medians.get("transformers"):
        for name in (name for name in medians if name != "transformers"):
            ratios = ", ".join(f"{c} {medians[name][c] / peer[c]:.2f}x" for c in ("prefill_per_s", "decode_per_s"))
            print(f"{name} to transformers: {ratios}")


def save(medians: dict[str, dict[str, float]], options: Any) -> None:
    from soban.ops import native

    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        for name, row in medians.items():
            record = {
                "when": time.strftime("%Y-%m-%d"), "machine": cpu(), "isa": native.chosen_isa(), "kind": name,
                "prompt_tokens": options.prompt_tokens, "rounds": options.rounds,
                **{column: round(value, 3) for column, value in row.items()},
            }  # fmt: skip
            file.write(json.dumps(record) + "\n")


def cpu() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    main()
