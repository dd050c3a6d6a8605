"""GGUF files of small random models, written by the gguf package in llama.cpp's names and order of rows.

Names, what is permuted and which norms hold 1 + w stand here a second time, independent of the product.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from soban.weights.safetensors import read_safetensors

Floats = npt.NDArray[np.float32]
Type = gguf.GGMLQuantizationType

GPT2_NAMES = {
    "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm",
    "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down", "lm_head": "output",
}  # fmt: skip
LLAMA_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
GEMMA2_NAMES = LLAMA_NAMES | {
    "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}  # fmt: skip
NAMES = {"llama": LLAMA_NAMES, "mistral": LLAMA_NAMES, "gemma2": GEMMA2_NAMES, "gpt2": GPT2_NAMES}
# Where blocks keep their float16 scales, which are to be small and finite in random bytes.
SCALES = {
    "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,), "IQ4_XS": (0,),
    "IQ3_S": (0,),
}  # fmt: skip


def theirs(name: str, model_type: str) -> str:
    """model.layers.3.mlp.up_proj.weight -> blk.3.ffn_up.weight"""
    stem, _, ending = name.rpartition(".")
    for begin in ("model.layers.", "transformer.h."):
        if stem.startswith(begin):
            layer, _, inner = stem.removeprefix(begin).partition(".")
            return f"blk.{layer}.{NAMES[model_type][inner]}.{ending}"
    return f"{NAMES[model_type][stem]}.{ending}"


def neighbours(rows: npt.NDArray, heads: int) -> npt.NDArray:
    """Rows of q or k, or entries of a bias, so that the two of a pair lie side by side."""
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def halves(rows: npt.NDArray, heads: int) -> npt.NDArray:
    return rows.reshape(heads, -1, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def random_blocks(shape: tuple[int, ...], kind: Type, dice: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Random blocks with scales by which the numbers become about as large as weights are."""
    values, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = dice.integers(0, 256, (shape[0] * shape[1] // values, size), np.uint8)
    largest = 0.4 / {"Q2_K": 40, "Q3_K": 100, "Q4_K": 900, "Q5_K": 1900, "Q6_K": 3000, "IQ4_XS": 3000, "IQ4_NL": 120,
                     "IQ3_S": 400}[kind.name]  # fmt: skip
    for at in SCALES[kind.name]:
        scales = (dice.uniform(0.3, 1, len(blocks)) * largest).astype(np.float16)
        blocks[:, at : at + 2] = scales.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(shape[0], -1)


def stored(name: str, values: Floats, config: dict[str, Any]) -> tuple[Floats, Callable[[Floats], Floats]]:
    """A tensor as llama.cpp's converter lays it down, and what undoes that."""
    kind = config["model_type"]
    if kind in ("llama", "mistral") and ("q_proj" in name or "k_proj" in name):
        heads = config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
        return neighbours(values, heads), lambda rows: halves(rows, heads)
    if kind == "gemma2" and name.endswith("norm.weight"):
        return values + np.float32(1), lambda sums: sums - np.float32(1)
    if kind == "gpt2" and values.ndim == 2 and ("c_" in name):
        return values.T, lambda rows: rows.T
    return values, lambda rows: rows


def make_gguf(
    folder: Path, path: Path, kind: str | Callable[[str], str] = "F32", change: Callable[[Any], None] | None = None,
    seed: int = 0, **keys: Any,
) -> dict[str, Floats]:  # fmt: skip
    """The model of a folder as a GGUF file; every tensor's numbers as they stand in it, by Hugging Face's names.

    `kind`: the type of its matrices, or what tells it by the tensor's name. `change(writer)` adds keys of its own.
    """
    config = json.loads((folder / "config.json").read_text())
    tensors, _ = read_safetensors(folder / "model.safetensors")
    architecture = {"mistral": "llama"}.get(config["model_type"], config["model_type"])
    writer, dice = gguf.GGUFWriter(path, architecture), np.random.default_rng(seed)
    add_config(writer, config)
    add_tokenizer(writer, folder, config["vocab_size"])
    for key, value in keys.items():
        writer.add_string(key.replace("__", "."), value)
    if change is not None:
        change(writer)
    values = {}
    for name, tensor in tensors.items():
        if name == "lm_head.weight" and config["tie_word_embeddings"]:
            continue
        laid, undo = stored(name, tensor.float32(), config)
        laid = np.ascontiguousarray(laid)
        chosen = kind(theirs(name, config["model_type"])) if callable(kind) else kind
        type_ = Type[chosen] if laid.ndim == 2 else Type.F32
        if type_.name in SCALES:
            data: Any = random_blocks(laid.shape, type_, dice)
        else:
            data = gguf.quantize(laid, type_)
        exact = data if type_ is Type.F32 else gguf.dequantize(data.view(np.uint8), type_)
        values[name] = np.ascontiguousarray(undo(exact.astype(np.float32).reshape(laid.shape)))
        writer.add_tensor(theirs(name, config["model_type"]), data, raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


def add_config(writer: Any, config: dict[str, Any]) -> None:
    if config["model_type"] == "gpt2":
        writer.add_context_length(config["n_positions"])
        writer.add_embedding_length(config["n_embd"])
        writer.add_block_count(config["n_layer"])
        writer.add_feed_forward_length(config["n_inner"] or 4 * config["n_embd"])
        writer.add_head_count(config["n_head"])
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
        return
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    if config["model_type"] == "gemma2":
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
        writer.add_sliding_window(config["sliding_window"])
    else:
        writer.add_rope_dimension_count(config["head_dim"])


def add_tokenizer(writer: Any, folder: Path, rows: int) -> None:
    """The byte tokens of tests/tiny.py, as a SentencePiece vocabulary that puts no blank before a text."""
    told = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokens = list(told["model"]["vocab"])
    tokens += [f"[PAD{i}]" for i in range(len(tokens), rows)]
    special = {token["content"] for token in told["added_tokens"]}
    kinds = gguf.TokenType
    types = [
        kinds.UNKNOWN if token == "<unk>" else kinds.CONTROL if token in special
        else kinds.BYTE if token.startswith("<0x") else kinds.UNUSED if token.startswith("[PAD") else kinds.NORMAL
        for token in tokens
    ]  # fmt: skip
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(types)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(3)
    writer.add_add_space_prefix(False)
    writer.add_add_bos_token(True)
