"""Ollama's and Anthropic's own clients work unchanged, and get what the library gives."""

import json
from typing import Any

import jsonschema
import pytest

import soban

from .conftest import Running

HELLO = [{"role": "user", "content": "Hello!"}]
COLD = {"temperature": 0}  # which the client's own arguments have no place for
STORY = [{"role": "user", "content": "이야기 하나 해 줘."}]


@pytest.fixture(scope="module")
def model() -> soban.Model:
    return soban.load()


@pytest.fixture(scope="module")
def ollama(server: Running) -> Any:
    return pytest.importorskip("ollama").Client(server.url)


@pytest.fixture(scope="module")
def anthropic(server: Running) -> Any:
    return pytest.importorskip("anthropic").Anthropic(base_url=server.url, api_key="-", max_retries=0)


@pytest.mark.parametrize("messages", [HELLO, STORY])
def test_ollamas_chat_is_the_librarys_whole_and_streamed(ollama: Any, model: soban.Model, messages: Any) -> None:
    options = {"temperature": 0.9, "seed": 3, "num_predict": 40}
    expected = model.chat(messages, temperature=0.9, seed=3, max_new_tokens=40, on_full="slide")
    whole = ollama.chat("soban", messages, options=options)
    assert whole.message.content == expected and whole.done_reason in ("stop", "length")
    parts = list(ollama.chat("soban", messages, options=options, stream=True))
    assert "".join(part.message.content for part in parts) == expected
    last = parts[-1]
    assert last.done and last.eval_count == whole.eval_count and last.prompt_eval_count == whole.prompt_eval_count
    assert isinstance(last.total_duration, int) and last.total_duration >= last.eval_duration > 0


def test_ollamas_generate_answers_goes_on_and_loads(ollama: Any, model: soban.Model) -> None:
    raw = ollama.generate("soban", "Once upon a time", raw=True, options={"temperature": 0, "num_predict": 9})
    assert raw.response == model.generate("Once upon a time", raw=True, echo=False, temperature=0, max_new_tokens=9)
    asked = ollama.generate("soban", "Who are you?", system="Be kind.", options={"temperature": 0})
    assert asked.response == model.generate("Who are you?", system="Be kind.", temperature=0, on_full="slide")
    assert ollama.generate("soban").done_reason == "load"
    assert [one.name for one in ollama.ps().models if one.name == "soban"] == ["soban"]


def test_ollamas_format_is_a_schema(ollama: Any) -> None:
    schema = {
        "type": "object", "properties": {"답": {"enum": ["예", "아니요"]}}, "required": ["답"],
        "additionalProperties": False,
    }  # fmt: skip
    found = ollama.chat("soban", HELLO, format=schema, options={"temperature": 1, "seed": 1, "num_predict": 60})
    jsonschema.validate(json.loads(found.message.content), schema)


def test_ollama_knows_what_there_is(ollama: Any, model: soban.Model, chat_model: Any) -> None:
    assert [one.model for one in ollama.list().models] == ["soban", chat_model.name]
    shown = ollama.show("soban")
    assert shown.modelinfo["general.architecture"] == "llama" and shown.template == model.template.source  # type: ignore[union-attr]
    assert shown.modelinfo["llama.context_length"] == 512
    vectors = ollama.embed("soban", ["하나", "둘"]).embeddings
    assert len(vectors) == 2 and vectors[0] == pytest.approx(model.embed("하나").tolist(), abs=1e-6)


def test_a_model_leaves_memory_when_nobody_is_to_keep_it(start: Any) -> None:
    lone = start("soban")
    client = pytest.importorskip("ollama").Client(lone.url)
    client.generate("soban", "Hi", options={"num_predict": 2})
    assert len(client.ps().models) == 1
    assert client.generate("soban", keep_alive=0).done_reason == "unload"
    assert client.ps().models == []
    assert client.generate("soban", "Hi", options={"num_predict": 2, "temperature": 0}).response


@pytest.mark.parametrize("messages", [HELLO, STORY])
def test_anthropics_answer_is_the_librarys_whole_and_streamed(
    anthropic: Any, model: soban.Model, messages: Any
) -> None:
    expected = str(model.chat(messages, temperature=0, max_new_tokens=30))
    whole = anthropic.messages.create(model="soban", messages=messages, max_tokens=30, extra_body=COLD)
    assert whole.content[0].text == expected
    with anthropic.messages.stream(model="soban", messages=messages, max_tokens=30, extra_body=COLD) as stream:
        assert "".join(stream.text_stream) == expected
        final = stream.get_final_message()
    assert final.stop_reason == whole.stop_reason and final.usage.output_tokens == whole.usage.output_tokens
    counted = anthropic.messages.count_tokens(model="soban", messages=messages)
    read = whole.usage.input_tokens + whole.usage.cache_read_input_tokens
    assert counted.input_tokens == read == model.start_chat(messages).figures.prompt_tokens


def test_anthropics_system_and_stop_sequences_count(anthropic: Any, model: soban.Model) -> None:
    told = [{"role": "system", "content": "짧게."}, *STORY]
    free = str(model.chat(told, temperature=0, max_new_tokens=30))
    word = free.split()[3]
    found = anthropic.messages.create(
        model="soban", messages=STORY, system="짧게.", max_tokens=30, extra_body=COLD, stop_sequences=["없다", word]
    )
    assert found.content[0].text == free[: free.index(word)]
    assert (found.stop_reason, found.stop_sequence) == ("stop_sequence", word)
