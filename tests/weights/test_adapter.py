"""LoRA adapters: those that peft writes, read to the very products that it adds; what is more than LoRA is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from soban.base.errors import UserError  # noqa: E402
from soban.weights.adapter import open_adapter  # noqa: E402

CONFIG = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def written(folder: Path, **options: Any) -> Any:
    """A random adapter of a random model, saved by peft; the model with it."""
    torch.manual_seed(3)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**CONFIG))
    model = peft.get_peft_model(model, peft.LoraConfig(**{"r": 4, "target_modules": LINEAR, **options}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lora_alpha": 12, "use_rslora": True},
        {"target_modules": "all-linear", "exclude_modules": ["down_proj"]},
        {"target_modules": r".*\.(q|v)_proj", "lora_alpha": 3},
        {"target_modules": ["q_proj", "mlp.up_proj"], "layers_to_transform": [0, 2]},
        {"rank_pattern": {"v_proj": 2, "layers.1.mlp.up_proj": 6}, "alpha_pattern": {"v_proj": 5, "q_proj": 1}},
    ],
)
def test_what_is_added_to_each_layer_is_what_peft_adds(tmp_path: Path, options: dict[str, Any]) -> None:
    model = written(tmp_path / "a", **options)
    adapter = open_adapter(tmp_path / "a")
    wanted = {
        name.removeprefix("base_model.model."): module.get_delta_weight("default")
        for name, module in model.named_modules()
        if isinstance(module, peft.tuners.lora.LoraLayer)
    }
    assert adapter.layers.keys() == wanted.keys()
    for name, low in adapter.layers.items():
        ours = low.scale * low.b.float32() @ low.a.float32()
        np.testing.assert_allclose(ours, wanted[name].detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_tensor_of_a_layer_that_is_no_target_is_left_out_as_peft_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"target_modules": ["v_proj"]}))
    assert {name.split(".")[-1] for name in open_adapter(tmp_path).layers} == {"v_proj"}
    assert "18 layers are in the adapter" in caplog.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"bias": "lora_only"}, "bias="),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save="),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "is no part of a plain LoRA"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights="),
        ({"lora_bias": True}, "lora_bias=True"),
    ],
)
def test_what_is_more_than_lora_is_refused_by_name(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    written(tmp_path, **options)
    with pytest.raises(UserError, match=words):
        open_adapter(tmp_path)


def test_damage_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        open_adapter(tmp_path / "gone")
    with pytest.raises(UserError, match=r"no adapter_config\.json"):
        open_adapter(tmp_path)
    written(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    for changes, words in (
        ({"peft_type": "IA3"}, "IA3"), ({"peft_type": "LOHA"}, "peft_type="),
        ({"r": 5}, "is of rank 4, and adapter_config.json says r=5"),
        ({"lora_alpha": "x"}, "lora_alpha="), ({"target_modules": ["nothing"]}, "no layer"),
    ):  # fmt: skip
        (tmp_path / "adapter_config.json").write_text(json.dumps(config | changes))
        with pytest.raises(UserError, match=words) as caught:
            open_adapter(tmp_path)
        assert "\n" not in str(caught.value)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(UserError, match="pickle"):
        open_adapter(tmp_path)
