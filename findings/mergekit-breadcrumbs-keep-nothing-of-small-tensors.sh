#!/usr/bin/env bash
# mergekit 0.1.5: "breadcrumbs" keeps nothing at all of a tensor in which gamma names no number.
#
# Model Breadcrumbs drop the share gamma of the largest differences (0.01 is mergekit's default) and, from below, as many as density says.
# Of a tensor of fewer than 100 numbers 0.01 is less than one number: nothing is to be dropped at the top, and the largest stay. What
# mergekit gives is the base's tensor, unchanged: of the slice from the bottom to "minus none from the top" nothing is left. So the
# weights of small norms (64 numbers in each head of Qwen 3's queries and keys, every norm of a narrow model), and with gamma: 0 every
# tensor of the model, are silently not merged, whatever their weight.
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
import torch
from mergekit.config import MergeConfiguration
from mergekit.merge import MergeOptions, run_merge
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

config = LlamaConfig(
    vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=2, tie_word_embeddings=True,
)
torch.manual_seed(0)
model = LlamaForCausalLM(config)
model.save_pretrained("base")
with torch.no_grad():
    for weight in model.parameters():
        weight += torch.randn_like(weight)
model.save_pretrained("tuned")


def merged(gamma, density):
    """Tensors that mergekit left as the base has them, of all tensors."""
    told = {
        "merge_method": "breadcrumbs", "base_model": "base", "dtype": "float32",
        "models": [{"model": "tuned", "parameters": {"weight": 1.0, "density": density, "gamma": gamma}}],
    }
    out = f"out-{gamma}-{density}"
    options = MergeOptions(cuda=False, copy_tokenizer=False, write_model_card=False)
    run_merge(MergeConfiguration.model_validate(told), out, options)
    before, after = load_file("base/model.safetensors"), load_file(f"{out}/model.safetensors")
    return {name for name, value in before.items() if torch.equal(value, after[name])}, set(before)


usual, every = merged(0.01, 0.9)
print("gamma 0.01, density 0.9: not merged:", ", ".join(sorted(usual)))
assert usual == {name for name in every if "norm" in name} and len(usual) == 3
none, every = merged(0.0, 0.9)
print(f"gamma 0, density 0.9: not merged: {len(none)} of {len(every)}")
assert none == every
assert not merged(0.05, 0.9)[0]  # of 64 numbers three: now the norms are merged, too
PYTHON
