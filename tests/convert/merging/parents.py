"""Small models to be merged: three of one ancestor in each family, decided by a seed."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from soban.models import architecture
from soban.weights.safetensors import write_safetensors

SIZES: dict[str, Any] = {
    "vocab_size": 24, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 4, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "bos_token_id": 1,
    "eos_token_id": 2, "torch_dtype": "float32",
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {**SIZES, "model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": False},
    "gemma2": {
        **SIZES, "model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"], "tie_word_embeddings": True,
        "query_pre_attn_scalar": 4, "sliding_window": 16, "hidden_activation": "gelu_pytorch_tanh",
    },
    "qwen3": {**SIZES, "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "tie_word_embeddings": True},
}  # fmt: skip
NAMES = ("start", "one", "two")


def make_parents(folder: Path, family: str, **changes: Any) -> list[Path]:
    """The folders of an ancestor and of two models tuned from it."""
    config = FAMILIES[family] | changes
    shapes = architecture(config).plan.file_shapes()
    dice = np.random.default_rng(sum(map(ord, family)))
    start = {name: dice.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    paths = []
    for number, name in enumerate(NAMES):
        tensors = {
            key: (value + (0.3 * dice.standard_normal(value.shape) if number else 0)).astype(np.float32)
            for key, value in start.items()
        }
        write_model(folder / name, config, tensors)
        paths.append(folder / name)
    return paths


def write_model(path: Path, config: dict[str, Any], tensors: dict[str, Any]) -> None:
    """A folder with these weights."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    entries = [(name, "F32", value.shape) for name, value in tensors.items()]
    write_safetensors(path / "model.safetensors", entries, lambda name: [np.ascontiguousarray(tensors[name])])
