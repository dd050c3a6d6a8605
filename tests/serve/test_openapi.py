"""Every answer in OpenAI's way is what OpenAI's own description of its API says it is."""

import json
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from .conftest import Running
from .openapi import check
from .thinker import TOOLS

HI = [{"role": "user", "content": "Hi"}]
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
ASKED: list[tuple[str, dict[str, Any], str]] = [
    (CHAT, {"messages": HI}, "CreateChatCompletion"),
    (CHAT, {"messages": HI, "n": 2, "logprobs": True, "top_logprobs": 2}, "CreateChatCompletion"),
    (CHAT, {"messages": HI, "tools": TOOLS, "tool_choice": "required", "max_tokens": 99}, "CreateChatCompletion"),
    (CHAT, {"messages": HI, "response_format": {"type": "json_object"}, "max_tokens": 40}, "CreateChatCompletion"),
    (TEXT, {"prompt": ["Hi", "You"]}, "CreateCompletion"),
    (TEXT, {"prompt": "Hi", "logprobs": 2}, "CreateCompletion"),
]  # fmt: skip


def events(text: str) -> list[dict[str, Any]]:
    """What the events of a stream hold, but for the word that ends some."""
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(one) for one in data if one != "[DONE]"]


@pytest.mark.parametrize(("path", "body", "schema"), ASKED, ids=lambda value: str(value)[:70])
def test_an_answer_and_its_stream_are_as_described(
    server: Running, fixtures: Path, path: str, body: dict[str, Any], schema: str
) -> None:
    body = {"model": "soban", "max_tokens": 5, **body}
    check(fixtures, httpx.post(server.url + path, json=body, timeout=60).json(), schema + "Response")
    streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
    chunks = events(httpx.post(server.url + path, json=streamed, timeout=60).text)
    assert len(chunks) > 2
    for chunk in chunks:
        if path == TEXT:  # the description has no stream of completions, in which nothing has ended yet
            for choice in chunk["choices"]:
                choice["finish_reason"] = choice["finish_reason"] or "stop"
        check(fixtures, chunk, schema + ("StreamResponse" if path == CHAT else "Response"))


def test_models_vectors_and_errors_are_as_described(server: Running, fixtures: Path) -> None:
    check(fixtures, httpx.get(f"{server.url}/v1/models").json(), "ListModelsResponse")
    check(fixtures, httpx.get(f"{server.url}/v1/models/soban").json(), "Model")
    vectors = httpx.post(f"{server.url}/v1/embeddings", json={"model": "soban", "input": ["a", "b"]}, timeout=60)
    check(fixtures, vectors.json(), "CreateEmbeddingResponse")
    wrong = httpx.post(server.url + CHAT, json={"model": "soban", "messages": 3})
    check(fixtures, wrong.json(), "ErrorResponse")


def test_the_description_refuses_what_is_otherwise(fixtures: Path) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check(fixtures, {"id": "x", "object": "chat.completion"}, "CreateChatCompletionResponse")
