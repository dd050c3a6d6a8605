#!/usr/bin/env bash
# transformers 5.23.0: Gemma 3 reads attn_logit_softcapping from config.json, keeps it, and never applies it.
#
# Gemma3TextConfig has the key and documents it as Gemma 2's (a cap on attention's scores by tanh), and a value given is there to be
# read and saved again. The logits are bit for bit those without it, also with eager attention, while final_logit_softcapping,
# its neighbour in the same config, does move them, and Gemma 2 moves with both. Who writes an engine by the config, or gives a Gemma 3
# the cap that made Gemma 2 steadier to train, computes another network than transformers without a word of it.
#
# Ends with 0 while this is so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0
"$folder/venv/bin/python" - <<'PYTHON' 2>/dev/null
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig

SMALL = dict(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, head_dim=16, query_pre_attn_scalar=1, initializer_range=0.5, max_position_embeddings=64,
)
IDS = torch.arange(1, 25)[None]


def moved(model, config, key):
    """How far the logits of random weights move when the key goes from none to 0.05."""
    found = []
    for value in (None, 0.05):
        caps = {"attn_logit_softcapping": None, "final_logit_softcapping": None, key: value}
        torch.manual_seed(0)
        network = model._from_config(config(**SMALL, **caps), attn_implementation="eager").eval()
        assert getattr(network.config, key) == value
        with torch.no_grad():
            found.append(network(IDS).logits)
    return float((found[0] - found[1]).abs().max())


for name, model, config in (("Gemma 2", Gemma2ForCausalLM, Gemma2Config), ("Gemma 3", Gemma3ForCausalLM, Gemma3TextConfig)):
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        print(f"{name}: {key}=0.05 moves the logits by {moved(model, config, key):.3g}")
assert moved(Gemma2ForCausalLM, Gemma2Config, "attn_logit_softcapping") > 0.01
assert moved(Gemma3ForCausalLM, Gemma3TextConfig, "final_logit_softcapping") > 0.01
assert moved(Gemma3ForCausalLM, Gemma3TextConfig, "attn_logit_softcapping") == 0
PYTHON
