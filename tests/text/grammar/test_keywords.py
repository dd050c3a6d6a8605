"""Keyword by keyword: what is written under a schema is what jsonschema, and pydantic, take for valid."""

import json
from typing import Any

import jsonschema
import pytest

from soban.text.grammar.grammar import Grammars, of_schema

from .writing import byte_tokens, write

SCHEMAS: list[Any] = [
    {"type": ["string", "null"], "maxLength": 3},
    {"type": "number", "multipleOf": 0.25, "minimum": -1, "maximum": 1},
    {"type": "number", "exclusiveMinimum": 0.5, "exclusiveMaximum": 0.75},
    {"type": "integer", "minimum": -3, "maximum": 10**12},
    {"const": {"가": [1, {"나": None}]}},
    {"enum": [{"a": 1}, [1, 2], "x", 1.5, True]},
    {"type": "object", "patternProperties": {"^s_": {"type": "string"}}, "additionalProperties": {"type": "integer"}},
    {"type": "object", "patternProperties": {"^[가-힣]{2}$": {"type": "boolean"}}, "additionalProperties": False},
    {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a", "b"], "minProperties": 2,
     "maxProperties": 4},
    {"type": "object", "required": ["없던 것"]},
    {"type": "array", "prefixItems": [{"type": "integer"}, {"const": "b"}], "items": {"type": "null"}, "minItems": 3,
     "maxItems": 5},
    {"type": "array", "prefixItems": [{"type": "integer"}], "items": False},
    {"allOf": [{"type": "string", "pattern": "^[a-z]+$"}, {"minLength": 3, "maxLength": 6}]},
    {"allOf": [{"properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"properties": {"b": {"type": "null"}},
     "required": ["b"]}], "type": "object", "properties": {"a": {"minimum": 5}}},
    {"oneOf": [{"type": "string", "maxLength": 2}, {"type": "integer"}]},
    {"oneOf": [{"type": "object", "properties": {"종류": {"const": k}}, "required": ["종류"]} for k in "가나"]},
    {"type": "string", "format": "date-time"}, {"type": "string", "format": "email", "maxLength": 40},
    {"type": "string", "pattern": "^[가-힣]{2} [0-9]+번지$"},
    {"type": "string", "minLength": 3, "maxLength": 3},
    {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2}},
    {"type": "object", "properties": {'따옴표"와\\줄\n': {"type": "integer"}}, "required": ['따옴표"와\\줄\n'],
     "additionalProperties": False},
    {"$ref": "#/$defs/목록", "$defs": {"목록": {"anyOf": [{"type": "null"}, {"type": "object", "properties": {
        "값": {"type": "integer"}, "다음": {"$ref": "#/$defs/목록"}}, "required": ["값", "다음"],
        "additionalProperties": False}]}}},
    {"type": "object", "properties": {"a": {"$ref": "#/properties/b"}, "b": {"type": "boolean"}}, "required": ["a"],
     "additionalProperties": False},
    {"type": "object", "properties": {"type": {"type": "string", "maxLength": 1}, "$ref": {"type": "integer"}},
     "required": ["type", "$ref"], "additionalProperties": False},
    True, {},
]  # fmt: skip


@pytest.fixture(scope="module")
def grammars(tmp_path_factory: pytest.TempPathFactory) -> Grammars:
    return Grammars(byte_tokens(tmp_path_factory.mktemp("bytes")))


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: json.dumps(schema, ensure_ascii=False)[:50])
def test_what_is_written_is_valid(grammars: Grammars, schema: Any) -> None:
    whole = schema if isinstance(schema, dict) else {"properties": {"v": schema}, "required": ["v"], "type": "object"}
    for seed in range(8):
        text, matching = write(grammars, of_schema(whole), 60 + 40 * seed, seed)
        assert matching.complete
        jsonschema.validate(json.loads(text), whole, jsonschema.Draft202012Validator)


def test_what_pydantic_describes_it_also_takes(grammars: Grammars) -> None:
    pydantic = pytest.importorskip("pydantic")
    import datetime
    import decimal
    import enum
    import pathlib
    import uuid
    from typing import Literal, Optional

    class Colour(enum.Enum):
        red = "빨강"
        blue = "파랑"

    class Inner(pydantic.BaseModel):
        kind: Literal["a"]
        number: int = pydantic.Field(ge=0, lt=10)

    class Other(pydantic.BaseModel):
        kind: Literal["b"]
        text: str

    class Outer(pydantic.BaseModel):
        이름: str = pydantic.Field(min_length=1, max_length=8)
        colour: Colour
        when: datetime.date
        id: pydantic.UUID4
        other: uuid.UUID
        folder: pathlib.Path
        data: bytes
        secret: pydantic.SecretStr
        encoded: pydantic.Base64Bytes
        address: pydantic.IPvAnyAddress
        amount: decimal.Decimal
        maybe: Optional[int]  # noqa: UP045
        either: Inner | Other = pydantic.Field(discriminator="kind")
        many: list[Inner]
        pair: tuple[int, str]
        table: dict[str, bool]

    for seed in range(6):
        text, _ = write(grammars, of_schema(Outer), 700 + 100 * seed, seed)
        Outer.model_validate_json(text)
