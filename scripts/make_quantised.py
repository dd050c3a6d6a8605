"""Writes tests/weights/quantised/golden.safetensors: small matrices, as bitsandbytes and compressed-tensors keep them.

Beside what each library stores stands what it makes of that again, in float32. Needs both libraries, on a CPU:
    python scripts/make_quantised.py
"""

import json
from pathlib import Path
from typing import Any

import bitsandbytes
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationScheme
from safetensors.torch import save_file

OUT = Path(__file__).parents[1] / "tests" / "weights" / "quantised" / "golden.safetensors"
SHAPE = (24, 256)
CASES: dict[str, dict[str, Any]] = {  # format of compressed-tensors -> its settings of the weights
    "int4 groups": {"format": "pack-quantized", "num_bits": 4, "strategy": "group", "group_size": 128},
    "int4 groups, zeros": {
        "format": "pack-quantized", "num_bits": 4, "strategy": "group", "group_size": 64, "symmetric": False,
    },
    "int8 packed, rows": {"format": "pack-quantized", "num_bits": 8, "strategy": "channel"},
    "int8 rows": {"format": "int-quantized", "num_bits": 8, "strategy": "channel"},
    "fp8 rows": {"format": "float-quantized", "num_bits": 8, "type": "float", "strategy": "channel"},
    "fp8 whole": {"format": "float-quantized", "num_bits": 8, "type": "float", "strategy": "tensor"},
    "fp8 blocks": {
        "format": "float-quantized", "num_bits": 8, "type": "float", "strategy": "block", "block_structure": [16, 128],
    },
    "mxfp4": {
        "format": "mxfp4-pack-quantized", "num_bits": 4, "type": "float", "strategy": "group", "group_size": 32,
        "scale_dtype": "torch.uint8",
    },
}  # fmt: skip


def four_bits(weight: torch.Tensor, kind: str, nested: bool) -> dict[str, torch.Tensor]:
    """What a Linear4bit layer saves, and what bitsandbytes computes with."""
    packed, state = bitsandbytes.functional.quantize_4bit(weight, quant_type=kind, compress_statistics=nested)
    tensors = {"weight": packed} | {f"weight.{key}": value for key, value in state.as_dict(packed=True).items()}
    return tensors | {"expected": bitsandbytes.functional.dequantize_4bit(packed, state)}


def eight_bits(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """The same of a Linear8bitLt layer."""
    q, scales, _ = bitsandbytes.functional.int8_vectorwise_quant(weight.half())
    expected = bitsandbytes.functional.int8_vectorwise_dequant(q, scales)
    return {"weight": q, "SCB": scales, "weight_format": torch.tensor(0, dtype=torch.uint8), "expected": expected}


def compressed(weight: torch.Tensor, format: str, settings: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What compressed-tensors saves for a linear layer whose scales are those of its largest numbers."""
    scheme = QuantizationScheme.model_validate({"targets": ["Linear"], "weights": settings})
    scale, zero = scales(weight, settings)
    state = {"weight": weight, "weight_scale": scale, "weight_zero_point": zero}
    compressor = BaseCompressor.get_value_from_registry(format)
    stored = compressor.compress(state, scheme)
    expected = compressor.decompress(stored, scheme)["weight"]
    return stored | {"expected": expected.float()}


def scales(weight: torch.Tensor, settings: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    rows, columns = weight.shape
    down, across = {
        "tensor": (rows, columns), "channel": (1, columns), "group": (1, settings.get("group_size", 0)),
        "block": tuple(settings.get("block_structure", (0, 0))),
    }[settings["strategy"]]  # fmt: skip
    padded = torch.nn.functional.pad(weight, (0, 0, 0, -rows % down))
    blocks = padded.reshape(-1, down, columns // across, across)
    largest = blocks.abs().amax((1, 3))
    if settings.get("type") == "float":
        scale = largest / (448 if settings["num_bits"] == 8 else 6)
        if settings["num_bits"] == 4:
            scale = torch.exp2(torch.floor(torch.log2(largest)) - 2)
        zero = torch.zeros_like(scale)
    elif settings.get("symmetric", True):
        scale, zero = largest / (2 ** (settings["num_bits"] - 1) - 0.5), torch.zeros_like(largest, dtype=torch.int8)
    else:
        low, high = blocks.amin((1, 3)), blocks.amax((1, 3))
        steps = 2 ** settings["num_bits"] - 1
        scale = (high - low) / steps
        zero = (-low / scale - 2 ** (settings["num_bits"] - 1)).round().to(torch.int8)
    return (scale.reshape(1), zero.reshape(1)) if settings["strategy"] == "tensor" else (scale, zero)


def main() -> None:
    torch.manual_seed(0)
    weight = torch.randn(SHAPE) * torch.linspace(0.2, 3, SHAPE[0])[:, None]
    tensors: dict[str, torch.Tensor] = {}
    configs: dict[str, Any] = {}

    def keep(case: str, config: dict[str, Any], stored: dict[str, torch.Tensor]) -> None:
        configs[case] = config
        tensors.update({f"{case}/{name}": value.contiguous() for name, value in stored.items() if value is not None})

    for kind in ("nf4", "fp4"):
        for nested in (False, True):
            config = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": kind}
            keep(f"{kind}{', nested' if nested else ''}", config, four_bits(weight, kind, nested))
    keep("int8", {"quant_method": "bitsandbytes", "load_in_8bit": True}, eight_bits(weight))
    for case, settings in CASES.items():
        weights = {key: value for key, value in settings.items() if key != "format"}
        group = {"targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}
        config = {
            "quant_method": "compressed-tensors", "config_groups": {"group_0": group}, "format": settings["format"],
            "quantization_status": "compressed", "ignore": ["lm_head"],
        }  # fmt: skip
        keep(case, config, compressed(weight, settings["format"], weights))
    save_file(tensors, OUT, {"configs": json.dumps(configs), "bitsandbytes": bitsandbytes.__version__})


main()
