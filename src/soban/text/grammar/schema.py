"""JSON schemas as they are given, made into ones that llguidance follows to the letter; what it cannot is refused."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from soban.base.errors import UserError
from soban.base.files import quoted

MAX_SIZE = 200_000  # characters, as JSON; OpenAI's servers take 120,000
MAX_DEPTH = 64  # of objects and lists within each other
MAX_TRIALS = 300  # parts of a refused schema that are tried by themselves, to say which is to blame
SCHEMAS = (
    "items", "additionalProperties", "additionalItems", "contains", "propertyNames", "not", "if", "then", "else",
    "unevaluatedItems", "unevaluatedProperties",
)  # fmt: skip
LISTED = ("anyOf", "allOf", "oneOf", "prefixItems", "items")
NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
BASE64 = "^(?:[{0}]{{4}})*(?:[{0}]{{2}}==|[{0}]{{3}}=)?$"
UUID = "^[0-9a-f]{{8}}-[0-9a-f]{{4}}-{0}[0-9a-f]{{3}}-[89ab][0-9a-f]{{3}}-[0-9a-f]{{12}}$"
# What stands for a format that llguidance does not know: pydantic's, mostly. Any text is a path, bytes, or a secret.
FORMATS: Mapping[str, Mapping[str, Any]] = {
    "path": {}, "binary": {}, "password": {}, "int32": {"minimum": -(2**31), "maximum": 2**31 - 1}, "int64": {},
    "float": {}, "double": {}, "base64": {"pattern": BASE64.format("A-Za-z0-9+/")},
    "byte": {"pattern": BASE64.format("A-Za-z0-9+/")}, "base64url": {"pattern": BASE64.format("A-Za-z0-9_-")},
    "ipvanyaddress": {"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]},
    **{f"uuid{version}": {"pattern": UUID.format(version)} for version in range(1, 9)},
}  # fmt: skip
URI = "#/%~!$&'()*+,;=:@?-._"  # what stays as it is in a reference
SAFE = 2**53 - 1  # RFC 8259, section 6
COUNTED = frozenset(("multipleOf", "enum", "const"))  # numbers that need no bounds

Schema = Any  # what stands in the place of a schema: an object, true or false


def read_schema(source: object) -> dict[str, Any]:
    """The schema: an object, its JSON text, or a pydantic class. Raises UserError for what is none, or too large."""
    if isinstance(source, type) and callable(of_class := getattr(source, "model_json_schema", None)):
        source = of_class()
    if isinstance(source, str):
        try:
            source = json.loads(source)
        except (ValueError, RecursionError):
            raise UserError("the schema is no JSON", hint='give an object, such as {{"type": "object"}}') from None
    if not isinstance(source, Mapping):
        raise UserError(
            "the schema is of type {kind}",
            kind=type(source).__name__,
            hint='give an object, such as {{"type": "object"}}',
        )
    try:
        text = json.dumps(source, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise UserError("the schema holds what JSON cannot", hint="give plain values, as in JSON") from None
    if len(text) > MAX_SIZE:
        raise UserError(
            "the schema has {count} characters; at most {most} are read", count=len(text), most=MAX_SIZE,
            hint="give a smaller one",
        )  # fmt: skip
    schema: dict[str, Any] = json.loads(text)
    if _depth(schema) > MAX_DEPTH:
        raise UserError("the schema is nested too deeply", hint="name its parts in $defs, and refer to them")
    return schema


def _depth(value: object) -> int:
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [part for item in level for part in (item.values() if isinstance(item, dict) else item)]
    return depth


def prepared(schema: Schema, place: str = "") -> Schema:
    """The schema with what means the same in words that llguidance has. Raises UserError, which names the place."""
    if not isinstance(schema, dict):
        return schema
    result = dict(schema)
    reference = result.get("$ref")
    if isinstance(reference, str) and not reference.startswith("#"):
        raise UserError(
            "the schema at {place} refers to {reference}, which is not in it", place=place or "/",
            reference=quoted(reference), hint="put what it refers to into $defs",
        )  # fmt: skip
    if isinstance(reference, str):
        result["$ref"] = quote(reference, safe=URI)  # llguidance takes a name in Hangul for no reference at all
    if result.get("uniqueItems") is False or (result.get("uniqueItems") and result.get("maxItems") in (0, 1)):
        del result["uniqueItems"]
    for bound, other in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(result.get(bound), bool) and result.pop(bound) and other in result:  # as it was until draft 4
            result[bound] = result.pop(other)
    name = result.get("format")
    if isinstance(name, str) and name in FORMATS:
        del result["format"]
        result = {**FORMATS[name], **result} if not FORMATS[name].keys() & result.keys() else result
    _bound(result)
    if isinstance(result.get("oneOf"), list) and "anyOf" not in result and _differ(result["oneOf"]):
        result["anyOf"] = result.pop("oneOf")
    for key, part, within in parts(result):
        changed = prepared(part, f"{place}/{key}" if within is None else f"{place}/{key}/{within}")
        if within is None:
            result[key] = changed
        else:
            result[key] = result[key].copy()
            result[key][within] = changed
    return result


def _bound(schema: dict[str, Any]) -> None:
    """Numbers without bounds get some: those that every reader of JSON holds exactly. Small models go on and on."""
    kinds = schema.get("type")
    if not {"integer", "number"} & set(kinds if isinstance(kinds, list) else [kinds]) or schema.keys() & COUNTED:
        return
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None and (not isinstance(high, int | float) or high > -SAFE):
        schema["minimum"] = -SAFE
    if high is None and (not isinstance(low, int | float) or low < SAFE):
        schema["maximum"] = SAFE


def _differ(choices: list[Schema]) -> bool:
    """Whether all are constants, and no two of them the same, so that one of them at the most fits any value."""
    values: list[object] = []
    for choice in choices:
        if not isinstance(choice, dict) or not ("const" in choice or isinstance(choice.get("enum"), list)):
            return False
        values += [choice["const"]] if "const" in choice else choice["enum"]
    scalars = [(isinstance(value, bool), value) for value in values if not isinstance(value, dict | list)]
    return len(scalars) == len(values) == len(set(scalars))


def parts(schema: dict[str, Any]) -> Iterator[tuple[str, Schema, Any]]:
    """The schemas in a schema: each with its keyword, and its name or number where the keyword has several."""
    for key in SCHEMAS:
        if isinstance(schema.get(key), dict):
            yield key, schema[key], None
    for key in LISTED:
        if isinstance(schema.get(key), list):
            yield from ((key, part, n) for n, part in enumerate(schema[key]))
    for key in NAMED:
        if isinstance(schema.get(key), dict):
            yield from ((key, part, name) for name, part in schema[key].items())


def blame(schema: dict[str, Any], trouble: Callable[[Schema], str]) -> UserError:
    """The error for a schema that `trouble` has words about: the smallest part of it that has some, too."""
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    trials = 0

    def inmost(part: Schema, place: str) -> tuple[str, str]:
        nonlocal trials
        if not isinstance(part, dict):
            return "", ""
        for key, inner, within in parts(part):
            if trials >= MAX_TRIALS:
                break
            trials += 1
            alone = {**inner, **shared} if isinstance(inner, dict) else inner
            deeper = f"{place}/{key}" if within is None else f"{place}/{key}/{within}"
            if key not in ("$defs", "definitions") and (words := trouble(alone)):
                return inmost(inner, deeper) if inmost(inner, deeper)[0] else (deeper, words)
        return "", ""

    place, words = inmost(schema, "")
    if not words:  # not seen from outside: a definition that something refers to, or the whole
        for key in shared:
            for name, inner in shared[key].items() if isinstance(shared[key], dict) else ():
                if isinstance(inner, dict) and (reason := trouble({**inner, **shared})):
                    place, words = inmost(inner, f"/{key}/{name}")
                    place, words = (place, words) if words else (f"/{key}/{name}", reason)
                    break
            if words:
                break
    return UserError(
        "the schema at {place} cannot be followed: {what}", place=place or "/", what=words or trouble(schema),
        hint="leave that out, or say it in another way",
    )  # fmt: skip
