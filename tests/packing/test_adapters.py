"""An adapter's pieces against the weights that peft merges it into."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from soban.base.errors import UserError  # noqa: E402
from soban.models import architecture  # noqa: E402
from soban.packing.adapters import fitted_adapter  # noqa: E402
from soban.packing.equalise import equalise  # noqa: E402
from soban.packing.fitting import fitted  # noqa: E402
from soban.weights.adapter import open_adapter  # noqa: E402
from soban.weights.opening import open_checkpoint  # noqa: E402

from ..models.official import CONFIGS, folder_of, weights, write  # noqa: E402

TARGETS: dict[str, Any] = {
    "llama": "all-linear",
    "gemma2": ["v_proj", "down_proj"],
    "gpt2": ["c_attn", "c_fc", "mlp.c_proj"],
    "gpt_neox": "all-linear",
    "phi3": "all-linear",
    "lfm2": "all-linear",
    "qwen3_5_text": "all-linear",
}


def adapted(folder: Path, family: str, **options: Any) -> Any:
    """A random adapter for the model in the folder, saved as `adapter` inside of it; the model with it."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    settings = {"r": 3, "lora_alpha": 5, "target_modules": TARGETS[family], "fan_in_fan_out": family == "gpt2"}
    model = peft.get_peft_model(model, peft.LoraConfig(**{**settings, **options}))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.2)
    model.save_pretrained(folder / "adapter")
    return model


def test_an_adapter_is_refused_where_the_heads_of_values_lie_apart(tmp_path: Path) -> None:
    config = CONFIGS["qwen3_5_text"]
    adapted(folder_of(tmp_path, config), "qwen3_5_text")
    with pytest.raises(UserError, match="adapters do not fit a GGUF file"):
        fitted_adapter(open_adapter(tmp_path / "adapter"), architecture(config | {"linear_heads_tiled": True}))


@pytest.mark.parametrize("family", TARGETS)
def test_weights_with_the_pieces_added_are_those_that_peft_merges(tmp_path: Path, family: str) -> None:
    folder = folder_of(tmp_path, CONFIGS[family])
    model = adapted(folder, family)
    checkpoint = open_checkpoint(folder)
    fit = fitted(architecture(checkpoint.config), checkpoint)
    pieces = fitted_adapter(open_adapter(folder / "adapter"), fit.architecture).pieces
    tensors = {name: tensor.float32() for name, tensor in fit.checkpoint.tensors.items()}
    model.merge_and_unload().save_pretrained(tmp_path / "merged")
    merged = fitted(fit.architecture, open_checkpoint(tmp_path / "merged")).checkpoint.tensors
    changed = 0
    for place, weight in fit.architecture.plan.places():
        ours = np.concatenate([tensors[part.name] for part in weight.parts])
        for piece in pieces.get(place, ()):
            ours[piece.first : piece.first + len(piece.b)] += np.float32(piece.scale) * piece.b @ piece.a
            changed += 1
        theirs = np.concatenate([merged[part.name].float32() for part in weight.parts])
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert changed == len(open_adapter(folder / "adapter").layers)


def test_an_adapter_of_another_model_is_refused_with_the_name_of_its_own(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", CONFIGS["llama"])
    adapted(folder, "llama")
    files = open_adapter(folder / "adapter")
    with pytest.raises(UserError, match=r"32 x 32, and this model's has 64 x 64|for a layer of") as caught:
        fitted_adapter(files, architecture({**CONFIGS["llama"], "hidden_size": 64}))
    assert "a" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UserError, match="is no layer of this model"):
        fitted_adapter(files, architecture({**CONFIGS["llama"], "num_hidden_layers": 1}))
    adapted(folder, "llama", target_modules=["lm_head", "q_proj"])
    with pytest.raises(UserError, match="lm_head"):
        fitted_adapter(open_adapter(folder / "adapter"), architecture(CONFIGS["llama"]))


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_channels_that_were_moved_when_the_model_was_packed_are_moved_in_the_pieces(
    tmp_path: Path, family: str
) -> None:
    folder = folder_of(tmp_path, CONFIGS[family])
    tensors = weights(CONFIGS[family])
    for name, tensor in tensors.items():
        if "norm" in name or "up_proj" in name:
            tensor[3] *= 64  # an outlier: a channel of a norm, a row of a matrix
    write(folder, tensors)
    adapted(folder, family, target_modules="all-linear")
    checkpoint = open_checkpoint(folder)
    fit = fitted(architecture(checkpoint.config), checkpoint)
    moved = equalise(fit.architecture.plan, fit.checkpoint)
    assert any("up_proj" in name for name in moved.rows) and any("q_proj" in name for name in moved.columns)
    files = open_adapter(folder / "adapter")
    plain = fitted_adapter(files, fit.architecture).pieces
    packed = fitted_adapter(files, fit.architecture, moved).pieces
    for place, weight in fit.architecture.plan.places():
        rows = np.concatenate([moved.rows.get(part.name, np.ones(part.shape[0], np.float32)) for part in weight.parts])
        columns = moved.columns.get(weight.parts[0].name, np.float32(1))
        for one, other in zip(plain[place], packed[place], strict=True):
            wanted = (one.b @ one.a) * rows[one.first : one.first + len(one.b), None] * columns
            np.testing.assert_allclose(other.b @ other.a, wanted, rtol=1e-5, atol=1e-6)
