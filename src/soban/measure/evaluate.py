"""How well a model predicts a text, and how far its predictions are from another model's."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from soban.base.errors import UserError
from soban.loading.loaded import Loaded
from soban.ops import make_batch, make_cache, runner
from soban.ops.adapters import Adapter
from soban.ops.batch import PAGE
from soban.ops.formats import Floats
from soban.text.tokenizers.tokenizer import Tokenizer

CHUNK = 256  # tokens in one step at most
LOGITS = 1 << 24  # scores of one step at most, so that a vocabulary of 256,000 takes 64 tokens a step and 64 MB
DOCUMENT_END = "<|endoftext|>"
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Mean:
    """A mean over tokens and its standard error, each token taken as a draw of its own."""

    mean: float
    error: float


@dataclass(frozen=True)
class Comparison:
    """How far the model's predictions are from a reference's, in nats a token."""

    loss: Mean  # the reference's own
    more: Mean  # by how much the model's loss is higher
    divergence: Mean  # KL(reference || model)
    divergence_99: float  # exceeded by one token in a hundred
    agreement: Mean  # share of tokens after which both find the same token the likeliest

    @property
    def perplexity_above(self) -> Mean:
        """By which share of the reference's perplexity the model's is higher."""
        return Mean(math.expm1(self.more.mean), math.exp(self.more.mean) * self.more.error)


@dataclass(frozen=True)
class Evaluation:
    """What was found over a text; losses in nats a token."""

    tokens: int  # that were predicted
    bytes: int  # of the text, in UTF-8
    loss: Mean
    reference: Comparison | None

    @property
    def perplexity(self) -> Mean:
        value = math.exp(self.loss.mean)
        return Mean(value, value * self.loss.error)

    @property
    def bits_per_byte(self) -> float:
        return self.loss.mean * self.tokens / math.log(2) / self.bytes


def documents(text: str) -> list[str]:
    """The texts of a file: parted by <|endoftext|>, where there are such marks."""
    return [part for part in (part.strip("\n") for part in text.split(DOCUMENT_END)) if part]


def windows(ids: Sequence[int], bos: int | None, context: int, stride: int) -> Iterator[tuple[list[int], int]]:
    """(tokens, first) of each window over a document: what it predicts anew are tokens[first:].

    A window has at most `context` tokens and starts `stride` tokens after the one before; if the document begins with
    the token `bos`, so does each. The very first token of a document is not predicted.
    """
    head = [bos] if bos is not None and list(ids[:1]) == [bos] else []
    body = list(ids[len(head) :])
    predicted = 1 - len(head)
    for start in range(0, len(body), stride):
        if predicted >= len(body):
            return
        end = min(start + context - len(head), len(body))
        yield [*head, *body[start:end]], len(head) + predicted - start
        predicted = end


@dataclass(frozen=True)
class Windows:
    """What is to be predicted: the windows of all documents, and how long their text is."""

    windows: tuple[tuple[list[int], int], ...]
    bytes: int


def split_windows(tokenizer: Tokenizer, text: str, context: int, stride: int, most: int | None = None) -> Windows:
    """The windows over a text's documents, as many documents (and of the last one windows) as `most` tokens need."""
    pieces: list[tuple[list[int], int]] = []
    tokens = size = 0
    for document in documents(text):
        if most is not None and tokens >= most:
            break
        length, ids = len(document.encode()), tokenizer.encode(document)
        for number, (window, first) in enumerate(windows(ids, tokenizer.bos_id, context, stride)):
            if number and most is not None and tokens >= most:
                length = len(tokenizer.decode(ids[: number * stride + context - stride]).encode())
                break
            pieces.append((window, first))
            tokens += len(window) - first
        size += length
    return Windows(tuple(pieces), size)


class Scorer:
    """A model that gives its scores for whole windows, in pieces, so that they need never be held together."""

    def __init__(self, loaded: Loaded, context: int, adapter: Adapter | None = None) -> None:
        c = loaded.architecture.config
        self.outputs = max(1, min(CHUNK, LOGITS // c.vocab_size))
        program = loaded.architecture.record(loaded.weights, context)
        self.runner, self.row = runner(program, CHUNK, self.outputs), c.row
        pages = -(-context // PAGE)
        layers = c.geometries
        self.cache = make_cache(pages, layers, loaded.cache_format)
        self.adapters = () if adapter is None else (adapter,)

    def scores(self, tokens: Sequence[int], first: int) -> Iterator[Floats]:
        """(n, vocabulary) for the positions from `first` on, a piece at a time; the next overwrites it."""
        rotation = self.row(len(tokens))
        cuts = [*range(0, first, CHUNK), *range(first, len(tokens), self.outputs), len(tokens)]
        choices = range(len(self.adapters))  # the one sequence has the one adapter
        for start, end in pairwise(cuts):
            outputs = range(end - start) if start >= first else range(0)
            batch = make_batch(
                [tokens[start:end]], [start], [range(self.cache.pages)], outputs, rotation, self.adapters, choices
            )
            result = self.runner.run(batch, self.cache)
            if len(outputs):
                yield result


def log_probabilities(scores: Floats) -> Doubles:
    """(n, vocabulary) scores to the logarithms of probabilities. Raises UserError for what is no number."""
    exact = scores.astype(np.float64)
    exact -= exact.max(axis=1, keepdims=True)
    exact -= np.log(np.exp(exact).sum(axis=1, keepdims=True))
    if not np.isfinite(exact[:, 0]).all():
        raise UserError("the model's output is not a number", hint="its weights are damaged: fetch the model again")
    return exact


def divergence(reference: Doubles, model: Doubles) -> Doubles:
    """KL(reference || model) of each row of two arrays of log probabilities, in nats."""
    # A difference of rounding may be below zero where both are the same, the divergence never is.
    return np.maximum((np.exp(reference) * (reference - model)).sum(axis=1), 0.0)


def evaluate(
    model: Scorer,
    reference: Scorer | None,
    over: Windows,
    progress: Callable[[float], None] = lambda share: None,
) -> Evaluation:
    """The figures over all windows. `progress` hears of the share that is done."""
    rows: list[Doubles] = []
    total = sum(len(tokens) - first for tokens, first in over.windows)
    for tokens, first in over.windows:
        targets, at = np.asarray(tokens[first:]), 0
        others: Iterator[Floats | None] = iter(lambda: None, 0)
        if reference is not None:
            others = reference.scores(tokens[:-1], first - 1)
        for scores, other in zip(model.scores(tokens[:-1], first - 1), others, strict=False):
            rows.append(_rows(scores, other, targets[at : at + len(scores)]))
            at += len(scores)
            progress(sum(map(len, rows)) / total)
    table = np.concatenate(rows)
    loss = table[:, 0]
    if reference is None:
        return Evaluation(total, over.bytes, mean(loss), None)
    comparison = Comparison(
        mean(table[:, 1]), mean(loss - table[:, 1]), mean(table[:, 2]), float(np.quantile(table[:, 2], 0.99)),
        mean(table[:, 3]),
    )  # fmt: skip
    return Evaluation(total, over.bytes, mean(loss), comparison)


def _rows(scores: Floats, other: Floats | None, targets: npt.NDArray[np.int64]) -> Doubles:
    """Each token's loss and, with a reference, that one's loss, their divergence, and whether they agree."""
    each = np.arange(len(targets))
    table = np.zeros((len(targets), 4))
    step = max(1, (1 << 20) // scores.shape[1])  # rows of float64 that fit the processor's cache, more or less
    for start in range(0, len(targets), step):
        part = slice(start, start + step)
        mine, row = log_probabilities(scores[part]), each[part] - start
        table[part, 0] = -mine[row, targets[part]]
        if other is not None:
            theirs = log_probabilities(other[part])
            table[part, 1] = -theirs[row, targets[part]]
            table[part, 2] = divergence(theirs, mine)
            table[part, 3] = mine.argmax(axis=1) == theirs.argmax(axis=1)
    return table


def mean(values: Doubles) -> Mean:
    """The mean of values, each a draw of its own."""
    spread = values.std(ddof=1) if len(values) > 1 else math.nan
    return Mean(float(values.mean()), float(spread / math.sqrt(len(values))))
