#!/usr/bin/env bash
# transformers 5.23.0: a llama's config with a stray sliding_window generates another text than its own logits say.
#
# Llama has no window: its forward pass ignores the key, and the logits of a whole text are the same to the bit with and
# without it. But generate() makes its cache from the config, and a cache for a window keeps the newest keys alone, so
# that each token sees less than the forward pass would. With use_cache=False the text is again the one without
# the key. Files have it: configs that were converted from a mistral, or edited from one. Nothing is said.
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


def model(**keys: object) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, eos_token_id=None, initializer_range=0.3, **keys,
    )
    return LlamaForCausalLM(config).eval()


@torch.no_grad()
def text(model: LlamaForCausalLM, **options: object) -> list[int]:
    made = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=8, pad_token_id=0, **options
    )
    return made[0, ids.shape[1] :].tolist()


ids = torch.arange(3, 15)[None]
plain, stray = model(), model(sliding_window=4)
with torch.no_grad():
    assert torch.equal(plain(ids).logits, stray(ids).logits)
print("logits of the prompt: equal to the bit")
print("without the key      ", text(plain))
print("with sliding_window=4", text(stray))
print("... use_cache=False  ", text(stray, use_cache=False))
assert text(plain) == text(stray, use_cache=False) != text(stray)
PYTHON
