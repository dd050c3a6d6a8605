"""Texts to vectors: soban and transformers by turns, each in a process of its own.

    python benchmarks/embedding.py                         # the shapes of e5-small and e5-base, 256 texts
    python benchmarks/embedding.py --shapes small --rounds 5

Encoders of random weights, texts of random tokens, 8 to 200 each. transformers has them sorted by length and padded in
batches of 32, which is what sentence-transformers does; soban has them as they come.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import common
import numpy as np

SHAPES = {"small": (384, 12, 12), "base": (768, 12, 12)}  # width, layers, heads; four times as wide inside
VOCABULARY, POSITIONS, BATCH = 32000, 512, 32
KINDS = ("soban f32", "soban bf16", "soban q8", "transformers f32", "transformers bf16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--files", type=Path, default=common.FILES)
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)  # in a process of an engine: kind, folder
    options = parser.parse_args()
    if options.work:
        return work(options.work[0], Path(options.work[1]), options.threads)
    for shape in options.shapes:
        folder = encoder(options.files, shape)
        dice = np.random.default_rng(1)
        texts = [dice.integers(5, VOCABULARY, n).tolist() for n in dice.integers(8, 201, options.texts)]
        tokens = sum(map(len, texts))
        engines = {kind: start(kind, folder, options.threads) for kind in options.kinds}
        seconds: dict[str, list[float]] = {kind: [] for kind in engines}
        vectors: dict[str, Any] = {}
        for turn in range(options.rounds + 1):
            for kind, engine in engines.items():
                taken, vectors[kind] = ask(engine, texts if turn else texts[:8])
                if turn:  # the first one only warms up
                    seconds[kind].append(taken)
        print(f"\n{shape}: {len(texts)} texts, {tokens} tokens, {options.threads} threads")
        exact = vectors[next(iter(engines))]
        for kind, taken in seconds.items():
            rate, apart = tokens / statistics.median(taken), float(np.abs(np.subtract(vectors[kind], exact)).max())
            print(
                f"  {kind:20} {rate:8.0f} tokens/s  {len(texts) / statistics.median(taken):7.1f} texts/s  {apart:.1e}"
            )
            record(shape, kind, options, tokens, taken, apart)
        for engine in engines.values():
            engine.stdin.close()
            engine.wait()


def encoder(files: Path, shape: str) -> Path:
    """A folder with random weights, made once."""
    from soban.models import architecture
    from soban.weights.safetensors import write_safetensors

    folder, (width, layers, heads) = files / f"encoder-{shape}", SHAPES[shape]
    config = {
        "model_type": "bert", "architectures": ["BertModel"], "vocab_size": VOCABULARY, "hidden_size": width,
        "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": 4 * width,
        "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu",
    }  # fmt: skip
    if (folder / "model.safetensors").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    shapes, dice = architecture(config).plan.file_shapes(), np.random.default_rng(0)

    def fill(name: str) -> list[Any]:
        mean, spread = (1, 0.1) if name.endswith("LayerNorm.weight") else (0, 0.05)
        return [dice.normal(mean, spread, shapes[name]).astype(np.float32)]

    write_safetensors(folder / "model.safetensors", [(n, "F32", s) for n, s in shapes.items()], fill, {"format": "pt"})
    words = {f"w{i}": i for i in range(VOCABULARY)}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "w0"},
    }
    for name, content in (("config.json", config), ("tokenizer.json", tokenizer), ("tokenizer_config.json", {})):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def start(kind: str, folder: Path, threads: int) -> "subprocess.Popen[str]":
    command = [sys.executable, __file__, "--threads", str(threads), "--work", kind, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(engine: "subprocess.Popen[str]", texts: list[list[int]]) -> tuple[float, Any]:
    assert engine.stdin and engine.stdout
    engine.stdin.write(json.dumps(texts) + "\n")
    engine.stdin.flush()
    answer = json.loads(engine.stdout.readline())
    return answer["seconds"], np.array(answer["vectors"])


def work(kind: str, folder: Path, threads: int) -> None:
    """An engine: texts on stdin, seconds and vectors on stdout."""
    name, dtype = kind.split()
    embed = {"soban": ours, "transformers": theirs}[name](folder, dtype, threads)
    for line in sys.stdin:
        texts, begin = json.loads(line), time.perf_counter()
        vectors = embed(texts)
        seconds = time.perf_counter() - begin
        print(json.dumps({"seconds": seconds, "vectors": np.asarray(vectors, np.float64).tolist()}), flush=True)


def ours(folder: Path, dtype: str, threads: int) -> Any:
    import soban

    return soban.load(folder, dtype=dtype, threads=threads).embed_all


def theirs(folder: Path, dtype: str, threads: int) -> Any:
    import torch
    import transformers

    torch.set_num_threads(threads)
    kind = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype]
    model = transformers.AutoModel.from_pretrained(folder, dtype=kind, add_pooling_layer=False).eval()

    def embed(texts: list[list[int]]) -> Any:
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        out = np.empty((len(texts), model.config.hidden_size), np.float32)
        with torch.inference_mode():
            for first in range(0, len(order), BATCH):
                some = order[first : first + BATCH]
                longest = max(len(texts[i]) for i in some)
                ids = torch.tensor([texts[i] + [0] * (longest - len(texts[i])) for i in some])
                mask = torch.tensor([[1] * len(texts[i]) + [0] * (longest - len(texts[i])) for i in some])
                states = model(ids, attention_mask=mask).last_hidden_state.float()
                means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
                out[some] = torch.nn.functional.normalize(means, dim=-1).numpy()
        return out

    return embed


def record(shape: str, kind: str, options: Any, tokens: int, seconds: list[float], apart: float) -> None:
    """A line of the results."""
    from soban.base.machine import cpu_name

    row = {
        "when": time.strftime("%Y-%m-%d %H:%M"), "machine": cpu_name(), "threads": options.threads, "shape": shape,
        "engine": kind, "texts": options.texts, "tokens": tokens, "rates": [round(tokens / s, 1) for s in seconds],
        "apart": apart,
    }  # fmt: skip
    with (common.RESULTS / "embedding.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
