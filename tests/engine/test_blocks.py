"""The book of blocks: nothing is lost, nothing is given twice, and known beginnings are found."""

import random

from soban.engine.blocks import BlockPool
from soban.ops.batch import PAGE

ROOT = (0, None)


def remember(blocks: BlockPool, tokens: list[int], root: tuple = ROOT) -> list[int]:
    """Take blocks for the tokens as a sequence does, and remember the full ones."""
    taken = blocks.match(tokens, root)
    blocks.share(taken)
    while len(taken) * PAGE < len(tokens):
        taken.append(blocks.take())
    for n in range(len(tokens) // PAGE):
        blocks.remember(taken[n], taken[n - 1] if n else None, tokens[n * PAGE : (n + 1) * PAGE], root)
    return taken


def test_a_known_beginning_is_found_also_after_it_was_given_back() -> None:
    blocks = BlockPool(8)
    tokens = list(range(3 * PAGE + 5))
    taken = remember(blocks, tokens)
    blocks.release(taken)
    assert blocks.free == 8
    assert blocks.match(tokens, ROOT) == taken[:3]
    assert blocks.match([*tokens[: 2 * PAGE], 999, *tokens[2 * PAGE + 1 :]], ROOT) == taken[:2]
    assert blocks.match([999, *tokens[1:]], ROOT) == []


def test_equal_tokens_after_another_beginning_are_not_taken_for_the_same() -> None:
    blocks = BlockPool(8)
    common = [7] * PAGE
    remember(blocks, [1] * PAGE + common)
    assert len(blocks.match([2] * PAGE + common, ROOT)) == 0
    assert blocks.match(common, ROOT) == []


def test_the_longest_unused_block_goes_first_and_the_end_of_a_sequence_before_its_beginning() -> None:
    blocks = BlockPool(4)
    old, new = list(range(2 * PAGE)), list(range(100, 100 + 2 * PAGE))
    blocks.release(remember(blocks, old))
    blocks.release(remember(blocks, new))
    blocks.take()
    assert len(blocks.match(old, ROOT)) == 1 and len(blocks.match(new, ROOT)) == 2


def test_sequences_of_another_root_share_nothing_and_each_finds_its_own() -> None:
    blocks = BlockPool(12)
    tokens = list(range(2 * PAGE))
    roots = [(0, None), (0, "one"), (0, "other"), (1, None)]
    taken = [remember(blocks, tokens, root) for root in roots]
    assert len({block for some in taken for block in some}) == 2 * len(roots)
    assert [blocks.match(tokens, root) for root in roots] == taken


def test_a_random_life_keeps_the_books() -> None:
    dice = random.Random(5)
    blocks = BlockPool(20)
    held: list[list[int]] = []
    for _ in range(3000):
        if held and (dice.random() < 0.5 or blocks.free < 5):
            blocks.release(held.pop(dice.randrange(len(held))))
        else:
            tokens = [dice.randrange(2) for _ in range(dice.randrange(1, 4))]
            held.append(remember(blocks, [t for t in tokens for _ in range(PAGE)][: dice.randrange(1, 4 * PAGE)]))
        users = [sum(block in taken for taken in held) for block in range(20)]
        assert users == blocks.users
        assert blocks.free == users.count(0)
        assert not set(blocks.empty) & set(blocks.idle)
        assert len(blocks.by_key) == len(blocks.keys) == len(blocks.prefixes)
