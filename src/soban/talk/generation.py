"""The text that a model writes, piece by piece, and what it took."""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from soban import messages
from soban.engine.sampling import Sampling
from soban.engine.sequence import Event, Request, Sequence
from soban.engine.sharing import Caller
from soban.text.chat.form import ChatForm, token_of
from soban.text.stream.stop import StopStrings

if TYPE_CHECKING:
    from soban.model import Model

Refill = Callable[[list[int]], list[int] | None]


@dataclass
class Figures:
    """What a generation took, in seconds and tokens; filled in as it goes."""

    prompt_tokens: int = 0
    reused_tokens: int = 0  # of the prompt, found in the cache
    new_tokens: int = 0
    characters: int = 0
    dropped_tokens: int = 0  # that a sliding context has forgotten
    drafted_tokens: int = 0  # looked up in the text so far and tried, and how many of them the model then chose
    accepted_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    finished: str = ""  # "end", "length", "stop", "context" or "cancelled"


class Generation:
    """The pieces of one or several texts as they are written: iterate over (which text, piece).

    Several generations of one model may be iterated in turn or in several threads; they share the engine's steps.
    """

    def __init__(
        self,
        model: "Model",
        prompt: list[int],
        sampling: Sampling,
        *,
        on_full: str = "error",
        echo: str = "",
        answer: bool = True,
        form: ChatForm | None = None,
        refill: Refill | None = None,
    ) -> None:
        """`echo` is written first; `answer`: the text stands by itself, so no space begins it, else it goes on.

        `form` says how a chat template ends an answer. `refill` is asked where the context is full: given the tokens
        of the answer so far, it returns a shorter prompt with them at its end, or None where there is none.
        """
        self.model, self.echo, self.refill = model, echo, refill
        form = form or ChatForm()
        keep = 1 if prompt[:1] == [model.tokenizer.bos_id] else 0
        texts = range(sampling.num_return_sequences)
        self.stops = [StopStrings((*sampling.stop, *form.stops), form.heads) for _ in texts]
        self.decoders = [model.tokenizer.stream(after=() if answer else prompt) for _ in texts]
        self.leads = [form.lead for _ in texts]  # blanks before an answer that are the template's
        self.tail = form.tail  # and after it
        self.blanks = ["" for _ in texts]  # that may turn out to be that
        spelled = (token_of(stop, model.tokenizer) for stop in sampling.stop)  # a token is never found as text
        named = {token for token in spelled if token is not None}
        own = model.ends | form.ends
        full: Literal["end", "slide", "wait"] = "wait" if refill else "slide" if on_full == "slide" else "end"
        request = Request(prompt, sampling, own | named, frozenset(named - own), full, keep)
        self.sequences = model.engine.prepare(request)
        self.figures = Figures(prompt_tokens=len(prompt))
        self.caller = Caller(self.sequences)
        self.writing = set(texts)
        self.begun = False

    def __iter__(self) -> Generator[tuple[int, str], None, None]:
        if self.begun:
            return  # read to its end, or given up: there is nothing more
        self.begun = True
        if self.echo:
            yield from ((s.index, self.echo) for s in self.sequences)
        model = self.model
        start, first, watch = time.perf_counter(), None, self.model.watch
        watch.begin()
        try:
            model.shared.begin(self.caller)
            while self.writing:
                event = model.shared.next(self.caller)
                now = time.perf_counter()
                watch.look(now)
                if first is None:
                    first = now
                    self.figures.prefill_seconds = first - start
                    self.figures.reused_tokens = self.sequences[0].reused
                self.figures.decode_seconds = now - first
                if piece := self._text(event):
                    self.figures.characters += len(piece)
                    yield event.sequence.index, piece
                    if piece.endswith("\n"):
                        watch.say()
        finally:
            self._close()
            watch.say()

    def cancel(self) -> None:
        """Ends it from any thread, in the middle of a step or before it has begun: the iteration raises Cancelled."""
        self.model.shared.cancel(self.caller)

    def read(self) -> str | list[str]:
        """The whole text; a list of them if there are several."""
        texts = [""] * len(self.sequences)
        for index, piece in self:
            texts[index] += piece
        return texts[0] if len(texts) == 1 else texts

    def _text(self, event: Event) -> str:
        """The text that an event adds; the sequence ends here if it completes a stop string."""
        index = event.sequence.index
        if index not in self.writing:
            return ""  # brought by a step after the stop string
        if event.error:
            raise event.error
        decoder, stops = self.decoders[index], self.stops[index]
        self.figures.new_tokens += event.token is not None
        text, stopped = stops.feed(self._after_lead(index, "" if event.token is None else decoder.feed(event.token)))
        if stops and not stopped and event.token is not None and (silent := self._silent(event.token)):
            more, stopped = stops.feed(silent, hidden=True)
            text += more
        finished = event.finish_reason
        if finished == "context" and not stopped and self._refilled(event.sequence):
            finished = None
        if finished and not stopped:
            rest, stopped = stops.feed(self._after_lead(index, decoder.finish()))
            text += rest + ("" if stopped else stops.finish())
        text = self._before_tail(index, text, "stop" if stopped else finished)
        if stopped or finished:
            self.figures.finished = "stop" if stopped else finished or ""
            self.writing.discard(index)
            if event.sequence.finish_reason is None:
                self.model.shared.leave([event.sequence])
        if finished == "context" and not stopped:
            self._tell_full()
        return text

    def _after_lead(self, index: int, text: str) -> str:
        if text and (lead := self.leads[index]):
            text = text.lstrip(lead)
            self.leads[index] = "" if text else lead
        return text

    def _silent(self, token: int) -> str:
        """How a token is written that adds nothing to the text; "" for all others."""
        tokenizer = self.model.tokenizer
        return "" if tokenizer.token_bytes(token) else tokenizer.decode([token], skip_special=False)

    def _before_tail(self, index: int, text: str, finished: str | None) -> str:
        """The text without blanks at its end that the template puts there; they are kept until more text comes."""
        if not self.tail:
            return text
        text = self.blanks[index] + text
        kept = text.rstrip(self.tail)
        if finished and finished != "end":
            kept = text
        self.blanks[index] = text[len(kept) :]
        return kept

    def _refilled(self, sequence: Sequence) -> bool:
        """Whether a sequence that has filled the context goes on from a shorter prompt."""
        produced = sequence.tokens[len(sequence.tokens) - sequence.produced :]
        prompt = self.refill(produced) if self.refill else None
        if prompt is not None:
            self.model.shared.resume(sequence, prompt)
        return prompt is not None

    def _tell_full(self) -> None:
        context = self.model.engine.context
        if self.refill:
            messages.warn(
                "the context of {context} tokens is full of this one answer, so it ends here", context=context
            )
        else:
            messages.warn(
                "the context of {context} tokens is full, so the text ends here; on_full slide goes on by "
                "forgetting its beginning", context=context,
            )  # fmt: skip

    def _close(self) -> None:
        self.figures.dropped_tokens = sum(s.dropped for s in self.sequences)
        self.figures.drafted_tokens = sum(s.drafted for s in self.sequences)
        self.figures.accepted_tokens = sum(s.accepted for s in self.sequences)
        if self.figures.dropped_tokens:
            messages.warn("{count} tokens were forgotten as the context slid", count=self.figures.dropped_tokens)
        if any(
            sequence.finish_reason in (None, "cancelled")
            for sequence in self.sequences
            if sequence.index in self.writing
        ):
            self.figures.finished = "cancelled"
        self.model.shared.leave(self.sequences)
