"""Tuning: LoRA by us on a 4-bit base and by peft on transformers, by turns, on equal rows and steps.

    python benchmarks/tuning.py --layers 4 --vocabulary 64000

The model is random, of Gemma 2 2B's widths with as many layers as are asked for. peft's is the loop that people
write: its LoRA on all linear layers, gradient checkpointing, labels, torch's AdamW; once with weights in bfloat16,
once in float32. Rows have no padding, and their second half is learnt. Each contestant has a process of its own, of
which the peak memory is told, and the processor's seconds, which other programs disturb less than the clock.
"""

import argparse
import json
import os
import resource
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

RATE, RANK = 2e-4, 16
WARM = 1  # steps before the first that counts


class Turns:
    """Steps as they are asked for: so many, then an answer and silence."""

    def __init__(self) -> None:
        print("{}", flush=True)
        self.wait()

    def wait(self) -> None:
        if not (line := sys.stdin.readline()):
            raise SystemExit
        self.left = int(line)
        self.start, self.work = time.perf_counter(), time.process_time()

    def took(self, loss: float) -> None:
        self.left -= 1
        if not self.left:
            seconds, work = time.perf_counter() - self.start, time.process_time() - self.work
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
            print(json.dumps({"seconds": seconds, "work": work, "loss": loss, "peak": peak}), flush=True)
            self.wait()


def make_model(folder: Path, layers: int, vocabulary: int) -> None:
    """A random model of Gemma 2 2B's widths, in bfloat16."""
    from soban.models import architecture
    from soban.ops.formats import bf16_bits
    from soban.weights.safetensors import write_safetensors

    config = {
        "model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"], "vocab_size": vocabulary, "hidden_size": 2304,
        "intermediate_size": 9216, "num_hidden_layers": layers, "num_attention_heads": 8, "num_key_value_heads": 4,
        "head_dim": 256, "max_position_embeddings": 8192, "sliding_window": 4096, "query_pre_attn_scalar": 256,
        "hidden_activation": "gelu_pytorch_tanh", "torch_dtype": "bfloat16",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    dice, shapes = np.random.default_rng(0), architecture(config).plan.shapes()
    write_safetensors(
        folder / "model.safetensors", [(name, "BF16", shape) for name, shape in shapes.items()],
        lambda name: [bf16_bits(dice.standard_normal(shapes[name], np.float32) * np.float32(0.02))],
    )  # fmt: skip


def rows(told: argparse.Namespace) -> Iterator[Any]:
    """Token ids (batch, length + 1), step by step."""
    dice = np.random.default_rng(1)
    while True:
        yield dice.integers(3, told.vocabulary, (told.batch, told.length + 1))


def ours(told: argparse.Namespace) -> None:
    import torch

    from soban.learn.data.packing import IGNORED, Batch
    from soban.learn.training import optimise
    from soban.learn.training.computing import Computer
    from soban.learn.tuning import work
    from soban.learn.tuning.adapting import Adapted
    from soban.learn.tuning.base import frozen
    from soban.learn.tuning.settings import TuneSettings
    from soban.weights.opening import open_checkpoint

    settings = TuneSettings(
        "gemma2", told.vocabulary, "", "", told.base, told.length, told.batch, 1 << 30, RATE, rank=RANK,
        modules=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        threads=os.cpu_count() or 1, schedule="constant", dtype="bfloat16", at_once=told.at_once,
    )  # fmt: skip
    base = frozen(open_checkpoint(told.model), told.base)
    base.model.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
    adapted = Adapted(base.model, settings, "")
    computer = Computer(
        base.model, dtype=torch.bfloat16, device="cpu", parts=settings.parts, learns=adapted.learns, loss=work.loss,
        at_once=settings.at_once,
    )  # fmt: skip
    state, turns = optimise.initial_state(computer.weights, settings), Turns()
    starts = np.arange(told.batch) * told.length
    for step, ids in enumerate(rows(told)):
        targets = ids[:, 1:].copy()
        targets[:, : told.length // 2] = IGNORED
        gradients, loss, _, _ = computer.gradients([Batch(ids[:, :-1].copy(), targets, starts)])
        optimise.update(computer.weights, gradients, state, step, settings, computer.workers.map)
        computer.refresh()
        turns.took(loss)


def theirs(told: argparse.Namespace, dtype: str) -> None:
    import peft
    import torch
    import transformers

    model: Any = transformers.AutoModelForCausalLM.from_pretrained(told.model, dtype=getattr(torch, dtype))
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    whole = peft.get_peft_model(model, peft.LoraConfig(r=RANK, lora_alpha=32, target_modules="all-linear"))
    weights = [weight for weight in whole.parameters() if weight.requires_grad]
    optimizer, turns = torch.optim.AdamW(weights, lr=RATE), Turns()
    whole.train()
    for ids in rows(told):
        inputs = torch.from_numpy(ids[:, :-1].copy())
        labels = torch.from_numpy(ids[:, 1:].copy())
        labels[:, : told.length // 2] = -100
        optimizer.zero_grad()
        loss = whole(input_ids=inputs, labels=labels, shift_labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        turns.took(loss.item())


WORKERS = {
    "soban": ours, "peft bfloat16": lambda told: theirs(told, "bfloat16"),
    "peft float32": lambda told: theirs(told, "float32"),
}  # fmt: skip


def compete(told: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Everybody's rates: all are loaded, then take turns."""
    flags = [
        "--layers", told.layers, "--vocabulary", told.vocabulary, "--length", told.length, "--batch", told.batch,
        "--at-once", told.at_once, "--base", told.base, "--model", folder,
    ]  # fmt: skip
    here = {
        name: subprocess.Popen(
            [sys.executable, __file__, *map(str, flags), "--worker", name], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )
        for name in told.engines
    }  # fmt: skip
    found: list[dict[str, Any]] = [{"engine": name, "rates": [], "work": []} for name in here]
    tokens = told.batch * told.length * told.steps
    try:
        for name in here:
            answer(here[name])
            ask(here[name], WARM)
        for number in range(told.rounds):
            for one in found if number % 2 == 0 else reversed(found):
                result = ask(here[one["engine"]], told.steps)
                one["rates"].append(tokens / result["seconds"])
                one["work"].append(1000 * result["work"] / tokens)
                one |= {"loss": result["loss"], "peak_bytes": result["peak"]}
                common.tell(f"round {number + 1}: {one['engine']}: {one['rates'][-1]:.1f} tokens/s")
    finally:
        for process in here.values():
            process.kill()
    return found


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag, value in (
        ("layers", 4), ("vocabulary", 64000), ("length", 512), ("batch", 4), ("at-once", 2048), ("steps", 1),
        ("rounds", 3),
    ):  # fmt: skip
        parser.add_argument(f"--{flag}", type=int, default=value)
    parser.add_argument("--base", default="q4")
    parser.add_argument("--engines", nargs="+", default=list(WORKERS), choices=WORKERS)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--worker", choices=WORKERS)
    told = parser.parse_args()
    if told.worker:
        WORKERS[told.worker](told)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = told.model or Path(name)
        if told.model is None:
            make_model(folder, told.layers, told.vocabulary)
        found = compete(told, folder)
    print(f"\n{'':16}{'tokens/s':>10}{'ours is':>9}{'ms of processor a token':>25}{'peak memory':>14}{'last loss':>11}")
    for one in found:
        ratio = statistics.median(us / them for us, them in zip(found[0]["rates"], one["rates"], strict=True))
        print(
            f"{one['engine']:16}{statistics.median(one['rates']):10.1f}{ratio:8.2f}x{statistics.median(one['work']):25.2f}"
            f"{one['peak_bytes'] / 1e9:11.2f} GB{one['loss']:11.4f}"
        )
    settings = {key: value for key, value in vars(told).items() if key not in ("worker", "model", "engines")}
    common.append("tuning", {"cpu": common.cpu(), "settings": settings, "rows": found})


if __name__ == "__main__":
    main()
