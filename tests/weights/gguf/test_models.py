"""Models in GGUF files: the logits are those of transformers with the same numbers, dequantised by the gguf package."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import soban
from soban.base.errors import UserError
from soban.text.chat.template import encode_chat
from tests.models.official import CONFIGS, IDS, configure, difference, folder_of, ours, theirs, write

from .making import make_gguf

transformers = pytest.importorskip("transformers")
LLAMA3: dict[str, Any] = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
WIDE = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
}
WIDE_GPT2 = {"n_embd": 256, "n_inner": 512}
# no key of a GGUF file has a scale for the queries: llama.cpp takes the head's size
SIZE = {"intermediate_size": 64}  # which blocks divide
PLAIN: dict[str, dict[str, Any]] = {
    "llama": CONFIGS["llama"] | SIZE,
    "mistral": CONFIGS["mistral"] | SIZE | {"sliding_window": None},
    "gemma2": CONFIGS["gemma2"] | SIZE | {"query_pre_attn_scalar": 16},
    "gpt2": CONFIGS["gpt2"] | {"scale_attn_by_inverse_layer_idx": False},
}


def both(tmp_path: Path, config: dict[str, Any], kind: Any = "F32", change: Any = None) -> tuple[Any, Any]:
    """What transformers makes of the numbers in a GGUF file, and what soban makes of the file."""
    folder = folder_of(tmp_path / "hf", config)
    values = make_gguf(folder, tmp_path / "model.gguf", kind, change)
    write(folder, values)
    return theirs(folder), ours(tmp_path / "model.gguf")


@pytest.mark.parametrize("family", PLAIN)
@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0"])
def test_the_logits_are_those_of_transformers(tmp_path: Path, family: str, kind: str) -> None:
    assert not difference(*both(tmp_path, PLAIN[family], kind))


@pytest.mark.parametrize("kind", ["Q4_K", "Q6_K", "IQ4_XS", "Q5_1", "Q3_K", "IQ3_S"])
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_blocks_of_256_give_the_logits_of_their_numbers(tmp_path: Path, family: str, kind: str) -> None:
    wide = WIDE_GPT2 if family == "gpt2" else WIDE
    config = PLAIN[family] | wide | ({"query_pre_attn_scalar": 64} if family == "gemma2" else {})
    assert not difference(*both(tmp_path, config, kind))


def test_the_types_of_one_file_differ_tensor_by_tensor(tmp_path: Path) -> None:
    def kind(name: str) -> str:
        return "Q6_K" if "embd" in name else "Q5_K" if "attn_v" in name else "F16" if "ffn" in name else "Q4_K"

    assert not difference(*both(tmp_path, PLAIN["llama"] | WIDE, kind))


@pytest.mark.parametrize(
    "changes",
    [
        {"tie_word_embeddings": True}, {"attention_bias": True, "mlp_bias": True}, {"num_key_value_heads": 4},
        {"rope_theta": 5e5},
    ],
)  # fmt: skip
def test_what_the_tensors_tell_of_a_llama_is_in_its_config(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert not difference(*both(tmp_path, PLAIN["llama"] | changes))


def frequencies(factor: float, original: int) -> Any:
    """Llama 3's factors, by which llama.cpp's converter divides the frequencies."""
    plain = 100.0 ** (-np.arange(0, 16, 2) / 16)
    wavelengths = 2 * np.pi / plain
    low, high = original / 1.0, original / 4.0
    made = []
    for wavelength in wavelengths:
        if wavelength < high:
            made.append(1.0)
        elif wavelength > low:
            made.append(factor)
        else:
            smooth = (original / wavelength - 1.0) / 3.0
            made.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(made, np.float32)


@pytest.mark.parametrize(("factor", "original"), [(8.0, 8192), (32.0, 8192), (8.0, 16), (3.0, 24)])
def test_rope_freqs_divide_the_frequencies(tmp_path: Path, factor: float, original: int) -> None:
    # theta is small here, so that 8192 stretches nothing: 16 and 24, which are nobody's, bite
    scaling = LLAMA3 | {"factor": factor, "original_max_position_embeddings": original}
    factors = frequencies(factor, original)
    assert (factors > 1).any() == (original < 100)
    config = PLAIN["llama"] | {"rope_scaling": scaling}
    assert not difference(
        *both(tmp_path, config, change=lambda writer: writer.add_tensor("rope_freqs.weight", factors))
    )
    if original < 100:
        other = both(tmp_path / "other", PLAIN["llama"], change=lambda w: w.add_tensor("rope_freqs.weight", factors))
        assert difference(*other)


def test_llama_3s_own_factors_are_known_again(tmp_path: Path) -> None:
    from soban.models.rope import Rotation
    from soban.weights.gguf.architectures import divided

    for factor in (8.0, 32.0):
        scaling = LLAMA3 | {"factor": factor, "rope_theta": 5e5}
        plain = Rotation(128, 131072, {"rope_type": "default", "rope_theta": 5e5}).frequencies(1)
        factors = (plain / Rotation(128, 131072, scaling).frequencies(1)).tolist()
        assert divided(factors, 5e5, 128, 131072) == {k: v for k, v in scaling.items() if k != "rope_theta"}


def stretched(kind: str, factor: float, original: int | None = None) -> Any:
    def change(writer: Any) -> None:
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(factor)
        if original is not None:
            writer.add_rope_scaling_orig_ctx_len(original)

    return change


@pytest.mark.parametrize(
    ("scaling", "change"),
    [
        ({"rope_type": "linear", "factor": 4.0}, stretched("linear", 4.0)),
        ({"rope_type": "linear", "factor": 2.0}, lambda w: w.add_float32("llama.rope.scale_linear", 2.0)),
        (
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
            stretched("yarn", 4.0, 16),
        ),
    ],
)
def test_a_stretched_context_is_stretched(tmp_path: Path, scaling: dict[str, Any], change: Any) -> None:
    assert not difference(*both(tmp_path, PLAIN["llama"] | {"rope_scaling": scaling}, change=change))


def test_gemma_2_of_46_layers_goes_by_its_width_and_others_by_their_heads(tmp_path: Path) -> None:
    small = {
        "hidden_size": 24,
        "intermediate_size": 32,
        "head_dim": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
    }
    for layers, scalar in ((46, 6), (3, 4)):
        config = (
            PLAIN["gemma2"]
            | small
            | {"num_hidden_layers": layers, "layer_types": None, "query_pre_attn_scalar": scalar}
        )
        assert not difference(*both(tmp_path / str(layers), config))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.add_float32("llama.attention.scale", 0.5), "llama.attention.scale=0.5 is not implemented"),
        (lambda w: w.add_expert_count(8), "llama.expert_count=8 is not implemented"),
        (lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE), "llama.rope.scaling.factor is missing"),
        (lambda w: w.add_float32("llama.logit_scale", 0.5), "llama.logit_scale=0.5"),
        (lambda w: w.add_tensor("blk.0.attn_q_norm.weight", np.ones(16, "f4")), "blk.0.attn_q_norm.weight has no"),
        (lambda w: w.add_eot_token_id(300), "tokenizer.ggml.eot_token_id=300 is no token of its 264"),
    ],
)  # fmt: skip
def test_keys_and_tensors_that_are_not_known_are_refused_by_name(tmp_path: Path, change: Any, words: str) -> None:
    folder = folder_of(tmp_path / "hf", PLAIN["llama"])
    make_gguf(folder, tmp_path / "model.gguf", change=change)
    with pytest.raises(UserError) as refusal:
        soban.load(tmp_path / "model.gguf")
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_another_architecture_a_vocabulary_alone_and_an_adapter_are_refused(tmp_path: Path) -> None:
    for name, say in (("mamba", "architecture 'mamba' are not read"), ("llama", "no tensors in it")):
        writer = gguf.GGUFWriter(tmp_path / f"{name}.gguf", name)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        with pytest.raises(UserError, match=say):
            soban.load(tmp_path / f"{name}.gguf")
    writer = gguf.GGUFWriter(tmp_path / "lora.gguf", "llama")
    writer.add_type("adapter")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(UserError, match="an adapter, not a whole model"):
        soban.load(tmp_path / "lora.gguf")


def test_a_folder_with_one_gguf_model_is_that_model_and_one_with_several_asks(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "hf", PLAIN["llama"])
    (tmp_path / "one").mkdir()
    make_gguf(folder, tmp_path / "one" / "a.gguf")
    (tmp_path / "one" / "mmproj-a.gguf").write_bytes(b"GGUF")
    assert not difference(theirs(folder), ours(tmp_path / "one"))
    (tmp_path / "one" / "b.gguf").write_bytes((tmp_path / "one" / "a.gguf").read_bytes())
    with pytest.raises(UserError, match=r"2 GGUF models: a.gguf, b.gguf"):
        soban.load(tmp_path / "one")


@pytest.mark.parametrize("dtype", ["q8", "q4", "bf16"])
def test_it_is_packed_as_any_model_is(tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path / "cache"))
    folder = folder_of(tmp_path / "hf", PLAIN["gemma2"] | WIDE)
    values = make_gguf(folder, tmp_path / "model.gguf", "Q5_K")
    write(folder, values)
    configure(folder, PLAIN["gemma2"] | WIDE)
    plain, file = (soban.load(path, dtype=dtype).logits(IDS) for path in (folder, tmp_path / "model.gguf"))
    assert np.allclose(plain, file, atol=1e-4)


def test_what_ends_an_answer_and_how_tokens_are_drawn_is_read(tmp_path: Path) -> None:
    def change(writer: Any) -> None:
        writer.add_eot_token_id(5)
        writer.add_float32("general.sampling.temp", 0.7)
        writer.add_int32("general.sampling.top_k", 20)
        writer.add_float32("general.sampling.penalty_repeat", 1.1)

    folder = folder_of(tmp_path / "hf", PLAIN["llama"])
    make_gguf(folder, tmp_path / "model.gguf", change=change)
    model = soban.load(tmp_path / "model.gguf")
    assert model.loaded.ends == {1, 5}
    assert model.loaded.generation_config == {
        "eos_token_id": [1, 5], "bos_token_id": 2, "temperature": 0.7, "top_k": 20, "repetition_penalty": 1.1,
        "do_sample": True,
    }  # fmt: skip


def test_the_template_of_the_file_is_rendered_and_a_named_one_is_no_default(tmp_path: Path) -> None:
    from tests.tiny import TEMPLATE

    folder = folder_of(tmp_path / "hf", PLAIN["llama"])
    make_gguf(
        folder, tmp_path / "model.gguf", tokenizer__chat_template=TEMPLATE, tokenizer__chat_template__tools="other"
    )
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"chat_template": TEMPLATE, "bos_token": "<bos>", "eos_token": "<eos>"}
    ))  # fmt: skip
    talk = [{"role": "user", "content": "안녕 <eos>"}]
    file, plain = soban.load(tmp_path / "model.gguf"), soban.load(folder)
    assert file.loaded.template and plain.loaded.template
    assert file.loaded.template.source == TEMPLATE
    ids = encode_chat(file.tokenizer, file.loaded.template, talk)
    assert ids == encode_chat(plain.tokenizer, plain.loaded.template, talk) and len(ids) > 20


def test_an_adapter_changes_the_file_s_model_as_it_changes_the_folder_s(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "hf", PLAIN["llama"])
    make_gguf(folder, tmp_path / "model.gguf")
    (tmp_path / "adapter").mkdir()
    dice, sizes = np.random.default_rng(0), {"q_proj": 64, "k_proj": 32, "v_proj": 32}  # 4 and 2 heads of 16
    tensors = {
        f"base_model.model.model.layers.1.self_attn.{name}.lora_{side}.weight": dice.normal(0, 0.3, shape).astype("f4")
        for name, rows in sizes.items() for side, shape in (("A", (2, 32)), ("B", (rows, 2)))
    }  # fmt: skip
    write(tmp_path / "adapter", tensors, "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": list(sizes)}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    plain = soban.load(folder, dtype="f32").logits(IDS)
    one, other = (
        soban.load(path, dtype="f32", adapter=tmp_path / "adapter").logits(IDS)
        for path in (folder, tmp_path / "model.gguf")
    )
    assert np.abs(one - plain).max() > 0.05
    assert np.allclose(one, other, atol=1e-4)
