"""Whether a story is consistent: read back event by event, each must be possible in its turn, and wants fulfilled."""

import re
from dataclasses import dataclass, field

from soban.learn.synthetic.korean import LEVELS, wrong_particles
from soban.learn.synthetic.plan import Happening, introduce
from soban.learn.synthetic.read import SENTENCE, Reader, Reading, matches
from soban.learn.synthetic.rules import happen, missing, satisfy, strangers, unfulfilled
from soban.learn.synthetic.slots import topic_after
from soban.learn.synthetic.table import Language, events, words
from soban.learn.synthetic.tell import VOICES

ENDINGS = {"end", "endtwo"}
QUOTED = re.compile(r'"[^"]*"')


@dataclass
class Verdict:
    """What the checker found: contradictions (`problems`), sentences of no known form (`unread`), and what happened."""

    problems: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    events: list[Happening] = field(default_factory=list)
    ended: bool = False
    particles: int = 0
    wrong_particles: list[str] = field(default_factory=list)
    mixed_levels: bool = False

    @property
    def consistent(self) -> bool:
        """Whether who, where, what happened and what was wanted agree, from a beginning to an ending."""
        return self.ended and not self.problems and not self.unread and bool(self.events)


def check(text: str, language: Language, opening: str | None = None) -> Verdict:
    """Whether a story is consistent, and what is wrong; of `opening`, which another wrote, only names are taken."""
    verdict = Verdict()
    text = " ".join(text.split())
    vocabulary = words(language)
    old = frozenset(vocabulary.lists["elder_women"] + vocabulary.lists["elder_men"])
    reader = Reader(language, old, {}, elders(language), {}, [])
    opening_end = len(" ".join((opening or "").split()))
    position = 0
    while position < len(text):
        reading = best(reader, text, position)
        if reading is not None:
            take(reader, reading, verdict)
            position = reading.match.end + 1
            continue
        sentence = SENTENCE.match(text, position)
        assert sentence is not None
        if position < opening_end:
            overhear(reader, sentence[0])
        else:
            verdict.unread.append(sentence[0])
        position = sentence.end() + 1
    verdict.ended = bool(verdict.events) and verdict.events[-1].event in ENDINGS and text[-1:] in (".", "!", "?", '"')
    verdict.problems += [f"never came true: {' '.join(want)}" for want in unfulfilled(reader.state)]
    sentences = [sentence for sentence in SENTENCE.findall(text) if sentence.count(" ") > 3]
    verdict.problems += [f"said twice: {s.strip()}" for s in dict.fromkeys(sentences) if sentences.count(s) > 1]
    if language == "ko":
        verdict.particles, verdict.wrong_particles = wrong_particles(text, reader.recent)
        levels = re.findall("|".join(f"{level}(?=[.!?])" for level in LEVELS), QUOTED.sub("", text))
        verdict.mixed_levels = len(set(levels)) > 1
    return verdict


def elders(language: Language) -> dict[str, str | None]:
    """The genders that are known before a story begins."""
    lists = words(language).lists
    return {**dict.fromkeys(lists["elder_women"], "girl"), **dict.fromkeys(lists["elder_men"], "boy")}


def best(reader: Reader, text: str, position: int) -> Reading | None:
    """The reading of the longest stretch that makes sense; where none does, of the longest."""
    first = None
    for match in matches(text, position, reader.language):
        for reading in reader.readings(match):
            first = first or reading
            # Where a story begins nobody is known yet, so that nothing could be wrong
            if not reader.state or (reading.filled is not None and not reading.wrong):
                return reading
    return first


def take(reader: Reader, reading: Reading, verdict: Verdict) -> None:
    """Writes what a reading says into the reader's mind, and what is wrong with it into the verdict."""
    event = events()[reading.happening.event]
    binding = dict(reading.happening.roles)
    slots = [slot for slot, _ in reading.match.contents]
    if not verdict.events and not reader.state:
        introduce("".join(dict.fromkeys(s.role for s in slots)) + event.roles, binding, reader.state, reader.old)
    verdict.problems += reading.wrong
    if verdict.events and verdict.events[-1].event in ENDINGS:
        verdict.problems.append(f"goes on after its end: {event.name}")
    filled = reading.filled
    if filled is None and not verdict.events and not strangers(event, binding, reader.state, reader.old):
        filled = satisfy(event, binding, reader.state, reader.old)  # now that the first character is known
    if filled is None:
        unknown = strangers(event, binding, reader.state, reader.old)
        verdict.problems += [f"{name} was never introduced" for name in unknown]
        if not unknown:
            need = missing(event, binding, reader.state, reader.old)
            verdict.problems.append(f"{need[0]} needs {' '.join(need[1:])}")
    happen(event, filled or binding, reader.state)
    verdict.events.append(Happening(event.name, dict(filled or binding)))
    remember(reader, reading, filled or binding)


def remember(reader: Reader, reading: Reading, binding: dict[str, str] | object) -> None:
    """Keeps who was named, of which gender, and what colours things have."""
    roles = dict(reading.happening.roles)
    for slot, text in reading.match.contents:
        if slot.kind == "person" and slot.role in roles:
            name = roles[slot.role]
            gender = VOICES[reader.language].who(slot, text)[1]
            if gender is not None and reader.genders.get(name) is None:
                reader.genders[name] = gender
            if name in reader.recent:
                reader.recent.remove(name)
            reader.recent.append(name)
    for _, thing, colour in reader.coloured(reading.match, roles):
        reader.colours.setdefault(thing, colour)
    slots = [slot for slot, _ in reading.match.contents]
    reader.topic = topic_after(slots, roles)


def overhear(reader: Reader, sentence: str) -> None:
    """Takes the names from a sentence of somebody else's: whoever is named there may act."""
    for name in VOICES[reader.language].names(sentence):
        reader.state[("known", name)] = None
        reader.state.setdefault(("at", name, "home"))
        reader.recent.append(name)
        reader.topic = name
