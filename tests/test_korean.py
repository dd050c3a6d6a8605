"""What soban says in Korean keeps to docs/korean.md: its words, one level of speech, its particles and blanks."""

import re
from pathlib import Path

import pytest

from tests.scripts import script

ROOT = Path(__file__).resolve().parents[1]
TOOL = script("messages")
KOREAN: dict[str, str] = TOOL.read_po(ROOT / "src" / "soban" / "messages" / "ko.po")
ROWS = re.findall(r"(?m)^\| (.+?) \| (.+?) \| (.*?) ?\|$", (ROOT / "docs" / "korean.md").read_text(encoding="utf-8"))

# 은/는, 이/가, 을/를, 과/와, 로/으로, 라고/이라고 ... change with the last letter of the word before.
CHANGING = (
    "은|는|이|가|을|를|과|와|으로|로|아|야|나|이나|랑|이랑|며|이며|고|이고|라고|이라고|라서|이라서|라는|이라는|"
    "라도|이라도|라면|이라면|란|이란|든|이든"
)
PARTICLE = re.compile(rf"\}}({CHANGING})(?![가-힣])")
# The ends of a sentence: 합니다, 하세요, 할까요, 인가요; 필요 and 아니요 are no verbs.
OTHER_LEVEL = re.compile(r"(?:(?<!니)다|(?<![세까가필니])요|시오|[하해]라)$")


def words(cell: str) -> list[str]:
    return [word for word in cell.split(", ") if word]


def sentences(korean: str) -> list[str]:
    """The parts of a text that end as sentences do; what stands in parentheses is looked at by itself."""
    inside = re.findall(r"\(([^()]*)\)", korean)
    outside = re.sub(r"\([^()]*\)", "", korean)
    parts = [part for text in [outside, *inside] for part in re.split(r"(?<=[.?!;:])\s+|\n", text)]
    return [part.strip().rstrip(".?!;:") for part in parts]


def test_no_message_has_a_word_that_the_glossary_replaces() -> None:
    replaced = [word for _, _, cell in ROWS[1:] for word in words(cell)]
    assert len(replaced) > 60
    assert not [(word, korean) for korean in KOREAN.values() for word in replaced if word in korean]


def test_the_words_of_the_glossary_are_those_of_the_messages() -> None:
    said = "\n".join(KOREAN.values())
    assert not [word for _, cell, _ in ROWS[1:] for word in words(cell) if word not in said]


def test_every_sentence_ends_at_the_one_level_of_speech() -> None:
    assert not [korean for korean in KOREAN.values() for part in sentences(korean) if OTHER_LEVEL.search(part)]


def test_no_particle_depends_on_a_value_that_is_not_known_before() -> None:
    assert not [korean for korean in KOREAN.values() if PARTICLE.search(korean)]


def test_a_parenthesis_follows_its_word_without_a_blank() -> None:
    assert not [korean for korean in KOREAN.values() if re.search(r"[가-힣] \(", korean)]


def test_no_semicolon_parts_korean_sentences() -> None:
    assert not [korean for korean in KOREAN.values() if re.search("[가-힣)];", korean)]


@pytest.mark.parametrize(
    "korean",
    ["모델이 있다", "다시 해 보라고 해요.", "이름을 고르십시오", "{path}: 없다; 다시 받으세요", "(모델이 크다)"],
)
def test_another_level_of_speech_is_seen(korean: str) -> None:
    assert any(OTHER_LEVEL.search(part) for part in sentences(korean))


@pytest.mark.parametrize(
    "korean", ["{kind}로 바꿉니다", "{name}을 고르세요", "번호 {index}라고 적혀 있습니다", "{name}이나 폴더"]
)
def test_a_particle_after_a_value_is_seen(korean: str) -> None:
    assert PARTICLE.search(korean)
