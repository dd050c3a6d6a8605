"""Writes a GGUF file of a model's shape with random weights, for engines whose speed does not ask what they say.

    python benchmarks/random_gguf.py out/gemma-2-2b-random Q4_0 out/gemma-2-2b-random.Q4_0.gguf

The folder needs a config.json of Gemma 2 or Llama. Types are those of llama.cpp's own quantiser: the body as named,
a tied embedding under Q4_0 as Q6_K. There is no vocabulary: the peers are given token ids.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

BLOCKS = {"BF16": (1, 2), "Q4_0": (32, 18), "Q8_0": (32, 34), "Q6_K": (256, 210)}  # weights, bytes
SPREAD = 0.02  # about what weights are; keeps scores finite and far from denormals


def blocks(kind: str, weights: int, random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Random blocks: any bits for the integers, an ordinary scale."""
    if kind == "BF16":
        values = random.standard_normal(weights, np.float32) * np.float32(SPREAD)
        return np.ascontiguousarray((values.view(np.uint32) >> 16).astype(np.uint16)).view(np.uint8)
    each, size = BLOCKS[kind]
    made = random.integers(0, 256, (weights // each, size), np.uint8)
    scale = np.full((len(made), 1), SPREAD / {"Q4_0": 8, "Q8_0": 127, "Q6_K": 32 * 64}[kind], np.float16)
    where = slice(208, 210) if kind == "Q6_K" else slice(0, 2)
    made[:, where] = scale.view(np.uint8)
    if kind == "Q6_K":
        made[:, 192:208] = 64  # the scales of 16 weights each
    return made


def tensors(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes as llama.cpp has them."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    size = config.get("head_dim") or hidden // heads
    keys = config["num_key_value_heads"] * size
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (config["vocab_size"], hidden), "output_norm": (hidden,)}
    norms = ["attn_norm", "ffn_norm"]
    if config["model_type"] == "gemma2":
        norms += ["post_attention_norm", "post_ffw_norm"]
    for i in range(config["num_hidden_layers"]):
        layer = {
            "attn_q": (heads * size, hidden), "attn_k": (keys, hidden), "attn_v": (keys, hidden),
            "attn_output": (hidden, heads * size), "ffn_gate": (config["intermediate_size"], hidden),
            "ffn_up": (config["intermediate_size"], hidden), "ffn_down": (hidden, config["intermediate_size"]),
            **{name: (hidden,) for name in norms},
        }  # fmt: skip
        shapes |= {f"blk.{i}.{name}": shape for name, shape in layer.items()}
    return shapes


def write(folder: Path, kind: str, path: Path) -> None:
    import gguf

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(path, config["model_type"])
    settings(writer, config)
    random = np.random.default_rng(1)
    tile = {name: blocks(name, 1 << 24, random) for name in {kind, embedding_kind(kind)}}
    for name, shape in tensors(config).items():
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", np.ones(shape, np.float32))
            continue
        chosen = embedding_kind(kind) if name == "token_embd" else kind
        each, size = BLOCKS[chosen]
        rows, row_bytes = shape[0], shape[1] // each * size
        flat = np.resize(tile[chosen].reshape(-1), rows * row_bytes)  # the tile again and again
        raw_type = gguf.GGMLQuantizationType[chosen]
        writer.add_tensor(f"{name}.weight", flat.reshape(rows, row_bytes), raw_dtype=raw_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def embedding_kind(kind: str) -> str:
    return "Q6_K" if kind == "Q4_0" else kind


def settings(writer: Any, config: dict[str, Any]) -> None:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    size = config.get("head_dim") or hidden // heads
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(hidden)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config.get("rope_theta", 10000.0))
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    if config["model_type"] == "gemma2":
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
        writer.add_sliding_window(config["sliding_window"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("kind", choices=("BF16", "Q4_0", "Q8_0"))
    parser.add_argument("path", type=Path)
    options = parser.parse_args()
    write(options.folder, options.kind, options.path)


if __name__ == "__main__":
    main()
