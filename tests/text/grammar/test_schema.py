"""JSON of a schema: always valid, whatever the model, the tokenizer, and the room; jsonschema is the judge."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soban.base.errors import UserError
from soban.text.grammar.grammar import Grammars, of_schema
from soban.text.tokenizers.tokenizer import load_tokenizer

from .schemas import SCHEMAS
from .writing import byte_tokens, write

PERSON = {
    "type": "object",
    "properties": {
        "이름": {"type": "string", "minLength": 1}, "나이": {"type": "integer", "minimum": 0},
        "취미": {"type": "array", "items": {"enum": ["독서", "등산", "🎮"]}, "minItems": 1},
        "주소": {"$ref": "#/$defs/주소"},
    },
    "required": ["이름", "나이", "취미", "주소"], "additionalProperties": False,
    "$defs": {"주소": {"type": "object", "properties": {"시": {"type": "string"}}, "required": ["시"]}},
}  # fmt: skip


@pytest.fixture(scope="module")
def grammars(tmp_path_factory: pytest.TempPathFactory) -> Grammars:
    return Grammars(byte_tokens(tmp_path_factory.mktemp("bytes")))


@pytest.fixture
def pairs(byte_level: Callable[..., Path]) -> Grammars:
    """Over a byte-level tokenizer with merges, and tokens that steer."""
    return Grammars(load_tokenizer(byte_level(), {}))


def check(grammars: Grammars, schema: Any, room: int | None, seed: int, **options: Any) -> str | None:
    """Writes a text and has it judged; None where there is no room for one."""
    try:
        text, matching = write(grammars, of_schema(schema), room, seed, **options)
    except UserError as error:
        assert "room" in str(error) or "no text" in str(error), error
        return None
    assert matching.complete
    jsonschema.validate(json.loads(text), schema, jsonschema.Draft202012Validator)
    return text


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(schema=SCHEMAS, room=st.none() | st.integers(1, 250), seed=st.integers(0, 1000))
def test_whatever_is_written_is_valid_however_little_room_there_is(
    grammars: Grammars, schema: dict, room: int | None, seed: int
) -> None:
    if room is None:
        room = 4000
    check(grammars, schema, room, seed)


@pytest.mark.parametrize("room", range(60, 120))
def test_a_schema_with_korean_keys_is_closed_in_any_room_that_holds_it(grammars: Grammars, room: int) -> None:
    text = check(grammars, PERSON, room, room)
    assert text is None or len(text.encode()) <= room


def test_many_strings_in_a_row_are_closed_one_as_the_other(grammars: Grammars) -> None:
    names = [f"열{n}" for n in range(60)]
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": names}
    text = check(grammars, {**schema, "additionalProperties": False}, 1000, 1)
    assert text and list(json.loads(text)) == names


def test_the_least_room_is_named_and_is_enough(grammars: Grammars) -> None:
    with pytest.raises(UserError, match="takes up to") as caught:
        write(grammars, of_schema(PERSON), 20)
    least = int(str(caught.value).split("takes up to ")[1].split(";")[0])
    text, matching = write(grammars, of_schema(PERSON), least)
    jsonschema.validate(json.loads(text), PERSON)
    assert matching.shortened and len(text.encode()) == least


def test_what_the_model_ends_by_itself_is_not_called_shortened(grammars: Grammars) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    text, matching = write(grammars, of_schema(schema), 100)
    assert matching.ended and not matching.shortened and json.loads(text)["a"] in (True, False)


def test_any_json_object_is_one_and_ends(grammars: Grammars) -> None:
    for seed in range(20):
        text = check(grammars, {"type": "object"}, 120, seed)
        assert text and isinstance(json.loads(text), dict)


def test_blanks_are_bounded(grammars: Grammars) -> None:
    """A model that likes nothing but blanks writes one at the most after a comma or a colon."""
    blank = grammars.words.token(b" ")
    for seed in range(5):
        text = check(grammars, PERSON, 400, seed, logit_bias=((blank, 100.0),))
        assert text
        parts = json.loads(text)
        assert len(text) <= len(json.dumps(parts, ensure_ascii=False))


def test_a_number_does_not_run_away(grammars: Grammars) -> None:
    """A model that likes nothing but digits comes to an end, with numbers that every reader holds exactly."""
    bias = tuple((token, 100.0) for token in grammars.words.encode(b"0123456789eE"))
    for kind in ("integer", "number"):
        text = check(grammars, {"type": kind}, 300, 1, logit_bias=bias)
        assert text and abs(json.loads(text)) < 2**53 and "e" not in text.lower()
        assert kind == "number" or len(text) <= 17
    assert check(grammars, {"type": "integer", "minimum": 2**53}, 300, 1)


def test_merged_tokens_and_those_that_steer(pairs: Grammars) -> None:
    steering = [token for token in pairs.words.steering if token < pairs.tokenizer.vocab_size]
    assert len(steering) >= 19
    for seed in range(6):
        bias = tuple((token, 100.0) for token in steering if token not in pairs.tokenizer.eos_ids)
        assert check(pairs, PERSON, 300, seed, logit_bias=bias)


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ({"properties": {"tags": {"type": "array", "uniqueItems": True}}}, "/properties/tags"),
        ({"properties": {"a": {"$ref": "#/$defs/K"}}, "$defs": {"K": {"format": "regex"}}}, "/properties/a"),
        ({"properties": {"a": {"anyOf": [{"type": "integer"}, {"not": {}}]}}}, "/properties/a/anyOf/1"),
        ({"items": {"properties": {"이름": {"pattern": "(?=a)b", "type": "string"}}}}, "/items/properties/이름"),
        ({"properties": {"b": {"$ref": "https://example.com/x"}}}, "/properties/b"),
        ({"properties": {"c": {"oneOf": [{"type": "integer"}, {"type": "number"}]}}}, "/properties/c"),
        ({"type": "object", "if": {}, "then": {}}, "at / c"),
        ({"type": "nothing"}, "at / c"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_followed_is_refused_by_the_name_of_its_place(schema: dict, name: str) -> None:
    with pytest.raises(UserError) as caught:
        of_schema(schema)
    assert name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [5, [], "x", "[1]", {"a": float("nan")}, {"a": {1, 2}}, None], ids=repr)
def test_what_is_no_schema_is_refused(bad: object) -> None:
    with pytest.raises(UserError, match="schema"):
        of_schema(bad)


def test_limits_of_size_and_depth() -> None:
    deep: dict = {"type": "integer"}
    for _ in range(70):
        deep = {"items": deep}
    with pytest.raises(UserError, match="deep"):
        of_schema(deep)
    with pytest.raises(UserError, match=r"deep|no JSON"):
        of_schema('{"items":' * 100_00 + "{}" + "}" * 100_00)
    with pytest.raises(UserError, match="characters"):
        of_schema({"description": "x" * 300_000})


def test_what_means_the_same_in_other_words_is_followed(grammars: Grammars) -> None:
    for seed in range(4):
        text = check(grammars, {"type": "array", "uniqueItems": False, "items": {"type": "integer"}}, 60, seed)
        assert text
        value = check(grammars, {"type": "string", "format": "uuid4"}, 60, seed)
        assert value and json.loads(value)[14] == "4"
        bound = {"type": "integer", "minimum": 5, "exclusiveMinimum": True, "maximum": 6}
        text, _ = write(grammars, of_schema(bound), 60, seed)
        assert json.loads(text) == 6
        one = {"oneOf": [{"const": 1}, {"const": "둘"}, {"enum": [None, True]}]}
        assert check(grammars, one, 60, seed)


def test_a_pydantic_class_is_a_schema() -> None:
    class Model:
        @classmethod
        def model_json_schema(cls) -> dict:
            return {"type": "object"}

    assert of_schema(Model) == of_schema({"type": "object"}) == of_schema('{"type": "object"}')


def test_a_text_that_can_never_end_is_refused_before_it_begins(grammars: Grammars) -> None:
    endless = {"$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["n"]}}}
    with contextlib.suppress(UserError):  # llguidance may see it, too
        grammar = of_schema({**endless, "$ref": "#/$defs/n"})
        with pytest.raises(UserError, match="no text is found"):
            write(grammars, grammar, 500)
