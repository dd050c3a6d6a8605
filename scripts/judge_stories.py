"""Judges a story model by the world's own checker: consistency, particles, endings, copying, and unpicked samples.

    python scripts/judge_stories.py                                  # the bundled model, 200 stories per language
    python scripts/judge_stories.py out/bundled --count 50 --out docs/bundled-model.md

Every story goes on from an opening with names that the world's lists do not hold. The longest run of words that is
found in its corpus, all of it, is compared with that of an n-gram model of the same corpus: a model that merely copies
has runs as long as that one's.
"""

import argparse
import json
import random
import statistics
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import soban
from soban.learn import synthetic
from soban.learn.synthetic.korean import final
from soban.learn.synthetic.table import Language

HEADING = "## What the judge finds"
LIMIT = 300  # tokens within which a story should end by itself
ORDER = 5  # words that the baseline looks back on
END, UNKNOWN = 0, -1  # in place of a word: after a story, and for a word that no story has
SAMPLES = 20
GIRLS = {
    "en": ("Nell", "Fay", "Tess", "Greta", "Wilma", "Ada", "Pearl"),
    "ko": ("라희", "세아", "유리", "해솔", "초아", "별하", "나경"),
}
BOYS = {"en": ("Otis", "Rufus", "Milo", "Basil", "Edgar"), "ko": ("찬우", "규민", "도경", "태인", "병준")}
OPENINGS = {
    "en": (
        "Once upon a time, there was a",
        "Once upon a time, there was a little girl named {girl}.",
        "One day, {girl} went to",
        "One day, {boy} met a",
        "{boy} had a",
        "{girl} was afraid of",
        "{boy} wanted to learn to",
        "One sunny morning, {girl} woke up",
        "{girl} and {boy} were good friends.",
        "Once upon a time,",
    ),
    "ko": (
        "옛날 옛적에",
        "옛날 옛적에 {girl:이라}는 착한 아이가 살고 있었어요.",
        "어느 날 {girl:은}",
        "어느 맑은 날, {boy:은} 길에서",
        "{boy}에게는",
        "{girl:이} 무서워하는 것이",
        "{boy}에게는 소원이",
        "해님이 반짝 떠올랐습니다. {girl:은}",
        "{girl:과} {boy:은} 친한 친구였습니다.",
        "어느 작은 마을에",
    ),
}


@dataclass
class Judged:
    """One story with what was found about it."""

    opening: str
    text: str
    tokens: int
    ended: bool  # by itself, within the limit
    verdict: synthetic.Verdict
    run: int  # the longest run of words that the corpus holds


class Corpus:
    """The training stories word by word, and where each run of `ORDER` words stands in them."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.numbers: dict[str, int] = {}
        self.starts: list[int] = []
        numbers = array("i")
        for text in texts:
            self.starts.append(len(numbers))
            numbers.extend(self.numbers.setdefault(word, len(self.numbers) + 1) for word in text.split())
            numbers.extend([END] * ORDER)
        self.words = np.array(numbers)
        self.vocabulary = ["", *self.numbers]
        runs = self.hashes(self.words)
        self.sorted = np.argsort(runs)
        self.runs = runs[self.sorted]

    def hashes(self, words: NDArray[np.int32]) -> NDArray[np.uint64]:
        """A number for each run of `ORDER` words; two runs hardly ever share one."""
        hashes = np.zeros(max(0, len(words) - ORDER + 1), np.uint64)
        for i in range(ORDER):
            hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + words[i : i + len(hashes)].astype(np.uint64)
        return hashes

    def places(self, run: np.uint64) -> NDArray[np.int64]:
        """Where a run of that number stands."""
        first, last = np.searchsorted(self.runs, run), np.searchsorted(self.runs, run, "right")
        return self.sorted[first:last]

    def longest_run(self, story: list[str]) -> int:
        """The length of the longest run of words that also stands in one of the stories; 0 below `ORDER`."""
        words = np.array([self.numbers.get(word, UNKNOWN) for word in story], np.int32)
        longest = 0
        for i, run in enumerate(self.hashes(words)):
            length, places = 0, self.places(run)
            while len(places) and i + length < len(words):
                places = places[self.words[places + length] == words[i + length]]
                length += bool(len(places))
            longest = max(longest, length)
        return longest if longest >= ORDER else 0

    def babble(self, chance: random.Random) -> list[str]:
        """A story of the n-gram baseline: every next word is drawn from those that followed the last few."""
        start = chance.choice(self.starts)
        words = self.words[start : start + ORDER].tolist()
        while len(words) < LIMIT:
            places = self.places(self.hashes(np.array(words[-ORDER:], np.int32))[0])
            words.append(int(self.words[chance.choice(places.tolist()) + ORDER]))
            if words[-1] == END:
                break
        return [self.vocabulary[word] for word in words if word != END]


def openings(language: Language, count: int) -> Iterator[str]:
    """Openings in turns, as a story may begin, with names that no story of the corpus has."""
    for i in range(count):
        girl, boy = GIRLS[language][i % len(GIRLS[language])], BOYS[language][i // 2 % len(BOYS[language])]
        text = OPENINGS[language][i % len(OPENINGS[language])]
        for role, name in (("girl", girl), ("boy", boy)):
            text = text.replace(f"{{{role}}}", name)
            for kind, forms in (("은", "은는"), ("이", "이가"), ("이라", ("이라", "라")), ("과", "과와")):
                text = text.replace(f"{{{role}:{kind}}}", name + forms[0 if final(name) else 1])
        yield text


def judge(
    model: soban.Model, language: Language, count: int, corpus: Corpus, seed: int, **options: float
) -> list[Judged]:
    """Stories from unseen openings, written as the model's own settings say, each with the checker's verdict."""
    judged = []
    for number, opening in enumerate(openings(language, count)):
        story = str(model.generate(opening, max_new_tokens=LIMIT, seed=seed + number, **options))
        text = story if story.startswith(opening) else opening + story
        tokens = len(model.tokenize(text))
        spent = tokens - len(model.tokenize(opening))
        verdict = synthetic.check(text, language, opening)
        judged.append(Judged(opening, text, tokens, spent < LIMIT - 1, verdict, corpus.longest_run(text.split())))
    return judged


def table(results: dict[Language, list[Judged]], baseline: dict[Language, list[int]]) -> list[str]:
    """The figures as a markdown table."""
    rows: list[tuple[str, Callable[[Sequence[Judged]], str]]] = [
        ("stories", lambda all_: str(len(all_))),
        ("consistent by the checker", lambda all_: percent([one.verdict.consistent for one in all_])),
        ("without a contradiction", lambda all_: percent([not one.verdict.problems for one in all_])),
        ("every sentence of a known form", lambda all_: percent([not one.verdict.unread for one in all_])),
        (f"ended by themselves within {LIMIT} tokens", lambda all_: percent([one.ended for one in all_])),
        ("reached an ending", lambda all_: percent([one.verdict.ended for one in all_])),
        ("wrong particles", particles),
        ("mixed levels of speech", lambda all_: percent([one.verdict.mixed_levels for one in all_])),
        ("tokens, median", lambda all_: str(round(statistics.median(one.tokens for one in all_)))),
        ("longest copied run in words, median", lambda all_: str(round(statistics.median(one.run for one in all_)))),
    ]
    lines = ["| | " + " | ".join(results) + " |", "|---|" + "---|" * len(results)]
    lines += [f"| {name} | " + " | ".join(figure(all_) for all_ in results.values()) + " |" for name, figure in rows]
    runs = " | ".join(str(round(statistics.median(baseline[language]))) for language in results)
    return [*lines, f"| the same of a {ORDER}-gram baseline | {runs} |"]


def percent(outcomes: Sequence[bool]) -> str:
    """A share, with one decimal."""
    return f"{100 * sum(outcomes) / len(outcomes):.1f} %"


def particles(judged: Sequence[Judged]) -> str:
    """Wrong particles among those that could be judged."""
    count = sum(one.verdict.particles for one in judged)
    wrong = sum(len(one.verdict.wrong_particles) for one in judged)
    return f"{100 * wrong / count:.2f} % of {count}" if count else ""


def samples(results: dict[Language, list[Judged]]) -> Iterator[str]:
    """The first stories, as they came."""
    for language, judged in results.items():
        yield f"\n## The first {min(SAMPLES, len(judged))} stories, {language}\n"
        for number, one in enumerate(judged[:SAMPLES], 1):
            rest = one.text[len(one.opening) :].replace("\n", "<br>")
            faults = [*one.verdict.problems, *(f"not read: {sentence}" for sentence in one.verdict.unread)]
            yield f"{number}. **{one.opening}**{rest}  \n   *{'; '.join(faults[:3]) or 'consistent'}*"


def written(folders: Sequence[Path], language: Language) -> Iterator[str]:
    """The stories of corpora that make_corpus.py has written."""
    for folder in folders:
        with (folder / f"stories.{language}.jsonl").open(encoding="utf-8") as lines:
            yield from (json.loads(line)["text"] for line in lines)


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What both judges are asked for."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="model folder; the bundled one where none is given")
    parser.add_argument("--count", type=int, default=200, help="of each kind, in each language")
    parser.add_argument("--seed", type=int, default=0, help="of the first story")
    parser.add_argument("--temperature", type=float, help="in place of the model's own")
    parser.add_argument("--out", type=Path, help="markdown file whose section of these results is replaced")
    return parser


def asked_for(given: argparse.Namespace) -> tuple[soban.Model, dict[str, float]]:
    """The model, and what differs from its own settings."""
    own = {} if given.temperature is None else {"temperature": given.temperature}
    return soban.load(given.model) if given.model else soban.load(), own


def main() -> None:
    parser = arguments(__doc__)
    description = "folders of make_corpus.py, to look for copied runs in (else 80,000 stories as they are told today)"
    parser.add_argument("--corpus", type=Path, nargs="+", default=[], help=description)
    given = parser.parse_args()
    model, own = asked_for(given)
    results: dict[Language, list[Judged]] = {}
    baseline: dict[Language, list[int]] = {}
    languages: tuple[Language, ...] = ("en", "ko")
    for language in languages:
        corpus = Corpus(
            written(given.corpus, language) if given.corpus else islice(synthetic.stories(0, language), 80_000)
        )
        results[language] = judge(model, language, given.count, corpus, given.seed, **own)
        chance = random.Random(given.seed)
        baseline[language] = [corpus.longest_run(corpus.babble(chance)) for _ in range(given.count)]
    text = "\n".join([*table(results, baseline), *samples(results)]) + "\n"
    if given.out:
        before = given.out.read_text(encoding="utf-8") if given.out.exists() else ""
        given.out.write_text(f"{before.partition(HEADING)[0]}{HEADING}\n\n{text}", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
