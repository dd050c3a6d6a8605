#!/usr/bin/env bash
# llguidance 1.9.1: in "text without a mark, then the mark", the mark can be begun after a text and never be ended.
#
# The grammar says: TEXT, which is any text that does not hold "<call>", then "<call>", then a number. "hello<call>12" is of
# that language, and "<call>12" is taken. But after "hello" each letter of "<call" is allowed, as more of TEXT, and ">" is not: the
# lexer takes the longest piece, so it is still in TEXT, which must not hold the mark. A model that is held to the
# grammar writes "hello<call" and then anything else. A rule that is [lazy] and ends with the mark itself says the same, and works.
# It matters to whoever lets a model speak before it calls a tool whose mark is made of letters and not a token of its own.
#
# Ends with 0 while this is so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check llguidance==1.9.1
"$folder/venv/bin/python" - <<'PYTHON'
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper


class Bytes:  # a vocabulary of all bytes, and an end
    tokens = [*(bytes([n]) for n in range(256)), b"<end>"]
    eos_token_id, bos_token_id, special_token_ids = 256, None, [256]

    def __call__(self, text):
        return list(text if isinstance(text, bytes) else text.encode())


TOKENS = LLTokenizer(TokenizerWrapper(Bytes()))
GREEDY = r'''
start: TEXT "<call>" NUMBER
TEXT: /(.|\n)*/ & ~/(.|\n)*<call>(.|\n)*/
NUMBER: /[0-9]+/
'''
LAZY = r'''
start: text NUMBER
text[lazy]: /(.|\n)*<call>/
NUMBER: /[0-9]+/
'''


def taken(grammar, text):
    matcher = LLMatcher(TOKENS, LLMatcher.grammar_from_lark(grammar))
    assert not matcher.get_error(), matcher.get_error()
    return text[: matcher.validate_tokens(list(text.encode()))]


for name, grammar in (("greedy", GREEDY), ("lazy", LAZY)):
    for text in ("<call>12", "hello<call>12"):
        print(f"{name}: of {text!r} is taken {taken(grammar, text)!r}")
assert taken(GREEDY, "<call>12") == "<call>12" and taken(GREEDY, "hello<call>12") == "hello<call"
assert taken(LAZY, "<call>12") == "<call>12" and taken(LAZY, "hello<call>12") == "hello<call>12"
PYTHON
