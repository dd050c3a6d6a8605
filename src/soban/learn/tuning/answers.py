"""Answers to questions held out, as the model writes them now: by the engine, so that they are what will be written."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from soban.learn.tuning.examples import Example

if TYPE_CHECKING:
    from soban.model.chatting import Model

NEW_TOKENS = 48
TAIL = 60  # characters of a question that are shown


class Answers:
    """Asks the questions of some examples. The engine shares the pages of the model's file with what learns."""

    def __init__(self, path: Path | None, dtype: str, examples: Sequence[Example]) -> None:
        self.path, self.dtype, self.examples = path, dtype, examples
        self._model: Model | None = None

    def __call__(self, adapter: Path) -> list[str]:
        """A text for each example: the end of its question, and the answer with the adapter in a folder."""
        from soban.model.loading import load

        if self._model is None:
            longest = max(len(one.ids) for one in self.examples) + NEW_TOKENS
            self._model = load(self.path, dtype=self.dtype, context=max(64, longest), force=True)
        model = self._model.adapted(adapter)
        texts = []
        for example in self.examples:
            ids = [int(token) for token in example.ids[: example.prompt]]
            answer = str(model.start(ids, max_new_tokens=NEW_TOKENS, do_sample=False).read())
            question = " ".join(model.detokenize(ids).split())[-TAIL:]
            texts.append(f"{question} → {answer.strip()}")
        return texts
