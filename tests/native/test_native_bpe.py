"""Byte-pair merging over tables: the textbook's loop is the judge, and no table leads outside itself."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from soban.base.errors import UserError
from soban.ops import native
from soban.text.tokenizers import bpe

HERE = Path(__file__)
pytestmark = pytest.mark.skipif(native.library() is None, reason="the native library is not built")


def textbook(ids: list[int], merges: dict[tuple[int, int], tuple[int, int]]) -> list[int]:
    """Again and again the pair of the least rank, the leftmost of equals."""
    while pairs := [(merges[pair][0], n) for n, pair in enumerate(pairwise(ids)) if pair in merges]:
        _, n = min(pairs)
        ids = [*ids[:n], merges[ids[n], ids[n + 1]][1], *ids[n + 2 :]]
    return ids


def made(merges: dict[tuple[int, int], tuple[int, int]], letters: str, count: int) -> bpe.BytePairs:
    """Bytes are the ids up to 255, letters those from 256 on."""
    codes = np.array([ord(letter) for letter in letters], np.uint32)
    characters = np.stack([codes + np.uint32(1), np.arange(256, 256 + len(codes), dtype=np.uint32)], axis=1)
    rows = np.array([(a + 1, b, rank, joined) for (a, b), (rank, joined) in merges.items()], np.uint32)
    tables = {
        "characters": bpe.table(characters, bpe.character_places(codes, 4), 4),
        "merges": bpe.table(rows, bpe.merge_places(rows[:, 0] - np.uint32(1), rows[:, 1], 7), 7),
        "bytes": np.arange(256, dtype=np.uint32),
    }
    return bpe.BytePairs(tables, {"characters": 4, "merges": 7}, count, HERE)


def test_merging_is_the_textbooks() -> None:
    dice = np.random.default_rng(5)
    letters = "ab가▁👍"
    for _ in range(30):
        merges: dict[tuple[int, int], tuple[int, int]] = {}
        known = [*range(256, 261), 0xF0, 0x9F]
        for rank in range(40):  # each pair makes a piece of its own, out of earlier ones
            pair = (int(dice.choice(known)), int(dice.choice(known)))
            if pair not in merges:
                merges[pair] = (rank, 300 + rank)
                known.append(300 + rank)
        pairs = made(merges, letters, 340)
        for _ in range(40):
            text = "".join(dice.choice([*letters, "🇰"], dice.integers(0, 40)))
            ids = [i for c in text for i in ([256 + letters.index(c)] if c in letters else c.encode())]
            assert pairs.encode(text, False) == textbook(ids, merges)


def test_parts_are_merged_by_themselves() -> None:
    pairs = made({(256, 257): (0, 300), (257, 256): (1, 301), (257, 257): (2, 302)}, "a▁", 303)
    assert pairs.encode("a▁a", False) == [300, 256]
    assert pairs.encode("a▁a▁▁a", True) == [256, 301, 257, 301]
    assert pairs.encode("", True) == pairs.encode("", False) == []


def test_no_table_leads_outside_itself() -> None:
    dice, damaged = np.random.default_rng(9), 0
    for n in range(300):
        high = int(dice.choice([4, 30, 300]))  # few enough for characters and pairs to be found
        count = high - 1 - high // 50
        bits = {"characters": int(dice.integers(1, 9)), "merges": int(dice.integers(1, 9))}
        tables = {
            name: dice.integers(0, high, ((1 << bits[name]) + int(dice.integers(1, 9)), columns), dtype=np.uint32)
            for name, columns in bpe.WIDTHS.items()
        }
        pairs = bpe.BytePairs(tables | {"bytes": np.zeros(256, np.uint32)}, bits, count, HERE)
        try:
            ids = pairs.encode("".join(map(chr, dice.integers(0, high, 200))), n % 2 > 0)
            assert 0 < len(ids) <= 600 and max(ids) < count
        except UserError as error:
            assert "damaged" in str(error)
            damaged += 1
    assert 20 < damaged < 280


def test_tables_that_do_not_fit_their_hashes_are_refused() -> None:
    good = {"characters": np.zeros((3, 2), np.uint32), "merges": np.zeros((3, 4), np.uint32)}
    good["bytes"] = np.zeros(256, np.uint32)
    bits = {"characters": 1, "merges": 1}
    bpe.BytePairs(good, bits, 1, HERE)
    for wrong in (
        {"characters": np.zeros((2, 2), np.uint32)}, {"merges": np.zeros((3, 3), np.uint32)},
        {"merges": np.zeros((3, 4), np.int64)}, {"bytes": np.ones(256, np.uint32)}, {"bytes": np.zeros(9, np.uint32)},
    ):  # fmt: skip
        with pytest.raises(ValueError):
            bpe.BytePairs(good | wrong, bits, 1, HERE)
    for size in (0, 2, 40, -1):
        with pytest.raises(ValueError):
            bpe.BytePairs(good, bits | {"merges": size}, 1, HERE)
