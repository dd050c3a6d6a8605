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
    text_grammar: Grammar | None = None,
) -> Grammar:
    """Text, or calls of these tools, or both; calls alone where they are `required`, no call where there are no tools.

    As soon as an answer has begun a call in the form's words, it has to be one of a tool, with arguments of its schema.
    Where the text itself has to have a form, which is `text_grammar`, there is either a text or calls. Raises UserError
    for a schema that cannot be followed, as `of_schema`, and for a form that could not be told from a call.
    """
    rules: list[str] = []
    mark = _mark(form.begin)
    steers = tokenizer.find_markup(mark)[:1]
    bounded = bool(steers) and steers[0].start == 0
    whole = mark[:1] in "{[" and not bounded  # the whole answer is a call, or none of it
    first = literal(tokenizer, form.begin)
    if text_grammar is not None:
        if not (bounded or ("\n" in form.begin and _is_json(text_grammar))):  # no string of JSON has a line's end in it
            raise UserError(
                "an answer in the way of this model's template has a form or tools, not both",
                hint="leave one of them out",
            )
        rules.append("form: @form")
        body = "form | calls"
    elif bounded:
        rules.append(f"TEXT: /{ANY}/")  # which no token that steers is part of
        body = "TEXT calls?"
    elif whole:
        rules.append(f"TEXT: /{ANY}/ & ~/{_escaped(mark)}{ANY}/")
        body = "TEXT | calls"
    else:  # the lexer takes the longest piece, so a text that a call follows ends with the mark, as soon as it comes
        rules.append(f"TEXT: /{ANY}/ & ~/{ANY}{_escaped(mark)}{ANY}/")
        rules.append(f"spoken[lazy]: /{ANY}{_escaped(mark)}/")
        body = "TEXT | calls"
        first = f"spoken {literal(tokenizer, form.begin[len(mark) :])}"
    if required:
        body, first = "calls", literal(tokenizer, form.begin)
    elif not tools:
        body = body.partition(" ")[0]
    hints: tuple[str, ...] = ()
    if thinking:
        rules.append(_thought(tokenizer, thinking))
        before = "thought" if thinking.in_prompt else f"({literal(tokenizer, thinking.begin)} thought)?"
        body = f"{before} ({body})"
        hints = (thinking.end,)
    if tools:
        more = f"({literal(tokenizer, form.between)} call)*" if form.between is not None and parallel else ""
        rules.append(f"calls: {first} call {more} {literal(tokenizer, form.end)}")
        rules.append("call: " + " | ".join(f"call_{n}" for n in range(len(tools))))
    for n, tool in enumerate(tools):
        function = tool["function"]
        parameters = {"type": "object", **function["parameters"]}
        if not parameters.keys() & JOINED:
            parameters = {"additionalProperties": False, **parameters}  # small models would go on and on
        try:
            of_schema(parameters)
        except UserError as error:
            raise UserError(
                "tools: the parameters of {tool}: {problem}", tool=function["name"],
                problem=translate(error.template, **error.fields), hint="leave that out, or say it in another way",
            ) from error  # fmt: skip
        schema = {**prepared(read_schema(parameters)), "x-guidance": SPACING}
        rules.append(f"call_{n}: {literal(tokenizer, function['name'] + form.middle)} arguments_{n}")
        rules.append(f"arguments_{n}: %json {json.dumps(schema, ensure_ascii=False)}")
    text = "\n".join([f"start: {body}", *rules])
    if len(text) > MAX_GRAMMAR:
        raise UserError(
            "{name} has {count} characters; at most {most} are read", name="tools", count=len(text), most=MAX_GRAMMAR,
            hint="give a smaller one",
        )  # fmt: skip
    if text_grammar is None:
        return Grammar(text, hints)
    return Grammar(_nested(text, text_grammar), (*hints, *text_grammar.hints))


def after_thoughts(tokenizer: Tokenizer, thinking: Thinking, form: Grammar) -> Grammar:
    """The grammar of an answer in a form that may think before."""
    before = "thought" if thinking.in_prompt else f"({literal(tokenizer, thinking.begin)} thought)?"
    rules = f"start: {before} form\nform: @form\n{_thought(tokenizer, thinking)}"
    return Grammar(_nested(rules, form), (thinking.end, *form.hints))


def _nested(rules: str, form: Grammar) -> str:
    """Rules in which @form is a grammar of its own."""
    return json.dumps({"grammars": [{"name": "answer", "lark_grammar": rules}, {**_inner(form), "name": "form"}]})


def _inner(form: Grammar) -> dict[str, Any]:
    """The one grammar of a form, as llguidance lists them; Lark's rules are written without a list."""
    if not form.rules.startswith("{"):
        return {"lark_grammar": form.rules}
    (grammar,) = json.loads(form.rules)["grammars"]
    return dict(grammar)


def _is_json(form: Grammar) -> bool:
    return bool(_inner(form).get("json_schema"))


def _thought(tokenizer: Tokenizer, thinking: Thinking) -> str:
    blanks = "/[ \\n]{0,3}/"
    if not tokenizer.find_markup(thinking.end):  # as with a text that a call follows
        return f"thoughts[lazy]: /{ANY}{_escaped(thinking.end)}/\nthought: thoughts {blanks}"
    return (
        f"THOUGHT: /{ANY}/ & ~/{ANY}{_escaped(thinking.end)}{ANY}/\n"
        f"thought: THOUGHT {literal(tokenizer, thinking.end)} {blanks}"
    )


def _mark(begin: str) -> str:
    """The beginning of a call that no other text has: its first tag, or all of it where it has none."""
    tag = re.match(r"<[^<>\s]+>|\[[A-Z_]+\]", begin)
    return tag[0] if tag else begin


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
