"""Streams give every character whole, as soon as its last byte is there, and in the end the whole text."""

import itertools
import random
from collections.abc import Sequence

import pytest

from soban.text.stream.decode import BYTE_ALPHABET, ByteStream, byte_level_bytes, run, sentencepiece_bytes

HANGUL = [chr(code) for code in range(0xAC00, 0xD7A4)]
EMOJI = ["👩‍👩‍👧‍👦", "🇰🇷", "👍🏽", "🏳️‍🌈", "1️⃣", "❤️", "🧑🏿‍🚀", "e\u0301", "한글😀", "ㄱㅏ\u11a8"]


def pieces_of(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = [0, *cuts, len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def stream_of(pieces: Sequence[bytes]) -> list[str]:
    stream = ByteStream(lambda index: pieces[index])
    return [stream.feed(index) for index in range(len(pieces))] + [stream.finish()]


def assert_prompt(pieces: Sequence[bytes]) -> None:
    """The text is whole, free of U+FFFD, and never lags by more than an unfinished character."""
    data, fed, told = b"".join(pieces), b"", ""
    for piece, text in zip([*pieces, b""], stream_of(pieces), strict=True):
        fed += piece
        told += text
        assert 0 <= len(fed) - len(told.encode()) <= 3
        assert fed.startswith(told.encode())
    assert told.encode() == data


def test_all_11172_syllables_at_every_split() -> None:
    assert len(HANGUL) == 11_172
    for syllable in HANGUL:
        data = syllable.encode()
        for count in range(len(data)):
            for cuts in itertools.combinations(range(1, len(data)), count):
                told = stream_of(pieces_of(data, cuts))
                assert told == [""] * len(cuts) + [syllable, ""]


@pytest.mark.parametrize("text", EMOJI)
def test_emoji_sequences_at_every_split(text: str) -> None:
    data = text.encode()
    cuts_of = range(1, len(data))
    subsets = itertools.chain.from_iterable(
        itertools.combinations(cuts_of, count) for count in (0, 1, 2, len(data) - 1)
    )
    for cuts in subsets:
        assert_prompt(pieces_of(data, cuts))
    chance = random.Random(len(data))
    for _ in range(200):
        assert_prompt(pieces_of(data, [cut for cut in cuts_of if chance.random() < 0.5]))


def test_broken_utf8_becomes_what_python_makes_of_it() -> None:
    chance = random.Random(11)
    parts = [
        b"a",
        "각".encode(),
        "😀".encode(),
        b"\xff",
        b"\xc0",
        b"\xe0\x80",
        b"\xed\xa0\x80",
        b"\xf0\x9f",
        b"\x80",
        b"",
    ]
    for _ in range(3000):
        data = b"".join(chance.choices(parts, k=6))
        pieces = [data[index : index + 1] for index in range(len(data))] if chance.random() < 0.5 else [data]
        assert "".join(stream_of(pieces)) == data.decode(errors="replace")


def test_only_the_first_space_of_a_text_is_dropped() -> None:
    pieces = [b"", b" a", b" b", b"  c", b" "]
    assert run(ByteStream(pieces.__getitem__, lead=1), [0, 1, 2, 0, 3]) == "a b  c"
    assert run(ByteStream(pieces.__getitem__, lead=1), [3, 1]) == " c a"
    assert run(ByteStream(pieces.__getitem__, lead=1), [4, 1]) == " a"
    assert run(ByteStream(pieces.__getitem__, lead=1, restart=0), [1, 0, 1, 1]) == "aa a"
    assert run(ByteStream(pieces.__getitem__), [1]) == " a"


def test_pieces_are_the_bytes_that_they_stand_for() -> None:
    assert sorted(BYTE_ALPHABET.values()) == list(range(256))
    assert byte_level_bytes("Ġa") == b" a" and byte_level_bytes("ìķĪ") == "안".encode()
    assert byte_level_bytes("<a b>") == b"<a b>"
    assert sentencepiece_bytes("▁a▁") == b" a " and sentencepiece_bytes("<0xEC>") == b"\xec"
    assert sentencepiece_bytes("<0xG1>") == b"<0xG1>"
