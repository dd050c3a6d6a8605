"""Random schemas, for every keyword that is promised to hold."""

from typing import Any

from hypothesis import strategies as st

KEYS = st.sampled_from(
    ["이름", "name", "나이", "a", "b c", 'q"uote', "한글 키", "😀", "back\\slash", "line\nbreak", ""]
)
TEXTS = st.sampled_from(["예", "아니요", "blue", "", 'a"b', "서울특별시", "\\", "\t", "😀"])
SCALARS = TEXTS | st.integers(-1000, 1000) | st.booleans() | st.none()


@st.composite
def numbers(draw: st.DrawFn) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": draw(st.sampled_from(["integer", "number"]))}
    low = draw(st.none() | st.integers(-500, 500))
    if low is not None:
        schema[draw(st.sampled_from(["minimum", "exclusiveMinimum"]))] = low
    if draw(st.booleans()):
        schema[draw(st.sampled_from(["maximum", "exclusiveMaximum"]))] = (low or 0) + draw(st.integers(2, 900))
    if (
        schema["type"] == "integer"
        and draw(st.booleans())
        and "maximum" not in schema
        and "exclusiveMaximum" not in schema
    ):
        schema["multipleOf"] = draw(st.sampled_from([1, 2, 3, 7]))
    return schema


@st.composite
def strings(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.integers(0, 4))
    if kind == 0:
        return {"type": "string", "format": draw(st.sampled_from(["date", "uuid", "ipv4", "path", "base64"]))}
    if kind == 1:
        return {
            "type": "string",
            "pattern": draw(st.sampled_from(["^[가-힣]{2,4}$", "^a*b$", "[0-9]{3}", "^\\d+-\\d+$"])),
        }
    schema: dict[str, Any] = {"type": "string"}
    low = draw(st.integers(0, 5))
    if draw(st.booleans()):
        schema["minLength"] = low
    if draw(st.booleans()):
        schema["maxLength"] = low + draw(st.integers(0, 5))
    return schema


def objects(inner: st.SearchStrategy) -> st.SearchStrategy:
    @st.composite
    def made(draw: st.DrawFn) -> dict[str, Any]:
        properties = draw(st.dictionaries(KEYS, inner, max_size=4))
        required = [key for key in properties if draw(st.booleans())]
        extra = draw(st.sampled_from([False, False, True, {"type": "integer"}]))
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": extra}

    return made()


def arrays(inner: st.SearchStrategy) -> st.SearchStrategy:
    @st.composite
    def made(draw: st.DrawFn) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "array", "items": draw(inner)}
        low = draw(st.integers(0, 3))
        schema |= {"minItems": low} if draw(st.booleans()) else {}
        schema |= {"maxItems": low + draw(st.integers(0, 3))} if draw(st.booleans()) else {}
        if draw(st.integers(0, 4)) == 0:
            schema["prefixItems"] = [draw(inner)]
            schema["maxItems"] = max(1, schema.get("maxItems", 1), schema.get("minItems", 1))
        return schema

    return made()


LEAVES = st.one_of(
    numbers(), strings(), st.just({"type": "boolean"}), st.just({"type": "null"}), st.just({"$ref": "#/$defs/나무"}),
    st.builds(lambda values: {"enum": values}, st.lists(SCALARS, min_size=1, max_size=4)),
    st.builds(lambda value: {"const": value}, SCALARS),
)  # fmt: skip


def unions(inner: st.SearchStrategy) -> st.SearchStrategy:
    return st.builds(lambda choices: {"anyOf": choices}, st.lists(inner, min_size=1, max_size=3))


TREE = {
    "type": "object",
    "properties": {"값": {"type": "integer"}, "가지": {"type": "array", "items": {"$ref": "#/$defs/나무"}}},
    "required": ["값", "가지"], "additionalProperties": False,
}  # fmt: skip
SCHEMAS = st.recursive(LEAVES, lambda inner: objects(inner) | arrays(inner) | unions(inner), max_leaves=8).map(
    lambda schema: {**schema, "$defs": {"나무": TREE}}
)
