"""The page book: nothing is lost, nothing is given twice, and known beginnings are found."""

import random

from soban.engine.pages import Pages
from soban.ops.batch import PAGE


def remember(pages: Pages, tokens: list[int]) -> list[int]:
    """Take pages for the tokens as a sequence does, and remember the full ones."""
    taken = pages.match(tokens)
    pages.share(taken)
    while len(taken) * PAGE < len(tokens):
        taken.append(pages.take())
    for n in range(len(tokens) // PAGE):
        pages.remember(taken[n], taken[n - 1] if n else None, tokens[n * PAGE : (n + 1) * PAGE])
    return taken


def test_a_known_beginning_is_found_also_after_it_was_given_back() -> None:
    pages = Pages(8)
    tokens = list(range(3 * PAGE + 5))
    taken = remember(pages, tokens)
    pages.release(taken)
    assert pages.free == 8
    assert pages.match(tokens) == taken[:3]
    assert pages.match([*tokens[: 2 * PAGE], 999, *tokens[2 * PAGE + 1 :]]) == taken[:2]
    assert pages.match([999, *tokens[1:]]) == []


def test_equal_tokens_after_another_beginning_are_not_taken_for_the_same() -> None:
    pages = Pages(8)
    common = [7] * PAGE
    remember(pages, [1] * PAGE + common)
    assert len(pages.match([2] * PAGE + common)) == 0
    assert pages.match(common) == []


def test_the_longest_unused_page_goes_first_and_the_end_of_a_sequence_before_its_beginning() -> None:
    pages = Pages(4)
    old, new = list(range(2 * PAGE)), list(range(100, 100 + 2 * PAGE))
    pages.release(remember(pages, old))
    pages.release(remember(pages, new))
    pages.take()
    assert len(pages.match(old)) == 1 and len(pages.match(new)) == 2


def test_a_random_life_keeps_the_books() -> None:
    dice = random.Random(5)
    pages = Pages(20)
    held: list[list[int]] = []
    for _ in range(3000):
        if held and (dice.random() < 0.5 or pages.free < 5):
            pages.release(held.pop(dice.randrange(len(held))))
        else:
            tokens = [dice.randrange(2) for _ in range(dice.randrange(1, 4))]
            held.append(remember(pages, [t for t in tokens for _ in range(PAGE)][: dice.randrange(1, 4 * PAGE)]))
        users = [sum(page in taken for taken in held) for page in range(20)]
        assert users == pages.users
        assert pages.free == users.count(0)
        assert not set(pages.empty) & set(pages.idle)
        assert len(pages.found) == len(pages.keys) == len(pages.prefixes)
