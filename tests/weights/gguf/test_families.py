"""Further architectures: tensors by the gguf package's own table of names, keys as llama.cpp's converter writes them.

transformers judges the logits; where llama.cpp is installed, it reads the same file.
"""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import soban
from soban.convert.source import open_source
from soban.weights.safetensors import read_safetensors
from tests.models.official import CONFIGS, IDS, difference, folder_of, ours, theirs

from .making import add_tokenizer, neighbours

pytest.importorskip("transformers")
ARCHITECTURES = {"gemma3_text": "gemma3", "gpt_neox": "gptneox", "qwen3_5_text": "qwen35"}
PERMUTED, SUMMED = ("smollm3", "granite"), ("gemma", "gemma3_text", "qwen3_5_text")
SHORT, LONG = [1.0 + i / 9 for i in range(6)], [2.0 + i / 2 for i in range(6)]
ABSENT = object()
# What a GGUF file cannot say is left out, or has the value that llama.cpp has in its code.
CHANGES: dict[str, dict[str, Any]] = {
    "qwen2": {"use_sliding_window": False},
    "qwen3": {"use_sliding_window": False, "attention_bias": False},
    "gemma": {},
    "gemma3_text": {"query_pre_attn_scalar": 16, "sliding_window_pattern": 6, "num_hidden_layers": 7,
                    "rope_local_base_freq": 10000.0},
    "phi3": {},
    "smollm3": {"no_rope_layers": ABSENT, "no_rope_layer_interval": 4, "num_hidden_layers": 5,
                "use_sliding_window": False, "mlp_bias": False, "attention_bias": False},
    "granite": {"mlp_bias": False, "attention_bias": False},
    "exaone4": {"num_hidden_layers": 5, "sliding_window_pattern": 4},
    "olmo2": {"attention_bias": False},
    "stablelm": {},
    "gpt_neox": {},
    "lfm2": {},
    "qwen3_5_text": {"linear_num_key_heads": 4},
}  # fmt: skip
LLAMA_CPP_LEAVES_OUT = ("exaone4", "phi3")  # their windows: of EXAONE 4's smaller models, and of all of Phi 3's


def config_of(name: str) -> dict[str, Any]:
    whole = CONFIGS[name] | CHANGES[name]
    return {key: value for key, value in whole.items() if value is not ABSENT}


def tiled(c: dict[str, Any], name: str, values: np.ndarray) -> np.ndarray:
    """As llama.cpp's converter has it: the heads of values one of each key's after the other, -exp(A_log)."""
    keys, heads, width = c["linear_num_key_heads"], c["linear_num_value_heads"], c["linear_value_head_dim"]

    def turned(rows: np.ndarray, size: int) -> np.ndarray:
        whole = rows.reshape(keys, heads // keys, size, *rows.shape[1:])
        return np.ascontiguousarray(whole.swapaxes(0, 1)).reshape(rows.shape)

    if "linear_attn" not in name or "norm" in name:
        return values
    if "A_log" in name:
        return -np.exp(turned(values, 1))
    if any(part in name for part in ("dt_bias", "in_proj_a", "in_proj_b")):
        return turned(values, 1)
    if "out_proj" in name:
        return np.ascontiguousarray(turned(values.T, width).T)
    first = len(values) - heads * width
    return np.concatenate([values[:first], turned(values[first:], width)])


def write(folder: Path, path: Path, c: dict[str, Any]) -> None:
    name = c["model_type"]
    heads = c["num_attention_heads"]
    kv = c.get("num_key_value_heads", heads)
    size = c.get("head_dim") or c["hidden_size"] // heads
    writer = gguf.GGUFWriter(path, architecture := ARCHITECTURES.get(name, name))
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(c["hidden_size"])
    writer.add_block_count(c["num_hidden_layers"] + (name == "qwen3_5_text"))  # which has one for drafts
    if name == "lfm2":
        writer.add_feed_forward_length(48)  # 72 * 2 / 3 * 0.75 in whole blocks of 16
        writer.add_head_count_kv([kv if kind == "full_attention" else 0 for kind in c["layer_types"]])
        writer.add_shortconv_l_cache(c["conv_L_cache"])
        writer.add_layer_norm_rms_eps(c["norm_eps"])
    else:
        writer.add_feed_forward_length(c["intermediate_size"])
        writer.add_head_count_kv(kv)
    writer.add_head_count(heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    parameters = c.get("rope_parameters", {})
    writer.add_rope_freq_base(c.get("rope_theta", c.get("rotary_emb_base", parameters.get("rope_theta"))))
    if "rms_norm_eps" in c:
        writer.add_layer_norm_rms_eps(c["rms_norm_eps"])
    elif "layer_norm_eps" in c:
        writer.add_layer_norm_eps(c["layer_norm_eps"])
    writer.add_rope_dimension_count(
        int(size * c.get("partial_rotary_factor", c.get("rotary_pct", parameters.get("partial_rotary_factor", 1))))
    )
    if "use_parallel_residual" in c:
        writer.add_parallel_residual(c["use_parallel_residual"])
    if name in ("gemma3_text", "phi3", "exaone4"):
        writer.add_sliding_window(c["sliding_window"])
    if name == "exaone4":
        writer.add_sliding_window_pattern([(i + 1) % 4 != 0 for i in range(c["num_hidden_layers"])])
    if name == "gemma3_text":
        writer.add_final_logit_softcapping(c["final_logit_softcapping"])
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(c["rope_scaling"]["factor"])
    if name == "qwen3_5_text":
        writer.add_ssm_conv_kernel(c["linear_conv_kernel_dim"])
        writer.add_ssm_state_size(c["linear_key_head_dim"])
        writer.add_ssm_group_count(c["linear_num_key_heads"])
        writer.add_ssm_time_step_rank(c["linear_num_value_heads"])
        writer.add_ssm_inner_size(c["linear_value_head_dim"] * c["linear_num_value_heads"])
        writer.add_full_attention_interval(c["full_attention_interval"])
        writer.add_rope_dimension_sections([*parameters["mrope_section"], 0])
        writer.add_uint32("qwen35.nextn_predict_layers", 1)
        writer.add_tensor(f"blk.{c['num_hidden_layers']}.nextn.enorm.weight", np.ones(32, np.float32))
    if name == "granite":
        writer.add_attention_scale(c["attention_multiplier"])
        writer.add_embedding_scale(c["embedding_multiplier"])
        writer.add_residual_scale(c["residual_multiplier"])
        writer.add_logit_scale(c["logits_scaling"])
    if name == "phi3":
        writer.add_rope_scaling_orig_ctx_len(c["original_max_position_embeddings"])
        factor = c["max_position_embeddings"] / c["original_max_position_embeddings"]
        sharper = np.sqrt(1 + np.log(factor) / np.log(c["original_max_position_embeddings"]))
        writer.add_rope_scaling_attn_factors(sharper)
        for kind, values in (("long", LONG), ("short", SHORT)):
            writer.add_tensor(f"rope_factors_{kind}.weight", np.array(values, np.float32))
    add_tokenizer(writer, folder, c["vocab_size"])
    tensors, _ = read_safetensors(folder / "model.safetensors")
    known = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(known[architecture], c["num_hidden_layers"])
    for hf, tensor in tensors.items():
        if hf == "lm_head.weight" and c["tie_word_embeddings"]:
            continue
        values = tensor.float32()
        if name in PERMUTED and ("q_proj" in hf or "k_proj" in hf):
            values = neighbours(values, heads if "q_proj" in hf else kv)
        if name == "qwen3_5_text":
            hf, values = hf.replace(".dt_bias", ".dt_proj.bias"), tiled(c, hf, values)
        if name in SUMMED and hf.endswith("norm.weight") and "linear_attn.norm" not in hf:
            values = values + np.float32(1)
        if "conv.conv" in hf or "conv1d" in hf:
            values = values[:, 0]
        if "query_key_value" in hf:  # head by head, three parts each
            parts = values.reshape(heads, 3, size, *values.shape[1:])
            values = np.concatenate([parts[:, n].reshape(-1, *values.shape[1:]) for n in range(3)])
        writer.add_tensor(names.get_name(hf, try_suffixes=(".weight", ".bias")), np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("name", CHANGES)
def test_the_logits_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    folder, config = tmp_path / "hf", config_of(name)
    folder_of(folder, config)
    write(folder, tmp_path / "m.gguf", config)
    assert not difference(theirs(folder), ours(tmp_path / "m.gguf"))


@pytest.mark.parametrize("name", CHANGES)
def test_llama_cpp_has_the_same_logits(tmp_path: Path, name: str) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    if name in LLAMA_CPP_LEAVES_OUT:
        pytest.skip("llama.cpp leaves out its windows")
    folder, config = tmp_path / "hf", config_of(name)
    folder_of(folder, config)
    write(folder, tmp_path / "m.gguf", config)
    model = llama_cpp.Llama(str(tmp_path / "m.gguf"), n_ctx=64, n_threads=1, logits_all=True, verbose=False)
    model.eval(IDS)
    logits = soban.load(tmp_path / "m.gguf", dtype="f32").logits(IDS)
    off = np.abs(model.scores[: len(IDS)] - logits)
    assert np.median(off.max(axis=1)) < 0.05, off.max(axis=1)


@pytest.mark.parametrize("name", CHANGES)
def test_a_folder_made_of_the_file_is_what_the_file_was_made_of(tmp_path: Path, name: str) -> None:
    from soban.convert.folder import to_folder

    folder, config = tmp_path / "hf", config_of(name)
    folder_of(folder, config)
    write(folder, tmp_path / "m.gguf", config)
    to_folder(open_source(tmp_path / "m.gguf"), tmp_path / "back", "f32", tokenizer=None)
    there, back = (read_safetensors(path / "model.safetensors")[0] for path in (folder, tmp_path / "back"))
    if config["tie_word_embeddings"]:
        there.pop("lm_head.weight", None)
    assert there.keys() == back.keys()
    for tensor in there:
        assert np.allclose(there[tensor].data, back[tensor].data, rtol=0, atol=2**-23 if name in SUMMED else 0), tensor
    assert not difference(theirs(folder), ours(tmp_path / "back"))
    assert not difference(theirs(tmp_path / "back"), ours(tmp_path / "m.gguf"))


def test_heads_of_values_that_lie_apart_give_the_logits_of_those_that_lie_together(tmp_path: Path) -> None:
    config = CONFIGS["qwen3_5_text"]
    folder_of(tmp_path / "hf", config)
    write(tmp_path / "hf", tmp_path / "m.gguf", config)
    assert not difference(theirs(tmp_path / "hf"), ours(tmp_path / "m.gguf"))
    with pytest.raises(soban.UserError, match="in which they run, but are not converted"):
        open_source(tmp_path / "m.gguf").fitted()


def test_exaone_3_5_which_transformers_has_not_is_the_model_of_its_folder(tmp_path: Path) -> None:
    names = {
        "num_hidden_layers": "num_layers",
        "hidden_act": "activation_function",
        "rms_norm_eps": "layer_norm_epsilon",
    }
    usual = {key: value for key, value in CONFIGS["llama"].items() if key not in ("attention_bias", "mlp_bias")}
    config = usual | {"model_type": "exaone", "rope_scaling": None, "head_dim": 8}
    folder_of(tmp_path / "hf", {names.get(key, key): value for key, value in config.items()})
    write(tmp_path / "hf", tmp_path / "m.gguf", config)
    one, other = (soban.load(tmp_path / name, dtype="f32").logits(IDS) for name in ("hf", "m.gguf"))
    assert np.array_equal(one, other)


def test_a_qwen_2_without_its_biases_is_refused(tmp_path: Path) -> None:
    config = config_of("qwen2")
    folder_of(tmp_path / "hf", config)
    write(tmp_path / "hf", tmp_path / "m.gguf", config)
    data = (tmp_path / "m.gguf").read_bytes().replace(b"blk.0.attn_q.bias", b"blk.0.attn_q.bis.")
    (tmp_path / "m.gguf").write_bytes(data)
    with pytest.raises(soban.UserError, match=r"q_proj\.bias"):
        soban.load(tmp_path / "m.gguf")
