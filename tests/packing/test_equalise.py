"""Outlier channels that quantising would suffer from: found, moved away, and the model computes the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soban import ops
from soban.models import Architecture, architecture
from soban.ops.formats import Floats
from soban.packing.assemble import assemble, pack
from soban.packing.equalise import equalise
from soban.weights.checkpoint import Checkpoint
from soban.weights.opening import open_checkpoint
from soban.weights.safetensors import read_safetensors

from ..tiny import CONFIG, write_weights

LLAMA = {
    "model_type": "llama", "vocab_size": 264, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "mlp_bias": True,
}  # fmt: skip
IDS = [2, 9, 100, 33, 7, 250, 61, 61, 12]


def model(folder: Path, config: dict[str, Any], factor: float) -> tuple[Architecture, Checkpoint]:
    """Random weights in which one channel of each kind is `factor` times as large, and its readers as much smaller."""
    made = architecture(config)
    dice = np.random.default_rng(4)
    values: dict[str, Any] = {n: dice.normal(0, 0.2, s) for n, s in made.plan.shapes().items()}
    offset = made.plan.layers[0].pairs[0].offset
    for name in (n for n in values if "layernorm" in n):
        values[name] += 1 - offset
    after_norm = "post_attention_layernorm" if config["model_type"] == "llama" else "pre_feedforward_layernorm"
    for i in range(2):
        layer = f"model.layers.{i}."
        for norm, readers in (("input_layernorm", "self_attn"), (after_norm, "mlp")):
            weight = values[f"{layer}{norm}.weight"]
            weight[5] = (weight[5] + offset) * factor - offset
            for name in ("q_proj", "k_proj", "v_proj") if readers == "self_attn" else ("gate_proj", "up_proj"):
                values[f"{layer}{readers}.{name}.weight"][:, 5] /= factor
        values[f"{layer}mlp.up_proj.weight"][9] *= factor
        if f"{layer}mlp.up_proj.bias" in values:
            values[f"{layer}mlp.up_proj.bias"][9] *= factor
        values[f"{layer}mlp.down_proj.weight"][:, 9] /= factor
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_weights(folder, config, **{name.replace(".", "__"): value for name, value in values.items()})
    return made, open_checkpoint(folder)


def logits(made: Architecture, checkpoint: Checkpoint) -> Floats:
    runner = ops.runner(made.record(assemble(made, checkpoint)), 16, 16)
    c = made.config
    cache = ops.make_cache(1, [ops.LayerGeometry(c.kv_heads, c.head_size)] * c.num_hidden_layers, "f32")
    return runner.run(ops.make_batch([IDS], [0], [[0]], range(len(IDS))), cache).copy()


def packed(folder: Path, made: Architecture, checkpoint: Checkpoint, kind: str) -> Checkpoint:
    path = folder / f"{kind}.safetensors"
    pack(made, checkpoint, kind, path)
    tensors, metadata = read_safetensors(path)
    return Checkpoint(path, checkpoint.config, {}, tensors, (path,), metadata)


@pytest.mark.parametrize("config", [LLAMA, CONFIG], ids=["llama", "gemma2"])
@pytest.mark.parametrize("kind", ["q8", "q4"])
def test_outlier_channels_cost_a_quantised_model_little(tmp_path: Path, config: dict[str, Any], kind: str) -> None:
    errors = []
    for factor in (1.0, 50.0):
        folder = tmp_path / str(factor)
        made, checkpoint = model(folder, config, factor)
        exact = logits(made, checkpoint)
        errors.append(np.square(logits(made, packed(folder, made, checkpoint, kind)) - exact).mean())
    assert errors[1] < 1.5 * errors[0]  # without balance it is 7 to 50 times as much


@pytest.mark.parametrize("config", [LLAMA, CONFIG], ids=["llama", "gemma2"])
def test_what_the_model_computes_stays_the_same(tmp_path: Path, config: dict[str, Any]) -> None:
    made, checkpoint = model(tmp_path / "model", config, 50.0)
    moved = equalise(made.plan, checkpoint)
    assert len(moved.vectors) >= 4 and len(moved.columns) == 12 and len(moved.rows) == 2
    values = {name: tensor.float32().copy() for name, tensor in checkpoint.tensors.items()}
    values |= moved.vectors
    for name, factors in moved.columns.items():
        assert (np.frexp(factors)[0] == 0.5).all() and factors[9 if "down" in name else 5] in (32, 64)
        values[name] = values[name] * factors
    for name, factors in moved.rows.items():
        values[name] = values[name] * factors[:, None]
    folder = tmp_path / "balanced"
    folder.mkdir()
    (folder / "config.json").write_bytes((tmp_path / "model" / "config.json").read_bytes())
    write_weights(folder, config, **{name.replace(".", "__"): value for name, value in values.items()})
    assert np.array_equal(logits(made, open_checkpoint(folder)), logits(made, checkpoint))


@pytest.mark.parametrize("config", [LLAMA, CONFIG], ids=["llama", "gemma2"])
def test_a_model_without_outliers_is_left_alone(tmp_path: Path, config: dict[str, Any]) -> None:
    made, checkpoint = model(tmp_path / "model", config, 1.0)
    moved = equalise(made.plan, checkpoint)
    assert not moved.columns and not moved.vectors and not moved.rows
