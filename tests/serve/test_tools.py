"""Tools and thoughts over HTTP: the clients' own words for them, and in all of them what the library gives."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

import soban
from soban.serve.conversation import turns_of

from ..test_tools import CHATML, MARKS, loaded
from .conftest import Running, Starter
from .thinker import ASKED, SCHEMAS, TOOLS, WILD, calls_of, eager

CLAUDE_TOOLS = [
    {"name": name, "description": tool["function"].get("description", ""), "input_schema": SCHEMAS[name]}
    for tool in TOOLS
    for name in [tool["function"]["name"]]
]  # fmt: skip
NAMED = {"type": "function", "function": {"name": "now"}}
WEATHER_CALL = {"type": "function", "function": {"name": "get_weather"}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> soban.Model:
    """The library's, from the folder that is served."""
    return loaded(tmp_path_factory.mktemp("tools") / "tooled", CHATML, MARKS)


@pytest.fixture(scope="module")
def tooled(start: Starter, model: soban.Model) -> Running:
    running = start(str(model.loaded.path))
    httpx.post(f"{running.url}/api/generate", json={"model": "tooled"}, timeout=60)  # which loads it
    return running


@pytest.fixture(scope="module")
def client(tooled: Running) -> Any:
    openai = pytest.importorskip("openai")
    return openai.OpenAI(base_url=f"{tooled.url}/v1", api_key="-", max_retries=0)


@pytest.fixture(scope="module")
def ollama(tooled: Running) -> Any:
    return pytest.importorskip("ollama").Client(tooled.url)


@pytest.fixture(scope="module")
def anthropic(tooled: Running) -> Any:
    return pytest.importorskip("anthropic").Anthropic(base_url=tooled.url, api_key="-", max_retries=0)


def put_together(chunks: Any) -> dict[int, dict[str, Any]]:
    """The turns of a stream by their index, by the rules of OpenAI's documentation."""
    turns: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            turn = turns.setdefault(choice["index"], {"content": None, "reasoning": "", "calls": []})
            delta = choice["delta"]
            if delta.get("content") is not None:
                turn["content"] = (turn["content"] or "") + delta["content"]
            turn["reasoning"] += delta.get("reasoning_content", "")
            for call in delta.get("tool_calls", []):
                if call["index"] == len(turn["calls"]):
                    assert call["id"] and call["type"] == "function" and call["function"]["name"]
                    turn["calls"].append([call["function"]["name"], ""])
                turn["calls"][call["index"]][1] += call["function"]["arguments"]
            turn["finish_reason"] = choice["finish_reason"] or turn.get("finish_reason")
    return turns


@pytest.mark.parametrize("choice", ["required", NAMED])
@pytest.mark.parametrize("seed", range(4))
def test_openais_calls_are_the_librarys_whole_and_streamed(
    client: Any, model: soban.Model, choice: Any, seed: int
) -> None:
    ways: dict[str, Any] = {"tools": TOOLS, "tool_choice": choice}
    expected = model.start_answer(ASKED, max_new_tokens=200, seed=seed, **ways, **WILD).read()
    asked = {"model": "tooled", "messages": ASKED, "max_tokens": 200, "seed": seed, "temperature": 1.5, **ways}
    extra = {"top_k": 0}
    whole = client.chat.completions.create(**asked, extra_body=extra).choices[0]
    assert [(one.function.name, one.function.arguments) for one in whole.message.tool_calls] == calls_of(expected)
    assert whole.finish_reason == expected.finish_reason and (whole.message.content or "") == expected.text
    assert getattr(whole.message, "reasoning_content", "") == expected.reasoning
    for call in whole.message.tool_calls:
        jsonschema.validate(json.loads(call.function.arguments), SCHEMAS[call.function.name])
    chunks = [
        one.model_dump(exclude_unset=True)
        for one in client.chat.completions.create(**asked, extra_body=extra, stream=True)
    ]
    turn = put_together(chunks)[0]
    assert turn["calls"] == [list(call) for call in calls_of(expected)] and turn["reasoning"] == expected.reasoning
    assert turn["content"] == whole.message.content and turn["finish_reason"] == whole.finish_reason
    if whole.finish_reason == "length":  # for which the client has no answer
        return
    with client.chat.completions.stream(**asked, extra_body=extra) as stream:  # the client's own rules
        final = stream.get_final_completion().choices[0]
    assert [(c.function.name, c.function.arguments) for c in final.message.tool_calls] == calls_of(expected)
    assert final.message.content == whole.message.content


def test_several_calls_keep_their_numbers(tooled: Running, client: Any) -> None:
    asked: dict[str, Any] = {"model": "tooled", "messages": ASKED, "tools": TOOLS, "max_tokens": 200, "seed": 1}
    with eager(tooled.model):
        whole = client.chat.completions.create(**asked).choices[0].message
        chunks = [
            chunk.model_dump(exclude_unset=True) for chunk in client.chat.completions.create(**asked, stream=True)
        ]
    calls = [[call.function.name, call.function.arguments] for call in whole.tool_calls]
    assert len(calls) > 1 and put_together(chunks)[0]["calls"] == calls
    assert len({call.id for call in whole.tool_calls}) == len(calls)


def test_arguments_come_in_pieces_as_they_are_written(client: Any) -> None:
    stream = client.chat.completions.create(
        model="tooled", messages=ASKED, tools=TOOLS, tool_choice=WEATHER_CALL, max_tokens=120, seed=3, stream=True
    )  # fmt: skip
    pieces = [call.function.arguments for chunk in stream for call in chunk.choices[0].delta.tool_calls or []]
    assert len([piece for piece in pieces if piece]) > 5 and json.loads("".join(pieces))


def test_an_async_client_and_several_answers_at_once(tooled: Running, model: soban.Model) -> None:
    openai = pytest.importorskip("openai")
    expected = model.start_answer(
        ASKED, tools=TOOLS, tool_choice="required", max_new_tokens=90, seed=1, num_return_sequences=3, temperature=1.0
    ).read()

    async def ask() -> Any:
        async with openai.AsyncOpenAI(base_url=f"{tooled.url}/v1", api_key="-", max_retries=0) as client:
            asked = {"model": "tooled", "messages": ASKED, "tools": TOOLS, "tool_choice": "required", "n": 3, "seed": 1,
                     "max_tokens": 90, "temperature": 1.0}  # fmt: skip
            whole = await client.chat.completions.create(**asked)
            stream = await client.chat.completions.create(**asked, stream=True)
            return whole, [chunk.model_dump(exclude_unset=True) async for chunk in stream]

    whole, chunks = asyncio.run(ask())
    wanted = [[list(call) for call in calls_of(answer)] for answer in expected]
    assert [[[c.function.name, c.function.arguments] for c in o.message.tool_calls] for o in whole.choices] == wanted
    turns = put_together(chunks)
    assert [turns[n]["calls"] for n in range(3)] == wanted


def test_one_call_at_the_most_where_no_more_are_wanted_and_none_where_none_is(tooled: Running, client: Any) -> None:
    asked: dict[str, Any] = {"model": "tooled", "messages": ASKED, "tools": TOOLS, "max_tokens": 90, "temperature": 1.5}
    with eager(tooled.model):
        for seed in range(4):
            one = client.chat.completions.create(
                **asked, tool_choice="required", parallel_tool_calls=False, seed=seed
            ).choices[0]
            assert len(one.message.tool_calls) == 1
            free = client.chat.completions.create(**asked, seed=seed).choices[0]
            assert free.message.tool_calls and free.finish_reason in ("tool_calls", "length")
            none = client.chat.completions.create(**asked, tool_choice="none", seed=seed).choices[0]
            assert none.message.tool_calls is None and none.finish_reason != "tool_calls"
            left = {"mode": "required", "tools": [NAMED]}
            allowed = client.chat.completions.create(
                **asked, seed=seed, tool_choice={"type": "allowed_tools", "allowed_tools": left}
            )
            assert {call.function.name for call in allowed.choices[0].message.tool_calls} == {"now"}


def test_a_form_beside_tools_is_the_form_of_the_text(tooled: Running, client: Any) -> None:
    schema = {
        "type": "object", "properties": {"답": {"enum": ["예", "아니요"]}}, "required": ["답"],
        "additionalProperties": False,
    }  # fmt: skip
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    asked: dict[str, Any] = {"model": "tooled", "messages": ASKED, "tools": TOOLS, "max_tokens": 120}
    text = client.chat.completions.create(**asked, response_format=form, tool_choice="none").choices[0].message
    jsonschema.validate(json.loads(text.content), schema)
    with eager(tooled.model):
        called = client.chat.completions.create(**asked, response_format=form).choices[0].message
    assert called.tool_calls and not called.content


def test_what_was_called_and_what_came_of_it_goes_back_as_the_library_has_it(client: Any, model: soban.Model) -> None:
    called = client.chat.completions.create(
        model="tooled", messages=ASKED, tools=TOOLS, tool_choice=NAMED, max_tokens=90
    ).choices[0].message  # fmt: skip
    turns = [*ASKED, called.model_dump(), {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "12:00"}]
    again = client.chat.completions.create(model="tooled", messages=turns, tools=TOOLS, max_tokens=9, temperature=0)
    own = [*ASKED, called.model_dump(include={"role", "content", "tool_calls"}), turns[2]]
    expected = model.start_answer(own, tools=TOOLS, max_new_tokens=9, temperature=0)
    assert again.usage.prompt_tokens == expected.figures.prompt_tokens
    assert (again.choices[0].message.content or "") == expected.read().text


def test_a_result_belongs_to_the_call_of_its_id_or_of_its_name_or_the_first() -> None:
    def call(name: str, **rest: str) -> dict[str, Any]:
        return {**rest, "function": {"name": name, "arguments": {}}}

    calls = [call("a"), call("b"), call("c", id="3"), call("d")]
    turns = turns_of(
        [
            {"role": "user", "content": "?"}, {"role": "assistant", "tool_calls": calls},
            {"role": "tool", "tool_name": "b", "content": "B"}, {"role": "tool", "tool_call_id": "3", "content": "C"},
            {"role": "tool", "content": "A"}, {"role": "tool", "content": "D"},
        ]
    )  # fmt: skip
    ids = [call["id"] for call in turns[1]["tool_calls"]]
    assert len(set(ids)) == 4 and [turn["name"] for turn in turns[2:]] == ["b", "c", "a", "d"]
    assert [turn["tool_call_id"] for turn in turns[2:]] == [ids[1], "3", ids[0], ids[3]]


def test_thoughts_go_apart_where_they_are_wanted(client: Any, model: soban.Model) -> None:
    options: dict[str, Any] = {"seed": 1, "temperature": 1.5}
    expected = model.start_answer(ASKED, thinking=True, max_new_tokens=60, **options).read()
    assert expected.reasoning
    asked: dict[str, Any] = {"model": "tooled", "messages": ASKED, "max_tokens": 60, "reasoning_effort": "high"}
    whole = client.chat.completions.create(**asked, **options)
    assert whole.choices[0].message.reasoning_content == expected.reasoning
    assert whole.choices[0].message.content == expected.text
    assert 0 < whole.usage.completion_tokens_details.reasoning_tokens <= whole.usage.completion_tokens
    chunks = client.chat.completions.create(**asked, **options, stream=True)
    turn = put_together([chunk.model_dump(exclude_unset=True) for chunk in chunks])[0]
    assert (turn["reasoning"], turn["content"]) == (expected.reasoning, expected.text)
    none = client.chat.completions.create(**{**asked, "reasoning_effort": "none"}, **options)
    assert "reasoning_content" not in none.choices[0].message.model_dump()
    assert none.usage.completion_tokens_details.reasoning_tokens == 0


@pytest.mark.parametrize("seed", range(3))
def test_ollamas_calls_have_their_arguments_as_objects(tooled: Running, ollama: Any, seed: int) -> None:
    form = pytest.importorskip("ollama").Tool
    options = {"temperature": 1.5, "top_k": 0, "seed": seed, "num_predict": 90}
    tools = [form(**tool).model_dump(exclude_none=True) for tool in TOOLS]  # its order of keys
    with eager(tooled.model):
        expected = tooled.model.start_answer(
            ASKED, tools=tools, seed=seed, max_new_tokens=90, on_full="slide", **WILD
        ).read()
        whole = ollama.chat("tooled", ASKED, tools=TOOLS, options=options)
        parts = list(ollama.chat("tooled", ASKED, tools=TOOLS, options=options, stream=True))
    wanted = [(call.name, call.values()) for call in expected.tool_calls]
    assert wanted and wanted == [(c.function.name, c.function.arguments) for c in whole.message.tool_calls]
    streamed = [c for part in parts for c in part.message.tool_calls or []]
    assert [(c.function.name, c.function.arguments) for c in streamed] == wanted
    assert "".join(part.message.content for part in parts) == whole.message.content == expected.text
    assert (
        parts[-1].done_reason == whole.done_reason == ("stop" if expected.finish_reason == "tool_calls" else "length")
    )
    turns = [*ASKED, whole.message.model_dump(exclude_none=True), {"role": "tool", "tool_name": "now", "content": "12"}]
    assert ollama.chat("tooled", turns, tools=TOOLS, options={"num_predict": 5}).message.role == "assistant"


def test_ollama_thinks_if_it_is_told_to(ollama: Any, model: soban.Model) -> None:
    options = {"temperature": 1.5, "seed": 1, "num_predict": 60}
    expected = model.start_answer(
        ASKED, thinking=True, max_new_tokens=60, seed=1, temperature=1.5, on_full="slide"
    ).read()
    whole = ollama.chat("tooled", ASKED, think=True, options=options)
    parts = list(ollama.chat("tooled", ASKED, think="high", options=options, stream=True))
    assert whole.message.thinking == "".join(p.message.thinking or "" for p in parts) == expected.reasoning != ""
    assert whole.message.content == "".join(p.message.content for p in parts) == expected.text
    text = ollama.generate("tooled", ASKED[0]["content"], think=True, options=options)
    assert (text.thinking, text.response) == (expected.reasoning, expected.text)
    pieces = list(ollama.generate("tooled", ASKED[0]["content"], think=True, options=options, stream=True))
    assert "".join(piece.thinking or "" for piece in pieces) == expected.reasoning
    assert ollama.chat("tooled", ASKED, think=False, options=options).message.thinking is None


def bare(message: Any) -> list[dict[str, Any]]:
    """The blocks of a message without what is never the same."""
    kept = ("type", "text", "thinking", "name", "input")
    return [{k: v for k, v in block.model_dump().items() if k in kept} for block in message.content]


def test_several_calls_of_anthropics_are_a_block_each(tooled: Running, anthropic: Any) -> None:
    asked: dict[str, Any] = {
        "model": "tooled", "messages": ASKED, "max_tokens": 200, "tools": CLAUDE_TOOLS,
        "extra_body": {"temperature": 0},
    }  # fmt: skip
    with eager(tooled.model):
        whole = anthropic.messages.create(**asked)
        with anthropic.messages.stream(**asked) as stream:
            final = stream.get_final_message()
    assert len([block for block in whole.content if block.type == "tool_use"]) > 1 and bare(final) == bare(whole)


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "now"}])
@pytest.mark.parametrize("seed", range(3))
def test_anthropics_calls_are_blocks_whole_and_streamed(
    tooled: Running, anthropic: Any, choice: dict[str, Any], seed: int
) -> None:
    asked: dict[str, Any] = {
        "model": "tooled", "messages": ASKED, "max_tokens": 150, "tools": CLAUDE_TOOLS, "tool_choice": choice,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "extra_body": {"temperature": 0.9, "top_k": 1 + seed},
    }  # fmt: skip
    letter, mark = tooled.model.tokenize("a</think>", bos=False, special=True)
    brief = {"logit_bias": {mark: 12, letter: 12}, "begin_suppress_tokens": [mark], "seed": seed}
    sampling = tooled.model.sampling
    tooled.model.sampling = lambda **options: sampling(**brief, **options)  # type: ignore[method-assign]
    try:
        whole = anthropic.messages.create(**asked)
        with anthropic.messages.stream(**asked) as stream:
            events = [event.type for event in stream]
            final = stream.get_final_message()
    finally:
        del tooled.model.sampling

    assert bare(final) == bare(whole) and final.stop_reason == whole.stop_reason in ("tool_use", "max_tokens")
    assert whole.content[0].type == "thinking" and whole.content[-1].type == "tool_use"
    for block in (block for block in whole.content if block.type == "tool_use"):
        jsonschema.validate(block.input, SCHEMAS[block.name])
        assert block.name == choice.get("name", block.name)
    assert events[0] == "message_start" and events[-1] == "message_stop" and "input_json" in events
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_anthropics_results_go_back_as_the_library_has_them(anthropic: Any, model: soban.Model) -> None:
    used = {"type": "tool_use", "id": "toolu_1", "name": "now", "input": {}}
    blocks = [
        *ASKED, {"role": "assistant", "content": [{"type": "thinking", "thinking": "음", "signature": ""}, used]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "12:00"},
                                     {"type": "text", "text": "그래서?"}]},
    ]  # fmt: skip
    call = {"id": "toolu_1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    turns = [
        *ASKED, {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "toolu_1", "content": "12:00"}, {"role": "user", "content": "그래서?"},
    ]  # fmt: skip
    expected = model.start_answer(turns, tools=TOOLS, temperature=0, max_new_tokens=12)
    found = anthropic.messages.create(
        model="tooled", messages=blocks, tools=CLAUDE_TOOLS, max_tokens=12, extra_body={"temperature": 0}
    )
    counted = anthropic.messages.count_tokens(model="tooled", messages=blocks, tools=CLAUDE_TOOLS)
    assert counted.input_tokens > 50
    answer = expected.read()
    assert [block.text for block in found.content if block.type == "text"] == ([answer.text] if answer.text else [])


def test_anthropics_form_is_a_schema(anthropic: Any) -> None:
    schema = {"type": "object", "properties": {"답": {"enum": ["예", "아니요"]}}, "required": ["답"],
              "additionalProperties": False}  # fmt: skip
    found = anthropic.messages.create(
        model="tooled",
        messages=ASKED,
        max_tokens=60,
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    jsonschema.validate(json.loads(found.content[0].text), schema)


def test_who_cannot_think_or_cannot_but_think_says_so(
    start: Starter, tmp_path: Path, tooled: Running, chat_model: Path
) -> None:
    always = loaded(
        tmp_path / "always", CHATML.replace("{% if enable_thinking %}<think>\n{% endif %}", "<think>\n"), MARKS
    )
    other = start(str(always.loaded.path), str(chat_model))
    for model, think, status in (("always", False, 400), ("always", True, 200), (chat_model.name, True, 400),
                                 (chat_model.name, False, 200)):  # fmt: skip
        effort = "low" if think else "none"
        budget = {"type": "enabled", "budget_tokens": 2000} if think else {"type": "disabled"}
        for path, body in (
            ("/v1/chat/completions", {"max_tokens": 3, "reasoning_effort": effort}),
            ("/api/chat", {"options": {"num_predict": 3}, "think": think}),
            ("/v1/messages", {"max_tokens": 3, "thinking": budget}),
        ):
            answer = httpx.post(other.url + path, json={"model": model, "messages": ASKED, **body}, timeout=60)
            assert answer.status_code == status, answer.text
            assert status == 200 or "think" in answer.text or "reasoning_effort" in answer.text


def test_a_stop_string_ends_a_call_in_the_middle_and_nobody_breaks(
    tooled: Running, ollama: Any, anthropic: Any
) -> None:
    with eager(tooled.model):
        options = {"num_predict": 90, "stop": ['"arguments"'], "seed": 1}
        assert ollama.chat("tooled", ASKED, tools=TOOLS, options=options).done_reason == "stop"
        found = anthropic.messages.create(
            model="tooled", messages=ASKED, tools=CLAUDE_TOOLS, max_tokens=90, stop_sequences=['{"']
        )
        assert found.stop_reason == "stop_sequence"
