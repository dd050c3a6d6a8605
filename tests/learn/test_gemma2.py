"""The network that is trained, against transformers' own Gemma 2."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from soban.learn import gemma2, saving  # noqa: E402

# Longer than the window, grouped heads, a scale that is not head_dim's, and few enough numbers to be quick
CONFIG = gemma2.Config(
    vocab_size=300,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    max_position_embeddings=64,
    sliding_window=8,
    query_pre_attn_scalar=24,
)
IDS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}


@pytest.fixture
def weights():  # type: ignore[no-untyped-def]
    """Weights so large that both soft caps bite."""
    generator = torch.Generator().manual_seed(1)
    drawn = {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in gemma2.shapes(CONFIG).items()}
    return drawn | {"model.embed_tokens.weight": drawn["model.embed_tokens.weight"] * 4}


def test_logits_and_gradients_equal_those_of_transformers(weights, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    saving.save_model(tmp_path, CONFIG, weights, IDS)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    assert type(model).__name__ == "Gemma2ForCausalLM"
    tokens = torch.randint(3, 300, (2, 30), generator=torch.Generator().manual_seed(2))
    mine = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    ours = gemma2.logits(CONFIG, mine, gemma2.hidden_states(CONFIG, mine, tokens))
    theirs = model(tokens).logits
    # Two orders of float32 sums: a few hundred roundings of values up to the cap
    tolerance = 300 * torch.finfo(torch.float32).eps * CONFIG.final_logit_softcapping
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)
    assert ours.abs().max() > 0.9 * CONFIG.final_logit_softcapping  # the cap was reached
    ours.square().mean().backward()
    theirs.square().mean().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            mine[name].grad, parameter.grad, rtol=1e-3, atol=1e-3 * parameter.grad.abs().max().item()
        )


@pytest.mark.parametrize(
    "change",
    [
        {"attn_logit_softcapping": 30.0, "final_logit_softcapping": 50.0},
        {"sliding_window": 64},
        {"query_pre_attn_scalar": 32},
        {"rope_theta": 1000.0},
    ],
)
def test_every_key_of_the_shape_matters(weights, change: dict[str, float]) -> None:  # type: ignore[no-untyped-def]
    import dataclasses

    tokens = torch.randint(3, 300, (1, 30), generator=torch.Generator().manual_seed(2))
    other = dataclasses.replace(CONFIG, **change)
    logits = [gemma2.logits(c, weights, gemma2.hidden_states(c, weights, tokens)) for c in (CONFIG, other)]
    assert (logits[0] - logits[1]).abs().max() > 0.01


def test_the_parameter_count_is_that_of_the_tensors(weights) -> None:  # type: ignore[no-untyped-def]
    assert gemma2.parameter_count(CONFIG) == sum(weight.numel() for weight in weights.values())
