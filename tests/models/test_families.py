"""Each family against transformers on a small random model; what is special of it is broken once, and is missed."""

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import soban
from soban import ops
from soban.base.errors import UserError
from soban.cli import main
from soban.measure.inspect import inspect_model
from soban.models import FAMILIES, Architecture, architecture, decoder, gemma4
from soban.models.config import FULL, SLIDING
from soban.packing.assemble import assemble
from soban.packing.fitting import fitted
from soban.weights.opening import open_checkpoint

from . import official
from .official import CONFIGS, FURTHER, IDS, LEAST, changed, configure, difference, folder_of, ours, theirs

transformers = pytest.importorskip("transformers")
# What each family's record says: without it, or with another value, the logits have to be others
BROKEN: dict[str, dict[str, Any]] = {
    "qwen2": {"windows": (None, None), "interleaved": True},
    "qwen3": {"windows": (None, None), "head_norm": None},
    "gemma": {"norm_offset": 0.0, "embedding_scale": 1.0, "activation": "silu"},
    "gemma3_text": {
        "norm_offset": 0.0, "embedding_scale": 1.0, "activation": "gelu", "rotations": (0, 0, 0), "after": False,
        "head_norm": None, "attention_scale": 0.25, "logit_cap": None, "windows": (None, None, None),
    },
    "smollm3": {"rotations": (0, 0), "windows": (None, None)},
    "phi3": {"windows": (None, None), "rotations": (None, None)},
    "granite": {"embedding_scale": 1.0, "attention_scale": 8**-0.5, "residual_scale": 1.0, "logit_scale": 2.5},
    "hyperclovax": {
        "embedding_scale": 1.0, "attention_scale": 0.25, "residual_scale": 1.0, "logit_scale": 2.5, "after": False,
    },
    "exaone4": {"rotations": (0, 0), "windows": (None, None), "after": False, "head_norm": None},
    "olmo2": {"after": False, "head_norm": None, "eps": 1e-6},
    "stablelm": {"parallel": "one norm", "eps": 1e-6, "rotations": (None, None)},
    "ministral3": {"growth": None, "windows": (None, None)},
    "gpt_neox": {"parallel": "one norm", "activation": "gelu_tanh", "interleaved": True},
    "bloom": {"slopes": False, "embedding_norm": False, "activation": "gelu"},
    "gptj": {"interleaved": False, "activation": "gelu", "rotations": (None, None)},
    "phi": {"interleaved": True, "activation": "gelu", "eps": 1e-6},
}  # fmt: skip
WIDTHS = ("hidden_size", "num_attention_heads", "n_embd", "n_head")
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("qwen2", {"use_sliding_window": False}), ("qwen3", {"attention_bias": True}),
    ("gpt_neox", {"use_parallel_residual": False, "attention_bias": False, "rotary_pct": 1.0}),
    ("gpt_neox", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}, "tie_word_embeddings": True}),
    ("gemma4_text", {"attention_k_eq_v": True, "num_global_key_value_heads": 1, "num_kv_shared_layers": 0}),
    ("gemma4_text", {"hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0}),
    ("gemma4_text", {"global_head_dim": official.ABSENT,
                     "per_layer_config": {str(i): {"head_dim": 12} for i in (1, 3, 5)}}),
    ("bloom", {"n_head": 8, "tie_word_embeddings": False}), ("bloom", {"n_head": 3}),
    ("qwen3_5_text", {"attention_bias": True, "linear_num_key_heads": 4, "linear_conv_kernel_dim": 2,
                      "hidden_act": "gelu", "tie_word_embeddings": True}),
    ("qwen3_5_text", {"layer_types": ["full_attention", "linear_attention"] * 2, "num_key_value_heads": 1,
                      "linear_value_head_dim": 8, "rope_parameters": {"rope_type": "default", "rope_theta": 50.0}}),
    ("lfm2", {"conv_bias": True, "conv_L_cache": 4, "block_ffn_dim_multiplier": 1}),
    ("lfm2", {"layer_types": official.ABSENT, "full_attn_idxs": [0, 2], "block_auto_adjust_ff_dim": False}),
    ("lfm2", {"tie_embedding": False, "block_ff_dim": 40, "num_key_value_heads": 1, "conv_L_cache": 1}),
    ("gptj", {"n_inner": 40, "rotary_dim": 16}), ("phi", {"num_key_value_heads": None}),
    ("gemma", {"hidden_act": "gelu"}), ("stablelm", {"use_parallel_residual": True}),
    ("hyperclovax", {"use_post_norm": False, "attention_multiplier": None, "head_dim": None}),
    ("exaone4", {"sliding_window": None, "layer_types": ["full_attention"] * 2}),
    ("smollm3", {"no_rope_layers": None}), ("olmo2", {"num_key_value_heads": None}),
    ("phi3", {"max_position_embeddings": 24}), ("phi3", {"rope_scaling": None, "partial_rotary_factor": 0.5}),
    ("gemma3_text", {"rope_scaling": None, "rope_parameters": {
        "full_attention": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 90.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 5.0}}}),
    ("gemma3_text", {"rope_scaling": DYNAMIC, "max_position_embeddings": 16}),
]  # fmt: skip


@pytest.mark.parametrize("family", FURTHER)
def test_the_logits_are_those_of_transformers(tmp_path: Path, family: str, backend: str) -> None:
    folder = folder_of(tmp_path, CONFIGS[family])
    assert not difference(theirs(folder), ours(folder))


@pytest.mark.parametrize(("family", "changes"), VARIANTS, ids=lambda value: str(value)[:60])
def test_so_are_those_of_its_variants(tmp_path: Path, family: str, changes: dict[str, Any]) -> None:
    folder = folder_of(tmp_path, changed(CONFIGS[family], **changes))
    assert not difference(theirs(folder), ours(folder))


def logits(folder: Path, broken: dict[str, Any], **ours: bool) -> Any:
    """Of a model whose record says something else when it is run."""
    checkpoint = open_checkpoint(folder)
    fit = fitted(architecture(checkpoint.config, **ours), checkpoint)
    whole, checkpoint = fit.architecture, fit.checkpoint
    wiring = importlib.import_module(f"soban.models.{FAMILIES[checkpoint.config['model_type']]}").wiring
    wrong = decoder.family("wrong", {}, type(whole.config), lambda c: replace(wiring(c), **broken))
    arch = Architecture(replace(whole.family, forward=wrong.forward, logits=wrong.logits), whole.config)
    program, c = arch.record(assemble(whole, checkpoint)), whole.config
    batch = ops.make_batch([IDS], [0], [[1, 0]], range(len(IDS)), rotation=c.row(len(IDS)))
    return ops.runner(program, len(IDS), len(IDS)).run(batch, ops.make_cache(2, c.geometries, "f32")).copy()


@pytest.mark.parametrize(("family", "field"), [(name, field) for name, fields in BROKEN.items() for field in fields])
def test_a_mistake_in_the_record_is_noticed(tmp_path: Path, family: str, field: str) -> None:
    folder = folder_of(tmp_path, CONFIGS[family])
    right = logits(folder, {})
    assert np.abs(right - ours(folder).logits).max() <= LEAST
    assert np.abs(logits(folder, {field: BROKEN[family][field]}) - right).max() > 10 * LEAST


@pytest.mark.parametrize("family", FURTHER)
def test_it_writes_what_transformers_writes_and_packed_nearly_so(tmp_path: Path, family: str) -> None:
    import torch

    doubled = {key: 2 * CONFIGS[family][key] for key in WIDTHS if key in CONFIGS[family]}
    folder = folder_of(tmp_path, changed(CONFIGS[family], **doubled))
    model = soban.load(folder, dtype="f32")
    ids = model.tokenize("abc 가나다")
    judge = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    wanted = judge.generate(torch.tensor([ids]), min_new_tokens=8, max_new_tokens=8, do_sample=False)[0]
    assert model.generate("abc 가나다", max_new_tokens=8, min_new_tokens=8, temperature=0) == model.detokenize(
        wanted.tolist()
    )
    exact = model.logits(IDS)
    for dtype, most in (("q8", 0.1), ("q4", 0.6)):
        assert 0 < np.std(soban.load(folder, dtype=dtype).logits(IDS) - exact) < most * np.std(exact)


@pytest.mark.parametrize("family", ["gemma", "gemma2", "gemma3_text"])
def test_norms_that_have_their_one_already_are_the_same_model(tmp_path: Path, family: str) -> None:
    """As GGUF's files have them."""
    folder = folder_of(tmp_path, CONFIGS[family])
    wanted = logits(folder, {})
    tensors = {
        name: tensor + 1 if name.endswith("norm.weight") else tensor
        for name, tensor in official.weights(CONFIGS[family]).items()
    }
    official.write(folder, tensors)
    assert np.abs(logits(folder, {}, plain_norms=True) - wanted).max() <= LEAST


@pytest.mark.parametrize("family", FURTHER)
def test_plan_and_show_tell_of_it_without_running_it(
    tmp_path: Path, family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(tmp_path, CONFIGS[family])
    report = inspect_model(folder)
    assert report["run"] is not None and not [f for f in report["findings"] if f.file == "config.json"]
    count = sum(tensor.size for tensor in official.weights(CONFIGS[family]).values())
    assert report["model"]["parameters"] == count
    for purpose in ("run", "train"):
        assert main(["plan", str(folder), purpose, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["obstacle"] is None and told["parameters"] == count and (told["forms"] or told["training"])


GEMMA4: dict[str, dict[str, Any]] = {
    "no cap on the logits": {"final_logit_softcapping": None},
    "the window one longer": {"sliding_window": 9},
    "another activation": {"hidden_activation": "silu"},
    "one theta": {"rope_parameters": {kind: {"rope_type": "default", "rope_theta": 100.0} for kind in (FULL, SLIDING)}},
    "the embeddings' scale in bfloat16": {"compute_dtype": "bfloat16"},
    "a layer that shares looks at the first of its kind": {"sources": (None, None, None, None, 0, 3)},
    "nothing of a token for each layer": {
        "per_layer": lambda c, w, x, batch: ops.scale(ops.linear(x, w.own_projection), 0)
    },
}  # fmt: skip


def changing(function: Callable[..., Any], **changes: Any) -> Callable[..., Any]:
    """The same with another config."""
    return lambda c, *rest: function(replace(c, **changes), *rest)


@pytest.mark.parametrize("mistake", GEMMA4)
def test_a_mistake_in_gemma_4_is_noticed(tmp_path: Path, mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(tmp_path, CONFIGS["gemma4_text"])
    right = ours(folder).logits
    for name, value in GEMMA4[mistake].items():
        if name in ("sources", "per_layer"):
            monkeypatch.setattr(gemma4.Config if name == "sources" else gemma4, name, value)
            continue
        wrong = [changing(of, **{name: value}) for of in (gemma4.FAMILY.forward, gemma4.FAMILY.logits)]
        monkeypatch.setattr(gemma4, "FAMILY", replace(gemma4.FAMILY, forward=wrong[0], logits=wrong[1]))
    assert right is not None and np.abs(ours(folder).logits - right).max() > 10 * LEAST


def reversed_taps(convolution: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(x: Any, taps: Any, *rest: Any) -> Any:
        return convolution(x, taps.reshape(-1, x.columns)[::-1].reshape(-1), *rest)

    return wrong


# of families whose wiring is their own: an op, and what is made of it
MISTAKES: dict[tuple[str, str], tuple[str, Callable[[Callable[..., Any]], Callable[..., Any]]]] = {
    ("lfm2", "the latest token first"): ("convolution", reversed_taps),
    ("lfm2", "no state"): ("convolution", lambda op: lambda x, taps, *rest: op(
        x, np.concatenate([0 * taps[: -x.columns], taps[-x.columns :]]), *rest)),
    ("lfm2", "heads without norms"): ("head_norm", lambda op: lambda x, weight, eps: op(x, weight, 1.0)),
    ("lfm2", "a gate with an activation"): ("glu", lambda op: lambda x, name, up=None: op(
        x, "silu" if name == "identity" else name, up)),
    ("lfm2", "neighbours turn"): ("rope", lambda op: lambda x, angles: op(x, angles, True)),
    ("qwen3_5_text", "the latest token first"): ("convolution", reversed_taps),
    ("qwen3_5_text", "a convolution without its activation"): ("activation", lambda op: lambda x, name: x),
    ("qwen3_5_text", "a memory that forgets nothing"): ("delta_rule", lambda op: lambda *rest: op(
        *rest[:5], 0 * rest[5], *rest[6:])),
    ("qwen3_5_text", "one bias of forgetting"): ("delta_rule", lambda op: lambda *rest: op(
        *rest[:6], 0 * rest[6], *rest[7:])),
    ("qwen3_5_text", "keys of any length"): ("head_norm", lambda op: lambda x, *rest: x
        if rest[0].std() == 0 else op(x, *rest)),
    ("qwen3_5_text", "norms without their one"): ("rms_norm", lambda op: lambda x, weight, eps, offset: op(
        x, weight, eps)),
    ("qwen3_5_text", "one added to the values' norm"): ("head_norm", lambda op: lambda x, weight, eps, offset=1.0: op(
        x, weight, eps, offset if weight.std() else 0.0)),
    ("qwen3_5_text", "attention without its gate"): ("glu", lambda op: lambda x, name, up=None:
        up if name == "sigmoid" else op(x, name, up)),
    ("qwen3_5_text", "the other numbers turn"): ("rope", lambda op: lambda x, angles, interleaved, size: op(
        x, angles, True, size)),
}  # fmt: skip


@pytest.mark.parametrize(("family", "mistake"), MISTAKES)
def test_a_mistake_in_an_own_wiring_is_noticed(
    tmp_path: Path, family: str, mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path, CONFIGS[family])
    right = ours(folder).logits
    name, change = MISTAKES[family, mistake]
    monkeypatch.setattr(ops, name, change(getattr(ops, name)))
    assert right is not None and np.abs(ours(folder).logits - right).max() > 10 * LEAST


def test_exaone_is_llama_under_other_names(tmp_path: Path) -> None:
    """Its class comes with its repository; its source names the tensors so."""
    names = {
        "model.embed_tokens": "transformer.wte", "model.norm": "transformer.ln_f", "model.layers": "transformer.h",
        "input_layernorm": "ln_1", "post_attention_layernorm": "ln_2", "self_attn.o_proj": "attn.attention.out_proj",
        "self_attn": "attn.attention", "mlp.gate_proj": "mlp.c_fc_0", "mlp.up_proj": "mlp.c_fc_1",
        "mlp.down_proj": "mlp.c_proj",
    }  # fmt: skip
    keys = {
        "num_hidden_layers": "num_layers",
        "hidden_act": "activation_function",
        "rms_norm_eps": "layer_norm_epsilon",
    }
    wanted = theirs(folder_of(tmp_path / "llama", CONFIGS["llama"]))
    config = {keys.get(key, key): value for key, value in CONFIGS["llama"].items()} | {"model_type": "exaone"}
    folder = folder_of(tmp_path / "exaone", config)

    def renamed(name: str) -> str:
        for usual, other in names.items():
            name = name.replace(usual, other)
        return name

    official.write(folder, {renamed(name): tensor for name, tensor in official.weights(CONFIGS["llama"]).items()})
    assert not difference(wanted, ours(folder))


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("stablelm", {"qk_layernorm": True}, "qk_layernorm=True"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention=True"),
        ("exaone4", {"sliding_window_pattern": "LLLG"}, "sliding_window_pattern=LLLG"),
        ("exaone4", {"sliding_window_pattern": None}, "without a sliding_window_pattern"),
        ("smollm3", {"no_rope_layers": [1]}, "1 no_rope_layers for 2 layers"),
        ("phi3", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling=.linear"),
        ("granite", {"residual_multiplier": 0}, "residual_multiplier=0"),
        ("gemma4_text", {"enable_moe_block": True}, "enable_moe_block=True"),
        ("gemma4_text", {"num_kv_shared_layers": 5}, "5 of 6 layers share"),
        ("gemma4_text", {"per_layer_config": {"1": {"intermediate_size": 12}}}, "per_layer_config.1"),
        ("qwen3_5_text", {"linear_num_key_heads": 3}, "4 heads of values over 3 of keys"),
        ("qwen3_5_text", {"linear_conv_kernel_dim": 17}, "linear_conv_kernel_dim=17"),
        ("lfm2", {"conv_L_cache": 17}, "conv_L_cache=17"),
        ("lfm2", {"layer_types": ["conv", "sliding_attention", "conv", "conv"]}, "layer_types"),
        ("bloom", {"apply_residual_connection_post_layernorm": True}, "post_layernorm=True"),
        ("gptj", {"rotary_dim": 18}, "rotary_dim=18, and heads of 16"), ("gptj", {"rotary_dim": 5}, "rotary_dim=5"),
        ("gptj", {"rotary_dim": None}, "rotary_dim=None"), ("phi", {"qk_layernorm": True}, "qk_layernorm=True"),
        ("phi", {"partial_rotary_factor": 0.95}, "partial_rotary_factor=0.95"),
        ("phi", {"tie_word_embeddings": True}, "tie_word_embeddings=True"),
        ("gemma3_text", {"rope_scaling": DYNAMIC, "rope_parameters": {
            "full_attention": {}, "sliding_attention": DYNAMIC}}, "two kinds of rotary"),
    ],
)  # fmt: skip
def test_what_it_does_not_do_is_refused(tmp_path: Path, family: str, changes: dict[str, Any], words: str) -> None:
    folder = folder_of(tmp_path, CONFIGS[family])
    configure(folder, changed(CONFIGS[family], **changes))
    with pytest.raises(UserError, match=words):
        soban.load(folder, dtype="f32")


@pytest.mark.parametrize(
    ("family", "wrapper"),
    [
        ("gemma3_text", "language_model.model."), ("gemma3_text", "model.language_model."),
        ("qwen3_5_text", "model.language_model."),
    ],
)  # fmt: skip
def test_the_text_part_of_a_model_of_images_is_used_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, family: str, wrapper: str
) -> None:
    """Against the same text model by itself: the older files' names, and the newer ones'."""
    text = changed(CONFIGS[family], architectures=official.ABSENT, tie_word_embeddings=official.ABSENT)
    wanted = ours(folder_of(tmp_path / "text", CONFIGS[family]))
    tensors = {
        name if name == "lm_head.weight" else wrapper + name.removeprefix("model."): tensor
        for name, tensor in official.weights(CONFIGS[family]).items()
    }
    tensors["vision_tower.vision_model.post_layernorm.weight"] = np.ones(8, np.float32)
    folder = folder_of(tmp_path / "whole", CONFIGS[family])
    whole = family.removesuffix("_text")
    configure(folder, {"model_type": whole, "text_config": text, "vision_config": {"hidden_size": 8}})
    official.write(folder, tensors)
    caplog.clear()
    assert not difference(wanted, ours(folder))
    assert "only the text part of this model is used; 1 tensors" in caplog.text
    findings = [finding.code for finding in inspect_model(folder)["findings"] if finding.file == "config.json"]
    assert findings == ["text-part"]


@pytest.mark.parametrize("value", [0.0, 1e-320, 1e-31, 1e30, float("inf")])
def test_a_scale_that_float32_cannot_hold_is_refused(value: float) -> None:
    with pytest.raises(UserError, match="query_pre_attn_scalar"):
        architecture(CONFIGS["gemma2"] | {"query_pre_attn_scalar": value})
