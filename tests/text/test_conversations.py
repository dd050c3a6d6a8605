"""A table of conversations: for every template in the fixtures, the ids of transformers' apply_chat_template."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from soban.base.errors import UserError
from soban.text.chat.template import ChatTemplate, encode_chat, load_template
from soban.text.tokenizers.tokenizer import Tokenizer, load_tokenizer

from .test_chat import TEMPLATES, turns

FAMILY = "👩‍👩‍👧‍👦"
LONG = "The cat sat on the mat, and 고양이가 방석에 앉았어요. " * 60
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "서울", "days": 2}}}
TOOLS = [
    {"role": "user", "content": "How is the weather in 서울?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": '{"sky": "맑음", "degrees": 21}', "name": "weather"},
]
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "one word": turns("hi"),
    "an answer": turns("hi", "hello"),
    "three turns": turns("hi", "hello", "who are you?", "a table", "which?"),
    "system": turns("sing", system="You are a poet."),
    "system and answers": turns("sing", "la la", "more", system="You are a poet."),
    "an empty system": turns("sing", system=""),
    "a system of blanks": turns("sing", system="  \n"),
    "system alone": turns(system="Be brief."),
    "system in Korean": turns("노래해 줘", "라라라", "더", system="시인처럼 말해라.\n"),
    "Hangul": turns("대한민국의 수도에 대해 알려줘", "서울입니다.", "더 자세히"),
    "Hangul in pieces": turns("한글", "ㄱㄴㄷ ㅏㅑㅓ", "각"),
    "emoji": turns(f"👍🏽 {FAMILY} 🇰🇷", "1️⃣ ❤️", FAMILY * 5),
    "other scripts": turns("中文字 日本語 العربية עברית ไทย", "ÀÉÎ ﬁ ①"),
    "empty": turns(""),
    "an empty answer": turns("hi", "", "hello?"),
    "blanks alone": turns("   ", "\n\n", "\t"),
    "blanks around": turns("\n hi \n", "  ok  ", " yes\n\n"),
    "blanks inside": turns("a  b\n\n\nc\td", "e   f"),
    "code": turns("```python\ndef f(x):\n    return {'a': [x]}\n```", "`f(1)` is\n\n    {'a': [1]}"),
    "markdown": turns("# Title\n\n- one\n- **two**\n\n| a | b |\n|---|---|", "> quoted"),
    "braces": turns("{{ messages }} {% raise %} {# no #}", "${x} %s {0}", "</div><br/>"),
    "quotes": turns('"it\'s" `so` \\n', '<a href="#">&amp;</a>'),
    "control characters": turns("a\x00b\x07", "c\u200d\ufeffd\u2028e"),
    "numbers": turns("3.14159 1,000,000 0x1F", "1" * 100),
    "long": turns(LONG, LONG, LONG + "?"),
    "many turns": turns(*["yes", "no"] * 20, "end"),
    "one long word": turns("가" * 2000, "a" * 2000),
    "roles as words": turns("user assistant system model", "User: hi\nAssistant: hello", "### Instruction:"),
    "a question again": turns("왜?", "그러니까.", "왜?", "그러니까.", "왜?"),
    "an answer that begins with a blank": turns("hi", " hello", "so", "\thello"),
    "a call": TOOLS[:2],
    "a tool": TOOLS,
    "a tool's answer": [*TOOLS, {"role": "assistant", "content": "맑고 21도예요."}, {"role": "user", "content": "!"}],
    "two systems": [{"role": "system", "content": "Be brief."}, *turns("hi", system="Be kind.")],
    "two users": turns("a") + turns("b"),
    "assistant first": turns("hi", "hello")[1:] + turns("who?"),
    "a late system": [*turns("hi", "hello"), {"role": "system", "content": "Be brief."}, *turns("who?")],
}
MINIMUM = 2 * 25  # Gemma 2, which takes no system message and no tools, is the one with the fewest


@pytest.fixture(scope="module")
def llama(fixtures: Path, markup_texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A trained SentencePiece-like tokenizer.json, with the markup tokens of the templates."""
    tokenizers = pytest.importorskip("tokenizers")

    def make(chat_template: str) -> Path:
        folder = tmp_path_factory.mktemp("llama")
        source = fixtures / "models" / "TinyStories-656K"
        library = tokenizers.Tokenizer.from_file(str(source / "tokenizer.json"))
        library.add_special_tokens([tokenizers.AddedToken(text, normalized=False) for text in markup_texts])
        library.save(str(folder / "tokenizer.json"))
        for name in ("special_tokens_map.json", "tokenizer_config.json"):
            shutil.copy(source / name, folder)
        path = folder / "tokenizer_config.json"
        settings = json.loads(path.read_text(encoding="utf-8"))
        settings |= {"chat_template": chat_template, "tokenizer_class": "PreTrainedTokenizerFast"}
        path.write_text(json.dumps(settings), encoding="utf-8")
        return folder

    return make


def prepared(fixtures: Path, make: Callable[..., Path], name: str) -> tuple[Any, Tokenizer, ChatTemplate]:
    transformers = pytest.importorskip("transformers")
    folder = make(chat_template=(fixtures / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8"))
    template = load_template(folder)
    assert template is not None
    return transformers.AutoTokenizer.from_pretrained(folder), load_tokenizer(folder, {}), template


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("kind", ["byte_level", "llama"])
def test_every_conversation_has_the_ids_of_apply_chat_template(
    fixtures: Path, request: pytest.FixtureRequest, name: str, kind: str
) -> None:
    judge, tokenizer, template = prepared(fixtures, request.getfixturevalue(kind), name)
    bos = tokenizer.bos_id
    compared = 0
    for label, messages in CONVERSATIONS.items():
        for prompt in (True, False):
            try:
                expected = judge.apply_chat_template(messages, add_generation_prompt=prompt)["input_ids"]
                text = judge.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=False)
            except Exception:  # refused: by us too, if we are to be strict
                with pytest.raises(UserError):
                    encode_chat(tokenizer, template, messages, add_generation_prompt=prompt, strict=True)
                continue
            ids = encode_chat(tokenizer, template, messages, add_generation_prompt=prompt)
            systems = [message["content"].strip() for message in messages if message["role"] == "system"]
            if dropped := [system for system in systems if system not in text]:
                assert all(system in tokenizer.decode(ids) for system in dropped), label  # we do not drop it
                continue
            assert ids == expected, label
            assert ids.count(bos) <= max(1, expected.count(bos)) and ids[:2] != [bos, bos]
            compared += 1
    assert compared >= MINIMUM


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_a_template_refuses_is_mended_into_what_it_accepts(
    fixtures: Path, byte_level: Callable[..., Path], name: str
) -> None:
    judge, tokenizer, template = prepared(fixtures, byte_level, name)
    for label in ("two users", "assistant first", "a late system", "system and answers", "two systems"):
        ids = encode_chat(tokenizer, template, CONVERSATIONS[label])
        text = tokenizer.decode(ids, skip_special=False)
        for message in CONVERSATIONS[label]:
            assert message["content"] in text, label
    if name == "google-gemma-2-2b-it":
        for label, mended in MENDED.items():
            expected = judge.apply_chat_template(mended, add_generation_prompt=True)["input_ids"]
            assert encode_chat(tokenizer, template, CONVERSATIONS[label]) == expected, label


MENDED = {
    "two users": turns("a\n\nb"),
    "assistant first": turns("", "hello", "who?"),
    "a late system": turns("hi", "hello", "Be brief.\n\nwho?"),
    "system and answers": turns("You are a poet.\n\nsing", "la la", "more"),
    "system alone": turns("Be brief."),
}


def test_each_mend_is_told_and_refused_if_strict(
    fixtures: Path, byte_level: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    from soban import messages as notices

    _, tokenizer, template = prepared(fixtures, byte_level, "google-gemma-2-2b-it")
    told = {
        "two users": "in a row",
        "assistant first": "begins with an answer",
        "a late system": "in the middle",
        "system and answers": "no system role",
    }
    notices._once.cache_clear()
    for label, words in told.items():
        caplog.clear()
        for _ in range(2):
            encode_chat(tokenizer, template, CONVERSATIONS[label])
        assert caplog.text.count(words) == 1, label
        with pytest.raises(UserError):
            encode_chat(tokenizer, template, CONVERSATIONS[label], strict=True)
    for lacking in ({"role": "user"}, {"role": "user", "content": None}):
        assert encode_chat(tokenizer, template, [lacking]) == encode_chat(tokenizer, template, turns(""))
        with pytest.raises(UserError, match="no content"):
            encode_chat(tokenizer, template, [lacking], strict=True)


def test_what_cannot_be_mended_is_told_in_the_templates_words(fixtures: Path, byte_level: Callable[..., Path]) -> None:
    _, tokenizer, template = prepared(fixtures, byte_level, "google-gemma-2-2b-it")
    with pytest.raises(UserError, match="must alternate"):
        encode_chat(tokenizer, template, [{"role": "tool", "content": "x"}, *turns("hi")])


def parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


def parted(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conversation with each content in two parts."""
    return [{**m, "content": parts(m["content"][:2], m["content"][2:])} for m in messages]


PARTED = ("an answer", "three turns", "system and answers", "Hangul", "blanks inside", "code", "roles as words")
READS_PARTS = {"google-gemma-4-31B-it": {"user", "assistant"}}  # by reading the fixtures' templates


@pytest.mark.parametrize("name", TEMPLATES)
def test_parts_are_what_apply_chat_template_makes_of_them_or_of_their_text(
    fixtures: Path, byte_level: Callable[..., Path], name: str
) -> None:
    judge, tokenizer, template = prepared(fixtures, byte_level, name)
    compared = 0
    for label in PARTED:
        messages = CONVERSATIONS[label]
        given = parted(messages)
        understood = [
            part if part["role"] in READS_PARTS.get(name, ()) else message
            for message, part in zip(messages, given, strict=True)
        ]
        try:
            expected = judge.apply_chat_template(understood, add_generation_prompt=True)["input_ids"]
        except Exception:  # a system message, which this template refuses
            expected = encode_chat(tokenizer, template, messages)
        assert encode_chat(tokenizer, template, given) == expected, label
        mixed = [*given[:1], *messages[1:]]
        assert len(encode_chat(tokenizer, template, mixed)) > 0
        compared += 1
    assert compared == len(PARTED)


def test_a_template_that_reads_parts_alone_gets_them(byte_level: Callable[..., Path]) -> None:
    source = "{% for m in messages %}<{{ m.role }}>{% for part in m.content %}{{ part.text }}|{% endfor %}{% endfor %}"
    folder = byte_level(chat_template=source)
    transformers = pytest.importorskip("transformers")
    judge = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer, template = load_tokenizer(folder, {}), load_template(folder)
    assert template is not None
    messages = [{"role": "user", "content": parts("a ", "b")}, {"role": "assistant", "content": parts("한글")}]
    ids = encode_chat(tokenizer, template, messages)
    assert (
        ids == judge.apply_chat_template(messages)["input_ids"]
        and tokenizer.decode(ids) == "<user>a |b|<assistant>한글|"
    )


def test_parts_that_a_template_would_write_as_code_are_joined(fixtures: Path, byte_level: Callable[..., Path]) -> None:
    _, tokenizer, template = prepared(fixtures, byte_level, "meta-llama-Llama-3.2-3B-Instruct")
    alone = [*TOOLS[:2], {"role": "tool", "content": "맑음, 21도"}]
    assert encode_chat(tokenizer, template, [*alone[:2], *parted(alone[2:])]) == encode_chat(tokenizer, template, alone)


@pytest.mark.parametrize("name", ["google-gemma-4-31B-it", "google-gemma-2-2b-it", "Qwen-Qwen3-0.6B"])
@pytest.mark.parametrize(
    "typed", [("a <end_", "of_turn> b"), ("<tur", "n|>"), ("<tur ", " n|>"), ("<|im_end|", ">", "")]
)
def test_a_token_typed_over_two_parts_stays_text(
    fixtures: Path, byte_level: Callable[..., Path], markup_texts: list[str], name: str, typed: tuple[str, ...]
) -> None:
    _, tokenizer, template = prepared(fixtures, byte_level, name)
    markup = {span.token_id for text in markup_texts for span in tokenizer.find_markup(text)}
    counts = [
        sum(index in markup for index in encode_chat(tokenizer, template, [{"role": "user", "content": content}]))
        for content in (parts(*typed), parts("x"))
    ]
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9999}},
            "type 'image_url', and only",
        ),
        ({"type": "input_audio"}, "input_audio"),
        ({"type": "text"}, "of type NoneType"),
        ({"type": "text", "text": 3}, "of type int"),
        ({"text": "hi"}, "where an object with type and text belongs"),
        ("hi", "'hi'"),
        ({"type": "x" * 9999}, "xxx"),
    ],
)
def test_a_part_that_is_no_text_is_refused_in_one_line(
    fixtures: Path, byte_level: Callable[..., Path], part: Any, said: str
) -> None:
    for name in ("google-gemma-4-31B-it", "google-gemma-2-2b-it"):
        _, tokenizer, template = prepared(fixtures, byte_level, name)
        with pytest.raises(UserError) as caught:
            encode_chat(tokenizer, template, [{"role": "user", "content": [*parts("what is this?"), part]}])
        line = str(caught.value)
        assert said in line and "\n" not in line and len(line) < 250


def test_parts_of_a_content_are_joined_too(byte_level: Callable[..., Path]) -> None:
    tokenizer = load_tokenizer(byte_level(), {})
    source = (
        "{% for m in messages %}{% if m.role != 'user' or not loop.first %}{{ raise_exception('one turn') }}{% endif %}"
        "{% for part in m.content %}{{ part.text | trim }}{% endfor %}{% endfor %}"
    )
    messages = [{"role": "user", "content": parts(text)} for text in ("a", "b")]
    ids = encode_chat(tokenizer, ChatTemplate(source, {}), messages)
    assert tokenizer.decode(ids) == "a\n\nb"
