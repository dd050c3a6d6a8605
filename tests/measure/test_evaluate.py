"""Perplexity and divergence against transformers, and against distributions worked out by hand."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soban.base.errors import UserError
from soban.loading.loaded import Loaded, load_files
from soban.measure.evaluate import (
    Scorer,
    Windows,
    divergence,
    documents,
    evaluate,
    log_probabilities,
    split_windows,
    windows,
)
from soban.ops.formats import Floats

from ..tiny import make_model

TEXT = "Once upon a time there was a hen. " * 9


def loaded(path: Path, dtype: str = "f32") -> Loaded:
    return load_files(path, dtype=dtype, tokenizer=None, force=False)


def transformers_logits(path: Path, ids: list[int]) -> Floats:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64, attn_implementation="eager")
    with torch.no_grad():
        found: Floats = model(torch.tensor([ids])).logits[0].numpy()
    return found


def log_softmax(x: Any) -> Any:
    torch = pytest.importorskip("torch")
    return torch.log_softmax(torch.tensor(np.asarray(x, np.float64)), -1).numpy()


def test_the_divergence_of_two_small_distributions_is_the_one_worked_out_by_hand() -> None:
    p, q = np.array([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]]), np.array([[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]])
    # 0.5 ln 2 + 0 - 0.25 ln 2, and (ln 2/3 + 2 ln 4/3) / 3
    by_hand = [0.25 * math.log(2), (math.log(2 / 3) + 2 * math.log(4 / 3)) / 3]
    np.testing.assert_allclose(divergence(np.log(p), np.log(q)), by_hand, rtol=1e-12)
    shifted = (np.log(p) + np.array([[3.0], [-70.0]])).astype(np.float32)  # scores are known up to a constant
    np.testing.assert_allclose(np.exp(log_probabilities(shifted)), p, rtol=1e-5)
    assert (divergence(np.log(p), np.log(p)) == 0).all()


def test_a_score_that_is_no_number_is_an_error() -> None:
    with pytest.raises(UserError, match="not a number"):
        log_probabilities(np.array([[0.0, np.nan]], np.float32))


@pytest.mark.parametrize(
    ("length", "context", "stride"), [(1, 8, 4), (2, 8, 4), (8, 8, 4), (9, 8, 7), (50, 8, 3), (50, 9, 1)]
)
@pytest.mark.parametrize("bos", [None, 2])
def test_windows_predict_each_token_once_from_what_came_before(
    length: int, context: int, stride: int, bos: int | None
) -> None:
    body = [10 + i for i in range(length)]
    ids = [2, *body] if bos else body
    predicted: list[int] = []
    for tokens, first in windows(ids, bos, context, stride):
        assert 0 < first < len(tokens) <= context and (not bos or tokens[0] == bos)
        where = tokens[first - 1]
        assert where == bos or ids[ids.index(tokens[first]) - 1] == where
        predicted += tokens[first:]
    assert predicted == ids[1:]


@pytest.mark.parametrize("family", ["gemma2", "llama"])
def test_loss_and_divergence_are_those_of_transformers(tmp_path: Path, family: str) -> None:
    changes: dict[str, Any] = {"model_type": family, "max_position_embeddings": 512}
    changes |= {"tie_word_embeddings": True}
    one, two = make_model(tmp_path / "one", seed=1, **changes), make_model(tmp_path / "two", seed=2, **changes)
    models = loaded(one), loaded(two)
    over = split_windows(models[0].tokenizer, TEXT, 512, 256)
    (ids, first), *rest = over.windows
    assert first == 1 and not rest and over.bytes == len(TEXT)
    found = evaluate(Scorer(models[0], 512), Scorer(models[1], 512), over)
    mine, other = (log_softmax(transformers_logits(path, ids)[:-1]) for path in (one, two))
    losses = -mine[np.arange(len(ids) - 1), ids[1:]]
    kl = (np.exp(other) * (other - mine)).sum(-1)
    assert found.tokens == len(ids) - 1 and found.reference is not None
    # float32 logits of about 20 are off by 20 * 2**-24 each, sums in them by some of those
    near = {"rel": 1e-5}
    assert found.loss.mean == pytest.approx(losses.mean(), **near)
    assert found.loss.error == pytest.approx(losses.std(ddof=1) / math.sqrt(len(losses)), **near)
    assert found.perplexity.mean == pytest.approx(math.exp(losses.mean()), **near)
    assert found.bits_per_byte == pytest.approx(losses.sum() / math.log(2) / len(TEXT), **near)
    assert found.reference.divergence.mean == pytest.approx(kl.mean(), **near)
    assert found.reference.divergence_99 == pytest.approx(np.quantile(kl, 0.99), **near)
    assert found.reference.agreement.mean == (mine.argmax(-1) == other.argmax(-1)).mean()
    gap = losses.mean() + other[np.arange(len(ids) - 1), ids[1:]].mean()
    assert found.reference.perplexity_above.mean == pytest.approx(math.expm1(gap), **near)


def test_the_fixture_model_has_transformers_loss_in_strided_windows(fixtures: Path) -> None:
    path = fixtures / "models" / "TinyStories-656K"
    model = loaded(path)
    text = (fixtures / "text" / "tinystories_sample.txt").read_text(encoding="utf-8")[:4000]
    over = split_windows(model.tokenizer, text, 64, 48, most=300)
    losses = [
        -log_softmax(transformers_logits(path, tokens)[first - 1 : -1])[np.arange(len(tokens) - first), tokens[first:]]
        for tokens, first in over.windows
    ]
    found = evaluate(Scorer(model, 64), None, over)
    assert found.reference is None and 300 <= found.tokens < 300 + 64
    assert found.loss.mean == pytest.approx(np.concatenate(losses).mean(), rel=1e-5)


def test_few_scores_at_a_time_give_the_same_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded(make_model(tmp_path / "model"))
    over = split_windows(model.tokenizer, TEXT, 100, 40)
    whole = evaluate(Scorer(model, 100), Scorer(model, 100), over)
    monkeypatch.setattr("soban.measure.evaluate.LOGITS", 264 * 7)
    shares: list[float] = []
    assert evaluate(Scorer(model, 100), Scorer(model, 100), over, shares.append) == whole
    assert shares[-1] == 1.0 and shares == sorted(shares)
    assert whole.reference is not None and whole.reference.divergence.mean == 0 == whole.reference.more.mean
    assert whole.reference.agreement.mean == 1


def test_eight_bits_are_nearer_to_float32_than_four(tmp_path: Path) -> None:
    path = make_model(tmp_path / "model")
    exact = loaded(path)
    over = split_windows(exact.tokenizer, TEXT, 128, 64)
    q8, q4 = (evaluate(Scorer(loaded(path, kind), 128), Scorer(exact, 128), over).reference for kind in ("q8", "q4"))
    assert q8 is not None and q4 is not None
    assert 0 < 20 * q8.divergence.mean < q4.divergence.mean


def test_documents_are_parted_where_the_file_says_so() -> None:
    assert documents("one\ntwo\n") == ["one\ntwo"]
    assert documents("one<|endoftext|>\ntwo\n<|endoftext|>\n") == ["one", "two"]


def test_a_text_without_a_second_token_has_no_windows() -> None:
    assert list(windows([2], 2, 8, 4)) == [] and list(windows([7], None, 8, 4)) == []
    assert Windows((), 0).windows == ()
