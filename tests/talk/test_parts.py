"""Answers in parts: the same however their text is cut, and nothing of a mark in the text."""

import itertools
import random
from collections.abc import Iterable

import pytest

from soban.talk.parts import Part, Parts
from soban.text.chat.calls import OWN, CallForm, Thinking

THINK = Thinking("<think>", "</think>")
LLAMA = CallForm('{"name": "', '", "parameters": ', None, "}")
MISTRAL = CallForm('[TOOL_CALLS] [{"name": "', '", "arguments": ', '}, {"name": "', "}]")
CALL = '<tool_call>\n{"name": "f", "arguments": {"가": "}\\"]{<", "b": [1, {}]}}\n</tool_call>'
ARGUMENTS = '{"가": "}\\"]{<", "b": [1, {}]}'
CASES = [
    ("안녕 <b>", OWN, THINK, "안녕 <b>", "", []),
    ("<think>\n음 <\n</think>\n\n네", OWN, THINK, "네", "음 <", []),
    ("<think></think>네", OWN, THINK, "네", "", []),
    ("  <think>a</think>" + CALL, OWN, THINK, "", "a", [("f", ARGUMENTS)]),
    ("먼저.\n" + CALL, OWN, None, "먼저.", "", [("f", ARGUMENTS)]),
    (CALL + "\n" + CALL, OWN, None, "", "", [("f", ARGUMENTS)] * 2),
    (CALL + "\n뒤", OWN, None, "뒤", "", [("f", ARGUMENTS)]),
    ('{"name": "g", "parameters": {}}', LLAMA, None, "", "", [("g", "{}")]),
    ('말 {"name": "g", "parameters": {}}', LLAMA, None, '말 {"name": "g", "parameters": {}}', "", []),
    ('{"other": 1}', LLAMA, None, '{"other": 1}', "", []),
    ('[TOOL_CALLS] [{"name": "a", "arguments": {}}, {"name": "b", "arguments": {"x": 1}}]', MISTRAL, None, "", "",
     [("a", "{}"), ("b", '{"x": 1}')]),
    ("<think>unfinished", OWN, THINK, "", "unfinished", []),
    ("text <tool", OWN, THINK, "text <tool", "", []),
    ("생각</think>답", OWN, Thinking("<think>", "</think>", True), "답", "생각", []),
    ("<tool_call>", None, None, "<tool_call>", "", []),
    ("", OWN, THINK, "", "", []),
]  # fmt: skip


def read(pieces: Iterable[str], parts: Parts) -> list[Part]:
    found = [part for piece in pieces for part in parts.feed(piece)]
    return found + parts.finish()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0][:30])
def test_the_parts_are_the_same_however_the_text_is_cut(case: tuple) -> None:
    whole, form, thinking, text, reasoning, calls = case
    dice = random.Random(1)
    for trial in range(40):
        cuts = sorted(dice.randrange(len(whole) + 1) for _ in range(trial)) if trial < 39 else range(len(whole))
        ends = [0, *cuts, len(whole)]
        found = read((whole[a:b] for a, b in itertools.pairwise(ends)), Parts(form, thinking))
        assert "".join(part.text for part in found if part.kind == "text") == text
        assert "".join(part.text for part in found if part.kind == "reasoning") == reasoning
        names = [part.name for part in found if part.kind == "call"]
        written = ["".join(p.text for p in found if p.kind == "arguments" and p.call == n) for n in range(len(names))]
        assert list(zip(names, written, strict=True)) == calls
        assert len({part.id for part in found if part.kind == "call"}) == len(calls)
        assert sum(part.kind == "end" for part in found) == len(calls)


def test_pieces_come_as_soon_as_they_are_certain() -> None:
    parts = Parts(OWN, THINK)
    assert parts.feed("안녕") == [Part("text", "안녕")]
    assert parts.feed(" <tool") == [] and parts.feed("box") == [Part("text", " <toolbox")]
    assert parts.feed('<tool_call>\n{"name": "f", "argu') == []
    (begun, piece) = parts.feed('ments": {"a')
    assert begun.kind == "call" and begun.name == "f" and piece == Part("arguments", '{"a', 0)
    assert parts.feed('": 1}') == [Part("arguments", '": 1}', 0), Part("end", "", 0)]
