"""Weights that other programs have quantised mean what those programs compute with."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import soban
from soban.weights.checkpoint import Checkpoint
from soban.weights.quantised.reading import dequantised
from soban.weights.safetensors import read_safetensors

from .packing import awq, gptq

GOLDEN = Path(__file__).with_name("golden.safetensors")
TENSORS, METADATA = read_safetensors(GOLDEN)
CONFIGS: dict[str, Any] = json.loads(METADATA["configs"])


def weight(
    folder: Path, stored: dict[str, torch.Tensor], config: dict[str, Any], shape: tuple[int, ...]
) -> tuple[Any, np.ndarray]:
    """The checkpoint's only weight, and its numbers."""
    save_file({f"layer.{name}": value.contiguous() for name, value in stored.items()}, folder / "model.safetensors")
    tensors, _ = read_safetensors(folder / "model.safetensors")
    checkpoint = Checkpoint(folder, {"quantization_config": config}, {}, tensors, (), {})
    checkpoint = dequantised(checkpoint, lambda name: shape if name == "layer.weight" else None)
    assert checkpoint.tensors.keys() == {"layer.weight"}
    tensor = checkpoint.tensors["layer.weight"]
    assert tensor.shape == shape
    return tensor, tensor.float32()


def golden(case: str) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    tensors = load_file(GOLDEN)
    stored = {name.removeprefix(f"{case}/"): value for name, value in tensors.items() if name.startswith(f"{case}/")}
    return stored, stored.pop("expected")


@pytest.mark.parametrize("case", CONFIGS)
def test_numbers_are_those_of_the_library_that_wrote_them(tmp_path: Path, case: str) -> None:
    stored, expected = golden(case)
    tensor, numbers = weight(tmp_path, stored, CONFIGS[case], tuple(expected.shape))
    # One rounding more or less: whether a scale is divided or multiplied first.
    assert np.allclose(numbers, expected.float().numpy(), rtol=2**-22, atol=0)
    assert len(np.unique(numbers)) > 30 and np.abs(numbers).max() > 3
    rows = [tensor.float32(start, start + 5) for start in range(0, tensor.shape[0], 5)]
    assert np.array_equal(np.concatenate(rows), numbers)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("form", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("kind", ["groups", "one group", "by activation"])
def test_gptq_is_scale_times_number_less_zero_whatever_the_order_of_its_inputs(
    tmp_path: Path, bits: int, form: str, kind: str
) -> None:
    dice = np.random.default_rng(bits)
    out, columns, size = 64, 96, -1 if kind == "one group" else 32
    groups = 1 if size == -1 else columns // size
    q = dice.integers(0, 2**bits, (out, columns))
    zeros = dice.integers(0, 2**bits, (out, groups))  # 0 too: the first form keeps it as the largest number
    scales = dice.uniform(0.01, 1, (out, groups)).astype(np.float16)
    order = np.arange(columns) // (columns // groups)
    if kind == "by activation":
        order = dice.permutation(order)
    stored = gptq(q, zeros, scales, order, bits, form)
    if kind == "one group":
        del stored["g_idx"]
    config = {"quant_method": "gptq", "bits": bits, "group_size": size, "checkpoint_format": form, "desc_act": True}
    tensor, numbers = weight(tmp_path, stored, config, (out, columns))
    expected = np.array([[(q[o, i] - zeros[o, order[i]]) * np.float64(scales[o, order[i]]) for i in range(columns)]
                         for o in range(out)])  # fmt: skip
    assert np.array_equal(numbers, expected.astype(np.float32))
    assert np.array_equal(tensor.float32(7, 40), numbers[7:40])


def test_awq_keeps_eight_outputs_in_a_word_in_its_own_order(tmp_path: Path) -> None:
    dice = np.random.default_rng(1)
    q, zeros = dice.integers(0, 16, (48, 128)), dice.integers(0, 16, (48, 2))
    scales = dice.uniform(0.01, 1, (48, 2)).astype(np.float16)
    config = {"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True, "version": "gemm"}
    tensor, numbers = weight(tmp_path, awq(q, zeros, scales), config, (48, 128))
    each = np.repeat(scales.astype(np.float64), 64, axis=1)
    assert np.array_equal(numbers, ((q - np.repeat(zeros, 64, axis=1)) * each).astype(np.float32))
    assert np.array_equal(tensor.float32(5, 22), numbers[5:22])


@pytest.mark.parametrize("scale", ["float32", "bfloat16", "float8_e8m0fnu"])
def test_fp8_in_blocks_is_torchs_number_times_its_blocks_scale(tmp_path: Path, scale: str) -> None:
    torch.manual_seed(3)
    shape, block = (200, 300), (128, 128)
    stored = (torch.randn(shape) * 100).to(torch.float8_e4m3fn)
    scales = torch.exp2(torch.randint(-9, 3, (2, 3)).float()).to(getattr(torch, scale))
    config = {"quant_method": "fp8", "weight_block_size": list(block), "fmt": "e4m3", "activation_scheme": "dynamic"}
    tensor, numbers = weight(tmp_path, {"weight": stored, "weight_scale_inv": scales}, config, shape)
    each = scales.float().repeat_interleave(128, 0).repeat_interleave(128, 1)[:200, :300]
    assert np.array_equal(numbers, (stored.float() * each).numpy())
    assert np.array_equal(tensor.float32(120, 140), numbers[120:140])


def test_every_code_of_fp8_is_torchs(tmp_path: Path) -> None:
    codes = torch.arange(256, dtype=torch.uint8).reshape(2, 128).view(torch.float8_e4m3fn)
    stored = {"weight": codes, "weight_scale": torch.tensor([[0.5], [2.0]]), "input_scale": torch.ones(1)}
    _, numbers = weight(tmp_path, stored, {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0}, (2, 128))
    expected = codes.float().numpy() * np.array([[0.5], [2.0]], np.float32)
    assert np.array_equal(numbers, expected, equal_nan=True) and np.isnan(numbers).sum() == 2


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a method": ("int8", {"quant_method": "hqq"}, "quantised by hqq"),
    "no method": ("gptq", {"quant_method": None}, "quantised by ?"),
    "an unknown setting": ("int8", {"bnb_5bit_something": 3}, "bnb_5bit_something=3"),
    "another table": ("nf4", {"bnb_4bit_quant_type": "af4"}, "bnb_4bit_quant_type='af4'"),
    "GPTQ's other layers": ("gptq", {"dynamic": {"+:layer": {"bits": 8}}}, "dynamic="),
    "five bits": ("gptq", {"bits": 5}, "bits=5"),
    "true bits": ("gptq", {"bits": True}, "bits=True"),
    "Marlin": ("gptq", {"checkpoint_format": "marlin"}, "checkpoint_format='marlin'"),
    "another group": ("gptq", {"group_size": 7}, "layer.scales"),
    "a group of nothing": ("gptq", {"group_size": 0}, "group_size=0"),
    "AWQ for vectors": ("awq", {"version": "gemv"}, "version='gemv'"),
    "AWQ without zeros": ("awq", {"zero_point": False}, "zero_point=False"),
    "a format of compressed-tensors": ("mxfp4", {"format": "nvfp4-pack-quantized"}, "format='nvfp4-pack-quantized'"),
    "sparse": ("int8 rows", {"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparse-24-bitmask"),
    "turned by a transform": ("int8 rows", {"transform_config": {"config_groups": {"u": {}}}}, "transform_config="),
    "no group for the layer": ("int8 rows", {"config_groups": {}}, "no group"),
    "a damaged expression": (
        "int8 rows", {"config_groups": {"g": {"targets": ["re:("], "weights": {"num_bits": 8}}}}, "targets='re:('",
    ),
    "six bits": (
        "int4 groups", {"config_groups": {"g": {"targets": ["Linear"], "weights": {"num_bits": 6}}}}, "num_bits=6",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_known_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    case, changes, said = REFUSED[kind]
    stored, config = sample(case)
    with pytest.raises(soban.UserError) as refused:
        weight(tmp_path, stored, {**config, **changes}, (24, 256))
    assert said in str(refused.value) and "\n" not in str(refused.value)


def sample(case: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    if case in CONFIGS:
        return golden(case)[0], CONFIGS[case]
    dice = np.random.default_rng(0)
    q, zeros, scales = dice.integers(0, 16, (24, 256)), dice.integers(1, 16, (24, 2)), np.ones((24, 2), np.float16)
    if case == "awq":
        return awq(q, zeros, scales), {"quant_method": "awq", "bits": 4, "group_size": 128}
    order = np.arange(256) // 128
    return gptq(q, zeros, scales, order, 4, "gptq"), {"quant_method": "gptq", "bits": 4, "group_size": 128}


DAMAGED = {
    "int8": ("SCB", torch.zeros(3), "SCB"),
    "nf4": ("weight.quant_state.bitsandbytes__nf4", torch.zeros(9, dtype=torch.uint8), "quant_state"),
    "fp4, nested": ("weight.nested_quant_map", torch.zeros(16), "nested_quant_map"),
    "gptq": ("g_idx", torch.full((256,), 9, dtype=torch.int32), "names group 9 of 2"),
    "awq": ("qzeros", torch.zeros((2, 4), dtype=torch.int32), "qzeros"),
    "fp8 blocks": ("weight_scale", torch.zeros((5, 2)), "weight_scale"),
    "int4 groups": ("weight_packed", torch.zeros((24, 5), dtype=torch.int32), "weight_packed"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_tensor_that_does_not_fit_is_named(tmp_path: Path, case: str) -> None:
    name, changed, said = DAMAGED[case]
    stored, config = sample(case)
    with pytest.raises(soban.UserError) as refused:
        weight(tmp_path, {**stored, name: changed}, config, (24, 256))
    assert said in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("case", "name"), [("nf4", "weight.absmax"), ("gptq", "scales"), ("awq", "qzeros"), ("int4 groups", "weight_scale")]
)
def test_a_tensor_that_is_missing_is_named(tmp_path: Path, case: str, name: str) -> None:
    stored, config = sample(case)
    del stored[name]
    with pytest.raises(soban.UserError, match=f"layer.{name} is missing"):
        weight(tmp_path, stored, config, (24, 256))


def test_a_tensor_of_a_layer_that_no_form_explains_is_refused(tmp_path: Path) -> None:
    stored, config = sample("int8")
    with pytest.raises(soban.UserError, match=r"layer\.meta"):
        weight(tmp_path, {**stored, "meta": torch.zeros(2, dtype=torch.int16)}, config, (24, 256))
