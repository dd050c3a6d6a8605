"""How well documents meet a query: how likely a model, asked so, says yes; or the score of an encoder's head."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from soban.base.errors import UserError
from soban.ops.formats import Floats
from soban.text.chat.calls import SWITCHES
from soban.text.chat.template import ChatTemplate, encode_chat
from soban.text.tokenizers.tokenizer import Tokenizer

# The question as Qwen3-Reranker learnt it (its model card); other models understand it, too.
TASK = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)
SEARCH = "Given a web search query, retrieve relevant passages that answer the query"


class Score(NamedTuple):
    """How well a document meets a query, 0 to 1, and how many tokens it took to ask.

    `raw`: the same without bounds, of which `value` is the logistic function.
    """

    value: float
    tokens: int
    raw: float


def score_of(raw: float, tokens: int) -> Score:
    return Score(1 / (1 + math.exp(min(-raw, 700.0))), tokens, raw)  # a double holds e^709


class Scoring(Protocol):
    """What scores documents; for any number of threads. `together`: how many are scored about as soon as one."""

    together: int

    def scores(self, query: str, documents: Sequence[str], instruction: str | None = None) -> list[Score]:
        """How well each of the documents meets the query. Raises UserError for one that is too long."""


def _too_long(tokens: int, context: int) -> UserError:
    return UserError(
        "a document has {tokens} tokens with its query, and the context holds {context}", tokens=tokens,
        context=context, hint="shorten it, or rank its parts",
    )  # fmt: skip


class Ranker:
    """Asks a model that writes, in the words of its chat template."""

    together = 1

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        context: int,
        following: Callable[[Sequence[int]], Floats],
    ) -> None:
        """`following` gives the scores of what follows some tokens. Raises UserError where nobody can be asked."""
        if template is None:
            raise UserError(
                "the model has no chat template, so it cannot be asked whether a document meets a query",
                hint="use a model that was taught to, such as Qwen/Qwen3-Reranker-0.6B",
            )
        self.tokenizer, self.context, self.following = tokenizer, context, following
        self.template = template.with_values(**dict.fromkeys(SWITCHES, False))  # a thought is no verdict
        self.yes, self.no = self._word("yes"), self._word("no")

    def _word(self, word: str) -> int:
        ids = self.tokenizer.encode(word, bos=False)
        if len(ids) != 1:
            raise UserError(
                "the model's vocabulary has no token for {word}, so its verdict cannot be read", word=word,
                hint="use a model that was taught to, such as Qwen/Qwen3-Reranker-0.6B",
            )  # fmt: skip
        return ids[0]

    def scores(self, query: str, documents: Sequence[str], instruction: str | None = None) -> list[Score]:
        """Yes against no. Raises UserError for a document that is too long."""
        return [self._score(self.prompt(query, document, instruction)) for document in documents]

    def _score(self, ids: list[int]) -> Score:
        logits = self.following(ids)
        return score_of(float(logits[self.yes]) - float(logits[self.no]), len(ids))

    def prompt(self, query: str, document: str, instruction: str | None) -> list[int]:
        """The question about a document, as tokens. UserError where it is too long."""
        question = f"<Instruct>: {instruction or SEARCH}\n<Query>: {query}\n<Document>: {document}"
        turns = [{"role": "system", "content": TASK}, {"role": "user", "content": question}]
        ids = encode_chat(self.tokenizer, self.template, turns)
        if len(ids) > self.context:
            raise _too_long(len(ids), self.context)
        return ids


class CrossEncoder:
    """Has an encoder with a head read query and document together."""

    together = 32

    def __init__(
        self, tokenizer: Tokenizer, pair: Sequence[tuple[int | str, int]], types: int, context: int,
        first_rows: Callable[[Sequence[Sequence[int]], Sequence[Sequence[int]]], Sequence[Floats]],
    ) -> None:  # fmt: skip
        """`pair`: how two texts become one, see `pair_of`; `types` of tokens that the model tells apart.

        `first_rows` gives the scores of texts' tokens and types, in their order.
        """
        if not pair:
            raise UserError(
                "the model's tokenizer does not say how two texts are put together",
                hint="fetch the model's files again",
            )
        self.tokenizer, self.pair, self.types, self.context = tokenizer, pair, types, context
        self.first_rows = first_rows

    def scores(self, query: str, documents: Sequence[str], instruction: str | None = None) -> list[Score]:
        """The head's score. Raises UserError for a document that is too long, and for an instruction."""
        if instruction is not None:
            raise UserError("this model takes no instruction: it was taught one way to score", hint="leave it out")
        texts = {"A": self.tokenizer.encode(query, bos=False)}
        ids, types = [], []
        for document in documents:
            texts["B"] = self.tokenizer.encode(document, bos=False)
            pieces = [(texts[one] if isinstance(one, str) else [one], kind) for one, kind in self.pair]
            ids.append([token for own, _ in pieces for token in own])
            types.append([min(kind, self.types - 1) for own, kind in pieces for _ in own])
            if len(ids[-1]) > self.context:
                raise _too_long(len(ids[-1]), self.context)
        rows = self.first_rows(ids, types)
        return [score_of(float(row[0]), len(one)) for row, one in zip(rows, ids, strict=True)]
