"""How templates write calls and thoughts: the fixtures' own, with transformers' renderer as the judge."""

import json
from pathlib import Path
from typing import Any

import pytest

from soban.base.errors import UserError
from soban.text.chat.calls import OWN, CallForm, checked_tools, read_calls, read_thinking, with_calls
from soban.text.chat.form import read_form
from soban.text.chat.template import ChatTemplate
from soban.text.tokenizers.tokenizer import Tokenizer

from .grammar.writing import byte_tokens

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather", "description": "날씨",
        "parameters": {
            "type": "object", "properties": {"도시": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["도시"],
        },
    },
}  # fmt: skip
NOW = {"type": "function", "function": {"name": "now"}}
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{% if tools %}[AVAILABLE_TOOLS] "
    "{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}[INST] {{ m.content }}[/INST]{% elif m.tool_calls %}"
    "[TOOL_CALLS] ["
    '{% for c in m.tool_calls %}{{ \'{"name": "\' + c.function.name + \'", "arguments": \' }}'
    "{{ c.function.arguments | tojson }}{{ ', \"id\": \"' + c.id + '\"}' }}{% if not loop.last %}, {% endif %}"
    "{% endfor %}]{{ eos_token }}{% elif m.role == 'tool' %}[TOOL_RESULTS] {{ m.content }}[/TOOL_RESULTS]{% else %}"
    "{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
HERMES = CallForm(
    '<tool_call>\n{"name": "', '", "arguments": ', '}\n</tool_call>\n<tool_call>\n{"name": "', "}\n</tool_call>"
)  # fmt: skip
LLAMA = CallForm('{"name": "', '", "parameters": ', None, "}")
FORMS = {
    "Qwen-Qwen3-0.6B": HERMES, "Qwen-Qwen2.5-7B-Instruct": HERMES, "meta-llama-Llama-3.2-3B-Instruct": LLAMA,
    "HuggingFaceTB-SmolLM3-3B": OWN, "google-gemma-2-2b-it": OWN, "google-gemma-4-31B-it": OWN,
    "microsoft-Phi-3.5-mini-instruct": OWN,
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return byte_tokens(tmp_path_factory.mktemp("bytes"))


def template(fixtures: Path, name: str) -> ChatTemplate:
    path = fixtures / "chat_templates" / f"{name}.jinja"
    return ChatTemplate(path.read_text(encoding="utf-8"), {"bos_token": "<s>", "eos_token": "</s>"}, origin=path)


@pytest.mark.parametrize("name", FORMS)
def test_the_form_of_calls_is_that_of_the_template(fixtures: Path, tokenizer: Tokenizer, name: str) -> None:
    it = template(fixtures, name)
    assert read_calls(tokenizer, it, read_form(tokenizer, it)) == FORMS[name]


@pytest.mark.parametrize("name", [name for name, form in FORMS.items() if not form.own])
def test_calls_in_that_form_are_what_transformers_writes(fixtures: Path, tokenizer: Tokenizer, name: str) -> None:
    utils = pytest.importorskip("transformers.utils.chat_template_utils")
    it = template(fixtures, name)
    form = read_calls(tokenizer, it, read_form(tokenizer, it))
    names = ["get_weather", "now"] if form.between else ["get_weather"]
    arguments = {"도시": "서울", "days": 3}
    calls = [{"type": "function", "function": {"name": n, "arguments": arguments}} for n in names]
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "", "tool_calls": calls}]
    (theirs,), _ = utils.render_jinja_template([turns], tools=[WEATHER, NOW], chat_template=it.source, bos_token="<s>")
    written = [name + form.middle + json.dumps(arguments, ensure_ascii=False) for name in names]
    assert form.begin + (form.between or "").join(written) + form.end in theirs


def test_calls_of_a_list_and_an_id_that_the_template_adds(tokenizer: Tokenizer) -> None:
    it = ChatTemplate(MISTRAL, {"bos_token": "<s>", "eos_token": "</s>"})
    form = read_calls(tokenizer, it, read_form(tokenizer, it))
    assert form.begin == '[TOOL_CALLS] [{"name": "' and form.between == '}, {"name": "' and form.end.startswith("}]")


def test_ids_are_shortened_where_the_template_insists_on_nine_letters(tokenizer: Tokenizer) -> None:
    strict = MISTRAL.replace(
        "{% for c in m.tool_calls %}",
        "{% for c in m.tool_calls %}{% if c.id | length != 9 %}{{ raise_exception('nine') }}{% endif %}",
    )
    it = ChatTemplate(strict, {"bos_token": "<s>", "eos_token": "</s>"})
    form = read_calls(tokenizer, it, read_form(tokenizer, it))
    loose = ChatTemplate(MISTRAL, it.tokens)
    assert form.short_ids and not read_calls(tokenizer, loose, read_form(tokenizer, loose)).short_ids
    call = {"id": "call_0123456789", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": None, "tool_calls": [call]},
             {"role": "tool", "tool_call_id": "call_0123456789", "content": "12:00"}]  # fmt: skip
    _, answer, result = with_calls(turns, form, [NOW])
    assert answer["tool_calls"][0]["id"] == result["tool_call_id"] != call["id"]
    assert "12:00" in it.render(with_calls(turns, form, [NOW]), tools=[NOW])


@pytest.mark.parametrize("name", ["Qwen-Qwen3-0.6B", "HuggingFaceTB-SmolLM3-3B"])
def test_thoughts_are_between_the_templates_marks(fixtures: Path, name: str) -> None:
    thinking = read_thinking(template(fixtures, name), {})
    assert thinking and (thinking.begin, thinking.end, thinking.in_prompt) == ("<think>", "</think>", False)
    opened = read_thinking(ChatTemplate("{% if x %}</think>{% endif %}{{ '<think>\n' }}", {}), {})
    assert opened and opened.in_prompt
    assert read_thinking(template(fixtures, "google-gemma-2-2b-it"), {}) is None


@pytest.mark.parametrize("own", [False, True])
def test_a_conversation_with_calls_is_given_as_the_template_takes_it(own: bool) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "now", "arguments": '{"a": "가"}'}}
    turns: list[Any] = [
        {"role": "user", "content": "?"}, {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "12:00"},
    ]  # fmt: skip
    given = with_calls(turns, OWN if own else HERMES, [WEATHER])
    if own:
        assert [turn["role"] for turn in given] == ["system", "user", "assistant", "user"]
        assert "get_weather" in given[0]["content"] and "12:00" in given[3]["content"]
        assert given[2]["content"] == '<tool_call>\n{"name": "now", "arguments": {"a": "가"}}\n</tool_call>'
        assert with_calls([{"role": "system", "content": "S"}], OWN, [NOW])[0]["content"].startswith("S\n\n# Tools")
    else:
        assert given[1]["tool_calls"][0]["function"]["arguments"] == {"a": "가"} and given[1]["content"] == ""
    assert turns[1]["content"] is None and call["function"]["arguments"] == '{"a": "가"}'  # which are the caller's


@pytest.mark.parametrize(
    "bad",
    [
        5, "now", [5], [{}], [{"type": "function"}], [{"type": "function", "function": {"name": "a b"}}],
        [NOW, NOW], [{"type": "function", "function": {"name": "a", "parameters": 5}}], [NOW] * 200,
        [{"type": "code", "function": {"name": "a"}}],
    ],
    ids=lambda bad: str(bad)[:40],
)  # fmt: skip
def test_what_are_no_tools_is_refused(bad: object) -> None:
    with pytest.raises(UserError, match="tool") as caught:
        checked_tools(bad)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("calls", [5, [5], [{}], [{"function": {}}], [{"function": {"name": "a", "arguments": "{"}}]])
def test_what_are_no_calls_is_refused(calls: object) -> None:
    with pytest.raises(UserError, match="tool_calls"):
        with_calls([{"role": "assistant", "tool_calls": calls}], OWN, [])
