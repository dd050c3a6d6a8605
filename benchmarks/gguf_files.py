"""The same GGUF files in soban and in llama.cpp, by turns: writing, reading, memory.

    python benchmarks/gguf_files.py                                   # both shapes, every kind: 20 GB of files
    python benchmarks/gguf_files.py --shapes llama-15m --kinds Q4_K_M

Files of random blocks are written once; soban puts them in another order once, in its cache. llama.cpp comes from
llama-cpp-python, or from SOBAN_BENCH_LLAMA, a folder with its libraries; without it soban is measured alone.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any

import common
from random_gguf import KINDS

SHAPES: dict[str, dict[str, Any]] = {
    "gemma-2-2b": {
        "model_type": "gemma2", "vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216,
        "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
        "max_position_embeddings": 8192, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
        "sliding_window": 4096, "rms_norm_eps": 1e-6,
    },
    "llama-15m": {
        "model_type": "llama", "vocab_size": 32000, "hidden_size": 288, "intermediate_size": 768,
        "num_hidden_layers": 6, "num_attention_heads": 6, "num_key_value_heads": 6, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
    },
}  # fmt: skip


def shape_folder(name: str, files: Path) -> Path:
    """A folder with the config.json of a shape."""
    folder = files / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(SHAPES[name]), encoding="utf-8")
    return folder


def main() -> None:
    parser = common.parser(__doc__, model=False)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS[1:]), choices=KINDS[1:])
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=24)
    options = parser.parse_args()
    peers = "llama" in options.peers and importlib.util.find_spec("llama_cpp") is not None
    if not peers:
        common.tell("llama.cpp is not measured: pip install llama-cpp-python")
    threads, positions = options.threads, options.prompt_tokens + 64
    tasks = [common.prefill(options.prompt_tokens), common.decode(32, options.new_tokens)]
    for shape in options.shapes:
        for kind in options.kinds:
            path = common.random_gguf(shape_folder(shape, options.files), kind, options.files)
            here = [common.soban(path, "gguf", threads, positions)]
            if peers:
                here.append(common.llama(path, kind, threads, positions))
            for one in here:
                if one is not None:
                    one.text = f"{one.text.split()[0]} {shape} {kind}"
                    one.spec["file"] = kind
            common.run("gguf_files", here, tasks, options.rounds)


if __name__ == "__main__":
    main()
