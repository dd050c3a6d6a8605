"""Each key of config.json against transformers' classes: removed, null, of another type, by another name, elsewhere.

What it takes soban takes, with the same logits, and what it refuses soban refuses: or one of the reasons below holds,
which docs/compatibility.md tells.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from soban.models.config import ACTIVATIONS

from . import official
from .official import ABSENT, CONFIGS, changed, configure, difference, folder_of, of_other_types

pytest.importorskip("transformers")

SAMPLE = 30  # of the changes to each family, in the ordinary run
# Keys that one class reads and another does not, that Hub files have, or that transformers takes from elsewhere
FURTHER = (
    "rope_parameters", "rope_scaling", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings",
    "sliding_window", "layer_types", "per_layer_config", "is_causal", "attention_bias", "mlp_bias", "text_config",
    "n_positions", "max_sequence_length", "n_embd", "hidden_activation", "hidden_act", "dtype", "is_decoder",
    "id2label", "num_labels", "problem_type", "quantization_config", "rope_interleaved", "compute_dtype",
)  # fmt: skip
ALIASES = ("silu", "swish", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate",
           "gelu_python", "gelu_10", "relu", "relu2", "quick_gelu", "mish", "tanh", "linear", "sigmoid")  # fmt: skip
LINEAR, PLAIN = {"rope_type": "linear", "factor": 4.0}, {"rope_type": "default", "rope_theta": 50.0}
YARN = {"rope_type": "yarn", "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LONGROPE = {
    "rope_type": "longrope", "short_factor": [1 + i / 10 for i in range(8)],
    "long_factor": [2 + i / 2 for i in range(8)],
}  # fmt: skip
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0}

Changes = dict[str, Any]


def changes_of_keys(family: str) -> Iterator[Changes]:
    """Each key by itself."""
    config = CONFIGS[family]
    for key in dict.fromkeys((*config, *FURTHER)):
        for value in of_other_types(config.get(key)):
            yield {key: value}
    for key in ("hidden_act", "hidden_activation"):
        yield from ({key: name} for name in ALIASES)
    for types in (["full_attention"], ["full_attention"] * 3, ["full_attention", "sliding_attention"],
                  ["attention", "sliding_attention"], ["chunked_attention"] * 2, ["full_attention"] * 2):  # fmt: skip
        yield {"layer_types": types}
    yield {"layer_types": ["full_attention"] * 2, "sliding_window": None}
    yield {"layer_types": ["full_attention", "sliding_attention"], "rope_parameters": {"full_attention": PLAIN}}
    yield {"dtype": "float16", "torch_dtype": "bfloat16"}
    yield {"model_type": ABSENT}
    yield {"text_config": {"rope_theta": 5.0, "model_type": family}}
    for key, value in config.items():  # elsewhere in the file
        yield {key: ABSENT, "text_config": {key: value}}
        yield {key: ABSENT, "rope_parameters": {"rope_type": "linear", "factor": 2.0, key: value}}
    yield {"quantization_config": {"quant_method": "gptq", "bits": 4}}


def changes_of_positions() -> Iterator[Changes]:
    """What rope_scaling and rope_parameters may hold, and the keys beside them."""
    for key in ("rope_scaling", "rope_parameters"):
        for parameters in objects_for_positions():
            yield {key: parameters}
        for kind in (YARN, LLAMA3, LONGROPE, DYNAMIC):
            for original in (16, None, 0, "x", 32.5):
                yield {key: kind, "original_max_position_embeddings": original}
            yield {key: {**kind, "original_max_position_embeddings": 40}, "original_max_position_embeddings": 16}
            yield from ({key: kind, "max_position_embeddings": most} for most in (16, 20, 23, 24, None, ABSENT))
        for share in (0.5, 0.95, None, "x", 1, True):
            yield {key: {"rope_type": "linear", "factor": 2.0}, "partial_rotary_factor": share}
            yield {key: {**YARN, "partial_rotary_factor": 1.0}, "partial_rotary_factor": share}
    for scaling in ({}, None, LINEAR, [], "x", [1], 0):
        for other in ({}, None, PLAIN, [], "x", 0, {"rope_type": "linear", "factor": 2.0, "rope_theta": 7.0}):
            for theta in (ABSENT, 30.0, None):
                yield {"rope_scaling": scaling, "rope_parameters": other, "rope_theta": theta}


def objects_for_positions() -> Iterator[Changes]:
    """Each kind of stretching, with each of its parameters as it may stand."""
    for name in ("rope_type", "type"):
        yield from ({name: "linear", "factor": 2.5}, {name: "dynamic", "factor": 2.0}, {name: "yarn"})
    for kind in (None, "mrope", "su", "axial", 5, ["linear"], "default"):
        yield {"rope_type": kind}
    for factor in ("2", None, True, 0.5, 0, -1.0, 3, 1):
        yield from ({"rope_type": kind, "factor": factor} for kind in ("linear", "dynamic", "yarn", "default"))
    yield from ({"factor": 2.0}, *({"rope_theta": theta} for theta in (50.0, None, "x", 1, 0.5)))
    yield from (
        {"rope_type": "proportional", "partial_rotary_factor": 0.5}, {"rope_type": "proportional", "factor": 2.0},
        {"rope_type": "default", "partial_rotary_factor": 0.5}, {**LINEAR, "partial_rotary_factor": 0.5},
        {**LINEAR, "partial_rotary_factor": 0.95}, {**DYNAMIC, "original_max_position_embeddings": 16},
        {**DYNAMIC, "partial_rotary_factor": 0.95}, {"full_attention": PLAIN},
        {**PLAIN, "sliding_attention": {"rope_type": "default", "rope_theta": 5.0}},
    )  # fmt: skip
    own: dict[str, tuple[Any, ...]] = {
        "original_max_position_embeddings": (16, 16.0, 16.5, None, 0, 1, 23, 24, 1000), "factor": (None, 1.0, 3.0),
        "attention_factor": (0.7, 1, 0, -1.0, "x", None), "beta_fast": (8, None, 0, "x"), "beta_slow": (2.5, 0),
        "mscale": (0.7, "x"), "truncate": (False, None, True, 0, "x"), "partial_rotary_factor": (0.5, 0.95, 1.0),
        "rope_theta": (1.0, 50.0), "low_freq_factor": (4.0, 8.0, None, 0), "high_freq_factor": ("x", 1.0),
        "short_factor": ([1.5], [1.0] * 7, None, 2.0, ["a"] * 8, [0.0] * 8, [-1.0] * 8), "long_factor": ([3],),
    }  # fmt: skip
    for kind in (YARN, LLAMA3, LONGROPE):
        yield kind
        yield from ({**kind, key: value} for key, values in own.items() for value in values)
        yield from ({key: value for key, value in kind.items() if key != gone} for gone in kind if gone != "rope_type")
    yield from (
        {**YARN, "mscale": 0.7, "mscale_all_dim": 0.3}, {**YARN, "mscale": 0, "mscale_all_dim": 1},
        {**YARN, "mscale": "x", "mscale_all_dim": 1}, {**YARN, "beta_fast": 1, "beta_slow": 32},
        {**YARN, "factor": None, "original_max_position_embeddings": 16}, {**YARN, "finetuned": True},
        {**LONGROPE, "original_max_position_embeddings": 16, "factor": 3.0},
        {**LONGROPE, "original_max_position_embeddings": 16, "long_factor": [1.0] * 9},
        {**LONGROPE, "original_max_position_embeddings": 16, "short_mscale": 1.2, "long_mscale": 1.3},
    )  # fmt: skip


def _has(*keys: str) -> Callable[[Changes], bool]:
    return lambda change: any(key in change for key in keys)


def _deep(change: Any, wanted: Callable[[Any], bool]) -> bool:
    """Whether a value anywhere in it is of that kind."""
    inner = change.values() if isinstance(change, dict) else change if isinstance(change, list) else ()
    return wanted(change) or any(_deep(value, wanted) for value in inner)


# Where soban departs from transformers on purpose: "laxer" or "stricter", which changes, and why.
REASONS: list[tuple[str, Callable[[Changes], bool], str]] = [
    ("laxer", _has("attention_dropout", "initializer_range", "use_cache", "pretraining_tp", "bos_token_id",
                   "pad_token_id", "id2label", "num_labels", "problem_type", "text_config", "dtype", "torch_dtype",
                   "transformers_version", "architectures", "is_decoder", "attn_pdrop", "embd_pdrop", "resid_pdrop",
                   "summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels",
                   "summary_first_dropout", "reorder_and_upcast_attn", "n_ctx", "task_specific_params",
                   "hidden_dropout", "classifier_dropout", "slow_but_exact"),
     "nothing that is computed depends on the key, so its type does not matter"),
    ("laxer", _has("sliding_window", "layer_types"),
     "the llama class has no window and reads no layer types, and layers without a window have full attention"),
    ("laxer", _has("quantization_config"), "weights that are plain numbers are used as such, whatever the key says"),
    ("laxer", _has("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "attn_logit_softcapping",
                   "final_logit_softcapping", "query_pre_attn_scalar"),
     "a whole number where transformers insists on a fraction, or the reverse, is the same number"),
    ("laxer", _has("hidden_size", "num_attention_heads"), "with a head_dim the width need not be a multiple of it"),
    ("stricter", _has("max_position_embeddings", "seq_length"),
     "it is the most tokens that a text may have, at least 1; transformers computes longer texts, too"),
    ("stricter", _has("is_causal", "per_layer_config", "use_bidirectional_attention", "qk_layernorm",
                      "apply_residual_connection_post_layernorm"),
     "what is not implemented is refused by name, by any value"),
    ("stricter", lambda change: any(name in ALIASES and name not in ACTIVATIONS for name in map(str, change.values())),
     "there is no op for the function"),
    ("stricter", lambda change: change.get("num_hidden_layers") == 0, "a model without layers is none"),
    ("stricter", lambda change: _deep(change, lambda value: value is True or (
        isinstance(value, int | float) and value <= 0)), "a size, a base or a factor is a number above 0"),
]  # fmt: skip


def departures(folder: Path, family: str, changes: list[Changes]) -> list[str]:
    """Changes of which soban makes something else than transformers, for none of the reasons."""
    folder = folder_of(folder, CONFIGS[family])
    found = []
    for change in changes:
        configure(folder, changed(CONFIGS[family], **change))
        judged, own = official.theirs(folder), official.ours(folder)
        how = difference(judged, own)
        if how and not any(how == direction and holds(change) for direction, holds, _ in REASONS):
            found.append(f"{family} {change}: {how} | {judged.refusal[:150]} | {own.refusal[:150]}")
    return found


def all_changes(family: str) -> list[Changes]:
    """Those that may mean something to the family: one without rotary positions has no parameters of them."""
    changes = [*changes_of_keys(family), *changes_of_positions()]
    rotary = "rope_theta" in CONFIGS[family]
    return [change for change in changes if rotary or not any(key.startswith("rope_") for key in change)]


SAMPLED = ("llama", "gemma2", "gpt2")  # with every run; the others among the slow tests


@pytest.mark.parametrize(
    "family", [name if name in SAMPLED else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS]
)
def test_a_sample_of_changed_configs_is_taken_as_transformers_takes_it(tmp_path: Path, family: str) -> None:
    everything = all_changes(family)
    sample = random.Random(f"{family} 1").sample(everything, SAMPLE)
    always = [
        {"rope_scaling": LINEAR, "rope_parameters": PLAIN},
        {"max_position_embeddings": ABSENT},
        {"rope_scaling": LLAMA3},
    ]
    always = [change for change in always if change in everything]
    found = departures(tmp_path / family, family, [{}, *always, *sample])
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("family", CONFIGS)
def test_every_changed_config_is_taken_as_transformers_takes_it(tmp_path: Path, family: str) -> None:
    found = departures(tmp_path / family, family, all_changes(family))
    assert not found, "\n".join(found)
