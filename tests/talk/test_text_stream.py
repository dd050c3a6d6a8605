"""A text out of lists of token ids: decoded and cut as the whole text would be, whatever the ids; no model is there."""

import random

import pytest

from soban.talk.text_stream import TextStream
from soban.text.stream.decode import ByteStream
from soban.text.stream.stop import StopStrings

# Ids below 256 are bytes, these are tokens that add nothing to the text.
MARKS = {300: "<end>", 301: "<turn>"}


def stream(stops: tuple[str, ...] = (), lead: str = "", tail: str = "") -> TextStream:
    decoder = ByteStream(lambda token: b"" if token in MARKS else bytes([token]))
    return TextStream(decoder, StopStrings(stops), silent=lambda token: MARKS.get(token, ""), lead=lead, tail=tail)


def pieces(it: TextStream, ids: list[int], reason: str) -> list[str]:
    return [*map(it.feed, ids), it.end(reason)]


def test_the_pieces_of_bytes_are_the_text_that_python_decodes_and_no_character_is_split() -> None:
    text = "한글 👍🏽 e\u0301\n" * 3
    got = pieces(it := stream(), list(text.encode()), "length")
    assert "".join(got) == text and "\ufffd" not in "".join(got)
    assert (it.tokens, it.characters, it.finish_reason) == (len(text.encode()), len(text), "length")
    broken = b"a\xf0\x9f\x91"
    assert "".join(pieces(stream(), list(broken), "length")) == broken.decode("utf-8", "replace")


def test_the_text_ends_before_the_stop_string_that_is_complete_first() -> None:
    dice = random.Random(4)
    stopped = 0
    for _ in range(300):
        text = "".join(dice.choices("ab각\n", k=dice.randint(0, 12)))
        stops = tuple({"".join(dice.choices("ab각\n", k=dice.randint(1, 3))) for _ in range(dice.randint(0, 2))})
        ends = [end for end in range(len(text) + 1) if text[:end].endswith(stops)] if stops else []
        wanted = text
        if ends:
            wanted = text[: ends[0] - max(len(stop) for stop in stops if text[: ends[0]].endswith(stop))]
        got = pieces(it := stream(stops), list(text.encode()), "end")
        assert "".join(got) == wanted, (text, stops)
        assert it.finish_reason == ("stop" if ends else "end") and it.characters == len(wanted)
        assert it.tokens == (len(text[: ends[0]].encode()) if ends else len(text.encode()))
        stopped += bool(ends)
    assert 50 < stopped < 250


def test_a_stop_string_may_hold_a_token_that_is_never_shown() -> None:
    got = pieces(it := stream(("a<end>b",)), [97, 97, 300, 98, 99], "end")
    assert ("".join(got), it.finish_reason, it.tokens) == ("a", "stop", 4)
    assert "".join(pieces(stream(("a<turn>b",)), [97, 300, 98], "end")) == "ab"


def test_nothing_comes_after_the_end() -> None:
    it = stream(("x",))
    assert [it.feed(97), it.feed(120), it.feed(98), it.end("length")] == ["a", "", "", ""]
    assert (it.finish_reason, it.tokens) == ("stop", 2)


@pytest.mark.parametrize(("reason", "kept"), [("end", ""), ("length", "\n\n"), ("context", "\n\n")])
def test_blanks_of_the_template_around_an_answer_are_not_the_answer_s(reason: str, kept: str) -> None:
    got = pieces(stream(lead="\n ", tail="\n"), list(b"\n  a\n\nb\n\n"), reason)
    assert "".join(got) == "a\n\nb" + kept
    assert got[-2] == ""  # held back until it is known what they are


def test_what_is_held_back_for_a_stop_string_comes_at_the_end() -> None:
    it = stream(("END",))
    assert [it.feed(byte) for byte in b"xEN"] == ["x", "", ""]
    assert it.end("context") == "EN" and it.finish_reason == "context"
