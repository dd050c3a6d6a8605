"""A text that is written under a grammar: which tokens may come next, and its end before its room is used up."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from soban.base.errors import UserError
from soban.text.grammar.closing import way_out
from soban.text.grammar.words import Words

if TYPE_CHECKING:
    from llguidance import LLMatcher


class Matching:
    """The engine's `Constraint`, by llguidance.

    A way to complete the text is always known (`way`), if there is a limit to its length. A token after which the way
    would be longer than the room is not taken; the way is, from there on. So whatever was begun comes to its end.
    """

    def __init__(self, matcher: "LLMatcher", words: Words, hints: Sequence[list[int]] = ()) -> None:
        self.matcher, self.words, self.hints = matcher, words, hints
        self.way: list[int] = []
        self.complete, self.ended, self.shortened = matcher.is_accepting(), False, False

    def begin(self, room: int | None) -> None:
        """Before the first token. UserError where no text of at most `room` tokens is known that fits the grammar."""
        way = way_out(self.matcher.deep_copy(), self.words, 1 << 30 if room is None else room, self.hints)
        if way is not None:
            self.way = way
            return
        if room is None or (way := way_out(self.matcher.deep_copy(), self.words, 1 << 30, self.hints)) is None:
            raise UserError(
                "no text is found that is as it has to be", hint="ask for less: a shorter text, or one that can end"
            )
        raise UserError(
            "there is room for {room} tokens, and a text that is as it has to be takes up to {count}", room=room,
            count=len(way), hint="give a greater max_new_tokens, or a longer context",
        )  # fmt: skip

    def allowed(self) -> npt.NDArray[np.uint8]:
        """The tokens that may come next, a bit for each; UserError where the grammar is too much for its limits."""
        mask = np.frombuffer(self.matcher.compute_bitmask(), np.uint8)
        if self.matcher.is_error():
            raise self._failure()
        return mask

    def forced(self) -> list[int]:
        """The tokens that come next whatever the model says."""
        return self.matcher.compute_ff_tokens()

    def _failure(self) -> UserError:
        return UserError(
            "the text cannot go on as it has to be: {reason}",
            reason=" ".join(self.matcher.get_error().split())[:200], hint="ask for a simpler form of text",
        )  # fmt: skip

    def settled(self, token: int, room: int | None) -> int | None:
        """The token, or the first of the way where it would not leave room for a way; None: there is no more room."""
        if room is None:
            return token
        way = self._way_after(token, room - 1)
        if way is None:
            self.shortened = True
            token, way = self.way[0] if self.way else -1, self.way[1:]
        self.way = way
        return None if token < 0 else token

    def _way_after(self, token: int, room: int) -> list[int] | None:
        """A way to complete the text after the token, of at most `room` tokens; None where none is found."""
        if self.way[:1] == [token]:
            return self.way[1:]
        for way in (self.way, self.way[1:]):
            whole = [token, *way, self.words.end]
            if len(way) <= room and self.matcher.validate_tokens(whole) == len(whole):
                return way
        if room < 0 or self.shortened:  # then the way is followed but for what fits as well
            return None
        after = self.matcher.deep_copy()
        return way_out(after, self.words, room, self.hints) if after.consume_token(token) else None

    def take(self, token: int) -> None:
        """Goes on by a token that is allowed."""
        if not self.matcher.consume_token(token):
            raise self._failure()
        self.complete = self.matcher.is_accepting()
        self.ended = self.complete and self.matcher.is_stopped()

    def valid(self, tokens: Sequence[int]) -> int:
        """How many of these may come one after the other."""
        return self.matcher.validate_tokens(list(tokens))
