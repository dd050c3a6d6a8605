"""A quantised checkpoint is a model like any other: loaded, packed, shown, planned, compared and converted."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import soban
from soban.convert.folder import to_folder
from soban.convert.source import open_source
from soban.measure import plan
from soban.measure.inspect import inspect_model
from soban.models import architecture

from ...models.official import CONFIGS, IDS, changed, configure, folder_of, weights, write
from .packing import awq, gptq, nf4, restored, rounded

Tensors = dict[str, npt.NDArray]
GROUP = 16
TABLE = np.sort(np.random.default_rng(4).uniform(-1, 1, 16)).astype(np.float32)  # what the codes of four bits mean
SETTINGS: dict[str, dict[str, Any]] = {
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": True, "sym": False},
    "awq": {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"},
    "bitsandbytes": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "quant_method": "bitsandbytes"},
}


def quantised(tensors: Tensors, method: str) -> tuple[Tensors, Tensors]:
    """The tensors with the matrices of the layers quantised, and what they mean as plain numbers."""
    stored, meant = dict(tensors), dict(tensors)
    for name, weight in tensors.items():
        if weight.ndim != 2 or ".layers." not in name:
            continue
        if method == "bitsandbytes":
            parts, meant[name] = nf4(weight, TABLE)
            stored |= {name.removesuffix("weight") + key: value for key, value in parts.items()}
            continue
        q, zeros, scales = rounded(weight, 4, GROUP)
        meant[name] = restored(q, zeros, scales)
        order = np.arange(weight.shape[1]) // GROUP
        packed = gptq(q, zeros, scales, order, 4, "gptq") if method == "gptq" else awq(q, zeros, scales)
        del stored[name]
        stored |= {name.removesuffix("weight") + key: value.numpy() for key, value in packed.items()}
    return stored, meant


def pair(tmp_path: Path, family: str, method: str, prefix: str = "") -> tuple[Path, Path]:
    """A quantised model, and the same with the numbers that it means."""
    config = changed(CONFIGS[family])
    tensors = weights(config)
    stored, meant = quantised(tensors, method)
    own, plain = folder_of(tmp_path / method, config), folder_of(tmp_path / "plain", config)
    write(own, {prefix + name: value for name, value in stored.items()})
    write(plain, meant)
    configure(own, {**config, "quantization_config": SETTINGS[method]})
    return own, plain


@pytest.mark.parametrize("method", SETTINGS)
@pytest.mark.parametrize("family", ["llama", "gemma2", "phi3"])  # phi3: one tensor for queries, keys and values
@pytest.mark.parametrize("dtype", ["f32", "q8", "q4"])
def test_it_gives_the_logits_of_the_numbers_that_it_means(tmp_path: Path, method: str, family: str, dtype: str) -> None:
    own, plain = pair(tmp_path, family, method)
    wanted = soban.load(plain, dtype=dtype).logits(IDS)
    assert np.array_equal(soban.load(own, dtype=dtype).logits(IDS), wanted)
    assert np.abs(wanted).max() > 0.1


def test_parts_of_heads_side_by_side_are_taken_out_of_a_quantised_tensor(tmp_path: Path) -> None:
    own, plain = pair(tmp_path, "gpt_neox", "gptq")
    assert np.array_equal(soban.load(own, dtype="f32").logits(IDS), soban.load(plain, dtype="f32").logits(IDS))


def test_names_with_and_without_a_prefix_are_known(tmp_path: Path) -> None:
    own, plain = pair(tmp_path, "llama", "awq", prefix="model.")
    assert np.array_equal(soban.load(own, dtype="f32").logits(IDS), soban.load(plain, dtype="f32").logits(IDS))


def test_what_it_costs_to_pack_it_anew_is_shown_and_its_weights_are_counted(tmp_path: Path) -> None:
    own, plain = pair(tmp_path, "llama", "gptq")
    report, usual = inspect_model(own), inspect_model(plain)
    codes = [finding.code for finding in report["findings"]]
    assert codes == ["quantised-twice"] and report["run"] is not None
    assert report["model"]["parameters"] == usual["model"]["parameters"]
    assert "gptq" in report["model"]["formats"]
    figures = plan.plan(plan.PlanOptions(words=(str(own),)), lambda text: None)
    assert figures["obstacle"] is None and figures["parameters"] == usual["model"]["parameters"]


def test_it_is_converted_to_plain_numbers_whose_config_says_so(tmp_path: Path) -> None:
    own, plain = pair(tmp_path, "phi3", "awq")
    to_folder(open_source(own), tmp_path / "n", "f32", tokenizer=None)
    assert "quantization_config" not in json.loads((tmp_path / "n" / "config.json").read_text(encoding="utf-8"))
    assert np.array_equal(soban.load(tmp_path / "n", dtype="f32").logits(IDS), soban.load(plain).logits(IDS))


def test_a_matrix_that_lies_on_its_side_is_refused_by_name(tmp_path: Path) -> None:
    config = changed(CONFIGS["gpt2"])
    folder = folder_of(tmp_path / "m", config)
    name = next(name for name in weights(config) if name.endswith("c_fc.weight"))
    shape = architecture(config).plan.file_shapes()[name]
    stored = {**weights(config), name: np.ones(shape, np.int8)}
    write(folder, {**stored, name.replace("weight", "SCB"): np.ones(shape[0], np.float32)})
    configure(folder, {**config, "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}})
    with pytest.raises(soban.UserError, match=r"c_fc.weight.*on its side"):
        soban.load(folder)
