"""OpenAI's own client finds an OpenAI: chats, texts, likelihoods, vectors, all as the library gives them."""

import base64
import json
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import numpy as np
import pytest

import soban

from .conftest import Running

openai = pytest.importorskip("openai")
HELLO = [{"role": "user", "content": "Hello!"}]
STORY = [{"role": "user", "content": "이야기 하나 해 줘."}]


@pytest.fixture(scope="module")
def client(server: Running) -> Any:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="-", max_retries=0)


@pytest.fixture(scope="module")
def model() -> soban.Model:
    return soban.load()


def streamed(stream: Any) -> tuple[list[str], list[str | None]]:
    """The texts of a stream by their index, and why each ended."""
    texts, reasons = {}, {}
    for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            reasons[choice.index] = choice.finish_reason or reasons.get(choice.index)
    return [texts[i] for i in sorted(texts)], [reasons[i] for i in sorted(texts)]


@pytest.mark.parametrize("messages", [HELLO, STORY, [{"role": "system", "content": "짧게."}, *STORY]])
def test_an_answer_is_the_librarys_whole_and_streamed(client: Any, model: soban.Model, messages: list[Any]) -> None:
    options = {"temperature": 0.8, "seed": 5}
    expected = model.chat(messages, max_new_tokens=40, **options)
    whole = client.chat.completions.create(model="soban", messages=messages, max_tokens=40, **options)
    stream = client.chat.completions.create(
        model="soban", messages=messages, max_completion_tokens=40, stream=True, **options
    )
    assert whole.choices[0].message.content == expected
    texts, reasons = streamed(stream)
    assert texts == [expected] and reasons == [whole.choices[0].finish_reason]
    assert whole.usage.prompt_tokens == model.start_chat(messages).figures.prompt_tokens
    assert "�" not in expected


def test_several_answers_are_those_of_several_return_sequences(client: Any, model: soban.Model) -> None:
    expected = model.chat(STORY, max_new_tokens=12, num_return_sequences=3, temperature=1.0, seed=1)
    asked: dict[str, Any] = {
        "model": "soban",
        "messages": STORY,
        "max_tokens": 12,
        "n": 3,
        "temperature": 1.0,
        "seed": 1,
    }
    whole = client.chat.completions.create(**asked)
    assert [choice.message.content for choice in whole.choices] == expected
    assert streamed(client.chat.completions.create(stream=True, **asked))[0] == expected
    assert whole.usage.completion_tokens == 36


def test_a_stream_can_tell_what_it_took(client: Any) -> None:
    chunks = list(
        client.chat.completions.create(
            model="soban", messages=HELLO, max_tokens=5, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens <= 5
    assert chunks[0].choices[0].delta.role == "assistant" and all(chunk.usage is None for chunk in chunks[:-1])


def test_answers_at_the_same_time_are_those_of_each_alone(client: Any, model: soban.Model) -> None:
    asked = [({"role": "user", "content": f"Tell me a story about {name}."}, seed) for seed, name in enumerate(
        ("Tim", "a fox", "여우", "Anna", "a boat", "눈", "Max", "rain")
    )]  # fmt: skip

    def answer(pair: tuple[dict[str, str], int]) -> str:
        message, seed = pair
        found = client.chat.completions.create(
            model="soban", messages=[message], seed=seed, temperature=1, max_tokens=50
        )
        return str(found.choices[0].message.content)

    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(answer, asked))
    assert together == [model.chat([m], seed=s, temperature=1, max_new_tokens=50) for m, s in asked]


def test_log_probabilities_are_those_of_the_logits(client: Any, model: soban.Model) -> None:
    found = client.chat.completions.create(
        model="soban", messages=HELLO, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3
    )
    generation = model.start_chat(HELLO, temperature=0, max_new_tokens=6)
    generation.read()
    ids = generation.sequences[0].tokens
    content = found.choices[0].logprobs.content
    logits = model.logits(ids[:-1]).astype(np.float64)
    first = len(ids) - len(content)
    for place, entry in enumerate(content):
        row = logits[first + place - 1]
        expected = row[ids[first + place]] - row.max() - math.log(np.exp(row - row.max()).sum())
        assert entry.logprob == pytest.approx(expected, abs=1e-4)
        assert len(entry.top_logprobs) == 3 and entry.top_logprobs[0].logprob == entry.logprob  # greedy
    assert (
        bytes(b for entry in content for b in entry.bytes).decode().strip() == found.choices[0].message.content.strip()
    )


def test_texts_go_on_with_strings_and_with_ids(client: Any, model: soban.Model) -> None:
    prompts = ["Once upon a time", "옛날 옛적에"]
    expected = [model.generate(prompt, raw=True, echo=False, max_new_tokens=9, temperature=0) for prompt in prompts]
    found = client.completions.create(model="soban", prompt=prompts, max_tokens=9, temperature=0)
    assert [choice.text for choice in found.choices] == expected
    ids = [model.prompt_ids(prompt, raw=True) for prompt in prompts]
    again = client.completions.create(model="soban", prompt=ids, max_tokens=9, temperature=0)
    assert [choice.text.strip() for choice in again.choices] == [text.strip() for text in expected]
    pieces: dict[int, str] = {}
    for chunk in client.completions.create(model="soban", prompt=prompts, max_tokens=9, temperature=0, stream=True):
        pieces[chunk.choices[0].index] = pieces.get(chunk.choices[0].index, "") + chunk.choices[0].text
    assert [pieces[0], pieces[1]] == expected


def test_an_echoed_prompt_has_the_likelihoods_of_its_tokens(client: Any, model: soban.Model) -> None:
    ids = model.tokenize("Once upon a time, there was")
    found = client.completions.create(model="soban", prompt=ids, max_tokens=1, echo=True, logprobs=1, temperature=0)
    told = found.choices[0].logprobs
    rows = model.logits(ids[:-1]).astype(np.float64)
    expected = [
        row[i] - row.max() - math.log(np.exp(row - row.max()).sum()) for row, i in zip(rows, ids[1:], strict=True)
    ]
    assert told.token_logprobs[0] is None and told.token_logprobs[1 : len(ids)] == pytest.approx(expected, abs=1e-4)
    greedy = [int(row.argmax()) == i for row, i in zip(rows, ids[1:], strict=True)]
    pairs = zip(told.top_logprobs[1 : len(ids)], told.token_logprobs[1 : len(ids)], strict=True)
    assert [max(top.values()) == value for top, value in pairs] == greedy
    assert found.choices[0].text.startswith("Once upon a time, there was") or "Once" in found.choices[0].text


def test_stop_strings_biases_and_lengths_are_obeyed(client: Any, model: soban.Model) -> None:
    free = str(model.chat(STORY, temperature=0, max_new_tokens=30))
    word = free.split()[2]
    found = client.chat.completions.create(model="soban", messages=STORY, temperature=0, max_tokens=30, stop=[word])
    assert found.choices[0].message.content == free[: free.index(word)] and found.choices[0].finish_reason == "stop"
    generation = model.start_chat(STORY, temperature=0, max_new_tokens=1)
    generation.read()
    first = generation.sequences[0].tokens[-1]
    other = client.chat.completions.create(
        model="soban", messages=STORY, temperature=0, max_tokens=3, logit_bias={str(first): -100}
    )
    assert not free.startswith(other.choices[0].message.content)
    assert other.choices[0].finish_reason == "length"


def test_json_is_of_the_schema_that_is_asked_for(client: Any) -> None:
    schema = {
        "type": "object", "additionalProperties": False, "required": ["이름", "나이"],
        "properties": {"이름": {"type": "string", "maxLength": 6}, "나이": {"type": "integer", "maximum": 120}},
    }  # fmt: skip
    form = {"type": "json_schema", "json_schema": {"name": "사람", "schema": schema}}
    for seed in range(3):
        found = client.chat.completions.create(
            model="soban", messages=STORY, seed=seed, temperature=1.5, max_tokens=60, response_format=form
        )
        jsonschema.validate(json.loads(found.choices[0].message.content), schema)


def test_vectors_are_unit_vectors_in_either_coding(client: Any, model: soban.Model) -> None:
    texts = ["The fox found a red ball.", "여우가 공을 찾았어요."]
    found = client.embeddings.create(model="soban", input=texts, encoding_format="float")
    expected = [model.embed(text) for text in texts]
    assert np.allclose([one.embedding for one in found.data], expected, atol=1e-6)
    coded = client.embeddings.create(model="soban", input=texts[0], encoding_format="base64", dimensions=8)
    short = np.frombuffer(base64.b64decode(coded.data[0].embedding), np.float32)
    assert np.allclose(short, expected[0][:8] / np.linalg.norm(expected[0][:8]), atol=1e-6)


def test_models_are_listed_by_the_names_that_they_are_asked_for_by(client: Any, chat_model: Any) -> None:
    assert [one.id for one in client.models.list()] == ["soban", chat_model.name]
    assert client.models.retrieve("soban").owned_by == "soban"
    assert client.chat.completions.create(model=chat_model.name, messages=HELLO, max_tokens=3).model == chat_model.name
