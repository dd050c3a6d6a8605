"""A prompt as a model is given it, and how the text that follows is to be read."""

from collections.abc import Callable
from dataclasses import dataclass, field

from soban.text.chat.form import ChatForm
from soban.text.stream.decode import StreamDecoder


@dataclass(frozen=True)
class Prompt:
    """Token ids; `echo` is written before the text, `form` says how a chat template ends an answer."""

    ids: list[int]
    form: ChatForm = field(default_factory=ChatForm)
    answer: bool = True  # the text stands by itself, so no space begins it; else it goes on with the prompt
    echo: str | None = None  # None: the prompt is not shown
    decoder: Callable[[], StreamDecoder] | None = None  # of the text; None: the tokenizer's own
