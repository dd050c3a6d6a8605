"""Writes a GGUF file of a model's shape with random weights, for engines whose speed does not ask what they say.

    python benchmarks/random_gguf.py out/gemma-2-2b-random Q4_0 out/gemma-2-2b-random.Q4_0.gguf

The folder needs a config.json of Gemma 2 or Llama, with a tied embedding. Types are those that llama.cpp's own
quantiser chooses, tensor by tensor. The vocabulary means nothing: engines are given token ids.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# Of each type: weights and bytes of a block; where float16 lie, and the scale, or the minimum, of numbers about as
# large as SPREAD where all else is any bits.
BLOCKS: dict[str, tuple[int, int, dict[int, float]]] = {
    "BF16": (1, 2, {}), "Q8_0": (32, 34, {0: 1 / 127}), "Q4_0": (32, 18, {0: 1 / 8}), "Q5_0": (32, 22, {0: 1 / 16}),
    "Q5_1": (32, 24, {0: 1 / 16, 2: -1.0}), "IQ4_NL": (32, 18, {0: 1 / 127}), "IQ4_XS": (256, 136, {0: 1 / (16 * 127)}),
    "Q4_K": (256, 144, {0: 1 / (32 * 8), 2: 1 / 32}), "Q5_K": (256, 176, {0: 1 / (32 * 16), 2: 1 / 32}),
    "Q6_K": (256, 210, {208: 1 / (64 * 32)}),
}  # fmt: skip
NARROW = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "IQ4_XS": "IQ4_NL"}  # where 256 does not divide rows
KINDS = ("BF16", "Q8_0", "Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K", "IQ4_XS")
SPREAD = 0.02  # about what weights are; keeps scores finite and far from denormals


def blocks(kind: str, weights: int, random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Random blocks: any bits for the integers, an ordinary scale."""
    if kind == "BF16":
        values = random.standard_normal(weights, np.float32) * np.float32(SPREAD)
        return np.ascontiguousarray((values.view(np.uint32) >> 16).astype(np.uint16)).view(np.uint8)
    each, size, halves = BLOCKS[kind]
    made = random.integers(0, 256, (weights // each, size), np.uint8)
    for at, share in halves.items():
        made[:, at : at + 2] = np.full((len(made), 1), SPREAD * share, np.float16).view(np.uint8)
    if kind == "Q6_K":
        made[:, 192:208] = 64  # the scales of 16 weights each
    return made


def type_of(kind: str, name: str, columns: int, layers: int) -> str:
    """What llama.cpp's quantiser gives a tensor in a file of a kind."""
    rest = name.removeprefix("blk.")
    mixed = kind.endswith("_M")
    chosen = kind.removesuffix("_M")
    if name == "token_embd":
        chosen = kind if kind in ("BF16", "Q8_0") else "Q6_K"
    elif mixed and rest.endswith((".attn_v", ".ffn_down")):
        i = int(rest.split(".")[0])
        better = i < layers // 8 or i >= 7 * layers // 8 or (i - layers // 8) % 3 == 2
        chosen = "Q6_K" if better else chosen
    return NARROW.get(chosen, chosen) if columns % 256 else chosen


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
    vocabulary(writer, config["vocab_size"])
    random, layers = np.random.default_rng(1), config["num_hidden_layers"]
    tiles: dict[str, npt.NDArray[np.uint8]] = {}
    for name, shape in tensors(config).items():
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", np.ones(shape, np.float32))
            continue
        chosen = type_of(kind, name, shape[1], layers)
        tile = tiles.setdefault(chosen, blocks(chosen, 1 << 24, random))
        each, size, _ = BLOCKS[chosen]
        rows, row_bytes = shape[0], shape[1] // each * size
        flat = np.resize(tile.reshape(-1), rows * row_bytes)  # the tile again and again
        raw_type = gguf.GGMLQuantizationType[chosen]
        writer.add_tensor(f"{name}.weight", flat.reshape(rows, row_bytes), raw_dtype=raw_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def vocabulary(writer: Any, size: int) -> None:
    """Tokens that mean nothing: both sides are given ids, and soban loads no model without words."""
    control, byte, normal = 3, 6, 1  # SentencePiece's kinds
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256))]
    kinds = [2, control, control, *[byte] * 256]
    tokens += [f"word{n}" for n in range(size - len(tokens))]
    kinds += [normal] * (size - len(kinds))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(n) for n in range(size)])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


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
    if config["model_type"] == "gemma2":
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
        writer.add_sliding_window(config["sliding_window"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("path", type=Path)
    options = parser.parse_args()
    write(options.folder, options.kind, options.path)


if __name__ == "__main__":
    main()
