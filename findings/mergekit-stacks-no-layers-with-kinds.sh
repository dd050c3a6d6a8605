#!/usr/bin/env bash
# mergekit 0.1.5 with transformers 5: layers of families that list the kinds of their layers cannot be stacked, or left out.
#
# "passthrough" with slices makes a model of more (or fewer) layers than its parents have; mergekit knows Gemma 2 and Qwen 3, and sets
# num_hidden_layers. config.json of these families also has layer_types, one for each layer, which transformers fills in by itself where
# a file has none; mergekit leaves the old list as it is, and the new config is refused when it is saved. Merges of as many layers, and families
# without the list (Llama), go through. It ends in an error before a weight is written, though the recipe is one of its own documentation's kind.
#
# Ends with 0 while this is so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check mergekit==0.1.5 transformers==5.23.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON' 2>/dev/null
from mergekit.config import MergeConfiguration
from mergekit.merge import MergeOptions, run_merge
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, Qwen3Config

SMALL = dict(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2, head_dim=16,
)


def stacked(config, first, second):
    """What comes of the layers of one model, some of them twice."""
    name = config.model_type
    AutoModelForCausalLM.from_config(config(**SMALL)).save_pretrained(name)
    told = {
        "merge_method": "passthrough", "dtype": "float32",
        "slices": [{"sources": [{"model": name, "layer_range": list(part)}]} for part in (first, second)],
    }
    try:
        run_merge(
            MergeConfiguration.model_validate(told), f"{name}-{second[1]}-{second[0]}",
            options=MergeOptions(cuda=False, copy_tokenizer=False, write_model_card=False),
        )
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[-1].strip()}"
    return "merged"


for config in (LlamaConfig, Gemma2Config, Qwen3Config):
    same, more = stacked(config, (0, 1), (1, 2)), stacked(config, (0, 2), (0, 2))
    print(f"{config.model_type}: two layers of two: {same}; four layers: {more}")
    assert same == "merged"
    assert more == "merged" if config is LlamaConfig else "layer_types" in more
PYTHON
