"""/v1/responses: OpenAI's own client finds text, thoughts and calls as items, and every event in its order."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

import soban
from soban.serve import keys
from soban.serve.openai.conversations import Conversations
from soban.serve.openai.items import turns_of_items
from soban.serve.settings import Limits

from ..test_tools import CHATML, MARKS, loaded
from .conftest import Running, Starter
from .openapi import check, check_event
from .test_openapi import events
from .thinker import ASKED, SCHEMAS, TOOLS, WILD, calls_of

openai = pytest.importorskip("openai")
FLAT = [{"type": "function", "strict": True, **tool["function"]} for tool in TOOLS]
QUESTION = str(ASKED[0]["content"])
PATH = "/v1/responses"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> soban.Model:
    """The library's, from the folder that is served."""
    return loaded(tmp_path_factory.mktemp("tools") / "tooled", CHATML, MARKS)


@pytest.fixture(scope="module")
def tooled(start: Starter, model: soban.Model) -> Running:
    return start(str(model.loaded.path))


@pytest.fixture(scope="module")
def client(tooled: Running) -> Any:
    return openai.OpenAI(base_url=f"{tooled.url}/v1", api_key="-", max_retries=0)


def test_a_text_is_the_librarys_whole_and_streamed(client: Any, model: soban.Model) -> None:
    turns = [{"role": "system", "content": "짧게."}, *ASKED]
    expected = model.start_answer(turns, max_new_tokens=30, seed=2, temperature=1.0)
    asked: dict[str, Any] = {
        "model": "tooled", "instructions": "짧게.", "max_output_tokens": 30, "temperature": 1.0,
        "extra_body": {"seed": 2},
    }  # fmt: skip
    whole = client.responses.create(**asked, input=QUESTION)
    text = expected.read().text
    assert whole.output_text == text and whole.usage.input_tokens == expected.figures.prompt_tokens
    parts = [{"role": "user", "content": [{"type": "input_text", "text": QUESTION}]}]
    assert client.responses.create(**asked, input=parts).output_text == text
    with client.responses.stream(**asked, input=QUESTION) as stream:
        pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
    assert "".join(pieces) == text and len(pieces) > 3
    assert whole.status == ("incomplete" if expected.figures.finished == "length" else "completed")


ORDER = {
    "message": ["output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done",
                "output_item.done"],
    "reasoning": ["output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.done",
                  "content_part.done", "output_item.done"],
    "function_call": ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done",
                      "output_item.done"],
}  # fmt: skip
VARIANTS: list[dict[str, Any]] = [
    {"max_output_tokens": 20},
    {"max_output_tokens": 200, "tools": FLAT, "tool_choice": "required"},
    {"max_output_tokens": 60, "reasoning": {"effort": "high"}},
    {"max_output_tokens": 200, "tools": FLAT, "tool_choice": {"type": "function", "name": "now"}, "store": False,
     "reasoning": {"effort": "low"}, "metadata": {"a": "b"}, "parallel_tool_calls": False},
    {"max_output_tokens": 60, "text": {"format": {"type": "json_object"}}},
]  # fmt: skip


@pytest.mark.parametrize("body", VARIANTS, ids=lambda body: str(body)[:60])
@pytest.mark.parametrize("seed", range(2))
def test_events_tell_of_every_item_in_its_order_and_add_up_to_the_response(
    tooled: Running, fixtures: Path, body: dict[str, Any], seed: int
) -> None:
    body = {"model": "tooled", "input": QUESTION, "temperature": 1.5, "top_k": 0, "seed": seed, **body}
    whole = httpx.post(tooled.url + PATH, json=body, timeout=60).json()
    check(fixtures, whole, "Response")
    told = events(httpx.post(tooled.url + PATH, json={**body, "stream": True}, timeout=60).text)
    for one in told:
        check_event(fixtures, one)
    assert [one["sequence_number"] for one in told] == list(range(len(told)))
    kinds = [one["type"].removeprefix("response.") for one in told]
    assert kinds[:2] == ["created", "in_progress"] and kinds[-1] == whole["status"]
    final = told[-1]["response"]
    expected: list[str] = []
    for number, item in enumerate(final["output"]):
        own = [one for one in told if one.get("output_index") == number]
        deltas = [one["delta"] for one in own if one["type"].endswith(".delta")]
        for kind in ORDER[item["type"]]:
            expected += [kind] * (len(deltas) if kind.endswith("delta") else 1)
        assert own[-1]["item"] == item and own[0]["item"]["status"] == "in_progress"
        assert all(one["item_id"] == item["id"] for one in own if "item_id" in one)
        assert "".join(deltas) == (item["arguments"] if "arguments" in item else item["content"][0]["text"])
    assert kinds[2:-1] == expected

    def bare(response: dict[str, Any]) -> Any:
        items = [{k: v for k, v in item.items() if k not in ("id", "call_id")} for item in response["output"]]
        same = (
            "status",
            "usage",
            "incomplete_details",
            "text",
            "tools",
            "metadata",
            "store",
            "reasoning",
            "temperature",
        )
        return items, {name: response[name] for name in same if name != "usage"}, response["usage"]["output_tokens"]

    assert bare(final) == bare(whole)


@pytest.mark.parametrize("seed", range(3))
def test_calls_are_the_librarys_and_their_results_go_back(client: Any, model: soban.Model, seed: int) -> None:
    expected = model.start_answer(
        ASKED, tools=TOOLS, tool_choice="required", max_new_tokens=200, seed=seed, **WILD
    ).read()
    asked: dict[str, Any] = {
        "model": "tooled", "tools": FLAT, "temperature": 1.5, "extra_body": {"seed": seed, "top_k": 0}
    }  # fmt: skip
    first = client.responses.create(**asked, input=QUESTION, tool_choice="required", max_output_tokens=200)
    called = [item for item in first.output if item.type == "function_call"]
    assert [(item.name, item.arguments) for item in called] == calls_of(expected)
    for item in called:
        jsonschema.validate(json.loads(item.arguments), SCHEMAS[item.name])
    results = [{"type": "function_call_output", "call_id": item.call_id, "output": "3도"} for item in called]
    kept = client.responses.create(
        **asked, input=results, previous_response_id=first.id, max_output_tokens=9, tool_choice="none"
    )
    sent = [{"role": "user", "content": QUESTION}, *(item.model_dump() for item in first.output), *results]
    whole = client.responses.create(**asked, input=sent, max_output_tokens=9, tool_choice="none", store=False)
    assert kept.output_text == whole.output_text and kept.usage.input_tokens == whole.usage.input_tokens
    pointed = [sent[0], *({"type": "item_reference", "id": item.id} for item in first.output), *results]
    again = client.responses.create(**asked, input=pointed, max_output_tokens=9, tool_choice="none")
    assert again.output_text == whole.output_text
    message = {"role": "assistant", "content": "", "tool_calls": [
        {"id": item.call_id, "type": "function", "function": {"name": item.name, "arguments": item.arguments}}
        for item in called
    ]}  # fmt: skip
    turns = [*ASKED, message, *({"role": "tool", "tool_call_id": item.call_id, "content": "3도"} for item in called)]
    assert model.start_answer(turns, tools=TOOLS, tool_choice="none", max_new_tokens=9).figures.prompt_tokens == (
        whole.usage.input_tokens
    )


def test_a_class_of_pydantics_is_what_is_parsed(client: Any) -> None:
    from pydantic import BaseModel

    class City(BaseModel):
        name: str
        warm: bool

    found = client.responses.parse(
        model="tooled", input=QUESTION, text_format=City, max_output_tokens=60, temperature=1.5
    )  # fmt: skip
    assert isinstance(found.output_parsed, City)


def test_an_async_client_reads_the_events(tooled: Running) -> None:
    async def ask() -> Any:
        async with openai.AsyncOpenAI(base_url=f"{tooled.url}/v1", api_key="-", max_retries=0) as client:
            asked = {"model": "tooled", "input": QUESTION, "max_output_tokens": 12, "temperature": 0}
            whole = await client.responses.create(**asked)
            stream = await client.responses.create(**asked, stream=True)
            return whole, [event async for event in stream]

    whole, told = asyncio.run(ask())
    assert told[-1].response.output_text == whole.output_text


def test_thoughts_are_an_item_and_come_back_as_one(client: Any, model: soban.Model) -> None:
    expected = model.start_answer(ASKED, thinking=True, max_new_tokens=60, seed=1, temperature=1.5).read()
    found = client.responses.create(
        model="tooled", input=QUESTION, reasoning={"effort": "medium"}, max_output_tokens=60, temperature=1.5,
        extra_body={"seed": 1}, include=["reasoning.encrypted_content"],
    )  # fmt: skip
    assert found.output[0].type == "reasoning" and found.output[0].content[0].text == expected.reasoning
    assert 0 < found.usage.output_tokens_details.reasoning_tokens <= found.usage.output_tokens
    turns = turns_of_items([{"role": "user", "content": "a"}, *(item.model_dump() for item in found.output)])
    assert turns[1]["reasoning_content"] == expected.reasoning and len(turns) == 2


def test_items_that_follow_each_other_are_one_answer() -> None:
    def call(id: str) -> dict[str, Any]:
        return {"type": "function_call", "call_id": id, "name": "now", "arguments": "{}"}

    thought = {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "음"}]}
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "네"}]}
    output = {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_text", "text": "12"}]}
    items = [{"role": "developer", "content": "d"}, {"role": "user", "content": "u"}, thought, said, call("1"),
             call("2"), output, said, said, thought]  # fmt: skip
    turns = turns_of_items(items)
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "tool", *["assistant"] * 3]
    assert turns[2]["reasoning_content"] == "음" and turns[2]["content"] == "네"
    assert [one["id"] for one in turns[2]["tool_calls"]] == ["1", "2"]
    assert turns[3] == {"role": "tool", "tool_call_id": "1", "content": "12", "name": "now"}
    assert turns[6] == {"role": "assistant", "content": "", "reasoning_content": "음"}


def test_a_response_is_kept_for_its_owner_until_others_need_the_room(start: Starter, model: soban.Model) -> None:
    known = {keys.digest("one"): "mina", keys.digest("two"): "jun"}
    small = start(str(model.loaded.path), keys=known, limits=Limits(responses=2))

    def ask(key: str = "one", **body: Any) -> Any:
        asked = {"model": "tooled", "input": "가", "max_output_tokens": 2, **body}
        return httpx.post(small.url + PATH, json=asked, headers={"Authorization": f"Bearer {key}"}, timeout=60)

    def get(id: str, key: str = "one", method: str = "GET") -> int:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.request(method, f"{small.url}{PATH}/{id}", headers=headers).status_code

    first = ask().json()
    assert get(first["id"]) == 200 and get(first["id"], "two") == 404
    assert ask("two", previous_response_id=first["id"]).status_code == 404
    assert ask(previous_response_id=first["id"]).status_code == 200
    unkept = ask(store=False).json()
    assert unkept["store"] is False and get(unkept["id"]) == 404
    last = ask().json()
    assert get(first["id"]) == 404 and get(last["id"]) == 200  # the oldest made room
    assert (
        get(last["id"], "two", "DELETE") == 404 and get(last["id"], method="DELETE") == 200 and get(last["id"]) == 404
    )
    told = ask(previous_response_id=first["id"])
    assert told.status_code == 404 and told.json()["error"]["param"] == "previous_response_id"


def test_what_a_response_was_asked_is_listed_page_by_page(client: Any, tooled: Running, fixtures: Path) -> None:
    asked: dict[str, Any] = {"model": "tooled", "max_output_tokens": 3, "extra_body": {"seed": 2}}
    call = {"type": "function_call", "call_id": "c1", "name": "now", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c1", "output": "12"}
    said = {"role": "assistant", "content": "네"}
    first = client.responses.create(**asked, input=[{"role": "user", "content": QUESTION}, said, call, result])
    second = client.responses.create(**asked, input="더", previous_response_id=first.id)
    one = client.responses.input_items.list(first.id, order="asc").data
    assert [item.type for item in one] == ["message", "message", "function_call", "function_call_output"]
    assert one[0].content[0].text == QUESTION and one[1].content[0].text == "네"
    every = list(client.responses.input_items.list(second.id, limit=2))  # the client asks for page after page
    output = [item.id for item in first.output]
    assert [item.id for item in reversed(every)] == [*(item.id for item in one), *output, every[0].id]
    assert every[0].content[0].text == "더"
    listed = httpx.get(f"{tooled.url}{PATH}/{second.id}/input_items?limit=3&order=asc").json()
    assert listed["has_more"] and listed["last_id"] == one[2].id
    check(fixtures, listed, "ResponseItemList")
    wrong = httpx.get(f"{tooled.url}{PATH}/{second.id}/input_items?after=msg_0")
    assert wrong.status_code == 404 and wrong.json()["error"]["param"] == "after"
    assert httpx.get(f"{tooled.url}{PATH}/{second.id}/input_items?limit=0").status_code == 400


def test_what_is_kept_has_a_bound_in_bytes() -> None:
    dice = random.Random(1)
    kept = Conversations(1000, 5000)
    for number in range(60):
        items = [{"id": f"msg_{number}_{n}", "content": f"{dice.random()}" * 9} for n in range(9)]
        kept.keep("", {"id": f"resp_{number}"}, items)
    there = [number for number in range(60) if f"resp_{number}" in kept.responses]
    assert 3 < len(there) < 60 and there == list(range(there[0], 60))
    assert kept.bytes == sum(len(one.data) for one in kept.responses.values()) <= 5000
    assert set(kept.places.values()) == set(kept.responses)
    kept.keep("", {"id": "resp_x"}, [{"content": "".join(chr(dice.randrange(2**16 - 5000)) for _ in range(9000))}])
    assert not kept.responses and not kept.places and kept.bytes == 0  # too much for the room that there is


def test_a_response_that_cannot_go_on_says_so_in_its_own_events(
    start: Starter, model: soban.Model, fixtures: Path
) -> None:
    hasty = start(str(model.loaded.path), limits=Limits(seconds=0.0))
    body = {"model": "tooled", "input": "가", "max_output_tokens": 400, "temperature": 1.5}
    assert httpx.post(hasty.url + PATH, json=body, timeout=60).status_code == 504
    told = events(httpx.post(hasty.url + PATH, json={**body, "stream": True}, timeout=60).text)
    for one in told:
        check_event(fixtures, one)
    assert told[-1]["type"] == "response.failed" and "longer" in told[-1]["response"]["error"]["message"]
