"""Encoders against transformers on small random models; what is special of each is broken once, and is missed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soban import ops
from soban.base.errors import UserError
from soban.models import architecture
from soban.packing.fitting import fitted
from soban.weights.opening import open_checkpoint

from .encoders import BERT, CONFIGS, MODERNBERT, RANKERS, ROBERTA, TEXTS, far, folder_of, ours, theirs
from .official import ABSENT, changed, configure, write

CLOSE = 3e-5  # float32 against float64: hundreds of roundings of 6e-8 through up to five layers
MISSED = 1e-4
TYPES = [[0] * (len(text) // 2) + [1] * (len(text) - len(text) // 2) for text in TEXTS]


@pytest.mark.parametrize("name", CONFIGS)
def test_hidden_states_are_transformers_up_to_the_longest_text(tmp_path: Path, name: str) -> None:
    assert far(folder_of(tmp_path, CONFIGS[name])) < CLOSE


@pytest.mark.parametrize("name", RANKERS)
def test_scores_of_a_classifier_are_transformers(tmp_path: Path, name: str) -> None:
    assert far(folder_of(tmp_path, RANKERS[name])) < CLOSE


def test_types_of_tokens_tell_two_texts_apart(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, RANKERS["bert"])
    assert far(folder, types=TYPES) < CLOSE
    assert np.abs(ours(folder, types=TYPES)[0] - ours(folder)[0]).max() > MISSED


Change = dict[str, Any]
REPLACED: dict[str, tuple[str, dict[str, Callable[..., Any]]]] = {  # a part -> the model, and ops that do it wrongly
    "sight of what comes after": ("bert", {"attention": lambda *a, **k: ATTENTION(*a, **{**k, "causal": True})}),
    "exact GELU": ("bert", {"activation": lambda x, name: ACTIVATION(x, "gelu_tanh")}),
    "biases of the norms": ("bert", {"layer_norm": lambda x, weight, bias, eps: NORM(x, weight, None, eps)}),
    "the norms' epsilon": ("bert", {"layer_norm": lambda x, weight, bias, eps: NORM(x, weight, bias, 1e-12)}),
    "types": ("bert", {"embed": lambda ids, table, scale: EMBED(ids, table, scale if table.shape[0] > 2 else 0.0)}),
    "a window to both sides": (
        "modernbert",
        {"attention": lambda *a, **k: ATTENTION(*a, **{**k, "window": k["window"] and k["window"] - 1})},
    ),
    "frequencies of windowed layers": ("modernbert", {"rotary": lambda p, r, table: ROTARY(p, r, of_all(table))}),
    "the gate": ("modernbert", {"glu": lambda x, name: GLU(x, "silu")}),
    "the head's tanh": ("ranker", {"softcap": lambda x, cap: x}),
}
ATTENTION, ACTIVATION, NORM, EMBED = ops.attention, ops.activation, ops.layer_norm, ops.embed
ROTARY, GLU = ops.rotary, ops.glu


def of_all(table: np.ndarray) -> np.ndarray:
    """The frequencies of layers that see the whole text, whoever asks."""
    return architecture(MODERNBERT).config.rotations["full_attention"].table(64).astype(table.dtype)


@pytest.mark.parametrize("part", REPLACED)
def test_each_special_part_is_missed_when_it_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    name, changes = REPLACED[part]
    folder = folder_of(tmp_path, RANKERS["bert"] if name == "ranker" else CONFIGS[name])
    for op, wrong in changes.items():
        monkeypatch.setattr(ops, op, wrong)
    assert far(folder) > MISSED


def test_positions_begin_behind_the_paddings_and_are_missed_where_they_do_not(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, changed(ROBERTA, pad_token_id=3, max_position_embeddings=68))
    assert far(folder) < CLOSE
    right = ours(folder)[0]
    configure(folder, changed(ROBERTA, pad_token_id=1, max_position_embeddings=68))
    assert np.abs(ours(folder)[0] - right).max() > MISSED


SIZES = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings",
)  # fmt: skip


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (config, key)
        for config in (BERT, MODERNBERT)
        for key in config
        if key not in ("model_type", "architectures") and (key != "pad_token_id" or config is BERT)  # 50283 of 264
    ],
    ids=lambda one: one if isinstance(one, str) else one["model_type"],
)
def test_a_key_that_is_missing_means_what_it_means_to_transformers(
    tmp_path: Path, config: dict[str, Any], key: str
) -> None:
    folder = folder_of(tmp_path, config)
    configure(folder, changed(config, **{key: ABSENT}))
    if key in SIZES and (key != "max_position_embeddings" or config is BERT):
        with pytest.raises(UserError):
            ours(folder)
    else:
        assert far(folder) < CLOSE


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_act": "mish"}, {"is_decoder": True}, {"add_cross_attention": True}, {"hidden_size": 30},
        {"position_embedding_type": "relative_key"}, {"num_attention_heads": 0}, {"layer_norm_eps": -1.0},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_implemented_is_refused_by_name(change: Change) -> None:
    with pytest.raises(UserError, match="hidden_size|heads" if "hidden_size" in change else next(iter(change))):
        architecture(changed(BERT, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"classifier_pooling": "mean"}, {"hidden_activation": "mish"}, {"layer_types": ["full_attention"]},
        {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0}}}, {"num_attention_heads": 5},
        {"rope_parameters": 3},
    ],
    ids=str,
)  # fmt: skip
def test_what_modernbert_has_and_this_has_not_is_refused_by_name(change: Change) -> None:
    names = {"num_attention_heads": "5 attention heads", "rope_parameters": "rope_"}
    with pytest.raises(UserError, match=names.get(next(iter(change)), next(iter(change)))):
        architecture(changed(RANKERS["modernbert"], **change))


def test_a_table_of_positions_that_holds_no_text_is_refused() -> None:
    with pytest.raises(UserError, match="max_position_embeddings=2"):
        architecture(changed(ROBERTA, max_position_embeddings=2))


@pytest.mark.parametrize("labels", [{"num_labels": 3, "id2label": ABSENT}, {"id2label": {"0": "no", "1": "yes"}}, {}])
def test_as_many_scores_come_out_as_there_are_labels(tmp_path: Path, labels: dict[str, Any]) -> None:
    config = changed(RANKERS["xlm-roberta"], **labels)
    assert far(folder_of(tmp_path, config)) < CLOSE
    assert len(ours(tmp_path)[0]) == {"num_labels": 3, "id2label": 2}.get(next(iter(labels), ""), 1)


def test_older_names_bare_names_and_heads_for_other_ends_are_taken_as_transformers_takes_them(
    tmp_path: Path,
) -> None:
    folder = folder_of(tmp_path, BERT)
    right = theirs(folder)[0]
    tensors = {tensor.name: np.array(tensor.float32()) for tensor in open_checkpoint(folder).tensors.values()}
    older = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
             for name, value in tensors.items()}  # fmt: skip
    bare = {name.removeprefix("bert."): value for name, value in tensors.items()}
    others = {
        "cls.predictions.bias": np.zeros(264, np.float32), "bert.pooler.dense.bias": np.zeros(32, np.float32),
        "bert.embeddings.position_ids": np.zeros((1, 64), np.int32),
    }  # fmt: skip
    for files in (older, bare, tensors | others):
        write(folder, files)
        assert np.abs(ours(folder)[0] - right).max() < CLOSE
        assert not fitted(architecture(BERT), open_checkpoint(folder)).spare


def test_layers_of_an_encoder_share_the_place_of_keys_and_values() -> None:
    arch = architecture(changed(BERT, num_hidden_layers=12))
    cache = ops.make_cache(4, arch.config.geometries, "f32")
    assert len(cache.own_layers()) == 1 and len(cache.layers) == 12
    assert len(replace(arch, config=replace(arch.config, num_hidden_layers=3)).config.geometries) == 3
