"""Names for models, by Ollama's client: created, asked, shown, copied, deleted; and which are served."""

from pathlib import Path
from typing import Any

import httpx
import pytest

import soban
from soban.loading import custom
from soban.loading.modelfile import Modelfile

from .conftest import Running, Starter

ollama = pytest.importorskip("ollama")
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_STATE_HOME", "LOCALAPPDATA", "HOME", "HF_HOME", "OLLAMA_MODELS", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))


@pytest.fixture(scope="module")
def free(start: Starter) -> Running:
    """A server for whatever is on this PC."""
    return start()


@pytest.fixture
def client(free: Running) -> Any:
    return ollama.Client(host=free.url)


def test_a_created_model_answers_as_its_base_that_is_told_the_same(free: Running, client: Any) -> None:
    client.create(model="mina", from_="soban", system="be kind", parameters={"temperature": 0.7, "num_predict": 8})
    answer = client.chat(model="mina", messages=HELLO, options={"seed": 4}).message.content
    told = [{"role": "system", "content": "be kind"}, *HELLO]
    base = soban.load()
    assert answer == base.chat(told, temperature=0.7, max_new_tokens=8, seed=4, on_full="slide")
    plain = client.chat(model="soban", messages=HELLO, options={"seed": 4, "num_predict": 8}).message.content
    assert plain == base.chat(HELLO, max_new_tokens=8, seed=4, on_full="slide")
    assert len(free.app.state.pool.bases) == 1  # one in memory, for both
    shown = client.show("mina")
    assert "SYSTEM be kind" in shown.modelfile and "temperature 0.7" in shown.parameters


def test_a_model_that_is_made_anew_is_another_one_from_the_next_request_on(client: Any) -> None:
    answers = []
    for system in ("one", "two"):
        client.create(model="mina", from_="soban", system=system, parameters={"temperature": 0, "num_predict": 8})
        assert f"SYSTEM {system}" in client.show("mina").modelfile
        answers.append(client.chat(model="mina:latest", messages=HELLO).message.content)
        told = [{"role": "system", "content": system}, *HELLO]
        assert answers[-1] == soban.load().chat(told, temperature=0, max_new_tokens=8, on_full="slide")


def test_names_are_listed_copied_and_deleted(client: Any) -> None:
    client.create(model="mina", from_="soban", system="x")
    client.copy("mina", "jun")
    assert {"soban", "mina", "jun"} <= {model.model for model in client.list().models}
    client.delete("mina")
    assert "mina" not in {model.model for model in client.list().models}
    assert custom.find("jun").modelfile.system == "x"  # type: ignore[union-attr]
    for call in (lambda: client.delete("mina"), lambda: client.copy("mina", "x"), lambda: client.show("mina")):
        with pytest.raises(ollama.ResponseError) as caught:
            call()
        assert caught.value.status_code == 404


def test_what_a_new_model_cannot_have_is_refused_by_name(free: Running) -> None:
    for body, field in (
        ({"from": "soban", "parameters": {"seed": 3}}, "seed"), ({"from": "soban", "template": "{{ .P }}"}, "template"),
        ({"from": "soban", "parameters": {"top_k": "x"}}, "top_k"),
        ({"from": "soban", "adapters": {"a": "b"}}, "adapters"),
        ({"from": "/etc"}, "/etc"), ({"from": "soban", "messages": [{"role": "x"}]}, "messages"), ({}, "from"),
        ({"from": "soban", "parameters": {"stop": [1]}}, "stop"), ({"from": "soban", "files": {"a": "b"}}, "files"),
        ({"from": "soban", "model": "gemma2:2b"}, "gemma2:2b"), ({"from": "soban", "system": 'a"""b'}, "quotation"),
    ):  # fmt: skip
        answer = httpx.post(free.url + "/api/create", json={"model": "mina", **body})
        assert 400 <= answer.status_code < 500 and field in answer.json()["error"], (body, answer.text)
    assert custom.every() == []


def test_a_server_for_certain_models_gets_no_others_but_serves_a_name(start: Starter, chat_model: Path) -> None:
    custom.keep("mina", Modelfile(str(chat_model), None, (("num_predict", 5),), "be kind"))
    certain = start("mina")
    answer = httpx.post(certain.url + "/api/create", json={"model": "jun", "from": "mina"})
    assert answer.status_code == 403
    told = [{"role": "system", "content": "be kind"}, *HELLO]
    body = {"model": "mina", "messages": HELLO, "seed": 2}
    text = httpx.post(certain.url + "/v1/chat/completions", json=body, timeout=60).json()["choices"][0]["message"]
    assert text["content"] == soban.load(chat_model).chat(told, seed=2, max_new_tokens=5)
