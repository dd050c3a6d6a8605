"""What a text and a conversation need of a model; soban.Model is one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from soban.engine.sampling import Sampling
from soban.engine.sharing import SharedEngine
from soban.ops.adapters import Adapter
from soban.resources.pressure import Watch
from soban.text.chat.form import ChatForm
from soban.text.chat.template import ChatTemplate
from soban.text.grammar.grammar import Grammars
from soban.text.tokenizers.tokenizer import Tokenizer


class Author(Protocol):
    """What a text needs: an engine that is shared, and the words of its model."""

    tokenizer: Tokenizer
    ends: frozenset[int]  # tokens that end a text
    watch: Watch
    adapter: Adapter | None  # that computes with the model's weights
    salt: str  # texts of different ones share no pages of the cache

    @property
    def shared(self) -> SharedEngine:
        """The engine. Raises UserError for a model that writes nothing."""


@runtime_checkable
class Speaker(Author, Protocol):
    """What a conversation needs besides: options, forms, and how words are put into a template."""

    grammars: Grammars

    def sampling(self, **options: Any) -> Sampling:
        """The model's own way of choosing tokens with the given changes."""

    def chat_template(self, name: str | Path | None = None) -> ChatTemplate:
        """The template of that name or in that file, or the model's own."""

    def chat_form(self, template: ChatTemplate) -> ChatForm:
        """How a template begins and ends an answer."""

    def check_messages(self, messages: Sequence[Mapping[str, Any]], on_full: str) -> None:
        """Raises UserError for what is no conversation, or too long whatever its words."""
