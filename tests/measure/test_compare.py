"""Models on the same questions: losses by transformers, answers by the library, and what a file's examples are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import soban
from soban.base.errors import UserError
from soban.measure.compare import Answered, Contestant, Example, begun, compared, read_examples
from tests.tiny import make_model

PAIRS = [
    ("안녕?", "반가워요, 소반입니다."),
    ("Where is it?", "On the table."),
    ("둘 더하기 셋은?", "다섯"),
    ("ab", "ba"),
]


def examples() -> list[Example]:
    return [Example(({"role": "user", "content": asked},), wanted) for asked, wanted in PAIRS]


@pytest.fixture(scope="module", params=[True, False], ids=["with a template", "without"])
def model(request: Any, tmp_path_factory: pytest.TempPathFactory) -> soban.Model:
    folder = make_model(tmp_path_factory.mktemp("compare") / "tiny", chat=request.param)
    return soban.load(folder, users=4)


def test_losses_are_those_of_the_wanted_answer_alone(model: soban.Model) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    judge = transformers.AutoModelForCausalLM.from_pretrained(model.loaded.path, dtype=torch.float32)
    found = compared("tiny", model, examples(), max_new_tokens=2)
    losses, tokens = 0.0, 0
    for example, answered in zip(examples(), found.answers, strict=True):
        prompt = begun(model, example).prompt.ids
        wanted = model.tokenize(example.wanted, bos=False)
        with torch.no_grad():
            scores = judge(torch.tensor([[*prompt, *wanted]])).logits[0].double().log_softmax(-1)
        rows = scores[len(prompt) - 1 : -1]
        loss = -float(rows[range(len(wanted)), wanted].sum())
        assert answered.loss == pytest.approx(loss, rel=1e-4) and answered.wanted_tokens == len(wanted)
        losses, tokens = losses + loss, tokens + len(wanted)
    assert found.loss.mean == pytest.approx(losses / tokens, rel=1e-4)
    assert found.perplexity.mean == pytest.approx(np.exp(losses / tokens), rel=1e-4)
    size = sum(len(wanted.encode()) for _, wanted in PAIRS)
    assert found.bits_per_byte == pytest.approx(losses / np.log(2) / size, rel=1e-4)


def test_answers_that_are_written_together_are_those_of_each_alone(model: soban.Model) -> None:
    found = compared("tiny", model, examples(), max_new_tokens=9)
    for example, answered in zip(examples(), found.answers, strict=True):
        alone = begun(model, example, do_sample=False, max_new_tokens=9)
        assert answered.text == str(alone.read()).strip()
        assert answered.tokens == alone.figures.new_tokens
    assert found.cut == sum(one.finished == "length" for one in found.answers)


def test_the_error_of_a_loss_is_that_of_examples_and_not_of_tokens() -> None:
    """Tokens of an answer are good or bad together; a bootstrap over examples judges."""
    dice = np.random.default_rng(1)
    tokens = dice.integers(5, 40, 200)
    losses = tokens * dice.normal(2, 0.5, 200)
    rows = [Answered("", "end", 1, loss, int(count), {}) for loss, count in zip(losses, tokens, strict=True)]
    draws = dice.integers(0, 200, (5000, 200))
    spread = (losses[draws].sum(1) / tokens[draws].sum(1)).std()
    found = Contestant("a", tuple(rows), 1.0, 1).loss
    assert found.error == pytest.approx(spread, rel=0.05) and found.mean == pytest.approx(losses.sum() / tokens.sum())


def test_questions_are_found_in_any_form(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "system", "content": "짧게"}, {"role": "user", "content": "가?"},
                      {"role": "assistant", "content": " 나 "}]},
        {"messages": [{"role": "user", "content": "unanswered"}]},
    ]  # fmt: skip
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    found = read_examples(path)
    assert found.faulty == 1 and len(found.kept) == 1
    assert found.kept[0].wanted == "나" and [one["role"] for one in found.kept[0].messages] == ["system", "user"]
    table = tmp_path / "q.csv"
    table.write_bytes("질문,답변\n수도는?,서울\n산은?,북한산\n".encode("cp949"))
    assert [(one.question, one.wanted) for one in read_examples(table).kept] == [
        ("수도는?", "서울"),
        ("산은?", "북한산"),
    ]
    swapped = read_examples(table, ("답변", "질문"))
    assert swapped.kept[0].question == "서울" and swapped.kept[0].wanted == "수도는?"


def test_so_many_are_drawn_by_the_seed_and_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"{n}", "completion": f"a{n}"}) for n in range(50)))
    draws = [[one.question for one in read_examples(path, limit=5, seed=seed).kept] for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2] and draws[0] == sorted(draws[0], key=int)


def test_plain_texts_are_no_questions(tmp_path: Path) -> None:
    path = tmp_path / "q.txt"
    path.write_text("Once upon a time.\n\nThe end.", encoding="utf-8")
    with pytest.raises(UserError, match="no questions with answers"):
        read_examples(path)


def test_an_answer_may_fill_the_context_and_no_more(model: soban.Model) -> None:
    long = Example(({"role": "user", "content": "a"},), "b" * (model.engine.context - 60))
    (found,) = compared("tiny", model, [long]).answers
    assert found.tokens + len(begun(model, long).prompt.ids) <= model.engine.context


def test_an_example_beyond_the_context_is_told(model: soban.Model) -> None:
    long = Example(({"role": "user", "content": "가나 다" * 2000},), "a")
    with pytest.raises(UserError, match="context"):
        compared("tiny", model, [long])
