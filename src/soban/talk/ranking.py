"""How well documents meet a query: the likelihood with which a model, asked whether one does, says yes."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

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
    """How well a document meets a query, 0 to 1, and how many tokens it took to ask."""

    value: float
    tokens: int


class Ranker:
    """Scores documents; for any number of threads."""

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

    def score(self, query: str, document: str, instruction: str | None = None) -> Score:
        """Yes against no. Raises UserError for a document that is too long."""
        ids = self.prompt(query, document, instruction)
        logits = self.following(ids)
        difference = float(logits[self.no]) - float(logits[self.yes])
        return Score(1 / (1 + math.exp(min(difference, 700.0))), len(ids))  # a double holds e^709

    def prompt(self, query: str, document: str, instruction: str | None) -> list[int]:
        """The question about a document, as tokens. UserError where it is too long."""
        question = f"<Instruct>: {instruction or SEARCH}\n<Query>: {query}\n<Document>: {document}"
        turns = [{"role": "system", "content": TASK}, {"role": "user", "content": question}]
        ids = encode_chat(self.tokenizer, self.template, turns)
        if len(ids) > self.context:
            raise UserError(
                "a document has {tokens} tokens with its query, and the context holds {context}", tokens=len(ids),
                context=self.context, hint="shorten it, or rank its parts",
            )  # fmt: skip
        return ids
