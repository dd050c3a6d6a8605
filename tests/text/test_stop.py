"""Stop strings end a text at the same place however it is cut into pieces."""

import random
import time

import pytest

from soban.base.errors import UserError
from soban.text.stream.stop import StopStrings


def naive(text: str, stops: list[str]) -> str:
    """The text before the stop string that is complete first, the longest of several."""
    for end in range(1, len(text) + 1):
        if found := [stop for stop in stops if text[:end].endswith(stop)]:
            return text[: end - max(map(len, found))]
    return text


def run(stops: list[str], pieces: list[str]) -> tuple[str, bool]:
    watch, shown, stopped = StopStrings(stops), "", False
    for piece in pieces:
        text, stopped = watch.feed(piece)
        shown += text
        if stopped:
            return shown, True
    return shown + watch.finish(), False


def test_random_texts_are_cut_where_a_plain_search_cuts_them() -> None:
    chance = random.Random(9)
    for _ in range(3000):
        stops = ["".join(chance.choices("ab가", k=chance.randrange(1, 5))) for _ in range(chance.randrange(1, 4))]
        text = "".join(chance.choices("ab가", k=chance.randrange(15)))
        pieces, rest = [], text
        while rest:
            size = chance.randrange(1, 4)
            pieces.append(rest[:size])
            rest = rest[size:]
        expected = naive(text, stops)
        assert run(stops, pieces) == (expected, expected != text or any(text.endswith(s) for s in stops)), (
            stops,
            pieces,
        )


def test_nothing_is_held_back_but_what_may_still_become_a_stop_string() -> None:
    watch = StopStrings(["\nUser:", "END"])
    assert watch.feed("hello") == ("hello", False)
    assert watch.feed(" E") == (" ", False)
    assert watch.feed("N") == ("", False)
    assert watch.feed("ough\n") == ("ENough", False)
    assert watch.feed("\nUs") == ("\n", False)
    assert watch.feed("er: hi") == ("", True)
    assert watch.feed("more") == ("", True)
    assert watch.finish() == ""
    unfinished = StopStrings(["END"])
    unfinished.feed("the EN")
    assert unfinished.finish() == "EN"


def test_without_stop_strings_all_text_passes() -> None:
    assert run([], ["a", "", "b"]) == ("ab", False)


def test_ten_thousand_stop_strings_and_nasty_ones_cost_little() -> None:
    chance = random.Random(1)
    many = ["".join(chance.choices("abcdefgh", k=20)) for _ in range(10_000)]
    nasty = ["a" * count + "b" for count in range(1, 1200)]
    started = time.thread_time()
    for stops in (many, nasty, ["a" * 100_000 + "b"]):
        watch = StopStrings(stops)
        for _ in range(2000):
            watch.feed("aaaaa")
    assert time.thread_time() - started < 8


def test_empty_and_endless_stop_strings_are_refused() -> None:
    with pytest.raises(UserError, match="empty"):
        StopStrings(["a", ""])
    with pytest.raises(UserError, match="at most"):
        StopStrings(["a" * 1_000_001])
