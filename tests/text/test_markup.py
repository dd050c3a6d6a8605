"""Tokens that are written out in text are found where the tokenizers library finds them."""

import random
import unicodedata

import pytest

from soban.text.tokenizers.markup import Matcher
from soban.text.tokenizers.settings import AddedToken

tokenizers = pytest.importorskip("tokenizers")


def test_added_tokens_are_found_as_the_library_finds_them() -> None:
    """Some are parts of others, some swallow blanks, some have to be words of their own."""
    for seed in range(400):
        dice = random.Random(seed)
        library = tokenizers.Tokenizer(tokenizers.models.BPE({"\0": 0}, []))
        tokens = {}
        for _ in range(dice.randrange(1, 7)):
            content = "".join(dice.choices("ab<_. ", k=dice.randrange(1, 5))).strip()
            flags = {name: dice.random() < 0.3 for name in ("lstrip", "rstrip", "single_word")}
            if content and library.token_to_id(content) is None:
                library.add_tokens([tokenizers.AddedToken(content, normalized=False, special=False, **flags)])
                tokens[library.token_to_id(content)] = AddedToken(content, special=False, **flags)
        matcher = Matcher(tokens)
        for _ in range(10):
            text = "".join(dice.choices("ab<_.  é", k=dice.randrange(25)))
            found = library.encode(text)
            spans = [(span.token_id, (span.start, span.end)) for span in matcher.spans(text)]
            assert spans == list(zip(found.ids, found.offsets, strict=True)), (tokens, text)


def test_a_word_is_what_the_library_takes_for_one() -> None:
    library = tokenizers.Tokenizer(tokenizers.models.BPE({"\0": 0}, []))
    library.add_tokens([tokenizers.AddedToken("<>", normalized=False, single_word=True)])
    matcher = Matcher({1: AddedToken("<>", single_word=True)})
    codes = [*range(0xD800), *range(0xE000, 0x110000)]
    known = [chr(code) for code in codes if unicodedata.category(chr(code)) != "Cn"]  # to this Python
    for start in range(0, len(known), 10_000):
        text = "".join(f" <>{character} " for character in known[start : start + 10_000])
        found = library.encode(text)
        spans = [offsets for index, offsets in zip(found.ids, found.offsets, strict=True) if index == 1]
        assert [(span.start, span.end) for span in matcher.spans(text)] == spans
