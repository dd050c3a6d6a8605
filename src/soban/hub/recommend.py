"""Which models of the catalogue suit a PC and a purpose, and why the others do not."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from soban.hub.catalogue import Benchmark, Entry
from soban.hub.choosing import READ

MOST = 3
TASKS = {"chat": ("chat",), "summary": ("chat", "rewrite"), "story": ("chat", "story"), "write": ("base",)}
# Bytes for a weight of Gemma 2 2B. Its large vocabulary makes the 4 bits dearer than most models have them.
FORMS = {"q8": 1.02, "q4": 0.70}
SYSTEM = 2_000_000_000  # bytes that the system and a browser take, of less than twice as much half
WORKSPACE = 200_000_000  # for Python and what is computed
FLUENT = 2.5  # tokens a second: as people read
# Bytes that a PC reads from memory in a second where it was not measured, and the share of them that decoding reaches
# (docs/performance.md).
BANDWIDTH, SHARE = 25e9, 0.8


@dataclass(frozen=True)
class Wish:
    """What is asked of a model. `memory` is the PC's, in bytes; `language` a two-letter code."""

    memory: int
    task: str = "chat"
    language: str | None = None
    commercial: bool = False
    context: int = 4096
    insists: bool = False  # on the context: a model that is known to hold less does not do
    bandwidth: float | None = None  # of the PC, in bytes a second; None: not measured

    @property
    def room(self) -> int:
        """Bytes that are left for a model."""
        return max(0, self.memory - min(SYSTEM, self.memory // 2))


@dataclass(frozen=True)
class Fit:
    """A model that does, and in which form."""

    entry: Entry
    form: str
    weights: int  # bytes
    cache: int | None  # bytes of the wished context, or of the model's own where that is shorter; None: not known
    context: int
    speed: float  # tokens a second, about: each reads all weights

    @property
    def bytes(self) -> int:
        return self.weights + (self.cache or 0) + WORKSPACE

    @property
    def fluent(self) -> bool:
        return self.speed >= FLUENT


@dataclass(frozen=True)
class Advice:
    """At most three models, the best first; for how many models each reason speaks against them; and more."""

    fits: tuple[Fit, ...]
    against: dict[str, int]  # keys: task, language, commercial, unknown licence, context, memory,
    # unknown size, form
    waiting: tuple[Entry, ...]  # that would do, had soban an engine for them
    language_known: bool  # False: nothing is known of any model's command of the language, so it was not looked at


def recommend(
    entries: Sequence[Entry], wish: Wish, engines: Collection[str], benchmarks: dict[str, Benchmark]
) -> Advice:
    """The advice for a wish. `engines` are the model types that soban runs.

    One model of each series; those come first that write as fast as people read, of these the ones of which the
    language is known and scored best, then the largest.
    """
    against: Counter[str] = Counter()
    rest = _left(entries, lambda entry: entry.kind in TASKS[wish.task], "task", against)
    if wish.commercial:
        rest = _left(rest, lambda entry: entry.commercial != "no", "commercial", against)
        rest = _left(rest, lambda entry: entry.commercial is not None, "unknown licence", against)
    if wish.insists:
        rest = _left(rest, lambda entry: entry.context is None or entry.context >= wish.context, "context", against)
    speakers = [entry for entry in rest if wish.language is None or speaks(entry, wish.language, benchmarks)]
    runnable = [entry for entry in speakers if entry.model_type in engines and fit(entry, wish)]
    language_known = bool(runnable)
    if language_known:
        against["language"] = len(rest) - len(speakers)
        rest = speakers
    rest = _left(rest, lambda entry: entry.parameters is not None, "unknown size", against)
    rest = _left(rest, lambda entry: fit(entry, wish) is not None, "memory", against)
    rest = _left(rest, lambda entry: entry.repository is not None and entry.form in READ, "form", against)
    waiting = [entry for entry in rest if entry.model_type not in engines]
    if not language_known:
        waiting = _left(waiting, speakers.__contains__, "language", against)
    fits = [one for entry in rest if entry.model_type in engines if (one := fit(entry, wish))]

    def order(one: Fit) -> tuple[bool, float, float, int, int]:
        entry = one.entry
        slowness = 0.0 if one.fluent else one.speed
        return one.fluent, slowness, score(entry, wish.language, benchmarks), entry.parameters or 0, entry.context or 0

    best: dict[str, Fit] = {}
    for one in sorted(fits, key=order, reverse=True):
        best.setdefault(series(one.entry), one)
    top = tuple(best.values())[:MOST]
    against["behind"] = len(fits) - len(top)
    return Advice(top, {reason: count for reason, count in against.items() if count}, tuple(waiting), language_known)


def _left(entries: Sequence[Entry], does: Callable[[Entry], bool], reason: str, against: Counter[str]) -> list[Entry]:
    """The entries that pass; those that do not are counted."""
    passing = [entry for entry in entries if does(entry)]
    against[reason] += len(entries) - len(passing)
    return passing


def fit(entry: Entry, wish: Wish) -> Fit | None:
    """How a model fits into the PC: in 8 bits where that is fluent, else in 4; None where it does not."""
    if entry.parameters is None:
        return None
    context = min(wish.context, entry.context or wish.context)
    cache = None
    if entry.cache is not None:
        layers, heads, size = entry.cache
        cache = 2 * 2 * layers * heads * size * context  # keys and values, two bytes each
    fits = []
    for form, bytes in FORMS.items():
        weights = round(bytes * entry.parameters)
        fits.append(Fit(entry, form, weights, cache, context, SHARE * (wish.bandwidth or BANDWIDTH) / max(1, weights)))
    fitting = [one for one in fits if one.bytes <= wish.room]
    return next((one for one in fitting if one.fluent), fitting[-1] if fitting else None)


def speaks(entry: Entry, language: str, benchmarks: dict[str, Benchmark]) -> bool:
    """Whether its makers name the language, or somebody has published how well it does in it."""
    return language in entry.languages or any(benchmarks[name].language == language for name, _ in entry.scores)


def score(entry: Entry, language: str | None, benchmarks: dict[str, Benchmark]) -> float:
    """The best published score in a language, as a share of the most that can be had; half of it where the makers name
    the language and nobody has published a score, 0 where there is nothing.

    English is what all of these models are best at, and their makers measure it each in their own way: no score.
    """
    if language in (None, "en"):
        return 0.0
    shares = [value / benchmarks[name].most for name, value in entry.scores if benchmarks[name].language == language]
    return max(shares, default=0.5 if language in entry.languages else 0.0)


def series(entry: Entry) -> str:
    """What the versions of a family have in common: "llama" of llama3.1:8b."""
    match = re.match(r"[a-z-]+", entry.name)
    return match[0] if match else entry.name
