"""Makes a Gemma 2 of full size with random weights and a synthetic tokenizer, to measure with: no download needed.

    python scripts/make_random_gemma2.py out/gemma-2-2b-random        # 5.2 GB of bfloat16
    python scripts/make_random_gemma2.py out/llama-random --shape llama    # as large, without what is Gemma's alone

The tokenizer has 256,000 entries and about 500,000 merges over Hangul, Latin and bytes, as Gemma's has: the words
mean nothing, but loading it and encoding text cost what the real one costs.
"""

import argparse
import hashlib
import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from soban.models import architecture
from soban.ops.formats import bf16_bits
from soban.weights.safetensors import write_safetensors

CONFIG = {
    "architectures": ["Gemma2ForCausalLM"],
    "model_type": "gemma2",
    "vocab_size": 256000,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 8192,
    "query_pre_attn_scalar": 256,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "sliding_window": 4096,
    "hidden_activation": "gelu_pytorch_tanh",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "torch_dtype": "bfloat16",
}
# Of Gemma's size, and nothing in it that an engine might leave out: no caps, no windows, no scale
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 256000, "hidden_size": 2304,
    "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 9, "num_key_value_heads": 3,
    "head_dim": 256, "max_position_embeddings": 8192, "hidden_act": "silu", "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0, "tie_word_embeddings": True, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0,
    "torch_dtype": "bfloat16",
}  # fmt: skip
SHAPES = {"gemma2": CONFIG, "llama": LLAMA}
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<unused{i}>" for i in range(99))]
TURNS = ["<start_of_turn>", "<end_of_turn>"]  # 106 and 107, with <2mass> etc. standing for what lies between
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=CONFIG["num_hidden_layers"], help="fewer make a smaller model")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="gemma2")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    config = SHAPES[options.shape] | {"num_hidden_layers": options.layers}
    write_json(options.folder / "config.json", config)
    write_json(options.folder / "generation_config.json", {"bos_token_id": 2, "eos_token_id": [1, 107]})
    write_json(options.folder / "tokenizer.json", tokenizer())
    write_json(
        options.folder / "tokenizer_config.json",
        {"add_bos_token": True, "bos_token": "<bos>", "eos_token": "<eos>", "chat_template": TEMPLATE},
    )
    write_weights(options.folder / "model.safetensors", config)


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def write_weights(path: Path, config: dict) -> None:
    """Normal weights, as wide as trained ones, no two tensors alike; norms that leave the size as it is.

    Engines that keep equal data once must find none.
    """
    shapes = architecture(config).plan.shapes()
    pool = np.random.default_rng(0).standard_normal(1 << 24, np.float32)  # drawn once, cut anew for each tensor

    def fill(name: str) -> Iterator[np.ndarray]:
        count = int(np.prod(shapes[name]))
        if len(shapes[name]) == 1:
            yield bf16_bits(np.full(count, 0.0 if config["model_type"] == "gemma2" else 1.0, np.float32))
            return
        scale = np.float32(shapes[name][1] ** -0.5)
        offset = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        while count:
            start = offset % (len(pool) - 4096)
            piece = pool[start : start + count]
            yield bf16_bits(piece * scale)
            count -= len(piece)
            offset += 104729 * 64

    write_safetensors(path, [(name, "BF16", shape) for name, shape in shapes.items()], fill)


def tokenizer() -> dict:
    """Gemma's kind of tokenizer.json: byte-pair encoding with byte fallback, spaces written as ▁."""
    dice = random.Random(0)
    fillers = [f"<filler{i}>" for i in range(106 - len(SPECIAL))]
    pieces = [*SPECIAL, *fillers, *TURNS, *(f"<0x{i:02X}>" for i in range(256))]
    hangul = [chr(0xAC00 + i) for i in range(11172)]
    letters = [*"▁\nabcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?'\"-:;()", *hangul]
    known = dict.fromkeys([*pieces, *letters])
    merges: list[list[str]] = []
    for length in (2, 3, 4):  # every short word of the commonest letters: as many ways to merge as real words have
        for word in map("".join, itertools.product("▁etaoinshrdlucmfwg", repeat=length)):
            known[word] = None
            merges += [[word[:i], word[i:]] for i in range(1, length)]
    words = [*letters[:90], *dice.sample(hangul, 800)]
    while len(known) < CONFIG["vocab_size"]:
        piece = dice.choice(words) + dice.choice(words)
        if piece in known or len(piece) > 10:
            continue
        known[piece] = None
        words.append(piece)
        merges += [[piece[:i], piece[i:]] for i in range(1, len(piece)) if piece[:i] in known and piece[i:] in known]
    added = [
        {"id": i, "content": piece, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for i, piece in enumerate([*SPECIAL, *fillers, *TURNS])
    ]  # fmt: skip
    print(f"{len(known)} entries, {len(merges)} merges")
    bos = {"SpecialToken": {"id": "<bos>", "type_id": 0}}
    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": {
            "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False,
        },
        "post_processor": {
            "type": "TemplateProcessing", "single": [bos, sequence], "pair": [bos, sequence],
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
            "type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
            "vocab": {piece: i for i, piece in enumerate(known)}, "merges": merges,
        },
    }  # fmt: skip


if __name__ == "__main__":
    main()
