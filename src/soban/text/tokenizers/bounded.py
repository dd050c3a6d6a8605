"""A tokenizer with more entries than the model has rows: a pad token that was added and never trained, say."""

from collections.abc import Mapping, Sequence

from soban.base.errors import UserError
from soban.text.stream.decode import StreamDecoder
from soban.text.tokenizers.markup import Span
from soban.text.tokenizers.tokenizer import Tokenizer


class BoundedTokenizer:
    """Another tokenizer's ids, of which only those below `rows` may come up; the model writes no others."""

    def __init__(self, inner: Tokenizer, rows: int) -> None:
        self.inner, self.rows = inner, rows
        self.vocab_size, self.bos_id, self.eos_ids = rows, inner.bos_id, inner.eos_ids
        self.special_tokens = inner.special_tokens

    def encode(self, text: str, *, bos: bool | None = None, special: bool = False) -> list[int]:
        """As the inner one's; UserError for a text with a token beyond the rows."""
        return self._checked(self.inner.encode(text, bos=bos, special=special))

    def encode_rendered(self, text: str, hidden: Mapping[str, str]) -> list[int]:
        """As the inner one's; UserError for a text with a token beyond the rows."""
        return self._checked(self.inner.encode_rendered(text, hidden))

    def find_markup(self, text: str) -> list[Span]:
        return self.inner.find_markup(text)

    def token_bytes(self, token_id: int) -> bytes:
        return self.inner.token_bytes(token_id)

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        return self.inner.decode(ids, skip_special=skip_special)

    def stream(self, after: Sequence[int] = ()) -> StreamDecoder:
        return self.inner.stream(after)

    def _checked(self, ids: list[int]) -> list[int]:
        beyond = next((index for index in ids if index >= self.rows), None)
        if beyond is None:
            return ids
        raise UserError(
            "the text has token {id}, {token}, of which the model has learnt nothing: its embedding has {rows} rows",
            id=beyond, token=repr(self.inner.decode([beyond], skip_special=False)), rows=self.rows,
            hint="leave it out, or take the tokenizer that belongs to the model",
        )  # fmt: skip
