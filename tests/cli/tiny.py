"""Tiny models with random weights that write lower-case letters and never end: the tests know what to expect."""

import json
import struct
from pathlib import Path

import numpy as np

DIM, HIDDEN, HEADS = 16, 24, 2
LETTERS = b"abcdefghijklmnopqrstuvwxyz"
SHAPES = {
    "input_layernorm": (DIM,), "self_attn.q_proj": (DIM, DIM), "self_attn.k_proj": (DIM, DIM),
    "self_attn.v_proj": (DIM, DIM), "self_attn.o_proj": (DIM, DIM), "post_attention_layernorm": (DIM,),
    "mlp.gate_proj": (HIDDEN, DIM), "mlp.down_proj": (DIM, HIDDEN), "mlp.up_proj": (HIDDEN, DIM),
}  # fmt: skip


def weights(vocabulary: int, letters: list[int]) -> dict[str, np.ndarray]:
    """One layer; only letters have an output, so the likeliest token is always one of them."""
    random = np.random.default_rng(5)
    made = {f"model.layers.0.{name}.weight": random.standard_normal(shape) for name, shape in SHAPES.items()}
    made["model.embed_tokens.weight"] = random.standard_normal((vocabulary, DIM))
    made["model.norm.weight"] = np.ones(DIM)
    made["lm_head.weight"] = np.zeros((vocabulary, DIM))
    half = random.standard_normal((len(letters) // 2, DIM))
    made["lm_head.weight"][letters] = np.concatenate((half, -half))  # whatever comes in, one of them is above zero
    return {name: array.astype(np.float32) for name, array in made.items()}


def folder(path: Path, context: int = 64, template: str | None = None) -> Path:
    """A Hugging Face folder whose tokens are single bytes; `template` is a chat template."""
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    path.mkdir(parents=True)
    vocabulary = {"<s>": 0, "</s>": 1}
    for character in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[character] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.save(str(path / "tokenizer.json"))
    settings = {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast"}
    if template is not None:
        settings["chat_template"] = template
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "hidden_size": DIM,
        "intermediate_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": HEADS, "num_key_value_heads": HEADS,
        "max_position_embeddings": context, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "vocab_size": len(vocabulary),
        "bos_token_id": 0, "eos_token_id": 1, "tie_word_embeddings": False, "torch_dtype": "float32",
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    letters = [vocabulary[chr(byte)] for byte in LETTERS]
    save_file(weights(len(vocabulary), letters), path / "model.safetensors")
    return path


def llama2c(path: Path, context: int = 64) -> Path:
    """A llama2.c .bin with tokenizer.bin beside it: 3 marks and 256 bytes, as far as letters go."""
    path.mkdir(parents=True)
    pieces = [b"<unk>", b"\n<s>\n", b"\n</s>\n", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    made = weights(len(pieces), [3 + byte for byte in LETTERS])
    layer = [made[f"model.layers.0.{name}.weight"] for name in (
        "input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
        "post_attention_layernorm", "mlp.gate_proj", "mlp.down_proj", "mlp.up_proj",
    )]  # fmt: skip
    tables = np.zeros(context * (DIM // HEADS), np.float32)  # rotary tables, which run.c skips
    arrays = [made["model.embed_tokens.weight"], *layer, made["model.norm.weight"], tables, made["lm_head.weight"]]
    header = struct.pack("<7i", DIM, HIDDEN, 1, HEADS, HEADS, -len(pieces), context)  # minus: an output of its own
    (path / "model.bin").write_bytes(header + b"".join(array.tobytes() for array in arrays))
    entries = b"".join(struct.pack("<fi", 0.0, len(piece)) + piece for piece in pieces)
    (path / "tokenizer.bin").write_bytes(struct.pack("<i", max(map(len, pieces))) + entries)
    return path / "model.bin"
