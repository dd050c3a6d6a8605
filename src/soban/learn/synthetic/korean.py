"""Korean: particles, names and levels of speech; how gaps are filled, and how what fills them is recognised."""

import random
import re
from collections.abc import Iterable

from soban.learn.synthetic.narrator import Narrator
from soban.learn.synthetic.slots import Slot
from soban.learn.synthetic.table import words

# A particle's form after a final consonant, and after a vowel. The key is what a wording says: {a:은}
PARTICLES = {
    "은": ("은", "는"),
    "이": ("이", "가"),
    "을": ("을", "를"),
    "과": ("과", "와"),
    "으로": ("으로", "로"),
    "아": ("아", "야"),
    "이라": ("이라", "라"),
    "이었": ("이었", "였"),
    "이야": ("이야", "야"),
    "이에요": ("이에요", "예요"),
    "이구나": ("이구나", "구나"),
    "이지": ("이지", "지"),
}
FIRST_SYLLABLE, LAST_SYLLABLE = ord("가"), ord("힣")
FINALS = 28  # a syllable's number is (lead * 21 + vowel) * 28 + final; final 0 is none, 8 is ㄹ
FINAL_L = 8
LEVELS = ("습니다", "어요")
NAME = r"[가-힣]{1,4}?"
AGAIN = 0.25  # how often a thing is told with its colour again
LEFT_OUT = 0.5  # how often a subject that is clear is left out
FAMILIAR = 0.8  # the share of stories that call 지훈 지훈이


def final(word: str) -> int:
    """The number of the last syllable's final consonant, 0 where there is none (or no Hangul)."""
    last = ord(word[-1])
    return (last - FIRST_SYLLABLE) % FINALS if FIRST_SYLLABLE <= last <= LAST_SYLLABLE else 0


def with_particle(word: str, kind: str) -> str:
    """The word with a particle in its right form; `kind` is the form after a consonant."""
    after_consonant, after_vowel = PARTICLES[kind]
    if kind == "으로" and final(word) == FINAL_L:
        return word + after_vowel
    return word + (after_consonant if final(word) else after_vowel)


def say(narrator: Narrator, slot: Slot, key: str) -> str:
    """What stands in a gap."""
    if slot.subject:
        name = familiar(narrator, key)
        left_out = narrator.topic == key and narrator.chance.random() < LEFT_OUT
        return "" if left_out else with_particle(name, slot.attribute) + " "
    text = (
        person(narrator, slot, key)
        if slot.kind == "person"
        else narrator.thing(slot, key, "ko", AGAIN)
        if slot.kind == "thing"
        else words("ko").get(slot.kind, key, slot.attribute or "noun")
    )
    return with_particle(text, slot.particle) if slot.particle else text


def familiar(narrator: Narrator, key: str) -> str:
    """A given name that ends in a consonant takes 이 in most stories: 지훈이는."""
    who = narrator.cast.persons[key]
    name = key + "이" if narrator.familiar and not who.old and final(key) else key
    return f"{who.kind} {name}" if who.kind and not narrator.state else name


def person(narrator: Narrator, slot: Slot, key: str) -> str:
    """A character in one of its forms."""
    who = narrator.cast.persons[key]
    kind = who.kind or "아이"
    match slot.attribute:
        case "intro":
            if key != narrator.hero:
                if narrator.friendly and narrator.chance.random() < 0.4:
                    return f"친구 {familiar(narrator, key)}"
                if who.kind and narrator.chance.random() < 0.5:
                    return f"{who.trait} {kind} {familiar(narrator, key)}"
            return f"{with_particle(key, '이라')}는 {who.trait} {kind}"
        case "first":
            name = familiar(narrator, key)
            return f"{who.kind} {name}" if who.kind and not narrator.knows(key) else name
        case "call":
            return key if who.old else with_particle(key, "아")
        case "named":
            return key
        case "kind":
            return kind
    return familiar(narrator, key)


def finish(text: str, level: str) -> str:
    """The wording in one level of speech: told in the past tense, one ending fits every sentence."""
    return text.replace("~", level)


def style(chance: random.Random) -> tuple[str, bool]:
    """A story's level of speech, and whether names take their familiar form."""
    return chance.choice(LEVELS), chance.random() < FAMILIAR


def pattern(slot: Slot) -> str:
    """What may stand in a gap, as a regular expression; a particle in either form."""
    particle = "(?:" + "|".join(PARTICLES[slot.particle]) + ")" if slot.particle else ""
    vocabulary = words("ko")
    elders = "|".join(dict.fromkeys(vocabulary.lists["elder_women"] + vocabulary.lists["elder_men"]))
    person = f"(?:{elders}|{NAME})"
    if slot.subject:
        return f"(?:(?:{one_of(vocabulary.lists['animals'])} )?{person}(?:{'|'.join(PARTICLES[slot.attribute])}) )?"
    if slot.kind == "person":
        kinds = one_of([*vocabulary.lists["animals"], "아이"])
        traits = one_of(vocabulary.lists["traits"])
        form = {
            "intro": f"(?:{NAME}(?:이라|라)는 {traits} {kinds}|친구 {NAME}|{traits} {kinds} {NAME})",
            "call": f"(?:{elders}|{NAME}(?:아|야))",
            "kind": kinds,
        }.get(slot.attribute, f"(?:{kinds} )?{person}")
    elif slot.kind == "thing" and slot.attribute in ("", "n", "colour"):
        colours = one_of(vocabulary.lists["colours"])
        nouns = one_of(vocabulary.get("thing", key) for key in vocabulary.classes["thing"])
        form = {"": f"(?:{colours} )?{nouns}", "n": nouns, "colour": colours}[slot.attribute]
    else:
        form = one_of(vocabulary.get(slot.kind, key, slot.attribute or "noun") for key in vocabulary.classes[slot.kind])
    return form + particle


def one_of(texts: Iterable[str]) -> str:
    """Any of some texts, longest first."""
    return "(?:" + "|".join(map(re.escape, sorted(dict.fromkeys(texts), key=len, reverse=True))) + ")"


def who(slot: Slot, text: str) -> tuple[str, str | None]:
    """The name that a person's gap holds ("" where it is left out); Korean tells no gender."""
    particle = slot.attribute if slot.subject else slot.particle
    text = without_particle(text.strip(), particle)
    if slot.attribute == "kind":
        return "", None
    if slot.attribute == "call":
        text = without_particle(text, "아")
    if slot.attribute == "intro" and (match := re.match(rf"({NAME})(?:이라|라)는 ", text)):
        return match[1], None
    return plain(text.split(" ")[-1]), None


def without_particle(text: str, kind: str) -> str:
    """The word before its particle, in whichever form that is."""
    for form in PARTICLES.get(kind, ()):
        if text.endswith(form):
            return text.removesuffix(form)
    return text


def plain(name: str) -> str:
    """지훈이 -> 지훈: the name that its familiar form belongs to."""
    stem = name.removesuffix("이")
    return stem if stem != name and stem and final(stem) else name


def names(sentence: str) -> list[str]:
    """The words of a sentence that look like names: what stands before a subject's particle."""
    words = re.findall(r"([가-힣]{2,4}?)(?:이라는|라는|은|는|이|가|과|와)(?= )", sentence)
    return [plain(name) for name in words]


# These end like a word with an object's particle and have none.
NO_OBJECTS = {"마을", "가을", "노을", "고을", "그을", "겨를"}


def wrong_particles(text: str, names: Iterable[str]) -> tuple[int, list[str]]:
    """How many particles after words that we know were looked at, and those that do not fit the word's last sound."""
    vocabulary = words("ko")
    nouns = {
        vocabulary.get(kind, key)
        for kind in vocabulary.classes
        for key in vocabulary.classes[kind]
        if kind not in ("trap", "weather")
    }
    nouns |= {word for noun in nouns for word in noun.split()[-1:]}
    nouns |= {form for name in names for form in (name, name + "이" if final(name) else name)}
    nouns |= set(vocabulary.lists["animals"] + vocabulary.lists["elder_women"] + vocabulary.lists["elder_men"])
    count, wrong = 0, []
    for word in re.findall(r"[가-힣]+", text):
        for kind, pair in PARTICLES.items():
            for form in pair:
                stem = word.removesuffix(form)
                if stem == word or not stem:
                    continue
                if stem in nouns and word not in nouns and not (form == "이" and final(stem) and stem + "이" in nouns):
                    count += 1
                    if word != with_particle(stem, kind):
                        wrong.append(word)
                elif (
                    kind == "을"
                    and word not in NO_OBJECTS
                    and word not in nouns
                    and stem not in nouns
                    and len(stem) > 1
                ):
                    count += 1
                    if word != with_particle(stem, kind):
                        wrong.append(word)
    return count, wrong
