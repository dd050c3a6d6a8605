"""Near-duplicates are found in English and Korean, and judged as sets of letter runs are."""

import random
import re

import numpy as np
import pytest

from soban.learn.data import near

ENGLISH = (
    "Once upon a time there was a little fox who lived near the river. Every morning she walked to the old bridge to "
    "look for shells, and every evening she told her brother what she had found there."
)
KOREAN = (
    "옛날 옛적에 강가에 작은 여우가 살았어요. 여우는 아침마다 낡은 다리로 걸어가 조개를 찾았고, "
    "저녁이면 동생에게 무엇을 찾았는지 이야기해 주었어요. 어느 날 여우는 반짝이는 돌을 하나 주웠답니다."
)


def runs(text: str, length: int) -> set[str]:
    """By plain Python: the runs of letters and digits."""
    letters = re.sub(r"[\W_]", "", text).lower()
    return {letters[at : at + length] for at in range(len(letters) - length + 1)}


def twins_among(texts: list[str], least: float = 0.8) -> tuple[list[bool], list[int], list[tuple[int, int]]]:
    sets = [near.shingles(near.code_points(text)) for text in texts]
    dropped, groups, pairs = near.alike(near.signatures(sets), sets.__getitem__, least, lambda share: None)
    return dropped.tolist(), groups.tolist(), pairs


@pytest.mark.parametrize(("text", "length"), [(ENGLISH, near.LETTERS), (KOREAN, near.SYLLABLES)])
def test_shingles_are_the_runs_of_letters_and_their_similarity_is_jaccards(text: str, length: int) -> None:
    other = text.replace("river", "lake").replace("다리", "언덕")
    left, right = (near.shingles(near.code_points(one)) for one in (text, other))
    one, two = runs(text, length), runs(other, length)
    assert (len(left), len(right)) == (len(one), len(two))
    assert near.similarity(left, right) == pytest.approx(len(one & two) / len(one | two))


@pytest.mark.parametrize("text", [ENGLISH, KOREAN])
def test_twins_are_found_and_the_first_stays(text: str) -> None:
    twins = [text, text.upper() + "!!", text.replace(" ", "  "), text.replace("작은", "큰").replace("little", "small")]
    unlike = [
        "The wind blew all night and nobody slept at all in the house.",
        "바람이 밤새 불어서 아무도 잠들지 못했어요.",
    ]
    dropped, groups, _ = twins_among([unlike[0], *twins, unlike[1]])
    assert dropped == [False, False, True, True, True, False]
    assert groups == [0, 1, 1, 1, 1, 5]


def test_pairs_are_those_of_comparing_all_with_all() -> None:
    chance = random.Random(3)
    words = [f"{a}{b}" for a in "가나다라마바사" for b in "강산들판숲길집"]
    texts = []
    for _ in range(60):
        base = chance.choices(words, k=40)
        texts.append(" ".join(base))
        for changes in (1, 3, 8):
            copy = list(base)
            for place in chance.sample(range(40), changes):
                copy[place] = chance.choice(words)
            texts.append(" ".join(copy))
    sets = [runs(text, near.SYLLABLES) for text in texts]
    exact = {
        (i, j)
        for i in range(len(sets))
        for j in range(i + 1, len(sets))
        if len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= 0.8
    }
    dropped, groups, pairs = twins_among(texts)
    # the chance to miss a pair of 0.8 is (1 - 0.8^4)^16 = 0.0002; of three that are alike two pairs are enough
    assert set(pairs) <= exact and len(exact) > 50
    assert all(groups[i] == groups[j] for i, j in exact)
    assert dropped == near._dropped(len(texts), exact).tolist()


def test_a_document_goes_only_for_one_that_stays() -> None:
    gone = near._dropped(4, {(0, 1), (1, 2), (2, 3)})
    assert gone.tolist() == [False, True, False, True]  # 2 is like 1, which has gone


def test_signatures_estimate_the_similarity() -> None:
    chance = np.random.default_rng(0)
    numbers = chance.integers(0, 1 << 32, 3000, np.uint32)
    for share in (0.2, 0.5, 0.8):
        common = int(2000 * share / (1 + share) * 1.0)
        left, right = np.unique(numbers[:1000]), np.unique(numbers[1000 - common : 2000 - common])
        true = near.similarity(left, right)
        first, second = near.signatures([left, right])
        # four standard errors of 64 draws
        assert abs(np.mean(first == second) - true) < 4 * np.sqrt(true * (1 - true) / near.HASHES)


def test_documents_without_letters_are_like_nothing() -> None:
    assert twins_among(["!!!", "...", "???"])[0] == [False] * 3
