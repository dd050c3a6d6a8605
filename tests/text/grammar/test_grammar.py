"""Expressions, choices and Lark's rules; and forced words in every kind of tokenizer."""

import json
import random
import re
import unicodedata
from pathlib import Path

import pytest

from soban.base.errors import UserError
from soban.text.grammar.grammar import Grammars, grammar_of, of_choices, of_lark, of_regex, of_schema
from soban.text.tokenizers.settings import Settings
from soban.text.tokenizers.tokenizer import load_tokenizer

from ..kinds import kinds
from ..kinds import write as write_kind
from .writing import byte_tokens, write


@pytest.fixture(scope="module")
def grammars(tmp_path_factory: pytest.TempPathFactory) -> Grammars:
    return Grammars(byte_tokens(tmp_path_factory.mktemp("bytes")))


@pytest.mark.parametrize(
    "pattern",
    [r"[0-9]{3}-[0-9]{4}", r"[가-힣]{2,5} 님", r"a*b", r"(ab)*c{3,}d", r" x| y", r"[^a]{5,9}", r"(예|아니요)[.!]?"],
)
def test_an_expression_matches_the_whole_text(grammars: Grammars, pattern: str) -> None:
    for seed in range(10):
        for room in (20, 40, 200):
            text, _ = write(grammars, of_regex(pattern), room, seed)
            assert re.fullmatch(pattern, text), text


def test_a_choice_is_one_of_the_texts_to_the_letter(grammars: Grammars) -> None:
    choices = ["예", "아니요", "a|b", "(c)", '\\"x', "\x00\n", "😀", "가 나", "aa", "a"]
    seen = {write(grammars, of_choices(choices), 30, seed)[0] for seed in range(80)}
    assert seen <= set(choices) and len(seen) > 5


def test_a_grammar_in_larks_way(grammars: Grammars) -> None:
    for seed in range(5):
        text, matching = write(grammars, of_lark('start: "(" NUMBER ")"\nNUMBER: /[0-9]{5}/'), 30, seed)
        assert re.fullmatch(r"\([0-9]{5}\)", text) and matching.ended


@pytest.mark.parametrize(
    "forms",
    [
        {"regex": "(?=a)"}, {"regex": "["}, {"regex": ""}, {"regex": 5}, {"choices": []}, {"choices": "ab"},
        {"choices": ["a", 1]}, {"choices": [""]}, {"grammar": "nonsense"}, {"grammar": "start: other"},
        {"regex": "a", "choices": ["b"]}, {"regex": "x" * 500_000},
    ],
    ids=lambda forms: str(forms)[:40],
)  # fmt: skip
def test_what_is_no_form_of_text_is_refused_in_one_line(grammars: Grammars, forms: dict) -> None:
    with pytest.raises(UserError) as caught:
        grammar = grammar_of(**forms)
        assert grammar
        grammars.factory(grammar)
    assert "\n" not in str(caught.value) and any(name in str(caught.value) for name in forms)


def test_two_sequences_of_a_request_each_have_their_own(grammars: Grammars) -> None:
    make = grammars.factory(of_regex("ab|cd"))
    first, second = make(), make()
    first.take(grammars.words.encode(b"a")[0])
    assert [second.valid([grammars.words.encode(letter)[0]]) for letter in (b"a", b"c", b"b")] == [1, 1, 0]
    assert [first.valid([grammars.words.encode(letter)[0]]) for letter in (b"a", b"c", b"b")] == [0, 0, 1]


def test_forced_words_are_the_tokenizers_own_tokens(tmp_path: Path, byte_level: object) -> None:
    tokenizer = load_tokenizer(byte_level(), {})  # type: ignore[operator]
    words = Grammars(tokenizer).words
    for text in ("안녕하세요", '{"안녕": "quick', " the lazy dog", "\n\nfox"):
        assert words.encode(text.encode()) == tokenizer.encode(text, bos=False)


def test_forced_words_that_the_tokenizer_would_compose_keep_their_bytes(byte_level: object) -> None:
    folder = byte_level()  # type: ignore[operator]
    state = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    state["normalizer"] = {"type": "NFC"}
    (folder / "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
    grammars = Grammars(load_tokenizer(folder, {}))
    key = unicodedata.normalize("NFD", "안녕")
    assert b"".join(map(grammars.words.bytes.__getitem__, grammars.words.encode(key.encode()))) == key.encode()
    schema = {
        "type": "object",
        "properties": {key: {"type": "boolean"}},
        "required": [key],
        "additionalProperties": False,
    }
    for seed in range(3):
        text, _ = write(grammars, of_schema(schema), 80, seed)
        assert list(json.loads(text)) == [key]


def test_a_text_is_written_in_every_kind_of_tokenizer_that_has_the_bytes(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"안녕 a": {"enum": ["여우", "hello"]}}, "required": ["안녕 a"]}
    schema["additionalProperties"] = False
    written = 0
    for number, (name, state) in enumerate(kinds(random.Random(3))):
        if number % 3 or state["model"]["type"] not in ("BPE", "Unigram"):
            continue
        space = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
        state["decoder"] = {"type": "Sequence", "decoders": [space, {"type": "ByteFallback"}, {"type": "Fuse"}]}
        tokenizer = load_tokenizer(write_kind(tmp_path / str(number), state), {})
        try:
            text, _ = write(Grammars(tokenizer), of_schema(schema), 60, number)
        except UserError as error:
            assert "no text is found" in str(error) or "vocabulary" in str(error), name
            continue
        written += 1
        assert json.loads(text)["안녕 a"] in ("여우", "hello"), name
    assert written > 5


def test_a_sentencepiece_vocabulary_puts_no_blank_before_forced_words(fixtures: Path) -> None:
    from soban.text.tokenizers.sentencepiece import SentencePieceTokenizer
    from soban.text.tokenizers.spm_file import read_sentencepiece

    file = read_sentencepiece(fixtures / "tokenizers" / "tokenizer.model")
    grammars = Grammars(SentencePieceTokenizer(file, Settings()))
    assert grammars.words.encode(b"hello") != grammars.tokenizer.encode("hello", bos=False)
    for seed in range(5):
        schema = {"type": "object", "properties": {"이름": {"type": "string"}}, "required": ["이름"]}
        text, _ = write(grammars, of_schema(schema), 40, seed)
        assert isinstance(json.loads(text)["이름"], str)
