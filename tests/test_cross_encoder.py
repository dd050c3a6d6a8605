"""Documents ranked by an encoder with a head: judged by transformers, and by sentence-transformers where it is."""

from pathlib import Path

import numpy as np
import pytest

import soban
from soban.base.errors import UserError
from soban.text.tokenizers.library import pair_of

from .sentences import TEXTS, encoder

QUERY = "The weather is 맑다"
CLASSES = {"bert": "BertForSequenceClassification", "xlm-roberta": "XLMRobertaForSequenceClassification"}


def ranker(folder: Path, kind: str, labels: int = 1) -> Path:
    return encoder(
        folder, kind, architectures=[CLASSES[kind]], id2label={str(i): f"LABEL_{i}" for i in range(labels)},
        label2id={f"LABEL_{i}": i for i in range(labels)},
    )  # fmt: skip


@pytest.mark.parametrize("kind", CLASSES)
def test_scores_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    import torch
    import transformers

    folder = ranker(tmp_path / "m", kind)
    words = transformers.AutoTokenizer.from_pretrained(folder)
    network = getattr(transformers, CLASSES[kind]).from_pretrained(folder, dtype=torch.float64).eval()
    with torch.no_grad():
        wanted = [float(network(**words(QUERY, text, return_tensors="pt")).logits[0, 0]) for text in TEXTS]
    model = soban.load(folder, dtype="f32")
    np.testing.assert_allclose(model.rank(QUERY, TEXTS, raw=True), wanted, atol=1e-5)
    np.testing.assert_allclose(model.rank(QUERY, TEXTS), 1 / (1 + np.exp(-np.array(wanted))), atol=1e-5)
    assert model.rank(QUERY, TEXTS[1:2]) == model.rank(QUERY, TEXTS)[1:2]  # the same alone and beside others
    assert np.ptp(wanted) > 1e-2


@pytest.mark.parametrize("kind", CLASSES)
def test_scores_are_those_of_sentence_transformers(tmp_path: Path, kind: str) -> None:
    judge = pytest.importorskip("sentence_transformers")
    folder = ranker(tmp_path / "m", kind)
    official = judge.CrossEncoder(str(folder), device="cpu")
    wanted = official.predict([(QUERY, text) for text in TEXTS])
    np.testing.assert_allclose(soban.load(folder, dtype="f32").rank(QUERY, TEXTS), wanted, atol=1e-5)


def test_what_a_head_cannot_rank_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="m gives a text 3 scores, and ranking takes one"):
        soban.load(ranker(tmp_path / "m", "bert", labels=3)).rank("a", ["b"])
    with pytest.raises(UserError, match="e gives a text 0 scores"):
        soban.load(encoder(tmp_path / "e")).rank("a", ["b"])
    model = soban.load(ranker(tmp_path / "r", "bert"))
    with pytest.raises(UserError, match="takes no instruction"):
        model.rank("a", ["b"], instruction="answer")
    with pytest.raises(UserError, match=r"a document has 10[0-9] tokens with its query, and the context holds 64"):
        model.rank("a", ["cat", "cat " * 100])


def test_processors_that_put_two_texts_together_are_read() -> None:
    roberta = {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]}
    pair = [(0, 0), ("A", 0), (2, 0), (2, 0), ("B", 0), (2, 0)]
    assert pair_of(roberta) == pair
    assert pair_of({"type": "Sequence", "processors": [{"type": "ByteLevel"}, roberta]}) == pair
    assert pair_of(None) == pair_of({"type": "ByteLevel"}) == pair_of({"type": "TemplateProcessing"}) == []
