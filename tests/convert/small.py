"""Small llama models for the tests of conversion, and llama2.c's own programs where there is a checkout of it."""

import json
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soban.weights.safetensors import write_safetensors

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 300, "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
    "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32",
}  # fmt: skip
MERGES = ["h e", "▁ t", "▁t he", "l l", "a n", "▁ a", "an d", "▁ and", "he ll", "hell o", "w o", "wo r", "▁ hello"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def shapes(c: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    d, f, v = c["hidden_size"], c["intermediate_size"], c["vocab_size"]
    kv = d // c["num_attention_heads"] * c["num_key_value_heads"]
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (v, d), "model.norm.weight": (d,)}
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        found |= {layer + f"{norm}_layernorm.weight": (d,) for norm in ("input", "post_attention")}
        parts = {"q": (d, d), "k": (kv, d), "v": (kv, d), "o": (d, d)}
        found |= {layer + f"self_attn.{letter}_proj.weight": shape for letter, shape in parts.items()}
        found |= {layer + f"mlp.{part}_proj.weight": (f, d) for part in ("gate", "up")}
        found[layer + "mlp.down_proj.weight"] = (d, f)
    return found | ({} if c["tie_word_embeddings"] else {"lm_head.weight": (v, d)})


def tokenizer(rows: int) -> dict[str, Any]:
    """A tokenizer.json as Llama's: unknown, begin, end, bytes, then merges and characters; `rows` entries at most."""
    pieces = ["<unk>", "<s>", "</s>", *BYTES, *(merge.replace(" ", "") for merge in MERGES), *"▁the andlowr.\n한국"]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(p for p in pieces if p != " "))}
    assert len(vocabulary) <= rows
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": pieces[i], **flags} for i in range(3)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
            "vocab": vocabulary, "merges": MERGES,
        },
    }  # fmt: skip


def folder(path: Path, seed: int = 1, **changes: Any) -> Path:
    """A Hugging Face folder with random weights; `changes` go into config.json, None takes a key away."""
    path.mkdir(parents=True)
    config = {key: value for key, value in (CONFIG | changes).items() if value is not None}
    dice = np.random.default_rng(seed)
    values = {name: dice.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes(config).items()}
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_tokenizer(path, tokenizer(config["vocab_size"]))
    settings = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True}
    (path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    write_safetensors(
        path / "model.safetensors", [(n, "F32", v.shape) for n, v in values.items()], lambda n: [values[n]]
    )
    return path


def write_tokenizer(path: Path, content: dict[str, Any]) -> None:
    (path / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def read_bin(data: bytes) -> tuple[dict[str, int], dict[str, np.ndarray]]:
    """A .bin's header and its arrays under llama2.c's names, layers stacked, read by the description of export.py."""
    names = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "max_seq_len")
    modern = data[:4] == b"24ka"
    version = struct.unpack_from("<i", data, 4)[0] if modern else 0
    h = dict(zip(names, struct.unpack_from("<7i", data, 8 if modern else 0), strict=True)) | {"version": version}
    h["shared"] = data[36] if modern else int(h["vocab_size"] > 0)
    h["group"] = struct.unpack_from("<i", data, 37)[0] if version == 2 else 0
    h["vocab_size"] = abs(h["vocab_size"])
    d, f, n, v = h["dim"], h["hidden_dim"], h["n_layers"], h["vocab_size"]
    kv = d * h["n_kv_heads"] // h["n_heads"]
    norms = {"att_norm": (n, d), "ffn_norm": (n, d), "norm": (d,)}
    layers = {"wq": (n, d, d), "wk": (n, kv, d), "wv": (n, kv, d), "wo": (n, d, d)}
    ffn = {"w1": (n, f, d), "w2": (n, d, f), "w3": (n, f, d)}
    head = {} if h["shared"] else {"cls": (v, d)}
    order: dict[str, tuple[int, ...]] = {**norms, "embed": (v, d), **layers, **ffn, **head}
    if version == 0:
        tables = {"cos": (h["max_seq_len"], d // h["n_heads"] // 2), "sin": (h["max_seq_len"], d // h["n_heads"] // 2)}
        order = {
            "embed": (v, d), "att_norm": (n, d), **layers, "ffn_norm": (n, d), **ffn, "norm": (d,), **tables, **head
        }  # fmt: skip
    place, arrays = 256 if modern else 28, {}
    for name, shape in order.items():
        quantised = version == 2 and "norm" not in name
        copies = n if len(shape) == 3 else 1
        parts = []
        for _ in range(copies if quantised else 1):  # a matrix's integers, then its scales
            count = int(np.prod(shape)) // (copies if quantised else 1)
            if quantised:
                integers = np.frombuffer(data, np.int8, count, place).reshape(-1, h["group"])
                scales = np.frombuffer(data, "<f4", count // h["group"], place + count)
                parts.append(integers * scales[:, None])
                place += count + 4 * len(scales)
            else:
                parts.append(np.frombuffer(data, "<f4", count, place))
                place += 4 * count
        arrays[name] = np.concatenate([part.ravel() for part in parts]).reshape(shape)
    assert place == len(data)
    return h, arrays


def checkout() -> Path:
    """llama2.c's sources, where SOBAN_BENCH_LLAMA2C names them; the test is skipped without them."""
    if not (path := os.environ.get("SOBAN_BENCH_LLAMA2C")):
        pytest.skip("needs SOBAN_BENCH_LLAMA2C: a checkout of llama2.c")
    return Path(path)


def program(name: str, where: Path) -> Path:
    """run or runq, built from that checkout."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("needs a C compiler")
    built = where / name
    if not built.exists():
        subprocess.run([compiler, "-O2", "-o", built, checkout() / f"{name}.c", "-lm"], check=True)
    return built


def says(program: Path, model: Path, tokenizer: Path, prompt: str, steps: int) -> str:
    """What llama2.c's program writes at temperature 0."""
    words = [program, model, "-z", tokenizer, "-t", "0", "-n", str(steps), "-i", prompt]
    return subprocess.run(words, capture_output=True, check=True).stdout.decode().removesuffix("\n")
