"""Layers over packed weights: forward as the engine, backward by finite differences, the file untouched."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

import soban

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from soban.learn.data.packing import IGNORED  # noqa: E402
from soban.learn.training import network  # noqa: E402
from soban.learn.tuning import head, packed  # noqa: E402
from soban.learn.tuning.base import frozen  # noqa: E402
from soban.ops import formats, reference  # noqa: E402
from soban.ops.formats import Matrix  # noqa: E402
from soban.weights.opening import open_checkpoint  # noqa: E402
from tests.learn.tuning import small  # noqa: E402
from tests.models.official import write  # noqa: E402

DICE = np.random.default_rng(5)


def matrix(format: str, rows: int = 70, columns: int = 200) -> Matrix:
    values = DICE.normal(0, 0.1, (rows, columns)).astype(np.float32)
    if format == "halves":
        upper, lower = formats.halves(formats.encode(values, "q8"))
        return Matrix((upper,), None, lower)
    return Matrix((formats.encode(values, format),))


def meant(w: Matrix) -> np.ndarray:
    """Its numbers in float64."""
    values = np.concatenate([formats.decode(part) for part in w.parts]).astype(np.float64)
    return values if w.residual is None else values + formats.decode(w.residual)


def differences(function, x: np.ndarray, step: float = 1e-5) -> np.ndarray:  # type: ignore[no-untyped-def]
    """The gradient of a function of x, by central differences in float64."""
    out = np.zeros_like(x)
    for place in np.ndindex(*x.shape):
        moved = [x.copy(), x.copy()]
        moved[0][place] += step
        moved[1][place] -= step
        out[place] = (function(moved[0]) - function(moved[1])) / (2 * step)
    return out


@pytest.mark.parametrize("format", ["q8", "q4"])
@pytest.mark.parametrize("moved", [False, True])
def test_a_packed_layer_goes_back_as_finite_differences_say(
    format: str, moved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "TILE", 32 * 200)  # several tiles, and a last one that is shorter
    w = matrix(format)
    columns = np.exp2(DICE.integers(-2, 3, 200)) if moved else np.ones(200)
    rows = np.exp2(DICE.integers(-2, 3, 70)) if moved else np.ones(70)
    factors = [torch.from_numpy(one.astype(np.float32)) if moved else None for one in (columns, rows)]
    layer = packed.PackedLinear(w, None, *factors)
    x, gradient = DICE.normal(size=(3, 200)), DICE.normal(size=(3, 70))
    exact = meant(w) / columns / rows[:, None]
    leaf = torch.from_numpy(x.astype(np.float32)).requires_grad_()
    out = layer(leaf)
    rounded = reference.linear((x / columns).astype(np.float32), w) / rows
    np.testing.assert_allclose(out.detach().numpy(), rounded, rtol=1e-4, atol=1e-4)
    assert np.abs(out.detach().numpy() - x @ exact.T).max() < 0.05 * np.abs(x @ exact.T).max()
    out.backward(torch.from_numpy(gradient.astype(np.float32)))
    wanted = differences(lambda x: float((x @ exact.T * gradient).sum()), x)
    np.testing.assert_allclose(leaf.grad.numpy(), wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("format", ["q8", "halves"])
def test_the_loss_over_a_packed_vocabulary_is_the_usual_one_with_its_gradient(
    format: str, cap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "LOGITS", 32 * 4)  # several tiles
    w = matrix(format, columns=64)
    targets = np.array([3, IGNORED, 69, 31, IGNORED, 0])
    states = DICE.normal(0, 2, (6, 64))

    def loss(x: np.ndarray) -> float:
        logits = x @ meant(w).T
        logits = cap * np.tanh(logits / cap) if cap else logits
        whole = np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) + logits.max(1)
        return float(sum(whole[i] - logits[i, aim] for i, aim in enumerate(targets) if aim != IGNORED))

    leaf = torch.from_numpy(states.astype(np.float32)).requires_grad_()
    ours = head.packed_loss(leaf, w, torch.from_numpy(targets), cap)
    assert ours.item() == pytest.approx(loss(states), rel=0.02)
    ours.backward()
    wanted = differences(loss, states)
    assert np.abs(leaf.grad.numpy() - wanted).max() < 0.05 * np.abs(wanted).max()
    assert not leaf.grad[[1, 4]].any()


@pytest.mark.parametrize("base", ["q8", "q4"])
@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3", "gemma3_text", "gpt2"])
def test_the_network_over_packed_weights_writes_as_the_engine(tmp_path: Path, family: str, base: str) -> None:
    folder = small.model(tmp_path / "m", family)
    ids = [2, *range(40, 70)]
    model = frozen(open_checkpoint(folder), base).model
    states = network.states(model, torch.tensor([ids]), torch.zeros(1, len(ids), dtype=torch.long))
    logits = model.get_output_embeddings()(states)[0]
    if (cap := network.logit_cap(model)) is not None:
        logits = torch.tanh(logits / cap) * cap
    engine = soban.load(folder, dtype=base, cache_dtype="f32").logits(ids)
    off = np.abs(logits.detach().numpy() - engine).max()
    assert off < 2e-2 * np.abs(engine).max(), off


@pytest.mark.parametrize("base", ["q8", "q4"])
def test_gradients_beside_packed_weights_are_near_those_beside_their_numbers(tmp_path: Path, base: str) -> None:
    folder = small.model(tmp_path / "m", "gemma2")
    data = small.pairs(tmp_path / "pairs.jsonl", 12)
    found = []
    for kind in (base, "f32"):
        if kind == "f32":  # the same model, of the numbers that the packed one means
            layers = frozen(open_checkpoint(folder), base).model
            tensors = {
                f"{name}.weight": packed.decoded(module.matrix, np.arange(module.matrix.shape[0]))
                for name, module in layers.named_modules()
                if isinstance(module, packed.PackedLinear | packed.PackedEmbedding) and name != "lm_head"
            }
            kept = {n: t.float32() for n, t in open_checkpoint(folder).tensors.items() if n not in tensors}
            write(folder, {**kept, **tensors})
        _, _, _, run = small.ready(folder, data, base=kind, batch_size=2)
        (batch,) = next(run.batches(0))
        gradients, loss, _, _ = run.computer.gradients([batch])
        run.computer.close()
        found.append((loss, torch.cat([gradient.flatten() for gradient in gradients.values()])))
    (loss, ours), (wanted_loss, wanted) = found
    assert loss == pytest.approx(wanted_loss, rel=0.01)
    assert torch.cosine_similarity(ours, wanted, dim=0) > 0.995


def test_the_bases_bytes_stay_as_they_are(tmp_path: Path) -> None:
    folder = small.model(tmp_path / "m", "llama")
    data = small.pairs(tmp_path / "pairs.jsonl", 12)
    for base in ("f32", "bf16", "q4"):
        files = [folder / "model.safetensors", *frozen(open_checkpoint(folder), base).files]
        before = [hashlib.sha256(path.read_bytes()).digest() for path in files]
        assert small.tune(folder, data, tmp_path / base, "--base", base, "--steps", "3") == 0
        assert [hashlib.sha256(path.read_bytes()).digest() for path in files] == before
