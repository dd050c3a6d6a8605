#!/usr/bin/env bash
# transformers 5.23.0: with rope type "dynamic" the logits of a text depend on what the same model was given before.
#
# Frequencies are stretched by the longest text so far. After a text of 40 tokens (of a model that learnt from 16), one of 20
# is turned as one of 40 would be, and so is one of 16, which in a fresh model is turned as it was learnt: the
# stretch is taken back only by a text that is shorter than the original length. So the same prompt has two answers in a server,
# by who was there before. In a fresh model each length has its own stretch.
#
# Ends with 0 while this is so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
pip="$folder/venv/bin/python -m pip install --quiet --disable-pip-version-check"
$pip torch==2.13.0
$pip transformers==5.23.0 numpy==2.4.6
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import torch
from transformers import LlamaConfig, LlamaForCausalLM


def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=16, initializer_range=0.3,
        rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0},
    )
    return LlamaForCausalLM(config).eval()


@torch.no_grad()
def logits(model: LlamaForCausalLM, length: int) -> torch.Tensor:
    return model(torch.arange(3, 3 + length)[None]).logits


def departs(length: int) -> float:
    return float((logits(used, length) - logits(model(), length)).abs().max())


used = model()
before = {length: departs(length) for length in (15, 16, 20)}
logits(used, 40)
after = {length: departs(length) for length in (20, 16)}  # in this order: neither takes the stretch back
shorter = departs(15)
again = {length: departs(length) for length in (16, 20)}
print("difference to a fresh model, by length of the text")
print("  at first:           ", before)
print("  after a text of 40: ", after)
print("  then one of 15:     ", shorter, " and then", again)
assert not any(before.values()) and all(value > 0.1 for value in after.values())
assert shorter == 0 and not any(again.values())
PYTHON
