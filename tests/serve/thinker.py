"""A tiny model whose template knows thoughts and calls, served; and one bent towards calling by itself."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import soban
from soban.talk.answer import Answer

from ..text.test_calls import NOW, WEATHER

TOOLS = [WEATHER, NOW]
ASKED = [{"role": "user", "content": "서울 날씨?"}]
WILD: dict[str, Any] = {"temperature": 1.5, "top_k": 0}  # so that thoughts, names and arguments are all sorts
SCHEMAS = {"get_weather": WEATHER["function"]["parameters"], "now": {"type": "object", "additionalProperties": False}}


def calls_of(answer: Answer) -> list[tuple[str, str]]:
    """What is called with which arguments; ids are never the same."""
    return [(call.name, call.arguments) for call in answer.tool_calls]


@contextmanager
def eager(model: soban.Model) -> Iterator[None]:
    """A model that would rather call a tool than say a word, and then another one."""
    mark, line = model.tokenize("<tool_call>\n", bos=False, special=True)
    sampling: Callable[..., Any] = model.sampling
    model.sampling = lambda **options: sampling(**{"logit_bias": {mark: 100, line: 50}, **options})  # type: ignore[method-assign]
    try:
        yield
    finally:
        del model.sampling
