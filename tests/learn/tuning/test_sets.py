"""Files to examples: what is learnt of them, what is left out, and that nothing held out is learnt from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soban.base.errors import UserError
from soban.learn.data.packing import IGNORED
from soban.learn.tuning import resolve, rows
from soban.learn.tuning.arguments import TuneArguments
from soban.learn.tuning.examples import shown
from soban.learn.tuning.sets import Sets
from tests.learn.tuning.plain import model

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model(tmp_path_factory.mktemp("sets") / "m", "llama")


def read(folder: Path, records: list[Any], tmp_path: Path, **options: Any) -> tuple[resolve.Subject, Sets]:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records), encoding="utf-8")
    arguments = TuneArguments(**{"data": path, "out": tmp_path / "out", "model": folder, "held_out": 0.2, **options})
    subject = resolve.subject(arguments)
    return subject, subject.examples(arguments)


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Hi{n}", "completion": "Hello"},
        {"instruction": "Hi{n}", "output": "Hello"},
        {"messages": [{"role": "user", "content": "Hi{n}"}, {"role": "assistant", "content": "Hello"}]},
        {"conversations": [{"from": "human", "value": "Hi{n}"}, {"from": "gpt", "value": "Hello"}]},
        {"질문": "Hi{n}", "답변": "Hello"},
    ],
)
def test_what_is_learnt_is_the_answer_and_the_token_that_ends_it(
    folder: Path, tmp_path: Path, record: dict[str, Any]
) -> None:
    records = [json.loads(json.dumps(record, ensure_ascii=False).replace("{n}", str(n))) for n in range(10, 22)]
    subject, sets = read(folder, records, tmp_path)
    for example in (*sets.train, *sets.held_out):
        learnt = subject.tokenizer.decode(example.ids[example.learnt].tolist(), skip_special=False)
        assert learnt == "Hello<end_of_turn>" and example.bytes == 5
        given = subject.tokenizer.decode(example.ids[~example.learnt].tolist(), skip_special=False)
        assert given.startswith("<bos><start_of_turn>user\nHi") and given.endswith("<start_of_turn>model\n")
        assert example.prompt == int((~example.learnt).sum())
    assert len(sets.train) + len(sets.held_out) == 12 and sets.held_out


def test_every_answer_of_a_conversation_is_learnt_and_a_text_wholly(folder: Path, tmp_path: Path) -> None:
    longer = [{"messages": [*TURNS, {"role": "user", "content": f"And{n}?"}, TURNS[1]]} for n in range(8)]
    subject, sets = read(folder, longer, tmp_path)
    learnt = subject.tokenizer.decode(sets.train[0].ids[sets.train[0].learnt].tolist(), skip_special=False)
    assert learnt == "Hello<end_of_turn>" * 2
    assert shown(sets.train[0], subject.tokenizer).count("⟦") == 2
    subject, sets = read(folder, [{"text": f"a text {n}"} for n in range(8)], tmp_path)
    assert sets.train[0].learnt.all() and sets.train[0].ids[-1] == 1 and not sets.answers


def test_what_is_left_out_is_counted_by_its_reason(folder: Path, tmp_path: Path) -> None:
    records = [{"prompt": f"Hi{n}", "completion": "Hello"} for n in range(6)]
    records += [{"prompt": "Hi3", "completion": "Hello"}, {"prompt": "", "completion": ""}]
    records += [{"prompt": "x", "completion": "y" * 300}]
    _, sets = read(folder, records, tmp_path)
    assert sets.left_out == {"duplicate": 1, "empty": 1, "too long": 1}


def test_questions_alike_are_never_on_both_sides(folder: Path, tmp_path: Path) -> None:
    records = [
        {"prompt": f"number {n} of many", "completion": f"{answer} {n}"}
        for n in range(30)
        for answer in ("a", "b", "c")
    ]
    _, sets = read(folder, records, tmp_path)
    prompts = [{one.ids[: one.prompt].tobytes() for one in some} for some in (sets.train, sets.held_out)]
    assert not prompts[0] & prompts[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"held_out": 1.0}, "--held-out 1.0 is no share"),
        ({"context": 9999}, "this model reads 2 to 255 tokens"),
        ({"template": "nonsense"}, "nonsense"),
        ({"module": ("q",)}, "--module q: no layer is called so"),
        ({"layers": "1-7"}, "--layers 1-7: this model has layers 0 to 1"),
        ({"rank_of": ("q_proj",)}, "--rank-of q_proj is not understood"),
        ({"epochs": 0.0}, "--epochs 0.0 is not above 0"),
    ],
)
def test_bad_settings_are_told_in_one_line(folder: Path, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    records = [{"prompt": f"Hi{n}", "completion": "Hello"} for n in range(9)]
    with pytest.raises(UserError) as caught:
        subject, sets = read(folder, records, tmp_path, **options)
        arguments = TuneArguments(data="", out="", model=folder, **options)
        settings = resolve.resolved(arguments, subject, sets)
        pytest.importorskip("peft")
        from soban.learn.tuning.methods import METHODS

        METHODS[settings.method].config(settings)  # type: ignore[misc]
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_too_few_examples_are_refused_with_the_reasons(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="1 examples to learn from; left out: duplicate 2"):
        read(folder, [{"prompt": "a", "completion": "b"}] * 3, tmp_path)


def test_rows_hold_each_example_once_an_epoch_whatever_the_step_they_begin_at(folder: Path, tmp_path: Path) -> None:
    _, sets = read(folder, [{"prompt": f"Hi{n}", "completion": "Hello" * (n % 5)} for n in range(1, 40)], tmp_path)
    many = rows.Rows(sets.train, 128, seed=3)
    for epoch in range(3):
        assert sorted(number for row in many.epoch(epoch) for number in row) == list(range(len(sets.train)))
    assert many.epoch(0) != many.epoch(1)
    steps = many.steps(2)
    seen = [next(steps)[0] for _ in range(12)]
    later = many.steps(2, step=7)
    for batch in seen[7:]:
        (again,) = next(later)
        np.testing.assert_array_equal(batch.inputs, again.inputs)
        np.testing.assert_array_equal(batch.targets, again.targets)
    learnt = sum(int((batch.targets != IGNORED).sum()) for batch in many.once(2))
    assert learnt == sum(one.learns for one in sets.train)
