"""Loss and gradients of packed rows, against transformers' own attention, norms and loss in float64."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from soban.learn.data.packing import IGNORED, Batch  # noqa: E402
from soban.learn.training import attention, kernels, network  # noqa: E402
from soban.learn.training.computing import Computer  # noqa: E402
from soban.learn.training.presets import Shape  # noqa: E402
from soban.learn.training.settings import Settings  # noqa: E402

SHAPE = Shape(32, 48, 3, 4, 2, 24, window=5)
STARTS = [0, 7, 24, 48, 60, 72]  # where documents begin in the four rows of 24


def settings(family: str, parts: int = 2) -> Settings:
    return Settings(family, SHAPE, 64, batch_size=4, steps=10, learning_rate=1e-3, threads=parts)


def packed(seed: int) -> Batch:
    tokens = np.random.default_rng(seed).integers(3, 64, (4, SHAPE.context + 1))
    targets = tokens[:, 1:].copy()
    for start in STARTS:
        row, place = divmod(start, SHAPE.context)
        if place:
            targets[row, place - 1] = IGNORED  # what begins there does not follow from what stands before it
    return Batch(tokens[:, :-1].copy(), targets, np.array(STARTS))


def model_with_noise(family: str) -> "transformers.PreTrainedModel":
    model = network.new_model(settings(family), {"bos_token_id": 1, "eos_token_id": 2})
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return model


def by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "usable", lambda dtype, device: False)


@pytest.mark.parametrize("together", [7, 128, None])  # queries that torch takes at once, of rows of 24; None: kernels
@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3", "gemma3_text"])
def test_loss_and_gradients_are_those_of_each_document_alone(
    family: str, together: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if together is not None:
        by_torch(monkeypatch)
        monkeypatch.setattr(attention, "AT_ONCE", together)
    model, batch = model_with_noise(family), packed(0)
    judge = type(model)._from_config(model.config, attn_implementation="eager").double()
    judge.load_state_dict(model.state_dict())
    nats, count = 0.0, 0
    for start, stop in zip(STARTS, [*STARTS[1:], batch.inputs.size], strict=True):
        row, first = divmod(start, SHAPE.context)
        part = slice(first, min(first + stop - start, SHAPE.context))
        logits = judge(input_ids=torch.tensor(batch.inputs[row, part])[None], use_cache=False).logits[0]
        targets = torch.tensor(batch.targets[row, part])
        nats = nats + torch.nn.functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
        count += int((targets != IGNORED).sum())
    (nats / count).backward()
    gradients, loss, tokens, _ = Computer(model, dtype=torch.float32, device="cpu", parts=2).gradients([batch])
    assert tokens == count
    assert loss == pytest.approx((nats / count).item(), rel=1e-5)
    for name, weight in judge.named_parameters():
        assert (gradients[name] - weight.grad).norm() < 1e-5 * weight.grad.norm(), name


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_bfloat16_comes_near(family: str, native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not native:
        by_torch(monkeypatch)
    batch = packed(0)
    results = [
        Computer(model_with_noise(family), dtype=dtype, device="cpu", parts=1).gradients([batch])
        for dtype in (torch.float32, torch.bfloat16)
    ]
    (exact, loss, _, _), (rounded, near, _, _) = results
    assert near == pytest.approx(loss, rel=0.01)
    for name, gradient in exact.items():
        assert (rounded[name] - gradient).norm() < 0.05 * gradient.norm(), name


def test_hidden_states_are_transformers_own() -> None:
    model, batch = model_with_noise("gemma2"), packed(3)
    judge = type(model)._from_config(model.config, attn_implementation="eager")
    judge.load_state_dict(model.state_dict())
    one = torch.tensor(batch.inputs[2:3, :12])  # a document
    with torch.no_grad():
        ours = network.states(model, one, torch.zeros_like(one))
        theirs = judge.model(input_ids=one, use_cache=False).last_hidden_state
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_seed_decides_the_weights() -> None:
    first, again = (network.new_model(settings("llama"), {"eos_token_id": 2}) for _ in range(2))
    for weight, same in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(weight, same)
