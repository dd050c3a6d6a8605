"""Writes a model folder of the families llama and gemma2 as a float32 GGUF file, so that llama.cpp can be measured.

    pip install gguf && python scripts/make_gguf.py path/to/model out.gguf

The tokens are named, so that the file loads; merges are left out: measurements feed token ids.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from soban.models import architecture
from soban.weights.opening import open_checkpoint

NAMES = {  # ours -> llama.cpp's, within a layer
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
NORMS = {
    "llama": {"post_attention_layernorm": "ffn_norm"},
    "gemma2": {
        "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    },
}  # fmt: skip
WHOLE = {
    "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("gguf", type=Path)
    given = parser.parse_args()
    write_gguf(given.model, given.gguf)


def write_gguf(model: Path, path: Path) -> None:
    """The model as float32 GGUF."""
    import gguf

    checkpoint = open_checkpoint(model)
    made = architecture(checkpoint.config)
    c, family = made.config, checkpoint.config["model_type"]
    if family not in NORMS:
        raise SystemExit(f"{family}: only {', '.join(NORMS)} can be written")
    writer = gguf.GGUFWriter(path, family)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_block_count(c.num_hidden_layers)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.kv_heads)
    writer.add_key_length(c.head_size)
    writer.add_value_length(c.head_size)
    writer.add_rope_dimension_count(c.head_size)
    writer.add_rope_freq_base(c.rope_theta)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_vocab_size(c.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    if family == "gemma2":
        writer.add_attn_logit_softcapping(c.attn_logit_softcapping)
        writer.add_final_logit_softcapping(c.final_logit_softcapping)
        writer.add_sliding_window(c.sliding_window)
    _add_tokens(writer, model, checkpoint.config)
    for name, values in tensors(checkpoint, made, family):
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors(checkpoint: Any, made: Any, family: str) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """llama.cpp's name and values of every tensor."""
    c = made.config
    heads = {"self_attn.q_proj": c.num_attention_heads, "self_attn.k_proj": c.kv_heads}
    for name in made.plan.shapes():
        values = checkpoint.tensors[name].float32()
        inner = name.removeprefix("model.layers.").partition(".")[2].removesuffix(".weight")
        if family == "llama" and inner in heads:
            values = interleaved(values, heads[inner])
        if family == "gemma2" and values.ndim == 1:
            values = values + np.float32(1)  # llama.cpp multiplies by the stored weight, Gemma 2 by 1 + w
        yield llama_cpp_name(name, family), np.ascontiguousarray(values)


def llama_cpp_name(name: str, family: str) -> str:
    """model.layers.3.mlp.up_proj.weight -> blk.3.ffn_up.weight"""
    if name in WHOLE:
        return WHOLE[name]
    layer, _, inner = name.removeprefix("model.layers.").partition(".")
    part, _, kind = inner.rpartition(".")
    return f"blk.{layer}.{(NAMES | NORMS[family])[part]}.{kind}"


def interleaved(rows: npt.NDArray, heads: int) -> npt.NDArray:
    """Rows of a q or k projection in the order of llama.cpp's llama, which turns neighbouring pairs, not halves."""
    return rows.reshape(heads, 2, -1, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)


def _add_tokens(writer: Any, model: Path, config: dict[str, Any]) -> None:
    """Each token's text and kind; scores fall with the id, as SentencePiece's do."""
    import gguf

    data = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    texts = {i: text for text, i in data["model"]["vocab"].items()}
    texts |= {token["id"]: token["content"] for token in data["added_tokens"]}
    control = {token["id"] for token in data["added_tokens"] if token["special"]}
    kinds = gguf.TokenType
    tokens, scores, types = [], [], []
    for i in range(config["vocab_size"]):
        text = texts.get(i, f"<unused{i}>")
        byte = len(text) == 6 and text.startswith("<0x")
        tokens.append(text.encode())
        scores.append(-float(i))
        types.append(kinds.CONTROL if i in control else kinds.BYTE if byte else kinds.NORMAL)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(True)


if __name__ == "__main__":
    main()
