"""Models in the folders of other programs, served by the names that soban has for them."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

import soban
from tests.hub.test_neighbours import gguf_file, home, ollama

from .conftest import Running, Starter

__all__ = ["gguf_file", "home"]  # fixtures
SYSTEM = "짧게 답해."
HELLO = [{"role": "user", "content": "안녕"}]
GREEDY = {"temperature": 0, "num_predict": 6}


@pytest.fixture
def free(start: Starter, home: Path, gguf_file: Path) -> Running:
    """A server for whatever is on a PC whose Ollama has two models."""
    data, models = gguf_file.read_bytes(), home / ".ollama" / "models"
    layers = {"model": data, "system": SYSTEM.encode(), "params": json.dumps({"temperature": 0.6}).encode()}
    ollama(models, "registry.ollama.ai/library/gemma2/2b", layers)
    ollama(models, "registry.ollama.ai/kim/story/latest", {"model": data})
    return start()


def post(server: Running, path: str, body: dict[str, Any]) -> Any:
    answer = httpx.post(server.url + path, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_model_of_ollamas_answers_as_it_does_without_a_server(free: Running, gguf_file: Path) -> None:
    served = {model["name"] for model in httpx.get(free.url + "/api/tags").json()["models"]}
    assert {"ollama/gemma2:2b", "ollama/kim/story:latest"} <= served
    told = [{"role": "system", "content": SYSTEM}, *HELLO]
    plain = soban.load(gguf_file)
    answer = plain.chat(told, temperature=0, max_new_tokens=6)
    assert answer != plain.chat(HELLO, temperature=0, max_new_tokens=6)
    body = {"model": "ollama/gemma2:2b", "messages": HELLO}
    chat = post(free, "/api/chat", body | {"stream": False, "options": GREEDY})
    openai = post(free, "/v1/chat/completions", body | {"temperature": 0, "max_tokens": 6})
    assert chat["message"]["content"] == openai["choices"][0]["message"]["content"] == answer
    assert post(free, "/api/show", {"model": "ollama/gemma2:2b"})["system"] == SYSTEM
    assert list(free.app.state.pool.bases) == ["ollama/gemma2:2b"]


def test_a_tag_of_latest_may_be_left_out(free: Running) -> None:
    body = {"messages": HELLO, "stream": False, "options": GREEDY}
    answers = [post(free, "/api/chat", body | {"model": "ollama/kim/story" + tag}) for tag in ("", ":latest")]
    assert answers[0]["message"] == answers[1]["message"] and len(free.app.state.pool.bases) == 1


def test_what_another_program_has_is_neither_deleted_nor_made_up(free: Running, home: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}
    for name in ("ollama/gemma2:2b", "ollama/gemma2:9b"):
        answer = httpx.request("DELETE", free.url + "/api/delete", json={"model": name})
        assert answer.status_code == 404, answer.text
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()} == files
    answer = httpx.post(free.url + "/api/chat", json={"model": "ollama/gemma2:9b", "messages": HELLO})
    assert answer.status_code == 404 and "ollama/gemma2:2b" in answer.json()["error"]
