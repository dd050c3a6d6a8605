"""GPT-2 against transformers: learned positions, LayerNorm with bias, transposed and fused matrices, its scales."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import soban
from soban.base.errors import UserError

from .official import CONFIGS, IDS, configure, difference, folder_of, ours, theirs, weights, write

transformers = pytest.importorskip("transformers")
GPT2 = CONFIGS["gpt2"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scale_attn_by_inverse_layer_idx": False},
        {"scale_attn_weights": False},
        {"n_inner": 40, "tie_word_embeddings": False},
        *({"activation_function": name} for name in ("gelu", "relu", "quick_gelu", "silu")),
    ],
)
def test_the_logits_are_those_of_transformers(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = folder_of(tmp_path, {**GPT2, **changes})
    assert not difference(theirs(folder), ours(folder))


def test_a_file_without_the_prefix_and_with_the_masks_of_older_versions_is_read_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = folder_of(tmp_path, GPT2)
    expected = ours(folder)
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in weights(GPT2).items()}
    for i in range(GPT2["n_layer"]):
        tensors[f"h.{i}.attn.bias"] = np.tril(np.ones((1, 1, 64, 64), np.float32))
        tensors[f"h.{i}.attn.masked_bias"] = np.array(-1e4, np.float32)
    write(folder, tensors)
    caplog.clear()
    assert not difference(expected, ours(folder))
    assert "no place" not in caplog.text


def test_it_writes_what_transformers_writes_and_packed_nearly_so(tmp_path: Path) -> None:
    import torch

    folder = folder_of(tmp_path, {**GPT2, "n_embd": 64})
    model = soban.load(folder, dtype="f32")
    ids = model.tokenize("abc 가나다")
    judge = transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
    wanted = judge.generate(torch.tensor([ids]), min_new_tokens=30, max_new_tokens=30, do_sample=False)[0]
    written = model.generate("abc 가나다", max_new_tokens=30, min_new_tokens=30, temperature=0)
    assert written == model.detokenize(wanted.tolist())
    exact = model.logits(IDS)
    for dtype, most in (("q8", 0.15), ("q4", 0.9)):
        assert 0 < np.abs(soban.load(folder, dtype=dtype).logits(IDS) - exact).max() < most


def test_a_text_ends_where_the_positions_end(tmp_path: Path) -> None:
    model = soban.load(folder_of(tmp_path, GPT2), dtype="f32")
    assert model.engine.context == GPT2["n_positions"]
    with pytest.raises(UserError, match="reads 2 to 64 tokens"):
        soban.load(tmp_path, dtype="f32", context=65)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"add_cross_attention": True}, "add_cross_attention=True"),
        ({"n_embd": -3}, "n_embd=-3"),
        ({"n_head": 5}, "5 attention heads"),
        ({"activation_function": "mish"}, "mish"),
        ({"n_layer": 10**6}, "num_hidden_layers=1000000"),
    ],
)
def test_what_it_does_not_do_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    folder = folder_of(tmp_path, GPT2)
    configure(folder, {**GPT2, **changes})
    with pytest.raises(UserError, match=words):
        soban.load(folder, dtype="f32")
