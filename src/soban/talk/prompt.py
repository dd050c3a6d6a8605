"""A prompt as a model is given it, how the text that follows is to be read, and what it has to be like."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from soban.engine.constraint import Factory
from soban.text.chat.form import ChatForm
from soban.text.grammar.grammar import Grammar, Grammars
from soban.text.stream.decode import ByteStream, StreamDecoder


@dataclass(frozen=True)
class Prompt:
    """Token ids; `echo` is written before the text, `form` says how a chat template ends an answer."""

    ids: list[int]
    form: ChatForm = field(default_factory=ChatForm)
    answer: bool = True  # the text stands by itself, so no space begins it; else it goes on with the prompt
    echo: str | None = None  # None: the prompt is not shown
    decoder: Callable[[], StreamDecoder] | None = None  # of the text; None: the tokenizer's own
    constraint: Factory | None = None  # what the text has to be like

    def under(self, grammar: Grammar | None, grammars: Grammars) -> "Prompt":
        """The prompt for a text of that form, which is then the tokens' bytes, with nothing cut from them."""
        if grammar is None:
            return self
        return replace(
            self, form=ChatForm(self.form.ends), constraint=grammars.factory(grammar),
            decoder=lambda: ByteStream(grammars.tokenizer.token_bytes),
        )  # fmt: skip
