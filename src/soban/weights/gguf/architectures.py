"""What the keys of a GGUF file say, as the config.json that the same model has at Hugging Face.

Names of keys and what is assumed where one is missing are llama.cpp's (llama-arch.cpp, llama-model.cpp) and those of
its converter (convert_hf_to_gguf.py). Another architecture is another row of the table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from soban.weights.gguf.keys import Keys

THETA = 10000.0  # where no key gives another
FREQUENCIES = "rope_freqs.weight"  # by what each pair's frequency is divided, as Llama 3 has it
ROTATIONS = (FREQUENCIES, "rope_factors_long.weight", "rope_factors_short.weight")
EMBEDDING, HEAD = "token_embd.weight", "output.weight"
# Llama 3's ways of stretching: how much, from how long a text; the two borders are 1 and 4 in all of them.
LLAMA3 = ((8.0, 8192), (32.0, 8192), (16.0, 8192), (4.0, 8192))
LOW, HIGH = 1.0, 4.0


@dataclass(frozen=True)
class Reading:
    """How files of an architecture are read.

    `interleaved`: rows of q and k are stored so that neighbours turn together. `norm_offset`: what the family adds to
    the weights of its norms, and the file has added already.
    """

    config: Callable[[Keys], dict[str, Any]]
    interleaved: bool = False
    norm_offset: float = 0.0


def sizes(keys: Keys) -> dict[str, Any]:
    """What all decoders have."""
    vocabulary, hidden = keys.shape(EMBEDDING)[0], keys.count("embedding_length")
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": keys.count("feed_forward_length"),
        "num_hidden_layers": keys.count("block_count"),
        "num_attention_heads": keys.count("attention.head_count"),
        "max_position_embeddings": keys.count("context_length"),
        "tie_word_embeddings": HEAD not in keys.tensors,
    }


def rotary(keys: Keys) -> dict[str, Any]:
    """What those with rotary positions have, and RMS norms."""
    config = sizes(keys)
    heads = config["num_attention_heads"]
    size = keys.count("attention.key_length", config["hidden_size"] // heads or 1)
    if keys.count("attention.value_length", size) != size:
        raise keys.refused("attention.value_length", keys.get("attention.value_length"))
    if keys.count("rope.dimension_count", size) != size:
        raise keys.refused("rope.dimension_count", keys.get("rope.dimension_count"))
    return config | {
        "num_key_value_heads": keys.count("attention.head_count_kv", heads),
        "head_dim": size,
        "rms_norm_eps": keys.number("attention.layer_norm_rms_epsilon"),
        "rope_theta": keys.number("rope.freq_base", THETA),
        "rope_scaling": scaling(keys, size, config["max_position_embeddings"]),
    }


def scaling(keys: Keys, size: int, context: int) -> dict[str, Any] | None:
    """config.json's rope_scaling; None where nothing is stretched."""
    kind = keys.text("rope.scaling.type")
    if kind in (None, "none"):
        if (factors := keys.vector(FREQUENCIES)) is not None:
            return divided(factors, keys.number("rope.freq_base", THETA), size, context)
        if not keys.has("rope.scale_linear"):
            return None
        kind, factor = "linear", keys.number("rope.scale_linear")  # the older key
    else:
        factor = keys.number("rope.scaling.factor")
    if kind == "linear":
        return None if factor == 1 else {"rope_type": "linear", "factor": factor}
    if kind != "yarn":
        raise keys.refused("rope.scaling.type", kind)
    found: dict[str, Any] = {"rope_type": "yarn", "factor": factor}
    found["original_max_position_embeddings"] = keys.count("rope.scaling.original_context_length")
    for theirs, ours in (("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow")):
        if keys.has(f"rope.scaling.{theirs}"):
            found[ours] = keys.number(f"rope.scaling.{theirs}")
    return found


def divided(factors: list[float], theta: float, size: int, context: int) -> dict[str, Any]:
    """The rope_scaling by which frequencies are divided by these factors: Llama 3's where it has made them."""
    plain = 1 / theta ** (np.arange(0, size, 2) / size)
    for factor, original in LLAMA3:
        turns = original * plain / (2 * np.pi)
        stays = np.clip((turns - LOW) / (HIGH - LOW), 0, 1)
        made = 1 / (stays + (1 - stays) / factor)
        if len(made) == len(factors) and np.allclose(made, factors, rtol=1e-5):
            return {
                "rope_type": "llama3", "factor": factor, "low_freq_factor": LOW, "high_freq_factor": HIGH,
                "original_max_position_embeddings": original,
            }  # fmt: skip
    return {
        "rope_type": "longrope", "short_factor": factors, "long_factor": factors, "attention_factor": 1.0,
        "original_max_position_embeddings": context, "factor": 1.0,
    }  # fmt: skip


def llama(keys: Keys) -> dict[str, Any]:
    has = {key: f"blk.0.{name}.bias" in keys.tensors for key, name in
           (("attention_bias", "attn_q"), ("mlp_bias", "ffn_gate"))}  # fmt: skip
    return rotary(keys) | has | {"model_type": "llama", "hidden_act": "silu"}


def gemma2(keys: Keys) -> dict[str, Any]:
    config = rotary(keys)
    layers, heads = config["num_hidden_layers"], config["num_attention_heads"]
    # No key has it: llama.cpp knows the 27B, which alone does not go by the head's size, by its 46 layers.
    scalar = config["hidden_size"] // heads if layers == 46 else config["head_dim"]
    return config | {
        "model_type": "gemma2",
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": scalar,
        "attn_logit_softcapping": keys.number("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": keys.number("final_logit_softcapping", 30.0),
        "sliding_window": keys.count("attention.sliding_window", 4096),
    }


def gpt2(keys: Keys) -> dict[str, Any]:
    names = {
        "hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head",
        "max_position_embeddings": "n_positions", "intermediate_size": "n_inner",
    }  # fmt: skip
    if keys.count("attention.head_count_kv", heads := keys.count("attention.head_count")) != heads:
        raise keys.refused("attention.head_count_kv", keys.get("attention.head_count_kv"))
    return {names.get(key, key): value for key, value in sizes(keys).items()} | {
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "layer_norm_epsilon": keys.number("attention.layer_norm_epsilon"),
    }


READINGS: dict[str, Reading] = {
    "llama": Reading(llama, interleaved=True),
    "gemma2": Reading(gemma2, norm_offset=1.0),
    "gpt2": Reading(gpt2),
}
