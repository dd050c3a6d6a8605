"""Small talk: answers of the right kind and language, sums that are right, and wordings that are kept for judging."""

import random
import re

import pytest

from soban.learn.synthetic.slots import alternatives
from soban.learn.synthetic.small import TEN, ask, kinds, lists, speaks
from soban.learn.synthetic.table import Language, words
from soban.learn.synthetic.talk import small_conversations
from tests.learn.test_synthetic_talk import Parrot
from tests.scripts import script

LANGUAGES: tuple[Language, ...] = ("en", "ko")
HANGUL = re.compile("[가-힣ㄱ-ㅎㅏ-ㅣ]")
# Syllables of given names that people thought of, and that the first lists did not have
GIVEN = "다솜미래새론현겸이슬나래가온라온보람하늘은별한솔시온로아이안재겸초롱송이샛별태린승현"
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
READ_IN_VOWELS = "2459"  # 이, 사, 오, 구; all other digits are read with a consonant at the end


def plain(text: str) -> str:
    """A wording without what a hasty hand leaves out."""
    return re.sub(r"[\s.?!,~]+", " ", text).strip().lower()


def values(language: Language) -> dict[str, int]:
    """What a number's words mean."""
    numbers = {str(number): number for number in range(2 * TEN + 1)}
    for name in ("numbers", "sino", "native"):
        numbers |= {word: number for number, word in enumerate(lists(language).get(name, []))}
    return numbers


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_kept_for_judging_is_never_said_in_the_corpus(language: Language) -> None:
    said = {
        plain(wording)
        for kind in kinds(language).values()
        for question in kind.questions
        for wording in alternatives(question)
    } - {"<odd> <odd>"}  # which are new words every time
    for kind in kinds(language).values():
        assert kind.questions and kind.unseen and kind.answers, kind.name
        assert not said & {plain(wording) for question in kind.unseen for wording in alternatives(question)}, kind.name
    for name, members in lists(language).items():
        if name.startswith("unseen "):
            assert not set(members) & set(lists(language)[name.removeprefix("unseen ")])


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_wording_belongs_to_two_kinds_but_of_sums(language: Language) -> None:
    said: dict[str, str] = {}
    for kind in kinds(language).values():
        for question in (*kind.questions, *kind.unseen):
            for wording in alternatives(question):
                other = said.setdefault(plain(wording), kind.name)
                assert other == kind.name or kinds(language)[other].is_sum == kind.is_sum is True, (wording, other)


def test_both_languages_have_the_same_small_talk() -> None:
    english, korean = ({kind.name: kind.is_sum for kind in kinds(language).values()} for language in LANGUAGES)
    assert english == korean and len(english) > 50


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("unseen", [False, True])
def test_question_and_answer_are_in_their_language_and_whole(language: Language, unseen: bool) -> None:
    chance = random.Random(1)
    for kind in kinds(language).values():
        for _ in range(40):
            question, answers = ask(chance, language, kind, unseen)
            for text in (question, *answers):
                assert text == text.strip() and text and "  " not in text and not re.search(r"[\[\]<>{}|]", text), text
                if speaks(text):
                    assert bool(HANGUL.search(text)) == (language == "ko"), text


@pytest.mark.parametrize("language", LANGUAGES)
def test_sums_are_right(language: Language) -> None:
    chance, known, seen = random.Random(2), values(language), set()
    for kind in kinds(language).values():
        for _ in range(300 if kind.is_sum else 0):
            question, [answer] = ask(chance, language, kind)
            numbers = re.findall(r"\d+|[a-z]+|[가-힣]+", answer.lower().replace("더하기", "+").replace("빼기", "-"))
            bare = [re.sub("(은|는|이에요|예요|보다)$", "", word) if word not in known else word for word in numbers]
            x, y, *z = [known[word] for word in bare if word in known]
            operands = [known[w] for w in re.findall(r"\d+|[a-z]+|(?<!\d)[가-힣]+", question.lower()) if w in known]
            assert set(operands) <= {x, y}, (question, answer)
            if kind.name == "below":
                assert x < y and not z
            else:
                assert z == [x + y if kind.name.startswith("plus") else x - y], (question, answer)
                seen.add((kind.name, x, y))
    assert len(seen) > 500


def test_the_words_of_numbers_are_in_order() -> None:
    assert lists("en")["numbers"][: len(NUMBERS)] == NUMBERS and len(lists("en")["numbers"]) == 2 * TEN + 1
    for ones, tens in ((lists("ko")["sino"], "십"), (lists("ko")["native"], "열")):
        assert len(ones) == 2 * TEN + 1 and ones[10] == tens
        assert [tens + one for one in ones[1:10]] == ones[11:20]


def test_a_particle_after_digits_goes_by_how_they_are_read() -> None:
    chance, count = random.Random(3), 0
    for kind in kinds("ko").values():
        for _ in range(60):
            question, answers = ask(chance, "ko", kind)
            for text in (question, *answers):
                for digit, particle in re.findall(r"(\d)(은|는|이에요|예요|을|를|과|와)(?![가-힣])", text):
                    if f"={digit}{particle}" in text or re.fullmatch(r"\d+[-+]\d+[은는]\??", text):
                        continue  # as it is typed in haste
                    assert (particle in ("는", "예요", "를", "와")) == (digit in READ_IN_VOWELS), text
                    count += 1
    assert count > 100


@pytest.mark.parametrize("language", LANGUAGES)
def test_small_conversations_take_turns_in_both_languages_and_tell_stories(language: Language) -> None:
    talks = small_conversations(5, language)
    said = [next(talks) for _ in range(80)]
    again = small_conversations(5, language)
    assert [next(again) for _ in range(80)] == said
    for messages in said:
        turns = messages[messages[0]["role"] == "system" :]
        assert [message["role"] for message in turns] == ["user", "assistant"] * (len(turns) // 2)
        for question, answer in zip(turns[::2], turns[1::2], strict=True):
            if speaks(question["content"]) and speaks(answer["content"]):
                assert bool(HANGUL.search(question["content"])) == bool(HANGUL.search(answer["content"]))
    spoken = [{bool(HANGUL.search(m["content"])) for m in messages if m["role"] == "user"} for messages in said]
    assert {False, True} in spoken and {language == "ko"} in spoken
    assert any(len(message["content"]) > 200 for messages in said for message in messages)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("sums", [False, True])
def test_the_judge_takes_answers_of_the_right_kind_and_no_others(language: Language, sums: bool) -> None:
    judge = script("judge_answers")
    questions = list(judge.small_talk(language, 60, random.Random(4), sums))
    for one in questions:
        assert one.messages[-1]["role"] == "user" and len(one.messages) in (1, 3)
    rightly = [min(one.right) for one in questions]
    assert judge.answered(Parrot(list(rightly)), questions, 0)[0] == [True] * 60
    assert sum(judge.answered(Parrot([*rightly[1:], rightly[0]]), questions, 0)[0]) < 10


def test_the_judge_sees_markup_and_the_other_language() -> None:
    turn = script("judge_answers").Turn
    assert turn("Who are you?", "I am Soban.", True, False).clean
    assert not turn("Who are you?", "I am Soban.", False, False).clean
    for markup in ("[INST] Who?", "Hi [/INST]", "<<SYS>>", "</s>", "<|im_end|>"):
        assert not turn("Who are you?", f"I am Soban. {markup}", True, False).clean
    assert turn("누구야?", "저는 소반이에요.", True, True).spoken and turn("2+3=", "2 + 3 = 5", True, True).spoken
    assert not turn("누구야?", "I am Soban.", True, True).spoken
    assert not turn("Who are you?", "저는 소반이에요.", True, True).spoken


def test_korean_names_may_have_any_common_syllable() -> None:
    sounds = set(words("ko").lists["name_sounds"])
    assert len(sounds) > 250 and not set(GIVEN) - sounds
