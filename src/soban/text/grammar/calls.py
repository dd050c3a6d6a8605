"""The grammar of an answer that may think, then speak or call tools."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from soban.base.errors import UserError
from soban.messages import translate
from soban.text.chat.calls import CallForm, Thinking
from soban.text.grammar.grammar import MAX_GRAMMAR, SPACING, Grammar, of_schema
from soban.text.grammar.schema import prepared, read_schema
from soban.text.tokenizers.tokenizer import Tokenizer

ANY = "(?s:.*)"
JOINED = frozenset(("$ref", "allOf", "anyOf", "oneOf", "patternProperties"))  # that may bring properties of their own


def of_answer(
    tokenizer: Tokenizer,
    form: CallForm,
    tools: Sequence[Mapping[str, Any]],
    thinking: Thinking | None,
    *,
    required: bool,
    parallel: bool,
) -> Grammar:
    """Text, or calls of these tools, or both; calls alone where they are `required`, no call where there are no tools.

    As soon as an answer has begun a call in the form's words, it has to be one of a tool, with arguments of its schema.
    Raises UserError for a schema that cannot be followed, as `of_schema`.
    """
    rules: list[str] = []
    mark = _mark(form.begin)
    bounded = bool(tokenizer.find_markup(mark)) and tokenizer.find_markup(mark)[0].start == 0
    if bounded:
        rules.append(f"TEXT: /{ANY}/")  # which no token that steers is part of
    elif mark[:1] in "{[":  # the whole answer is a call, or none of it
        rules.append(f"TEXT: /{ANY}/ & ~/{_escaped(mark)}{ANY}/")
    else:
        rules.append(f"TEXT: /{ANY}/ & ~/{ANY}{_escaped(mark)}{ANY}/")
    calls = "calls" if tools else ""
    if required:
        body = calls
    elif not bounded and mark[:1] in "{[":
        body = f"TEXT | {calls}" if calls else "TEXT"
    else:
        body = f"TEXT {calls}?" if calls else "TEXT"
    hints: tuple[str, ...] = ()
    if thinking:
        rules.append(_thought(tokenizer, thinking))
        before = "thought" if thinking.opened else f"({literal(tokenizer, thinking.begin)} thought)?"
        body = f"{before} ({body})"
        hints = (thinking.end,)
    if tools:
        more = f"({literal(tokenizer, form.between)} call)*" if form.between is not None and parallel else ""
        rules.append(f"calls: {literal(tokenizer, form.begin)} call {more} {literal(tokenizer, form.end)}")
        rules.append("call: " + " | ".join(f"call_{n}" for n in range(len(tools))))
    for n, tool in enumerate(tools):
        function = tool["function"]
        given = {"type": "object", **function["parameters"]}
        if not given.keys() & JOINED:
            given = {"additionalProperties": False, **given}  # small models would go on and on
        try:
            of_schema(given)
        except UserError as error:
            raise UserError(
                "tools: the parameters of {tool}: {problem}", tool=function["name"],
                problem=translate(error.template, **error.fields), hint="leave that out, or say it in another way",
            ) from error  # fmt: skip
        schema = {**prepared(read_schema(given)), "x-guidance": SPACING}
        rules.append(f"call_{n}: {literal(tokenizer, function['name'] + form.middle)} arguments_{n}")
        rules.append(f"arguments_{n}: %json {json.dumps(schema, ensure_ascii=False)}")
    text = "\n".join([f"start: {body}", *rules])
    if len(text) > MAX_GRAMMAR:
        raise UserError(
            "{name} has {count} characters; at most {most} are read", name="tools", count=len(text), most=MAX_GRAMMAR,
            hint="give a smaller one",
        )  # fmt: skip
    return Grammar(text, hints)


def after_thoughts(tokenizer: Tokenizer, thinking: Thinking, form: Grammar) -> Grammar:
    """The grammar of an answer in a form that may think before."""
    before = "thought" if thinking.opened else f"({literal(tokenizer, thinking.begin)} thought)?"
    rules = f"start: {before} form\nform: @form\n{_thought(tokenizer, thinking)}"
    inner = {**json.loads(form.rules)["grammars"][0], "name": "form"}
    grammars = [{"name": "answer", "lark_grammar": rules}, inner]
    return Grammar(json.dumps({"grammars": grammars}), (thinking.end, *form.hints))


def _thought(tokenizer: Tokenizer, thinking: Thinking) -> str:
    return (
        f"THOUGHT: /{ANY}/ & ~/{ANY}{_escaped(thinking.end)}{ANY}/\n"
        f"thought: THOUGHT {literal(tokenizer, thinking.end)} /[ \\n]{{0,3}}/"
    )


def _mark(begin: str) -> str:
    """The beginning of a call that no other text has: its first tag, or all of it where it has none."""
    found = re.match(r"<[^<>\s]+>|\[[A-Z_]+\]", begin)
    return found[0] if found else begin


def _escaped(text: str) -> str:
    return "".join(letter if letter.isalnum() else f"\\x{{{ord(letter):x}}}" for letter in text)


def literal(tokenizer: Tokenizer, text: str) -> str:
    """A text in a rule: tokens that steer by their numbers, the rest as it is written."""
    parts, place = [], 0
    for span in tokenizer.find_markup(text):
        if span.start > place:
            parts.append(json.dumps(text[place : span.start], ensure_ascii=False))
        parts.append(f"<[{span.token_id}]>")
        place = span.end
    if place < len(text):
        parts.append(json.dumps(text[place:], ensure_ascii=False))
    return " ".join(parts)
