"""Training: us and a plain PyTorch loop by turns, on equal weights, batches and steps; torch.compile for reference.

    python benchmarks/training.py --preset 5m --dtype float32 bfloat16

The plain loop is what one writes first: transformers' LlamaForCausalLM with sdpa and labels, torch's AdamW,
clipping, a DataLoader, torch's own choice of threads, autocast for bfloat16. Documents fill their rows, so that it
needs no mask. Each contestant has a process of its own, of which the peak memory is told. Equal losses at the end
show that equal work was done.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common
import numpy as np

RATE, CLIP, DECAY, BETAS = 1e-3, 1.0, 0.1, (0.9, 0.95)
WARM = 2  # steps before the first that counts


class Turns:
    """Steps as they are asked for: so many, then an answer and silence."""

    def __init__(self) -> None:
        print("{}", flush=True)
        self.wait()

    def wait(self) -> None:
        if not (line := sys.stdin.readline()):
            raise SystemExit
        self.count = self.left = int(line)
        self.start = time.perf_counter()

    def took(self, loss: float) -> None:
        self.left -= 1
        if not self.left:
            seconds = time.perf_counter() - self.start
            print(json.dumps({"seconds": seconds, "loss": loss, "peak": peak()}), flush=True)
            self.wait()


def peak() -> int:
    """The most bytes that this process has had in memory."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return 0
    return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmHWM"))


def settings(told: argparse.Namespace) -> Any:
    from soban.learn.training.presets import preset
    from soban.learn.training.settings import Settings

    shape = preset(told.preset)
    return Settings(
        "llama", shape, told.vocabulary, batch_size=max(1, told.tokens // shape.context), steps=1 << 30,
        learning_rate=RATE, optimizer="adamw", schedule="constant", grad_clip=CLIP, weight_decay=DECAY,
        beta1=BETAS[0], beta2=BETAS[1], dtype=told.dtype[0], threads=os.cpu_count() or 1,
    )  # fmt: skip


def documents(told: argparse.Namespace) -> Any:
    """One long document of words as unequally frequent as those of a language."""
    from soban.learn.data.shards import Documents

    drawn = np.random.default_rng(0).zipf(1.2, 4_000_000)
    tokens = (3 + drawn % (told.vocabulary - 3)).astype(np.uint16)
    return Documents([tokens], [np.array([0, len(tokens)])])


def ours(told: argparse.Namespace) -> None:
    import torch

    from soban.learn.training import network, optimise, running, scratch
    from soban.learn.training.checkpoint import Progress
    from soban.learn.training.computing import Computer
    from soban.learn.training.events import Event, Step

    wanted, turns = settings(told), Turns()
    model = network.new_model(wanted, {"bos_token_id": 1, "eos_token_id": 2})
    computer = Computer(model, dtype=getattr(torch, wanted.dtype), device="cpu", parts=wanted.parts)
    shards: Any = argparse.Namespace(documents=documents(told))

    def note(event: Event) -> None:
        if isinstance(event, Step):
            turns.took(event.loss)

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "training").mkdir()
        run = running.Run(
            wanted, computer, optimise.initial_state(computer.weights, wanted),
            lambda step: scratch.steps_of(shards, wanted, step, 0), lambda: 0.0, lambda path: None, Path(folder),
            evaluate_every=1 << 30,
        )  # fmt: skip
        running.run(run, Progress(), note, lambda: False)


def plain(told: argparse.Namespace, compiled: bool = False) -> None:
    import torch
    import transformers
    from torch.utils.data import DataLoader, IterableDataset

    from soban.learn.data import packing
    from soban.learn.training import network

    wanted, turns = settings(told), Turns()
    made = network.new_model(wanted, {"bos_token_id": 1, "eos_token_id": 2})
    model: Any = transformers.LlamaForCausalLM._from_config(made.config, attn_implementation="sdpa")
    model.load_state_dict(made.state_dict())
    del made
    matrices = [weight for weight in model.parameters() if weight.ndim == 2]
    others = [weight for weight in model.parameters() if weight.ndim == 1]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS)
    call = torch.compile(model) if compiled else model

    class Rows(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            for batch in packing.batches(documents(told), 1, wanted.shape.context):
                yield torch.from_numpy(batch.inputs[0]), torch.from_numpy(batch.targets[0])

    for inputs, targets in DataLoader(Rows(), batch_size=wanted.batch_size):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=wanted.dtype == "bfloat16"):
            loss = call(input_ids=inputs, labels=targets, shift_labels=targets, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        turns.took(loss.item())


WORKERS = {"soban": ours, "plain loop": plain, "torch.compile": lambda told: plain(told, compiled=True)}


def compete(names: list[str], dtype: str, told: argparse.Namespace) -> list[common.Row]:
    """Everybody's rates: all are loaded, then take turns."""
    flags = ["--preset", told.preset, "--tokens", str(told.tokens), "--vocabulary", str(told.vocabulary)]
    here = {
        name: subprocess.Popen(
            [sys.executable, __file__, *flags, "--dtype", dtype, "--worker", name], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )
        for name in names
    }  # fmt: skip
    task = f"{told.preset}, {dtype}"
    rows = [common.Row("training", task, name, dtype, os.cpu_count() or 1, [], 0.0, {}) for name in names]
    try:
        for name in names:
            answer(here[name])
            ask(here[name], WARM)
        for number in range(told.rounds):
            for row in rows if number % 2 == 0 else reversed(rows):
                before, start = common.others_seconds(), time.perf_counter()
                found = ask(here[row.engine], told.steps)
                elapsed = time.perf_counter() - start
                taken = (common.others_seconds() - before) / (elapsed * (os.cpu_count() or 1))
                row.rates.append(told.steps * step_tokens(told) / found["seconds"])
                row.disturbed = max(row.disturbed, taken)
                row.about = {"loss": found["loss"], "peak_bytes": found["peak"]}
                common.tell(f"round {number + 1}: {task}, {row.engine}: {row.rates[-1]:.0f} tokens/s")
    finally:
        for process in here.values():
            process.kill()
    return rows


def step_tokens(told: argparse.Namespace) -> int:
    wanted = settings(told)
    return int(wanted.batch_size * wanted.shape.context)


def ask(process: "subprocess.Popen[str]", steps: int) -> dict[str, Any]:
    assert process.stdin
    process.stdin.write(f"{steps}\n")
    process.stdin.flush()
    return answer(process)


def answer(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout
    if not (line := process.stdout.readline()):
        raise SystemExit("a contestant ended while it was measured")
    return dict(json.loads(line))


def show(rows: list[common.Row]) -> None:
    """Medians; ours over each other by the median of the rounds' ratios."""
    print(f"\n{rows[0].task:24}{'tokens/s':>10}{'spread':>18}{'ours is':>9}{'peak memory':>14}{'last loss':>11}")
    for row in rows:
        ratio = statistics.median(us / them for us, them in zip(rows[0].rates, row.rates, strict=True))
        spread = f"{min(row.rates):.0f} - {max(row.rates):.0f}"
        faster = "" if row is rows[0] else f"{ratio:.2f}x"
        memory = f"{row.about['peak_bytes'] / 1e9:.2f} GB"
        print(f"{row.engine:24}{row.rate:10.0f}{spread:>18}{faster:>9}{memory:>14}{row.about['loss']:>11.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="5m")
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--tokens", type=int, default=8192, help="in a step")
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=3, help="in a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--no-compile", action="store_true", help="without torch.compile, which takes a minute to begin"
    )
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.worker:
        WORKERS[told.worker](told)
        return
    names = [name for name in WORKERS if name != "torch.compile" or (not told.no_compile and shutil.which("c++"))]
    for dtype in told.dtype:
        rows = compete(names, dtype, told)
        show(rows)
        common.save(rows)


if __name__ == "__main__":
    main()
