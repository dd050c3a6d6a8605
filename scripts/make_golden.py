"""Makes tests/golden: small random models and the logits that transformers computes for them.

    pip install "soban[test]" && python scripts/make_golden.py

Weights are drawn wide enough that soft caps, windows and grouped queries change the result, and stored in
bfloat16 to keep the files small. The judge is transformers in float64; `float32_error` is how far its own
float32 is from that, which sets the tests' tolerance.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)  # fmt: skip

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"
TOKENS = 40
SMALL = {
    "vocab_size": 96, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
CASES = {
    "gemma2": (Gemma2ForCausalLM, Gemma2Config(
        **SMALL, head_dim=16, sliding_window=8, query_pre_attn_scalar=16, attn_logit_softcapping=5.0,
        final_logit_softcapping=9.0, attn_implementation="eager")),
    "gemma2-27b": (Gemma2ForCausalLM, Gemma2Config(  # the scalar is not the head size, as in 27B
        **SMALL, head_dim=24, sliding_window=11, query_pre_attn_scalar=12, attn_implementation="eager")),
    "llama": (LlamaForCausalLM, LlamaConfig(**SMALL)),
    "llama-tied-biased": (LlamaForCausalLM, LlamaConfig(
        **SMALL, tie_word_embeddings=True, attention_bias=True, mlp_bias=True)),
    "llama3-rope": (LlamaForCausalLM, LlamaConfig(**SMALL, rope_parameters=LLAMA3_ROPE)),
    "llama-linear-rope": (LlamaForCausalLM, LlamaConfig(
        **SMALL, rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0})),
    "mistral": (MistralForCausalLM, MistralConfig(**SMALL, head_dim=20, sliding_window=7)),
}  # fmt: skip


def main() -> None:
    for seed, (name, (cls, config)) in enumerate(CASES.items()):
        torch.manual_seed(seed)
        model = cls(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, 0.25 if parameter.ndim == 2 else 0.5)
        folder = GOLDEN / name
        shutil.rmtree(folder, ignore_errors=True)
        model.to(torch.bfloat16).save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        # Loaded anew: a model that was cast has its rotary frequencies cast, too.
        ids = torch.randint(0, config.vocab_size, (1, TOKENS))
        double, single = (
            cls.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()
            for dtype in (torch.float64, torch.float32)
        )
        with torch.no_grad():
            exact = double(ids).logits[0].numpy()
            error = np.abs(single(ids).logits[0].numpy() - exact).max()
            greedy = single.generate(
                ids[:, :6], attention_mask=torch.ones(1, 6), max_new_tokens=24, do_sample=False,
                repetition_penalty=1.05, eos_token_id=None, pad_token_id=0,
            )[0, 6:]  # fmt: skip
        np.save(folder / "logits.npy", exact.astype(np.float32))
        golden = {"ids": ids[0].tolist(), "float32_error": float(error), "greedy_penalty_1.05": greedy.tolist()}
        (folder / "golden.json").write_text(json.dumps(golden) + "\n", encoding="utf-8")
        print(f"{name}: largest logit {np.abs(exact).max():.2f}, float32 error {error:.1e}")


if __name__ == "__main__":
    main()
