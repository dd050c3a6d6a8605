"""Models that write in a given form: the same text whole, streamed, in a batch, with drafts and without."""

import json
import re
from pathlib import Path

import jsonschema
import pytest

import soban
from soban.base.errors import UserError

from .tiny import make_model

PERSON = {
    "type": "object",
    "properties": {
        "이름": {"type": "string", "maxLength": 12}, "나이": {"type": "integer"}, "색": {"enum": ["빨강", "파랑"]}
    },
    "required": ["이름", "나이", "색"], "additionalProperties": False,
}  # fmt: skip
TURNS = [{"role": "user", "content": "who?"}]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> soban.Model:
    return soban.load(make_model(tmp_path_factory.mktemp("chat"), chat=True, max_position_embeddings=256))


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 1.5, "top_k": 0, "seed": 1}, {"top_p": 0.9, "seed": 2}], ids=str
)
def test_json_of_a_schema_is_valid_and_the_same_in_every_way(model: soban.Model, options: dict) -> None:
    options = {**options, "schema": PERSON, "max_new_tokens": 120}
    text = model.generate("who?", **options)
    assert isinstance(text, str)
    jsonschema.validate(json.loads(text), PERSON)
    assert "".join(model.stream("who?", **options)) == text
    assert model.generate("who?", prompt_lookup_num_tokens=0, **options) == text
    assert model.chat(TURNS, **options) == text == "".join(model.stream_chat(TURNS, **options))
    assert model.start("who?", **options).figures.finished == ""


def test_several_texts_are_each_valid(model: soban.Model) -> None:
    texts = model.generate(
        "who?", schema=PERSON, num_return_sequences=4, temperature=1.5, top_k=0, seed=3, max_new_tokens=130
    )
    assert len(texts) == 4
    for text in texts:
        jsonschema.validate(json.loads(text), PERSON)


@pytest.mark.parametrize("room", range(50, 75))
def test_a_budget_that_is_too_small_is_refused_and_any_other_holds_a_whole_text(model: soban.Model, room: int) -> None:
    try:
        generation = model.start("who?", schema=PERSON, max_new_tokens=room, temperature=1.5, top_k=0, seed=room)
    except UserError as error:
        assert f"room for {room} tokens" in str(error)
        return
    jsonschema.validate(json.loads(str(generation.read())), PERSON)
    assert generation.figures.new_tokens <= room and generation.figures.finished in ("end", "length")


def test_a_choice_an_expression_and_rules(model: soban.Model) -> None:
    assert model.generate("which?", choices=["예", "아니요"]) in ("예", "아니요")
    assert re.fullmatch(r" [0-9]{3}-[0-9]{4}", str(model.chat(TURNS, regex=r" [0-9]{3}-[0-9]{4}")))
    assert model.generate("which?", grammar='start: "a" | "b" "c"') in ("a", "bc")


def test_a_base_model_writes_the_form_alone(tmp_path: Path) -> None:
    base = soban.load(make_model(tmp_path / "base"))
    text = base.generate("Once", schema=PERSON, max_new_tokens=90)
    jsonschema.validate(json.loads(str(text)), PERSON)
    assert base.generate("Once", choices=["예"], echo=True) == "Once예"


def test_what_is_no_form_is_refused_by_name(model: soban.Model) -> None:
    for options in ({"schema": 5}, {"regex": "(?=a)"}, {"choices": []}, {"schema": {}, "regex": "a"}, {"grammar": "x"}):
        with pytest.raises(UserError) as caught:
            model.generate("a", **options)
        assert next(iter(options)) in str(caught.value) and "\n" not in str(caught.value)


def test_an_adapted_model_shares_the_vocabulary_that_was_read(model: soban.Model) -> None:
    model.generate("a", choices=["b"])
    assert model.adapted(None).grammars is model.grammars
