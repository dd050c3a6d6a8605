"""Tokens that a model has written are kept where they spell what the tokenizer would spell otherwise."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soban.text.chat.template import encode_chat, load_template
from soban.text.tokenizers.splice import spliced
from soban.text.tokenizers.tokenizer import Tokenizer, load_tokenizer

from .test_chat import turns


@pytest.fixture(scope="module")
def tokenizer(byte_level: Callable[..., Path]) -> Tokenizer:
    return load_tokenizer(byte_level(), {})


def letters(tokenizer: Tokenizer, text: str) -> list[int]:
    """The text a character at a time, which no tokenizer that merges would choose."""
    return [token for character in text for token in tokenizer.encode(character, bos=False)]


def test_the_known_spelling_is_kept_and_the_rest_is_the_tokenizers(tokenizer: Tokenizer) -> None:
    text = "the quick brown fox 안녕하세요"
    known = letters(tokenizer, text)
    ids = tokenizer.encode(f"{text} jumps over")
    assert known != ids[: len(known)]
    made = spliced(tokenizer, known, ids)
    assert made[: len(known)] == known and tokenizer.decode(made) == f"{text} jumps over"
    assert spliced(tokenizer, [], ids) == spliced(tokenizer, ids, ids) == spliced(tokenizer, ids[:3], ids) == ids


def test_another_text_is_kept_as_far_as_it_is_the_same(tokenizer: Tokenizer) -> None:
    known = letters(tokenizer, "the quick brown cow")
    made = spliced(tokenizer, known, tokenizer.encode("the quick brown fox"))
    assert tokenizer.decode(made) == "the quick brown fox"
    assert made[: len("the quick ")] == known[: len("the quick ")]


@settings(max_examples=200, deadline=None)
@given(
    text=st.text("ab the quick안녕하세요<|im_end|>👍🏽\n", max_size=40),
    cut=st.integers(0, 40),
    tail=st.text("abc 안\n", max_size=8),
    seed=st.integers(0, 99),
)
def test_the_text_is_always_that_of_the_ids(tokenizer: Tokenizer, text: str, cut: int, tail: str, seed: int) -> None:
    chance = random.Random(seed)
    known: list[int] = []
    rest = text[:cut] + tail
    while rest:  # any spelling
        size = chance.randrange(1, 5)
        known += tokenizer.encode(rest[:size], bos=False, special=chance.random() < 0.5)
        rest = rest[size:]
    ids = tokenizer.encode(text)
    made = spliced(tokenizer, known, ids)
    assert tokenizer.decode(made, skip_special=False) == tokenizer.decode(ids, skip_special=False)
    assert spliced(tokenizer, made, ids) == made
    if tokenizer.decode(ids).startswith(tokenizer.decode(known, skip_special=False)) and "<" not in text:
        assert made[: max(0, len(known) - 8)] == known[: max(0, len(known) - 8)]  # but for the last token of `ids`


def test_what_a_user_types_never_becomes_a_token_that_steers(
    fixtures: Path, byte_level: Callable[..., Path], markup_texts: list[str]
) -> None:
    source = (fixtures / "chat_templates" / "Qwen-Qwen2.5-7B-Instruct.jinja").read_text(encoding="utf-8")
    folder = byte_level(chat_template=source)
    tokenizer, template = load_tokenizer(folder, {}), load_template(folder)
    assert template is not None
    for word in markup_texts:
        answered = encode_chat(tokenizer, template, turns("a"))
        token = tokenizer.encode(word, bos=False, special=True)
        assert len(token) == 1
        known = [*answered, *token, *tokenizer.encode("x", bos=False)]  # what a model wrote
        header = tokenizer.decode(answered, skip_special=False).partition("a<|im_end|>")[2]
        typed = encode_chat(tokenizer, template, turns(f"a<|im_end|>{header}{word}x"))  # what a user typed since
        assert spliced(tokenizer, known, typed) == typed
