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
    the weights of its norms, and the file has added already. `taps`: how tensors end that have the weights of a
    convolution, those of a column beside each other. `plain_norms`: how norms end to which nothing is added. `decay`:
    how tensors end that have -exp of what the family calls so. `drafts`: whether layers after the model's own, which
    guess tokens ahead, are left out.
    """

    config: Callable[[Keys], dict[str, Any]]
    interleaved: bool = False
    norm_offset: float = 0.0
    taps: str | None = None
    plain_norms: tuple[str, ...] = ()
    decay: str | None = None
    drafts: bool = False


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


def rotary(keys: Keys, epsilon: str = "layer_norm_rms_epsilon") -> dict[str, Any]:
    """What those with rotary positions have, all of whose heads' numbers turn."""
    config = sizes(keys)
    heads = config["num_attention_heads"]
    size = head_size(keys, config["hidden_size"], heads)
    if keys.count("rope.dimension_count", size) != size:
        raise keys.refused("rope.dimension_count", keys.get("rope.dimension_count"))
    return config | {
        "num_key_value_heads": keys.count("attention.head_count_kv", heads),
        "head_dim": size,
        "rms_norm_eps": keys.number(f"attention.{epsilon}"),
        "rope_theta": keys.number("rope.freq_base", THETA),
        "rope_scaling": scaling(keys, size, config["max_position_embeddings"]),
    }


def head_size(keys: Keys, hidden: int, heads: int) -> int:
    """Numbers of a head, of which keys and values have as many."""
    size = keys.count("attention.key_length", hidden // heads or 1)
    if keys.count("attention.value_length", size) != size:
        raise keys.refused("attention.value_length", keys.get("attention.value_length"))
    return size


def partly_rotary(keys: Keys, epsilon: str = "layer_norm_epsilon") -> dict[str, Any]:
    """The same of those of whose heads a part turns; the head's size is the width over the heads."""
    hidden, heads = keys.count("embedding_length"), keys.count("attention.head_count")
    size = head_size(keys, hidden, heads)
    turned = keys.count("rope.dimension_count", size)
    if size * heads != hidden or turned > size:
        raise keys.refused("rope.dimension_count", turned)
    return sizes(keys) | {
        "num_key_value_heads": keys.count("attention.head_count_kv", heads),
        "layer_norm_eps": keys.number(f"attention.{epsilon}"),
        "rope_theta": keys.number("rope.freq_base", THETA),
        "partial_rotary_factor": turned / size,
        "rope_scaling": scaling(keys, turned, keys.count("context_length")),
    }


def biased(keys: Keys, tensor: str) -> bool:
    """Whether the first layer's matrix of this name has a bias."""
    return f"blk.0.{tensor}.bias" in keys.tensors


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
    result: dict[str, Any] = {"rope_type": "yarn", "factor": factor}
    result["original_max_position_embeddings"] = keys.count("rope.scaling.original_context_length")
    for theirs, ours in (("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow")):
        if keys.has(f"rope.scaling.{theirs}"):
            result[ours] = keys.number(f"rope.scaling.{theirs}")
    return result


def divided(factors: list[float], theta: float, size: int, context: int) -> dict[str, Any]:
    """The rope_scaling by which frequencies are divided by these factors: Llama 3's where it has made them."""
    plain = 1 / theta ** (np.arange(0, size, 2) / size)
    for factor, original in LLAMA3:
        turns = original * plain / (2 * np.pi)
        stays = np.clip((turns - LOW) / (HIGH - LOW), 0, 1)
        theirs = 1 / (stays + (1 - stays) / factor)
        if len(theirs) == len(factors) and np.allclose(theirs, factors, rtol=1e-5):
            return {
                "rope_type": "llama3", "factor": factor, "low_freq_factor": LOW, "high_freq_factor": HIGH,
                "original_max_position_embeddings": original,
            }  # fmt: skip
    return {
        "rope_type": "longrope", "short_factor": factors, "long_factor": factors, "attention_factor": 1.0,
        "original_max_position_embeddings": context, "factor": 1.0,
    }  # fmt: skip


def llama(keys: Keys) -> dict[str, Any]:
    has = {"attention_bias": biased(keys, "attn_q"), "mlp_bias": biased(keys, "ffn_gate")}
    return rotary(keys) | has | {"model_type": "llama", "hidden_act": "silu"}


def like_llama(model_type: str) -> Callable[[Keys], dict[str, Any]]:
    """Of a family whose tensors tell the rest."""
    return lambda keys: (
        rotary(keys)
        | {"model_type": model_type, "hidden_act": "silu"}
        | ({"attention_bias": True} if biased(keys, "attn_q") else {})
    )


def qwen(model_type: str) -> Callable[[Keys], dict[str, Any]]:
    """Of Qwen 2 and 3, none of whose files has a window."""
    plain = like_llama(model_type)
    return lambda keys: {
        **plain(keys), "use_sliding_window": False, "max_window_layers": keys.count("block_count")
    }  # fmt: skip


def qwen2(keys: Keys) -> dict[str, Any]:
    return {key: value for key, value in qwen("qwen2")(keys).items() if key != "attention_bias"}  # which it always has


def gemma(keys: Keys) -> dict[str, Any]:
    return rotary(keys) | {"model_type": "gemma", "hidden_act": "gelu_pytorch_tanh"}


def gemma3(keys: Keys) -> dict[str, Any]:
    config = rotary(keys)
    layers, heads = config["num_hidden_layers"], config["num_attention_heads"]
    # As with Gemma 2: the 27B alone, of 62 layers, does not go by the head's size.
    scalar = config["hidden_size"] // heads if layers == 62 else config["head_dim"]
    cap = keys.number("final_logit_softcapping") if keys.has("final_logit_softcapping") else None
    return config | {
        "model_type": "gemma3_text",
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": scalar,
        "final_logit_softcapping": cap,
        "sliding_window": keys.count("attention.sliding_window"),
        "sliding_window_pattern": keys.count("attention.sliding_window_pattern", 6),
        "rope_local_base_freq": keys.number("rope.freq_base_swa", THETA),
    }


def smollm3(keys: Keys) -> dict[str, Any]:
    has = {"attention_bias": biased(keys, "attn_q"), "mlp_bias": biased(keys, "ffn_gate")}
    # Every fourth layer does not turn: no key has it.
    return rotary(keys) | has | {"model_type": "smollm3", "hidden_act": "silu", "no_rope_layer_interval": 4}


def phi3(keys: Keys) -> dict[str, Any]:
    config = partly_rotary(keys, "layer_norm_rms_epsilon")
    config["rms_norm_eps"] = config.pop("layer_norm_eps")
    context = config["max_position_embeddings"]
    original = keys.count("rope.scaling.original_context_length", context)
    long, short = (keys.vector(f"rope_factors_{kind}.weight") for kind in ("long", "short"))
    if long is not None and short is not None:
        config["rope_scaling"] = {"rope_type": "longrope", "long_factor": long, "short_factor": short}
        if keys.has("rope.scaling.attn_factor"):
            config["rope_scaling"]["attention_factor"] = keys.number("rope.scaling.attn_factor")
    window = keys.count("attention.sliding_window", context)
    return config | {
        "model_type": "phi3", "hidden_act": "silu", "original_max_position_embeddings": original,
        "sliding_window": window if window < context else None,
    }  # fmt: skip


def granite(keys: Keys) -> dict[str, Any]:
    multipliers = {
        "attention_multiplier": "attention.scale", "embedding_multiplier": "embedding_scale",
        "residual_multiplier": "residual_scale", "logits_scaling": "logit_scale",
    }  # fmt: skip
    size = head_size(keys, keys.count("embedding_length"), keys.count("attention.head_count"))
    has = {"attention_bias": biased(keys, "attn_q"), "mlp_bias": biased(keys, "ffn_gate")}
    scales = {ours: keys.number(theirs, 1.0) for ours, theirs in multipliers.items()}
    if not keys.has("attention.scale"):
        scales["attention_multiplier"] = size**-0.5
    return rotary(keys) | has | scales | {"model_type": "granite", "hidden_act": "silu"}


def exaone4(keys: Keys) -> dict[str, Any]:
    window = keys.count("attention.sliding_window") if keys.has("attention.sliding_window") else None
    pattern = keys.get("attention.sliding_window_pattern")
    windows: dict[str, Any] = {"sliding_window": window}
    if window is None:
        windows["layer_types"] = ["full_attention"] * keys.count("block_count")
    elif isinstance(pattern, np.ndarray) and pattern.dtype == bool:
        windows["layer_types"] = ["sliding_attention" if local else "full_attention" for local in pattern.tolist()]
    else:
        windows["sliding_window_pattern"] = keys.count("attention.sliding_window_pattern", 4)
    return rotary(keys) | windows | {"model_type": "exaone4", "hidden_act": "silu"}


def stablelm(keys: Keys) -> dict[str, Any]:
    return partly_rotary(keys) | {
        "model_type": "stablelm", "hidden_act": "silu", "use_qkv_bias": biased(keys, "attn_q"),
        "use_parallel_residual": _flag(keys, "use_parallel_residual", False),
    }  # fmt: skip


def gpt_neox(keys: Keys) -> dict[str, Any]:
    config = partly_rotary(keys)
    if config.pop("num_key_value_heads") != config["num_attention_heads"]:
        raise keys.refused("attention.head_count_kv", keys.get("attention.head_count_kv"))
    names = {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}
    return {names.get(key, key): value for key, value in config.items()} | {
        "model_type": "gpt_neox", "hidden_act": "gelu", "attention_bias": biased(keys, "attn_qkv"),
        "use_parallel_residual": _flag(keys, "use_parallel_residual", True),
    }  # fmt: skip


def _flag(keys: Keys, key: str, default: bool) -> bool:
    value = keys.get(key)
    if value is not None and not isinstance(value, bool):
        raise keys.refused(key, value)
    return default if value is None else value


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


def lfm2(keys: Keys) -> dict[str, Any]:
    config = sizes(keys)
    heads = keys.get("attention.head_count_kv")
    if not isinstance(heads, np.ndarray) or len(heads) != config["num_hidden_layers"] or len({*heads.tolist(), 0}) > 2:
        raise keys.refused("attention.head_count_kv", heads)
    size = head_size(keys, config["hidden_size"], config["num_attention_heads"])
    if keys.count("rope.dimension_count", size) != size:
        raise keys.refused("rope.dimension_count", keys.get("rope.dimension_count"))
    return config | {
        "model_type": "lfm2", "num_key_value_heads": int(heads.max()) or config["num_attention_heads"],
        "head_dim": size, "layer_types": ["full_attention" if count else "conv" for count in heads.tolist()],
        "norm_eps": keys.number("attention.layer_norm_rms_epsilon"),
        "conv_L_cache": keys.count("shortconv.l_cache"), "block_auto_adjust_ff_dim": False,
        "rope_theta": keys.number("rope.freq_base", THETA),
        "rope_scaling": scaling(keys, size, config["max_position_embeddings"]),
        "conv_bias": any(name.endswith("shortconv.conv.bias") for name in keys.tensors),
    }  # fmt: skip


def qwen35(keys: Keys) -> dict[str, Any]:
    config = sizes(keys)
    size, heads = keys.count("attention.key_length"), keys.count("ssm.time_step_rank")
    if keys.count("attention.value_length", size) != size:
        raise keys.refused("attention.value_length", keys.get("attention.value_length"))
    key_heads, width, drafts = (
        keys.count("ssm.group_count"), keys.count("ssm.inner_size"), keys.get("nextn_predict_layers") or 0,
    )  # fmt: skip
    if type(drafts) is not int or not 0 <= drafts < config["num_hidden_layers"]:
        raise keys.refused("nextn_predict_layers", drafts)
    if width % heads or heads % key_heads:
        raise keys.refused("ssm.inner_size", width)
    keys.get("rope.dimension_sections")  # by which images turn; text turns alike in all of them
    turned = keys.count("rope.dimension_count", size)
    config["num_hidden_layers"] -= drafts
    return config | ({"linear_heads_tiled": True} if heads != key_heads else {}) | {
        "model_type": "qwen3_5_text", "hidden_act": "silu", "head_dim": size,
        "num_key_value_heads": keys.count("attention.head_count_kv"),
        "rms_norm_eps": keys.number("attention.layer_norm_rms_epsilon"),
        "attention_bias": biased(keys, "attn_output"), "linear_conv_kernel_dim": keys.count("ssm.conv_kernel"),
        "linear_key_head_dim": keys.count("ssm.state_size"), "linear_value_head_dim": width // heads,
        "linear_num_key_heads": key_heads, "linear_num_value_heads": heads,
        "full_attention_interval": keys.count("full_attention_interval", 4),
        "rope_theta": keys.number("rope.freq_base", THETA), "partial_rotary_factor": turned / size,
        "rope_scaling": scaling(keys, turned, config["max_position_embeddings"]),
    }  # fmt: skip


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
    "gemma": Reading(gemma, norm_offset=1.0),
    "gemma2": Reading(gemma2, norm_offset=1.0),
    "gemma3": Reading(gemma3, norm_offset=1.0),
    "qwen2": Reading(qwen2),
    "qwen3": Reading(qwen("qwen3")),
    "phi3": Reading(phi3),
    "smollm3": Reading(smollm3, interleaved=True),
    "granite": Reading(granite, interleaved=True),
    "exaone": Reading(like_llama("exaone")),
    "exaone4": Reading(exaone4),
    "olmo2": Reading(like_llama("olmo2")),
    "stablelm": Reading(stablelm),
    "gptneox": Reading(gpt_neox),
    "gpt2": Reading(gpt2),
    "lfm2": Reading(lfm2, taps="shortconv.conv.weight"),
    "qwen35": Reading(
        qwen35, norm_offset=1.0, taps="ssm_conv1d.weight", plain_norms=("ssm_norm.weight",), decay="ssm_a", drafts=True
    ),
}
