"""How near texts are: chrF by sacrebleu, ROUGE by its definition, and Hangul that the usual ROUGE does not see."""

import random
import unicodedata
from collections.abc import Sequence

import pytest

from soban.measure.similarity import chrf, rouge_l, rouge_n, same, units

WORDS = """소반 은 작은 상 이다 the small table 한 사람 LLM 2 . , 안녕하세요 seats one 값 가 나 다"""


def texts(dice: random.Random, most: int = 9) -> str:
    return " ".join(dice.choices(WORDS.split(), k=dice.randint(1, most)))


def test_chrf_is_sacrebleus_of_composed_texts() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    dice = random.Random(1)
    for _ in range(300):
        answer, wanted = texts(dice), texts(dice)
        expected = sacrebleu.sentence_chrf(answer, [wanted]).score / 100
        assert chrf(answer, wanted) == pytest.approx(expected, abs=1e-9), (answer, wanted)
        assert chrf(unicodedata.normalize("NFD", answer), wanted) == pytest.approx(expected, abs=1e-9)
    assert chrf("", "가") == chrf("가", "") == 0 and chrf("가나", "가나") == 1


def longest(a: Sequence[str], b: Sequence[str]) -> int:
    """The longest sequence that both have, by trying all."""
    if not a or not b:
        return 0
    if a[0] == b[0]:
        return 1 + longest(a[1:], b[1:])
    return max(longest(a[1:], b), longest(a, b[1:]))


def test_rouge_l_is_by_its_definition() -> None:
    dice = random.Random(2)
    for _ in range(100):
        a, b = (units(texts(dice, 4)) for _ in range(2))
        if not a or not b:
            continue
        length = longest(a, b)
        precision, recall = length / len(a), length / len(b)
        expected = 2 * precision * recall / (precision + recall) if length else 0
        assert rouge_l(a, b) == pytest.approx(expected)


def test_rouge_n_counts_each_run_as_often_as_both_have_it() -> None:
    # Lin 2004: police killed the gunman / the gunman police killed
    one, other = units("police kill the gunman"), units("the gunman kill police")
    assert rouge_n(one, other, 1) == 1 and rouge_n(one, other, 2) == pytest.approx(1 / 3)
    assert rouge_n(["a", "a", "a"], ["a"], 1) == pytest.approx(0.5)
    assert rouge_n([], ["a"], 1) == rouge_n(["a"], ["b"], 1) == rouge_n(["a"], ["a"], 2) == 0


def test_identical_korean_sentences_are_alike_and_opposite_ones_are_not() -> None:
    """rouge-score 0.1.2 finds 0 for the first pair and, where both say "LLM" and "2", 1 for the last."""
    sentence = "대한민국의 수도는 서울입니다."
    assert rouge_l(units(sentence), units(sentence)) == 1
    assert units("소반이 LLM 2개") == ["소", "반", "이", "llm", "2", "개"]
    assert rouge_l(units("LLM 2는 아주 좋아요"), units("LLM 2는 너무 나빠요")) < 0.7


def test_white_space_and_decomposed_syllables_make_no_difference() -> None:
    assert same(" 안녕,\n소반 ", unicodedata.normalize("NFD", "안녕, 소반"))
    assert not same("안녕", "안녕!")
