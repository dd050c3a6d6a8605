"""What is left out and why, and that twins never lie in two splits."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from soban.base.errors import UserError
from soban.learn.data.cleaning import Cleaning, clean, key
from soban.learn.data.near import code_points
from soban.learn.data.quality import Quality, fault, tidied
from soban.learn.data.splitting import split

GOOD = "A little fox lived near the river, and every morning she walked to the bridge."


def why(text: str, **wanted: object) -> str | None:
    return fault(text, code_points(text), Quality(**wanted))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GOOD, None),
        ("옛날 옛적에 토끼가 살았어요. 토끼는 당근을 좋아했어요.", None),
        ("네", "short"),
        ("x" * 300, "repetitive"),
        ("ㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋㅋ", "repetitive"),
        ("Buy now! Click here. " * 60, "repetitive"),
        (GOOD + "\ufffd", "broken"),
        ("안녕하세요 여러분".encode().decode("latin-1"), "broken"),
        ("Déjà vu, façade, naïve: ÊTRE", None),
        ("!@#$ %^&* ()_+ ==== ab", "symbols"),
        ("y" + GOOD * 20_000, "long"),
    ],
)
def test_each_filter_catches_what_it_is_for(text: str, reason: str | None) -> None:
    assert why(text) == reason


def test_languages_are_told_by_their_scripts() -> None:
    korean = "옛날 옛적에 토끼와 Tom이 살았어요."
    assert why(korean, languages=("ko",)) is None and why(korean, languages=("en",)) == "language"
    assert why(GOOD, languages=("ko",)) == "language" and why(GOOD, languages=("ko", "en")) is None


def test_text_is_tidied_into_nfc_without_control_characters() -> None:
    given = unicodedata.normalize("NFD", "한글") + " \t\r\nline\x00\x07 two\ufeff\r\u2028end \ud800\n\n"
    assert tidied(given) == "한글\nline two\n\nend"


def cleaned(texts: list[str], tmp_path: Path, **how: object):  # type: ignore[no-untyped-def]
    return clean(texts, Cleaning(**how), tmp_path, lambda *stage: None)  # type: ignore[arg-type]


def test_everything_is_counted_and_what_is_kept_is_as_it_was(tmp_path: Path) -> None:
    texts = [
        GOOD,
        GOOD.replace(" ", "  "),
        GOOD.replace("bridge.", "bridges!"),
        "네",
        "\ufffd" * 9,
        "전화는 010-1234-5678이에요",
    ]
    with cleaned(texts, tmp_path) as corpus:
        assert [corpus.texts[number] for number in corpus.numbers] == [GOOD, "전화는 [phone]이에요"]
    assert corpus.tally.left_out == {"duplicates": 1, "near-duplicates": 1, "short": 1, "broken": 1}
    assert corpus.tally.documents == len(corpus) + sum(corpus.tally.left_out.values())
    assert corpus.tally.personal == {"phone": 1}
    assert "010-1234" not in repr(corpus.tally.examples)


def test_personal_data_can_be_dropped_or_kept(tmp_path: Path) -> None:
    text = "전화는 010-1234-5678이에요"
    with cleaned([text], tmp_path, personal="drop") as dropped:
        assert len(dropped) == 0
    with cleaned([text], tmp_path, personal="keep") as whole:
        assert whole.texts[0] == text


def variants(count: int) -> list[str]:
    """Pairs of documents that differ by one word."""
    words = [f"{a}{b}{c}" for a in "가나다라마" for b in "강산들판숲" for c in "길집문벽창"]
    chance = np.random.default_rng(5)
    texts = []
    for _ in range(count):
        drawn = [words[int(index)] for index in chance.integers(0, len(words), 30)]
        texts += [" ".join(drawn), " ".join([*drawn[:-1], "끝말"])]
    return texts


def test_twins_never_lie_in_two_splits_and_the_seed_decides(tmp_path: Path) -> None:
    with cleaned(variants(150), tmp_path, near="keep") as corpus:
        pass
    assert corpus.tally.near == 150 and len(corpus) == 300
    parts = split(corpus.keys, corpus.groups, corpus.numbers, (0.2, 0.1), 1)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(300))
    for numbers in parts.values():
        assert {number ^ 1 for number in numbers.tolist()} == set(numbers.tolist())  # 2n and 2n+1 are twins
    assert 30 <= len(parts["validation"]) <= 90 and 10 <= len(parts["test"]) <= 55
    again = split(corpus.keys, corpus.groups, corpus.numbers, (0.2, 0.1), 1)
    assert all((parts[name] == again[name]).all() for name in parts)
    other = split(corpus.keys, corpus.groups, corpus.numbers, (0.2, 0.1), 2)
    assert set(other["validation"]) != set(parts["validation"])


def test_a_document_stays_in_its_split_when_others_come(tmp_path: Path) -> None:
    texts = variants(100)[::2]
    few, many = (np.array([key(text) for text in some], np.uint64) for some in (texts[50:], texts[::-1]))
    first = split(few, np.arange(50), np.arange(50), (0.3, 0), 0)
    second = split(many, np.arange(100), np.arange(100), (0.3, 0), 0)
    before = {int(few[number]) for number in first["validation"]}
    assert before == {int(many[number]) for number in second["validation"]} & set(few.tolist())


def test_few_documents_leave_one_to_measure_with_and_one_is_too_few() -> None:
    keys = np.arange(3, dtype=np.uint64)
    parts = split(keys, np.arange(3), np.arange(3), (0.01, 0.01), 0)
    assert [len(parts[name]) for name in ("train", "validation", "test")] == [1, 1, 1]
    with pytest.raises(UserError, match="1 documents that differ: too few"):
        split(keys[:1], np.arange(1), np.arange(1), (0.01, 0), 0)
