"""OpenAI's description of its API as a judge of answers."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import referencing
from referencing.jsonschema import DRAFT202012


def nullable(node: Any) -> Any:
    """The description with `nullable`, which JSON schema does not know, in words that it does."""
    if isinstance(node, list):
        return [nullable(one) for one in node]
    if not isinstance(node, dict):
        return node
    same = {key: nullable(value) for key, value in node.items() if key != "nullable" or not isinstance(value, bool)}
    return {"anyOf": [same, {"type": "null"}]} if node.get("nullable") is True else same


@cache
def _registry(path: Path) -> referencing.Registry:
    described = nullable(json.loads(path.read_text(encoding="utf-8")))
    return referencing.Registry().with_resource("openai", DRAFT202012.create_resource(described))


def check_event(fixtures: Path, value: dict[str, Any]) -> None:
    """Raises ValidationError where an event of a response is not what is said of those of its type."""
    described = _registry(fixtures / "openai" / "openapi.json").contents("openai")["components"]["schemas"]
    kinds = [name for name in described if name.startswith("Response") and name.endswith("Event")]
    (kind,) = (name for name in kinds if _type(described[name]) == [value["type"]])
    check(fixtures, value, kind)


def _type(schema: dict[str, Any]) -> Any:
    return schema.get("properties", {}).get("type", {}).get("enum")


def check(fixtures: Path, value: Any, schema: str) -> None:
    """Raises ValidationError where a value is not what the description says of that schema."""
    registry = _registry(fixtures / "openai" / "openapi.json")
    found = {"$ref": f"openai#/components/schemas/{schema}"}
    jsonschema.Draft202012Validator(found, registry=registry).validate(value)
