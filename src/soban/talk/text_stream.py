"""One text out of the tokens that a model chooses: decoded, cut at stop strings, counted. No engine is in it."""

from collections.abc import Callable

from soban.text.stream.decode import StreamDecoder
from soban.text.stream.stop import StopStrings


class TextStream:
    """Tokens in, pieces of text out, each as soon as it is certain; never part of a character.

    `finish_reason` is "" until the text has ended: "stop" where a stop string was complete, else what `end` was given.
    Nothing comes after that. `tokens` and `characters` count what went in and came out.
    """

    def __init__(
        self,
        decoder: StreamDecoder,
        stops: StopStrings,
        *,
        silent: Callable[[int], str] = lambda token: "",
        lead: str = "",
        tail: str = "",
    ) -> None:
        """`silent` tells how a token is written that adds nothing to the text; stop strings may hold it.

        `lead` and `tail` are blanks that a template puts before and after an answer, which are not the answer's.
        """
        self.decoder, self.stops, self.silent, self.lead, self.tail = decoder, stops, silent, lead, tail
        self.blanks = ""  # that may turn out to be the tail
        self.tokens = self.characters = 0
        self.finish_reason = ""

    def feed(self, token: int) -> str:
        """The text that a token makes certain."""
        if self.finish_reason:
            return ""  # brought by a step after the stop string
        self.tokens += 1
        text = self.decoder.feed(token)
        text, stopped = self.stops.feed(self._after_lead(text) if self.lead else text)
        if self.stops and not stopped and (silent := self.silent(token)):
            more, stopped = self.stops.feed(silent, hidden=True)
            text += more
        return self._before_tail(text, "stop" if stopped else "")

    def end(self, reason: str) -> str:
        """The text that was held back, for no token follows: "end", "length" or "context" says why."""
        if self.finish_reason:
            return ""
        text, stopped = self.stops.feed(self._after_lead(self.decoder.finish()))
        if not stopped:
            text += self.stops.finish()
        return self._before_tail(text, "stop" if stopped else reason)

    def _after_lead(self, text: str) -> str:
        if text:
            text = text.lstrip(self.lead)
            self.lead = "" if text else self.lead
        return text

    def _before_tail(self, text: str, reason: str) -> str:
        """The text without blanks that the template puts at its end; they are held back until more text comes."""
        whole = self.blanks + text
        text = whole if reason and reason != "end" else whole.rstrip(self.tail)
        self.blanks = whole[len(text) :]
        self.characters += len(text)
        self.finish_reason = reason
        return text
