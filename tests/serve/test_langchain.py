"""LangChain's own way of talking to OpenAI: chats, tools, structured output, and an agent with two tools."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import soban

from ..test_tools import CHATML, MARKS, loaded
from .conftest import Running, Starter

langchain = pytest.importorskip("langchain_openai", reason="needs langchain-openai (60 MB with what it brings)")
from pydantic import BaseModel, Field  # noqa: E402

QUESTION = "서울 날씨?"


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=12)
    warm: bool


def weather(city: str, days: int) -> str:
    """The weather of a city."""
    return f"{city[:3]}: 맑음, {days}"


def now() -> str:
    """The time."""
    return "12:00"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> soban.Model:
    return loaded(tmp_path_factory.mktemp("tools") / "tooled", CHATML, MARKS)


@pytest.fixture(scope="module")
def tooled(start: Starter, model: soban.Model) -> Running:
    return start(str(model.loaded.path))


@pytest.fixture
def chat(tooled: Running) -> Callable[..., Any]:
    """A ChatOpenAI for the server; `options` are its own."""

    def of(**options: Any) -> Any:
        usual = {"model": "tooled", "max_tokens": 120, "temperature": 1.0, "seed": 1, "max_retries": 0}
        return langchain.ChatOpenAI(base_url=f"{tooled.url}/v1", api_key="-", **{**usual, **options})

    return of


@contextmanager
def playing(model: soban.Model, *names: str) -> Iterator[None]:
    """A model that calls these tools one after the other, and then speaks; what it gives them is its own."""
    start_answer: Callable[..., Any] = model.start_answer

    def played(messages: Any, **options: Any) -> Any:
        done = sum(message["role"] == "tool" for message in messages)
        named = {"type": "function", "function": {"name": names[done]}} if done < len(names) else "none"
        return start_answer(messages, **{**options, "tool_choice": named})

    model.start_answer = played  # type: ignore[method-assign]
    try:
        yield
    finally:
        del model.start_answer


def test_a_chat_is_the_librarys_whole_streamed_and_async(chat: Callable[..., Any], model: soban.Model) -> None:
    turns = [{"role": "user", "content": QUESTION}]
    expected = model.start_answer(turns, max_new_tokens=120, temperature=1.0, seed=1).read()
    answer = chat().invoke(QUESTION)
    assert answer.content == expected.text and answer.usage_metadata["output_tokens"] > 0
    assert "".join(chunk.content for chunk in chat().stream(QUESTION)) == expected.text
    assert asyncio.run(chat().ainvoke(QUESTION)).content == expected.text
    several = chat().batch([QUESTION, [("system", "짧게."), ("user", QUESTION)]])
    assert several[0].content == expected.text and len(several) == 2


@pytest.mark.parametrize("responses", [False, True])
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output_is_of_the_class(chat: Callable[..., Any], method: str, responses: bool) -> None:
    options: dict[str, Any] = {"use_responses_api": True, "seed": None} if responses else {}
    for temperature in (0.7, 1.5):
        found = chat(**options, temperature=temperature).with_structured_output(City, method=method).invoke(QUESTION)
        assert isinstance(found, City)


@pytest.mark.parametrize("responses", [False, True])
def test_tools_are_called_whole_and_streamed(chat: Callable[..., Any], responses: bool) -> None:
    options: dict[str, Any] = {"use_responses_api": True, "seed": None, "temperature": 0} if responses else {}
    bound = chat(**options).bind_tools([weather, now], tool_choice="required")
    whole = bound.invoke(QUESTION)
    assert whole.tool_calls and not whole.invalid_tool_calls
    assert {call["name"] for call in whole.tool_calls} <= {"weather", "now"}
    added: Any = None
    for chunk in bound.stream(QUESTION):
        added = chunk if added is None else added + chunk
    assert [(c["name"], c["args"]) for c in added.tool_calls] == [(c["name"], c["args"]) for c in whole.tool_calls]


@pytest.mark.parametrize("responses", [False, True])
def test_an_agent_with_two_tools_gets_what_they_give_and_answers(
    chat: Callable[..., Any], tooled: Running, responses: bool
) -> None:
    agents = pytest.importorskip("langchain.agents", reason="needs langchain")
    options: dict[str, Any] = {"use_responses_api": True, "seed": None} if responses else {}
    chat().invoke(QUESTION)  # so that the model is there
    agent = agents.create_agent(chat(**options), [weather, now], system_prompt="도구를 쓰세요.")
    with playing(tooled.model, "weather", "now"):
        turns = agent.invoke({"messages": [("user", QUESTION)]})["messages"]
        steps = list(agent.stream({"messages": [("user", QUESTION)]}, stream_mode="updates"))
    assert [turn.type for turn in turns] == ["human", "ai", "tool", "ai", "tool", "ai"]
    assert "맑음" in turns[2].content and turns[4].content == "12:00" and not turns[5].tool_calls
    assert [next(iter(step)) for step in steps] == ["model", "tools", "model", "tools", "model"]


def test_an_agents_last_word_is_of_the_class_that_is_wanted(chat: Callable[..., Any], tooled: Running) -> None:
    agents = pytest.importorskip("langchain.agents", reason="needs langchain")
    structured = pytest.importorskip("langchain.agents.structured_output")
    chat().invoke(QUESTION)
    agent = agents.create_agent(chat(), [weather], response_format=structured.ProviderStrategy(City))
    with playing(tooled.model, "weather"):
        found = agent.invoke({"messages": [("user", QUESTION)]})
    assert isinstance(found["structured_response"], City)
    assert [turn.type for turn in found["messages"]] == ["human", "ai", "tool", "ai"]
