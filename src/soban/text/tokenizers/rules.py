"""What becomes of a text before a packed tokenizer merges it."""

from dataclasses import dataclass
from typing import Literal

SPACE = "▁"


@dataclass(frozen=True)
class Rules:
    """What becomes of a stretch of text before it is merged; a space always becomes U+2581.

    prepend: one more stands before it (the normalizer's way: ahead of finding `normalized` tokens). metaspace: one
    stands before it unless there is one already, in every stretch, in the text's first or in none (the pre-tokenizer's
    way: after finding them). cut: parts from one U+2581 to the next are merged by themselves.
    """

    prepend: bool = False
    metaspace: Literal["always", "first", "never"] | None = None
    cut: bool = False

    def normalized(self, text: str) -> str:
        """The text in which `normalized` tokens are looked for."""
        if self.metaspace:
            return text
        return SPACE * (self.prepend and text != "") + text.replace(" ", SPACE)

    def spelled(self, text: str, first: bool) -> str:
        """A stretch of normalized text as the vocabulary spells it; `first`: the text begins with it."""
        if not self.metaspace:
            return text
        text = text.replace(" ", SPACE)
        leading = self.metaspace == "always" or (self.metaspace == "first" and first)
        return SPACE + text if leading and not text.startswith(SPACE) else text
