"""What is wrong with a request is told in the API's own form, with the name of the field; the server goes on."""

import json
from typing import Any

import httpx
import pytest

from .conftest import Running

HI = [{"role": "user", "content": "Hi"}]
CHAT, TEXT, VECTOR = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
ITEMS = "/v1/responses"
CLAUDE, LLAMA, WRITE = "/v1/messages", "/api/chat", "/api/generate"


def function(name: str, **rest: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **rest}}


TOOLS = [function("now")]
BAD: list[tuple[str, Any, int, str]] = [
    (CHAT, {}, 400, "messages"),
    (CHAT, {"messages": []}, 400, "messages"),
    (CHAT, {"messages": "Hi"}, 400, "messages"),
    (CHAT, {"messages": [{}]}, 400, "role"),
    (CHAT, {"messages": [{"role": "king", "content": "Hi"}]}, 400, "king"),
    (CHAT, {"messages": [{"role": "user"}]}, 400, "messages[0]"),
    (CHAT, {"messages": [{"role": "user", "content": 3}]}, 400, "content"),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, 400, "image_url"),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, 400, "content[0]"),
    (CHAT, {"messages": HI, "temperature": "hot"}, 400, "temperature"),
    (CHAT, {"messages": HI, "temperature": -1}, 400, "temperature"),
    (CHAT, {"messages": HI, "top_p": 2}, 400, "top_p"),
    (CHAT, {"messages": HI, "top_k": -1}, 400, "top_k"),
    (CHAT, {"messages": HI, "n": 0}, 400, "n"),
    (CHAT, {"messages": HI, "n": 1000}, 400, "n=1000"),
    (CHAT, {"messages": HI, "max_tokens": 0}, 400, "max_tokens"),
    (CHAT, {"messages": HI, "max_tokens": 10**9}, 400, "context"),
    (CHAT, {"messages": HI, "max_completion_tokens": -5}, 400, "max_completion_tokens"),
    (CHAT, {"messages": HI, "seed": 1.5}, 400, "seed"),
    (CHAT, {"messages": HI, "stop": [1]}, 400, "stop"),
    (CHAT, {"messages": HI, "stop": ["x"] * 1000}, 400, "stop"),
    (CHAT, {"messages": HI, "stop": "x" * 5000}, 400, "stop"),
    (CHAT, {"messages": HI, "logit_bias": {"x": 1}}, 400, "logit_bias"),
    (CHAT, {"messages": HI, "logit_bias": {"1": 1000}}, 400, "logit_bias"),
    (CHAT, {"messages": HI, "presence_penalty": 3}, 400, "presence_penalty"),
    (CHAT, {"messages": HI, "frequency_penalty": "x"}, 400, "frequency_penalty"),
    (CHAT, {"messages": HI, "top_logprobs": 3}, 400, "top_logprobs"),
    (CHAT, {"messages": HI, "logprobs": True, "top_logprobs": 21}, 400, "top_logprobs"),
    (CHAT, {"messages": HI, "stream": "yes"}, 400, "stream"),
    (CHAT, {"messages": HI, "stream_options": {"x": 1}}, 400, "stream_options"),
    (CHAT, {"messages": HI, "response_format": {"type": "xml"}}, 400, "response_format"),
    (CHAT, {"messages": HI, "response_format": {"type": "json_schema"}}, 400, "response_format"),
    (CHAT, {"messages": HI, "audio": {"voice": "x"}}, 400, "audio"),
    (CHAT, {"messages": HI, "functions": [{}]}, 400, "functions"),
    (CHAT, {"messages": HI, "modalities": ["audio"]}, 400, "modalities"),
    (CHAT, {"messages": HI, "prediction": {"type": "content"}}, 400, "prediction"),
    (CHAT, {"messages": HI, "tools": [{"type": "function"}]}, 400, "tools"),
    (CHAT, {"messages": HI, "tools": [{"type": "custom", "custom": {"name": "x"}}]}, 400, "tools[0]"),
    (CHAT, {"messages": HI, "tools": [function("a b")]}, 400, "tools[0]"),
    (CHAT, {"messages": HI, "tools": [function("a"), function("a")]}, 400, "two tools"),
    (CHAT, {"messages": HI, "tools": [function("a", description=3)]}, 400, "description"),
    (CHAT, {"messages": HI, "tools": [function("a", parameters=3)]}, 400, "parameters"),
    (CHAT, {"messages": HI, "tools": [function("a", parameters={"properties": {"x": {"uniqueItems": True}}})]}, 400,
     "/properties/x"),
    (CHAT, {"messages": HI, "tools": [function(f"f{n}") for n in range(200)]}, 400, "128"),
    (CHAT, {"messages": HI, "tools": "now"}, 400, "tools"),
    (CHAT, {"messages": HI, "tool_choice": "required"}, 400, "tools"),
    (CHAT, {"messages": HI, "tools": TOOLS, "tool_choice": "maybe"}, 400, "tool_choice"),
    (CHAT, {"messages": HI, "tools": TOOLS, "tool_choice": function("other")}, 400, "tool_choice: 'other'"),
    (CHAT, {"messages": HI, "tools": TOOLS, "tool_choice": {"type": "function"}}, 400, "tool_choice"),
    (CHAT, {"messages": HI, "tools": TOOLS, "tool_choice": {"type": "allowed_tools"}}, 400, "tool_choice"),
    (CHAT, {"messages": HI, "tools": TOOLS, "parallel_tool_calls": "no"}, 400, "parallel_tool_calls"),
    (CHAT, {"messages": [*HI, {"role": "assistant", "tool_calls": [{}]}]}, 400, "messages[1].tool_calls[0]"),
    (CHAT, {"messages": [*HI, {"role": "assistant", "tool_calls": "now()"}]}, 400, "messages[1].tool_calls"),
    (CHAT, {"messages": [*HI, {"role": "assistant", "tool_calls": [function("now", arguments="{")]}]}, 400,
     "messages[1].tool_calls[0]"),
    (CHAT, {"messages": [*HI, {"role": "tool", "tool_call_id": "x"}]}, 400, "messages[1]"),
    (CHAT, {"messages": HI, "reasoning_effort": "huge"}, 400, "reasoning_effort"),
    (CHAT, {"messages": HI, "reasoning_effort": "high"}, 400, "reasoning_effort"),
    (CHAT, {"messages": HI, "wisdom": 3}, 400, "wisdom"),
    (CHAT, {"messages": HI, "on_full": "explode"}, 400, "on_full"),
    (CHAT, {"messages": HI, "model": "gpt-9"}, 404, "gpt-9"),
    (CHAT, {"messages": HI, "model": 3}, 400, "model"),
    (TEXT, {}, 400, "prompt"),
    (TEXT, {"prompt": []}, 400, "prompt"),
    (TEXT, {"prompt": [10**9]}, 400, "1000000000"),
    (TEXT, {"prompt": [-1]}, 400, "-1"),
    (TEXT, {"prompt": {"a": 1}}, 400, "prompt"),
    (TEXT, {"prompt": "Hi", "max_tokens": 0}, 400, "max_tokens"),
    (TEXT, {"prompt": "Hi", "best_of": 3}, 400, "best_of"),
    (TEXT, {"prompt": "Hi", "suffix": "end"}, 400, "suffix"),
    (TEXT, {"prompt": "Hi", "logprobs": 99}, 400, "logprobs"),
    (TEXT, {"prompt": ["Hi"] * 1000}, 400, "1000 prompts"),
    (TEXT, {"prompt": "Hi", "on_full": "summarise"}, 400, "on_full"),
    (VECTOR, {}, 400, "input"),
    (VECTOR, {"input": ""}, 400, "input"),
    (VECTOR, {"input": ["a", ""]}, 400, "input"),
    (VECTOR, {"input": "a", "dimensions": 10**6}, 400, "dimensions"),
    (VECTOR, {"input": "a", "encoding_format": "hex"}, 400, "encoding_format"),
    (VECTOR, {"input": "word " * 5000}, 400, "512"),
    (ITEMS, {}, 400, "input"),
    (ITEMS, {"input": []}, 400, "input"),
    (ITEMS, {"input": [3]}, 400, "input"),
    (ITEMS, {"input": [{"role": "tool", "content": "x"}]}, 400, "input[0].role"),
    (ITEMS, {"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, 400, "input_image"),
    (ITEMS, {"input": [{"type": "web_search_call", "id": "x"}]}, 400, "web_search_call"),
    (ITEMS, {"input": [{"type": "function_call", "name": "now"}]}, 400, "input[0]"),
    (ITEMS, {"input": [{"type": "function_call", "call_id": "1", "name": "now", "arguments": "["}]}, 400, "input[0]"),
    (ITEMS, {"input": [{"type": "function_call_output", "output": "x"}]}, 400, "input[0].call_id"),
    (ITEMS, {"input": [{"type": "function_call_output", "call_id": "1", "output": 3}]}, 400, "input[0].output"),
    (ITEMS, {"input": [{"type": "reasoning", "content": "x"}]}, 400, "input[0]"),
    (ITEMS, {"input": [{"type": "item_reference", "id": "msg_1"}]}, 404, "msg_1"),
    (ITEMS, {"input": "Hi", "previous_response_id": "resp_1"}, 404, "previous_response_id"),
    (ITEMS, {"input": "Hi", "conversation": "conv_1"}, 400, "conversation"),
    (ITEMS, {"input": "Hi", "background": True}, 400, "background"),
    (ITEMS, {"input": "Hi", "max_output_tokens": 0}, 400, "max_output_tokens"),
    (ITEMS, {"input": "Hi", "tools": [{"type": "web_search"}]}, 400, "tools[0]"),
    (ITEMS, {"input": "Hi", "tools": [{"type": "function", "name": "a b"}]}, 400, "tools[0]"),
    (ITEMS, {"input": "Hi", "tool_choice": {"type": "function", "name": "x"}}, 400, "tool_choice"),
    (ITEMS, {"input": "Hi", "text": {"format": {"type": "json_schema"}}}, 400, "text.format"),
    (ITEMS, {"input": "Hi", "text": {"verbosity": "low"}}, 400, "text.verbosity"),
    (ITEMS, {"input": "Hi", "reasoning": {"effort": "huge"}}, 400, "reasoning.effort"),
    (ITEMS, {"input": "Hi", "reasoning": {"effort": "high"}}, 400, "reasoning.effort"),
    (ITEMS, {"input": "Hi", "reasoning": {"summary": "concise"}}, 400, "reasoning.summary"),
    (ITEMS, {"input": "Hi", "include": ["message.output_text.logprobs"]}, 400, "include"),
    (ITEMS, {"input": "Hi", "truncation": "some"}, 400, "truncation"),
    (ITEMS, {"input": "Hi", "n": 2}, 400, "n:"),
    (ITEMS, {"input": "word " * 3000}, 400, "512"),
    (CLAUDE, {"model": "soban", "messages": HI}, 400, "max_tokens"),
    (CLAUDE, {"model": "soban", "messages": HI, "max_tokens": 5, "temperature": 9}, 400, "temperature"),
    (CLAUDE, {"model": "soban", "messages": [{"role": "system", "content": [1]}], "max_tokens": 5}, 400, "messages[0]"),
    (CLAUDE, {"model": "claude", "messages": HI, "max_tokens": 5}, 404, "claude"),
    (CLAUDE, {"model": "soban", "messages": HI, "max_tokens": 5, "mcp_servers": [{}]}, 400, "mcp_servers"),
    (CLAUDE, {"messages": HI, "tools": [{"name": "x"}]}, 400, "tools[0].input_schema"),
    (CLAUDE, {"messages": HI, "tools": [{"type": "web_search_20250305", "name": "web_search"}]}, 400, "tools[0]"),
    (CLAUDE, {"messages": HI, "tools": [{"name": "a b", "input_schema": {}}]}, 400, "tools[0]"),
    (CLAUDE, {"messages": HI, "tool_choice": {"type": "any"}}, 400, "tool_choice"),
    (CLAUDE, {"messages": HI, "tool_choice": {"type": "tool", "name": "x"}}, 400, "tool_choice"),
    (CLAUDE, {"messages": HI, "tool_choice": {"type": "some"}}, 400, "tool_choice.type"),
    (CLAUDE, {"messages": HI, "thinking": {"type": "enabled"}}, 400, "thinking"),
    (CLAUDE, {"messages": HI, "thinking": {"type": "between_tools"}}, 400, "thinking.type"),
    (CLAUDE, {"messages": HI, "output_config": {"effort": "low"}}, 400, "output_config.effort"),
    (CLAUDE, {"messages": HI, "output_config": {"format": {"type": "xml"}}}, 400, "output_config.format"),
    (CLAUDE, {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "x"}]}]}, 400,
     "messages[0].content[0].tool_use_id"),
    (CLAUDE, {"messages": [*HI, {"role": "assistant", "content": [{"type": "tool_use", "name": "x"}]}]}, 400,
     "messages[1].content[0]"),
    (CLAUDE, {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, 400, "image"),
    (CLAUDE, {"messages": [{"role": "tool", "content": "x"}]}, 400, "messages[0].role"),
    (LLAMA, {"messages": HI}, 400, "model"),
    (LLAMA, {"model": "nothing", "messages": HI}, 404, "nothing"),
    (LLAMA, {"model": "soban", "messages": HI, "options": {"temperature": "x"}}, 400, "temperature"),
    (LLAMA, {"model": "soban", "messages": HI, "options": {"mirostat": 2}}, 400, "mirostat"),
    (LLAMA, {"model": "soban", "messages": HI, "options": {"num_ctx": 10**6}}, 400, "num_ctx"),
    (LLAMA, {"model": "soban", "messages": HI, "format": "xml"}, 400, "format"),
    (LLAMA, {"model": "soban", "messages": [{"role": "user", "content": "x", "images": ["a"]}]}, 400, "images"),
    (LLAMA, {"model": "soban", "messages": HI, "tools": [{"type": "function"}]}, 400, "tools[0]"),
    (LLAMA, {"model": "soban", "messages": HI, "think": "huge"}, 400, "think"),
    (LLAMA, {"model": "soban", "messages": HI, "think": True}, 400, "think"),
    (LLAMA, {"model": "soban", "messages": [*HI, {"role": "assistant", "tool_calls": [3]}]}, 400, "tool_calls[0]"),
    (WRITE, {"model": "soban", "prompt": "x", "raw": True, "think": True}, 400, "think"),
    (WRITE, {"model": "soban", "prompt": "x", "images": ["a"]}, 400, "images"),
    (WRITE, {"model": "soban", "prompt": "x", "suffix": "y"}, 400, "suffix"),
    (WRITE, {"model": "soban", "prompt": "x", "keep_alive": "long"}, 400, "keep_alive"),
]  # fmt: skip


def problem(path: str, answer: httpx.Response) -> str:
    """The message of an error, from where the API has it."""
    body = answer.json()
    if path.startswith("/api/"):
        return str(body["error"])
    if path == CLAUDE:
        assert body["type"] == "error" and body["error"]["type"].endswith("error")
    else:
        assert set(body["error"]) == {"message", "type", "param", "code"}
    return str(body["error"]["message"])


@pytest.mark.parametrize(("path", "body", "status", "word"), BAD, ids=lambda value: str(value)[:60])
def test_a_mistake_is_told_by_the_name_of_its_field(
    server: Running, path: str, body: dict[str, Any], status: int, word: str
) -> None:
    if path in (CHAT, TEXT, VECTOR, ITEMS):
        body = {"model": "soban"} | body
    if path == CLAUDE and body["messages"] and "max_tokens" not in body and "model" not in body:
        body = {"model": "soban", "max_tokens": 5} | body
    answer = httpx.post(server.url + path, json=body, timeout=60)
    assert answer.status_code == status, answer.text
    told = problem(path, answer)
    assert word in told and "\n" not in told and "Traceback" not in told
    server.wait_until_idle()


@pytest.mark.parametrize("body", [b"", b"{", b"[1", b"null", b"3", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"a":NaN'])
def test_what_is_no_json_object_is_refused(server: Running, body: bytes) -> None:
    answer = httpx.post(server.url + CHAT, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and answer.json()["error"]["message"]


@pytest.mark.parametrize("wrong", ['"\\ud800"', "NaN", "[" * 980 + "]" * 980], ids=["half", "NaN", "deep"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": HI, "tools": [function("a", parameters={"enum": ["?"]})], "max_tokens": 30}),
        (CHAT, {"messages": [{"role": "?", "content": "a"}]}),
        (CHAT, {"messages": HI, "response_format": {"json_schema": {"schema": {"enum": ["?"]}}, "type": "json_schema"},
                "max_tokens": 9}),
        (ITEMS, {"input": "a", "metadata": {"a": "?"}, "max_output_tokens": 2}),
        (ITEMS, {"input": [{"type": "item_reference", "id": "?"}]}),
        (ITEMS, {"input": "a", "tool_choice": {"type": "function", "name": "?"}}),
        (CLAUDE, {"messages": [{"role": "?", "content": "a"}], "max_tokens": 2}),
        (LLAMA, {"messages": HI, "format": {"enum": ["?"]}, "stream": False}),
        ("/apply-template", {"messages": [{"role": "user", "content": "a", "x": "?"}]}),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_what_no_answer_could_repeat_is_refused(server: Running, path: str, body: dict[str, Any], wrong: str) -> None:
    content = json.dumps({"model": "soban", **body}).replace('"?"', wrong)
    answer = httpx.post(server.url + path, content=content, headers={"Content-Type": "application/json"}, timeout=60)
    assert answer.status_code in (400, 422), answer.text
    assert json.loads(answer.text)


def test_paths_and_methods_that_are_not_there_are_told_in_json(server: Running) -> None:
    assert httpx.get(server.url + "/v1/nothing").status_code == 404
    assert httpx.get(server.url + CHAT).status_code == 405
    assert "error" in httpx.get(server.url + "/v1/nothing").json()


def test_after_all_that_it_answers(server: Running) -> None:
    answer = httpx.post(server.url + CHAT, json={"model": "soban", "messages": HI, "max_tokens": 3}, timeout=60)
    assert answer.status_code == 200 and json.loads(answer.text)["choices"][0]["message"]["content"]
