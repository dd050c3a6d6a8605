"""A tiny whole model for tests: random weights, a byte-level tokenizer, optionally a chat template."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from soban.models import architecture
from soban.weights import checksums
from soban.weights.safetensors import write_safetensors

CONFIG: dict[str, Any] = {
    "model_type": "gemma2",
    "vocab_size": 264,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "sliding_window": 16,
    "query_pre_attn_scalar": 16,
}
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
BEGUN = [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}"
    "{% endif %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}"
    "{% endif %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + m['content'] }}"
    "{{ '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def make_model(folder: Path, *, chat: bool = False, seed: int = 0, **changes: Any) -> Path:
    """Writes the model; `changes` go into config.json. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIG | changes
    settings: dict[str, Any] = {"add_bos_token": True, "bos_token": "<bos>", "eos_token": "<eos>"}
    if chat:
        settings["chat_template"] = TEMPLATE
    files = {
        "config.json": config,
        "generation_config.json": {"bos_token_id": 2, "eos_token_id": [1, 5]},
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": settings,
    }
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    write_weights(folder, config, seed)
    return folder


def write_weights(folder: Path, config: dict[str, Any], seed: int = 0, **replaced: np.ndarray) -> None:
    """model.safetensors in float32 for the config; `replaced` tensors (dots as __) are written as given."""
    dice = np.random.default_rng(seed)
    shapes = architecture(config).plan.shapes()
    values = {name: dice.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}
    values |= {name.replace("__", "."): value.astype(np.float32) for name, value in replaced.items()}
    (folder / "model.safetensors").unlink(missing_ok=True)
    write_safetensors(
        folder / "model.safetensors",
        [(name, "F32", value.shape) for name, value in values.items()],
        lambda name: [values[name]],
    )


def write_ascii_weights(folder: Path, seed: int = 0) -> None:
    """Weights with which the likeliest token is always a letter, or now and then one of the special ones."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rows = np.random.default_rng(seed).normal(0, 0.2, (config["vocab_size"], config["hidden_size"]))
    shown = [len(SPECIAL) + ord(letter) for letter in "abcdefghijklmnopqrstuvwxyz."]
    rows[[n for n in range(len(rows)) if n not in shown]] *= 0.01
    write_weights(folder, config, seed, model__embed_tokens__weight=rows)


def resealed(data: bytes) -> bytes:
    """A safetensors file with the checksum of its header computed anew, as one who forges it would."""
    (length,) = struct.unpack_from("<Q", data)
    header = data[8 : 8 + length]
    if (found := checksums.HEADER.search(header)) is None:
        return data
    bare = header[: found.start(1)] + checksums.NONE.encode() + header[found.end(1) :]
    return data[:8] + checksums.sealed(bare) + data[8 + length :]


def tokenizer() -> dict[str, Any]:
    """tokenizer.json: each byte is a token, after the special ones."""
    pieces = [*SPECIAL, *(f"<0x{i:02X}>" for i in range(256)), "▁"]
    added = [
        {"id": i, "content": piece, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for i, piece in enumerate(SPECIAL)
    ]  # fmt: skip
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing", "single": BEGUN, "pair": BEGUN,
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE", "unk_token": "<unk>", "byte_fallback": True, "fuse_unk": True,
            "vocab": {piece: i for i, piece in enumerate(pieces)}, "merges": [],
        },
    }  # fmt: skip
