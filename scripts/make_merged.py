"""Writes tests/convert/merging/golden.safetensors: what mergekit makes of small models by recipes that both have.

Needs mergekit 0.1.5: python scripts/make_merged.py
"""

import sys
import tempfile
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from mergekit.config import MergeConfiguration  # noqa: E402
from mergekit.merge import MergeOptions, run_merge  # noqa: E402

from tests.convert.merging.parents import FAMILIES, NAMES, make_parents  # noqa: E402
from tests.convert.merging.recipes import RECIPES  # noqa: E402

OUT = ROOT / "tests" / "convert" / "merging" / "golden.safetensors"


def main() -> None:
    tensors: dict[str, torch.Tensor] = {}
    with tempfile.TemporaryDirectory() as name:
        for family in FAMILIES:
            paths = make_parents(Path(name) / family, family)
            for recipe, text in RECIPES.items():
                told = yaml.safe_load(text.format(**dict(zip(NAMES, map(str, paths), strict=True))))
                out = Path(name) / family / recipe.replace(" ", "_")
                options = MergeOptions(cuda=False, copy_tokenizer=False, write_model_card=False)
                if recipe == "passthrough" and family != "llama":
                    continue  # 0.1.5 writes a layer_types of the old length, which transformers 5 refuses
                run_merge(MergeConfiguration.model_validate(told), str(out), options)
                for tensor, value in load_file(out / "model.safetensors").items():
                    tensors[f"{family}/{recipe}/{tensor}"] = value.float()
    save_file(tensors, OUT, {"mergekit": "0.1.5"})
    print(f"{OUT}: {len(tensors)} tensors, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
