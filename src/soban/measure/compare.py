"""Models on the same inputs: how likely they find the answers that are wanted, what they answer, and how fast."""

import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from soban import messages
from soban.base.errors import UserError
from soban.learn.data import reading, sources
from soban.learn.data.chats import ROLES, Conversation, Document
from soban.measure import evaluate, similarity
from soban.measure.evaluate import Mean
from soban.model import Model
from soban.ops.native import Cancelled
from soban.talk.generation import Generation

WIDTH = 8  # answers that are written at once
SPARE = 16  # tokens that an answer may have beyond twice those of the longest that is wanted
MEASURES = ("exact", "chrf", "rouge_1", "rouge_2", "rouge_l", "rouge_m")  # of an answer; the last one by morphemes
Message = dict[str, str]
Progress = Callable[[str, float], None]  # a stage ("losses", "answers"), and the share of it that is done


@dataclass(frozen=True)
class Example:
    """What a model is asked, and the answer that is wanted."""

    messages: tuple[Message, ...]
    wanted: str

    @property
    def question(self) -> str:
        """What is asked, as people read it."""
        return "\n\n".join(message["content"] for message in self.messages)


@dataclass(frozen=True)
class Answered:
    """What a model made of an example. Losses in nats, summed over the tokens of the wanted answer."""

    text: str
    finished: str  # as in Figures.finished
    tokens: int  # that were written
    loss: float
    wanted_tokens: int
    scores: dict[str, float]  # by MEASURES, each 0 to 1


@dataclass(frozen=True)
class Contestant:
    """A model, by the name that it is compared under, and all that it answered."""

    name: str
    answers: tuple[Answered, ...]
    seconds: float  # of writing all of them
    bytes: int  # of the wanted answers, in UTF-8

    @property
    def loss(self) -> Mean:
        """Nats for each token of the wanted answers; draws are the examples: tokens of one are good or bad together."""
        tokens = np.array([one.wanted_tokens for one in self.answers])
        losses = np.array([one.loss for one in self.answers])
        value = losses.sum() / tokens.sum()
        rest = losses - value * tokens
        count = len(tokens)
        spread = math.sqrt(float((rest**2).sum()) / max(1, count - 1) * count) if count > 1 else math.nan
        return Mean(float(value), spread / float(tokens.sum()))

    @property
    def perplexity(self) -> Mean:
        value = math.exp(self.loss.mean)
        return Mean(value, value * self.loss.error)

    @property
    def bits_per_byte(self) -> float:
        return sum(one.loss for one in self.answers) / math.log(2) / self.bytes

    def score(self, measure: str) -> Mean | None:
        """The mean of a measure over the examples; None where it was not taken."""
        values = [one.scores[measure] for one in self.answers if measure in one.scores]
        return evaluate.mean(np.array(values)) if values else None

    @property
    def characters(self) -> float:
        """How long an answer is."""
        return sum(len(one.text) for one in self.answers) / len(self.answers)

    @property
    def cut(self) -> int:
        """How many answers did not come to their end."""
        return sum(one.finished in ("length", "context") for one in self.answers)

    @property
    def rate(self) -> float:
        """Tokens per second of all answers together."""
        return sum(one.tokens for one in self.answers) / self.seconds


@dataclass
class Examples:
    """The examples of a file, and how many of its records are none."""

    kept: list[Example] = field(default_factory=list)
    faulty: int = 0


def read_examples(path: Path, fields: Sequence[str] = (), limit: int | None = None, seed: int = 0) -> Examples:
    """Questions and answers of a file, in any form that `soban data` reads; `limit`: so many, drawn by the seed.

    Raises UserError where there are none.
    """
    how = reading.Reading(tuple(fields), conversations=True)
    examples = Examples()
    for document in reading.documents(sources.find([path]).sources, how, []):
        if (example := example_of(document)) is not None:
            examples.kept.append(example)
        else:
            examples.faulty += 1
    if not examples.kept:
        raise UserError(
            "{path}: no questions with answers in it", path=path,
            hint="give records of prompt and completion, of messages or the like; soban eval measures plain texts",
        )  # fmt: skip
    if limit is not None and limit < len(examples.kept):
        places = sorted(random.Random(seed).sample(range(len(examples.kept)), limit))
        examples.kept = [examples.kept[place] for place in places]
    return examples


def example_of(document: Document) -> Example | None:
    """A conversation whose last turn is the answer that is wanted; None for what is none."""
    if not isinstance(document, Conversation):
        return None
    turns = [(ROLES.get(role), words) for role, words in document.turns]
    if len(turns) < 2 or turns[-1][0] != "assistant" or turns[-2][0] != "user" or not turns[-1][1].strip():
        return None
    if any(role is None for role, _ in turns):
        return None
    return Example(
        tuple({"role": str(role), "content": words} for role, words in turns[:-1]), turns[-1][1].strip()
    )  # fmt: skip


def begun(model: Model, example: Example, **options: Any) -> Generation:
    """The answer to an example, not written yet: by the model's chat template, or as a text that goes on."""
    if model.template is None:
        return model.start(example.question + "\n", raw=True, echo=False, **options)
    return model.start_chat(example.messages, **options)


def compared(
    name: str,
    model: Model,
    examples: Sequence[Example],
    *,
    progress: Progress = lambda stage, share: None,
    stop: threading.Event | None = None,
    **options: Any,
) -> Contestant:
    """What a model makes of the examples. `options` are those of `Model.generate`, which is greedy here unless they
    say otherwise; without max_new_tokens an answer may be twice as long as the longest that is wanted.

    Raises UserError for an example that does not fit the model's context, Cancelled once `stop` is set.
    """
    stop = threading.Event() if stop is None else stop
    losses = []
    for row in _losses(model, examples):
        losses.append(row)
        progress("losses", len(losses) / len(examples))
        if stop.is_set():
            raise Cancelled
    longest = max(tokens for _, tokens, _ in losses)
    room = model.engine.context - max(prompt for _, _, prompt in losses)
    options = {"do_sample": False, "max_new_tokens": min(2 * longest + SPARE, room)} | options
    start = time.perf_counter()
    texts = []
    for text in _texts(model, examples, stop, options):
        texts.append(text)
        progress("answers", len(texts) / len(examples))
    seconds = time.perf_counter() - start
    if stop.is_set():
        raise Cancelled
    rows = [
        Answered(text, finished, written, loss, tokens, scored(text, example.wanted))
        for example, (loss, tokens, _), (text, finished, written) in zip(examples, losses, texts, strict=True)
    ]
    return Contestant(name, tuple(rows), seconds, sum(len(example.wanted.encode()) for example in examples))


def scored(answer: str, wanted: str) -> dict[str, float]:
    """How near an answer is to the one that is wanted, by MEASURES."""
    ours, theirs = similarity.units(answer), similarity.units(wanted)
    scores = {
        "exact": float(similarity.same(answer, wanted)), "chrf": similarity.chrf(answer, wanted),
        "rouge_1": similarity.rouge_n(ours, theirs, 1), "rouge_2": similarity.rouge_n(ours, theirs, 2),
        "rouge_l": similarity.rouge_l(ours, theirs),
    }  # fmt: skip
    if parts := similarity.morphemes():
        scores["rouge_m"] = similarity.rouge_l(parts(answer), parts(wanted))
    return scores


def _losses(model: Model, examples: Sequence[Example]) -> Iterator[tuple[float, int, int]]:
    """Of each wanted answer, what it costs the model in nats, how many tokens it has, and how many its prompt."""
    scorer = evaluate.Scorer(model.loaded, model.engine.context, model.adapter)
    with messages.heard_by(lambda text: None):  # what is to be told of a template is told when answers are written
        for example in examples:
            prompt = begun(model, example).prompt.ids
            wanted = model.tokenizer.encode(example.wanted, bos=False)
            ids = [*prompt, *wanted]
            if len(ids) > model.engine.context:
                raise UserError(
                    "an example has {count} tokens with its answer, where the context has {context}: {text}",
                    count=len(ids), context=model.engine.context, text=example.question[:40],
                    hint="take shorter examples, or a larger --context",
                )  # fmt: skip
            loss, at = 0.0, 0
            for scores in scorer.scores(ids[:-1], len(prompt) - 1):
                rows = evaluate.log_probabilities(scores)
                loss -= float(rows[np.arange(len(rows)), wanted[at : at + len(rows)]].sum())
                at += len(rows)
            yield loss, len(wanted), len(prompt)


def _texts(
    model: Model, examples: Sequence[Example], stop: threading.Event, options: dict[str, Any]
) -> Iterator[tuple[str, str, int]]:
    """The answers in the order of the examples, why each ended, and its tokens; some are written at the same time."""

    def write(example: Example) -> tuple[str, str, int]:
        generation, text = begun(model, example, **options), ""
        for _, piece in generation:
            text += piece
            if stop.is_set():
                generation.cancel()
        return text.strip(), generation.figures.finished, generation.figures.new_tokens

    with ThreadPoolExecutor(min(WIDTH, len(examples))) as pool:
        yield from pool.map(write, examples)
