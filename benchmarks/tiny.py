"""The 15 M-parameter model of llama2.c, random weights: us, run.c and runq.c, llama.cpp; 1 and 2 threads.

    git clone https://github.com/karpathy/llama2.c && python benchmarks/tiny.py --llama2c llama2.c

SOBAN_BENCH_LLAMA2C may name the checkout in place of the flag. run.c and runq.c are built with -Ofast -march=native,
for more than one thread with OpenMP. All write 255 tokens, greedily, and each tells its own tokens per second.
"""

import argparse
import json
import os
import re
import struct
import subprocess
from pathlib import Path
from typing import Any

import common
import numpy as np
import numpy.typing as npt

SHAPE = {"dim": 288, "hidden": 768, "layers": 6, "heads": 6, "kv_heads": 6, "vocabulary": 32000, "context": 256}
GROUP = 32  # the largest power of two that divides 288
STEPS = 256


def weights(random: np.random.Generator) -> dict[str, npt.NDArray[np.float32]]:
    """Stacked over layers, in the order of a v0 file; the output shares the embedding."""
    dim, hidden, layers = SHAPE["dim"], SHAPE["hidden"], SHAPE["layers"]
    shapes = {
        "embedding": (SHAPE["vocabulary"], dim), "attention_norm": (layers, dim), "wq": (layers, dim, dim),
        "wk": (layers, dim, dim), "wv": (layers, dim, dim), "wo": (layers, dim, dim), "ffn_norm": (layers, dim),
        "w1": (layers, hidden, dim), "w2": (layers, dim, hidden), "w3": (layers, hidden, dim), "norm": (dim,),
    }  # fmt: skip
    made = {name: random.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}
    made |= {name: np.ones(shapes[name], np.float32) for name in ("attention_norm", "ffn_norm", "norm")}
    made["embedding"][1] = -made["embedding"].mean(axis=0)  # token 1 would end the text
    return made


def numbers() -> bytes:
    return struct.pack("<7i", *SHAPE.values())


def write_v0(path: Path, made: dict[str, npt.NDArray[np.float32]]) -> None:
    rotations = np.zeros(SHAPE["context"] * (SHAPE["dim"] // SHAPE["heads"]), np.float32)  # nobody reads them
    path.write_bytes(numbers() + b"".join(array.tobytes() for array in (*made.values(), rotations)))


def write_v2(path: Path, made: dict[str, npt.NDArray[np.float32]]) -> None:
    header = struct.pack("<Ii", 0x616B3432, 2) + numbers() + struct.pack("<Bi", 1, GROUP)
    norms = [made[name].tobytes() for name in ("attention_norm", "ffn_norm", "norm")]
    matrices = [made["embedding"][None]] + [made[name] for name in ("wq", "wk", "wv", "wo", "w1", "w2", "w3")]
    quantised = [quantise(matrix) for stack in matrices for matrix in stack]
    path.write_bytes(header.ljust(256, b"\0") + b"".join([*norms, *quantised]))


def quantise(matrix: npt.NDArray[np.float32]) -> bytes:
    """int8 in groups, then their scales."""
    groups = matrix.reshape(-1, GROUP)
    scale = np.abs(groups).max(axis=1, keepdims=True) / 127
    return np.rint(groups / scale).astype(np.int8).tobytes() + scale.astype(np.float32).tobytes()


def models(files: Path, llama2c: Path) -> tuple[Path, Path, Path]:
    """model.bin of both forms, each with its tokenizer beside it, and a GGUF."""
    made = weights(np.random.default_rng(15))
    paths = files / "tiny-v0" / "model.bin", files / "tiny-v2" / "model.bin"
    for path, write in zip(paths, (write_v0, write_v2), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, made)
        (path.parent / "tokenizer.bin").write_bytes((llama2c / "tokenizer.bin").read_bytes())
    folder = files / "tiny"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({
        "model_type": "llama", "hidden_size": SHAPE["dim"], "intermediate_size": SHAPE["hidden"],
        "num_hidden_layers": SHAPE["layers"], "num_attention_heads": SHAPE["heads"],
        "num_key_value_heads": SHAPE["kv_heads"], "max_position_embeddings": SHAPE["context"], "rms_norm_eps": 1e-5,
        "vocab_size": SHAPE["vocabulary"],
    }), encoding="utf-8")  # fmt: skip
    return *paths, common.random_gguf(folder, "Q8_0", files)


def build(llama2c: Path, files: Path, source: str, threads: int) -> Path:
    program = files / f"{Path(source).stem}-{'omp' if threads > 1 else 'one'}"
    flags = ["-Ofast", "-march=native", *(["-fopenmp"] if threads > 1 else [])]
    subprocess.run(["gcc", *flags, "-o", str(program), str(llama2c / source), "-lm"], check=True, capture_output=True)
    return program


class Karpathy(common.Contestant):
    """run.c or runq.c: a program that writes a text and tells its rate."""

    def start(self) -> "Karpathy":
        return self

    def ask(self, request: dict[str, Any]) -> Any:
        if "write" not in request:
            return self.about if "about" in request else 0.0
        command = [*self.spec["command"], "-t", "0", "-n", str(STEPS)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.spec["threads"])}
        done = subprocess.run(command, capture_output=True, env=environment, check=True)
        found = re.search(rb"achieved tok/s: ([0-9.]+)", done.stderr)
        if not found:
            raise SystemExit(f"{command[0]} told no rate")
        return 1 / float(found[1])

    def close(self) -> None:
        pass


def karpathy(text: str, program: Path, model: Path, kind: str, threads: int) -> Karpathy:
    tokenizer = model.parent / "tokenizer.bin"
    spec = {
        "engine": text,
        "command": [str(program), str(model), "-z", str(tokenizer)],
        "kind": kind,
        "threads": threads,
    }
    return Karpathy(f"{text} {threads}t", spec)


def main() -> None:
    parser = common.parser(__doc__, model=False)
    parser.add_argument(
        "--llama2c", type=Path, default=os.environ.get("SOBAN_BENCH_LLAMA2C"), help="a checkout of llama2.c"
    )
    options: argparse.Namespace = parser.parse_args()
    if options.llama2c is None:
        raise SystemExit("name a checkout of llama2.c: --llama2c FOLDER, or SOBAN_BENCH_LLAMA2C")
    plain, quantised, gguf = models(options.files, Path(options.llama2c))
    made: list[common.Contestant | None] = []
    for threads in sorted({1, options.threads}):
        run = build(options.llama2c, options.files, "run.c", threads)
        runq = build(options.llama2c, options.files, "runq.c", threads)
        ours = [common.soban(plain, kind, threads, 0) for kind in ("f32", "q8", "q4")]
        peers = [
            karpathy("run.c", run, plain, "f32", threads), karpathy("runq.c", runq, quantised, "q8", threads),
            common.llama(gguf, "Q8_0", threads, STEPS + 32) if "llama" in options.peers else None,
        ]  # fmt: skip
        for one in filter(None, (*ours, peers[2])):
            one.text += f" {threads}t"
        made += [*ours, *peers]
    task = common.Task("write 255", {"write": STEPS - 1}, lambda seconds: 1 / seconds)
    common.run("tiny", made, [task], options.rounds)


if __name__ == "__main__":
    main()
