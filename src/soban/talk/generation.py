"""The texts of one request as they are written: tokens from the engine into text streams, and what it took."""

import time
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass

from soban import messages
from soban.engine.logprobs import Logprobs
from soban.engine.sampling import Sampling
from soban.engine.sequence import Event, Full, Request, Sequence
from soban.engine.sharing import Caller
from soban.messages import translate
from soban.talk.notes import Notes
from soban.talk.prompt import Prompt
from soban.talk.speaker import Author
from soban.talk.text_stream import TextStream
from soban.talk.window import Room, Window
from soban.text.chat.form import token_of
from soban.text.stream.stop import StopStrings

Piece = tuple[int, str]  # which of the request's texts, and what is added to it
Scored = tuple[int, Logprobs]  # a token of a text, and how likely it was


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


@dataclass
class Summary:
    """A summary that is being written, and the room in the window that waits for it."""

    sequence: Sequence
    stream: TextStream
    room: Room
    text: str = ""


class Generation:
    """The pieces of one or several texts as they are written: iterate over (which text, piece).

    Several generations of one model may be iterated in turn or in several threads; they share the engine's steps.
    """

    def __init__(
        self,
        author: Author,
        prompt: Prompt,
        sampling: Sampling,
        *,
        on_full: str = "error",
        window: Window | None = None,
        notes: Notes | None = None,
        logprobs: int | None = None,
    ) -> None:
        """`window` makes room for an answer in its conversation, if `on_full` is not "error"; else the text slides.

        `notes` are those that the request has already; what comes up later joins them. `logprobs`: of how many of the
        likeliest tokens `scored` is to tell, beside each that was chosen.
        """
        self.author, self.prompt, self.on_full = author, prompt, on_full
        self.window = None if on_full == "error" else window
        full: Full = "wait" if self.window else "slide" if on_full == "slide" else "end"
        self.sequences = author.shared.engine.prepare(_request(author, prompt, sampling, full, logprobs))
        self.scored: list[list[Scored]] = [[] for _ in self.sequences]  # of each text its tokens so far
        self.streams = {sequence: _stream(author, prompt, sampling) for sequence in self.sequences}
        self.notes = Notes() if notes is None else notes
        self.figures = Figures(prompt_tokens=len(prompt.ids))
        self.caller = Caller()
        self.writing = set(self.sequences)  # those whose text has not ended
        self.full: deque[Sequence] = deque()  # sequences whose context is full; room is made for one after the other
        self.summary: Summary | None = None  # that the first of them waits for
        self.begun = False
        self.started = 0.0  # when it was queued
        self.first: float | None = None  # when its first event came

    def __iter__(self) -> Generator[Piece, None, None]:
        if self.begun:
            return  # read to its end, or given up: there is nothing more
        shared, watch = self.author.shared, self.author.watch
        watch.begin()
        try:
            yield from self.begin()
            while self.writing:
                for index, piece in self.take(shared.next(self.caller)):
                    if piece:
                        yield index, piece
                        if piece.endswith("\n"):
                            watch.say()
        finally:
            self.close()
            watch.say()

    def begin(self) -> list[Piece]:
        """Queues the request; what its texts begin with. For whoever runs the engine's steps, and does not iterate."""
        self.begun, self.started = True, time.perf_counter()
        self.author.shared.begin(self.caller, self.sequences)
        return [(s.index, self.prompt.echo) for s in self.sequences] if self.prompt.echo else []

    def take(self, event: Event) -> list[Piece]:
        """What an event adds to the texts; raises the error that it carries."""
        now, figures = time.perf_counter(), self.figures
        self.author.watch.look(now)
        if self.first is None:
            self.first = now
            figures.prefill_seconds = now - self.started
            figures.reused_tokens = self.sequences[0].reused
        figures.decode_seconds = now - self.first
        pieces = self._pieces(event)
        figures.characters += sum(len(piece) for _, piece in pieces)
        return pieces

    def finish_reason(self, index: int) -> str:
        """Why one of the texts has ended: "end", "length", "stop" or "context"; "" while it is being written."""
        return self.streams[self.sequences[index]].finish_reason

    def stopped_by(self, index: int) -> str | None:
        """The stop text of the request that has ended one of the texts; None where it ended otherwise."""
        sequence = self.sequences[index]
        stops = sequence.request.sampling.stop
        if sequence.ended_by is not None:
            spelled = (stop for stop in stops if token_of(stop, self.author.tokenizer) == sequence.ended_by)
            return next(spelled, None)
        matched = self.streams[sequence].stops.matched
        return matched if matched in stops else None

    def cancel(self) -> None:
        """Ends it from any thread, in the middle of a step or before it has begun: the iteration raises Cancelled."""
        self.author.shared.cancel(self.caller)

    def read(self) -> str | list[str]:
        """The whole text; a list of them if there are several."""
        texts = [""] * len(self.sequences)
        for index, piece in self:
            texts[index] += piece
        return texts[0] if len(texts) == 1 else texts

    def _pieces(self, event: Event) -> list[Piece]:
        if self.summary and event.sequence is self.summary.sequence:
            return self._take_summary(self.summary, event)
        stream = self.streams.get(event.sequence)
        if stream is None or stream.finish_reason:
            return []  # brought by a step after the stop string
        piece = _fed(stream, event)
        self.figures.new_tokens += event.token is not None
        if event.logprobs is not None and event.token is not None:
            self.scored[event.sequence.index].append((event.token, event.logprobs))
        if event.finish_reason == "context" and self.window and not stream.finish_reason:
            self.full.append(event.sequence)
            return [(event.sequence.index, piece), *self._make_room(self.window)]
        if event.finish_reason or stream.finish_reason:
            piece += self._end(event.sequence, event.finish_reason or "stop")
        return [(event.sequence.index, piece)]

    def _end(self, sequence: Sequence, reason: str) -> str:
        """What is left of a text that ends, unless it has ended at a stop string."""
        stream = self.streams[sequence]
        piece = stream.end(reason)
        self.figures.finished = stream.finish_reason
        self.writing.discard(sequence)
        if sequence.finish_reason is None:
            self.author.shared.leave([sequence])
        context = self.author.shared.engine.context
        if stream.finish_reason == "context" and self.window:
            self.notes.hear(
                translate(
                    "the context of {context} tokens is full of this one answer, so it ends here", context=context
                )
            )
        elif stream.finish_reason == "context":
            self.notes.hear(
                translate(
                    "the context of {context} tokens is full, so the text ends here; on_full slide goes on by "
                    "forgetting its beginning", context=context,
                )
            )  # fmt: skip
        return piece

    def _make_room(self, window: Window) -> list[Piece]:
        """Lets full sequences go on in their order, as far as none has to wait for a summary."""
        pieces: list[Piece] = []
        while self.full and not self.summary:
            sequence = self.full[0]
            tokens = sequence.tokens[len(sequence.tokens) - sequence.produced :]
            pieces += self._go_on(window.refill(tokens), None)
        return pieces

    def _go_on(self, room: Room, summary: str | None) -> list[Piece]:
        """The first full sequence goes on from a shorter prompt, or ends, or waits for the summary that this takes."""
        author = self.author
        try:
            with messages.heard_by(self.notes.hear):
                question = room.send(summary)
        except StopIteration as end:
            sequence = self.full.popleft()
            if end.value is not None:
                author.shared.resume(self.caller, sequence, end.value)
                return []
            return [(sequence.index, self._end(sequence, "context"))]
        (sequence,) = author.shared.engine.prepare(_request(author, question.prompt, question.sampling, "end"))
        self.summary = Summary(sequence, _stream(author, question.prompt, question.sampling), room)
        author.shared.begin(self.caller, [sequence])
        return []

    def _take_summary(self, summary: Summary, event: Event) -> list[Piece]:
        summary.text += _fed(summary.stream, event)
        if event.finish_reason:
            summary.text += summary.stream.end(event.finish_reason)
        if not summary.stream.finish_reason or not self.window:
            return []
        self.summary = None
        self.author.shared.leave([summary.sequence])
        return [*self._go_on(summary.room, summary.text), *self._make_room(self.window)]

    def close(self) -> None:
        """Forgets what is still being written, and adds up what it took."""
        figures, sequences = self.figures, self.sequences
        figures.dropped_tokens = sum(s.dropped for s in sequences)
        figures.drafted_tokens = sum(s.drafted for s in sequences)
        figures.accepted_tokens = sum(s.accepted for s in sequences)
        if figures.dropped_tokens:
            self.notes.hear(
                translate("{count} tokens were forgotten as the context slid", count=figures.dropped_tokens)
            )
        if any(s.finish_reason != "error" and not stream.finish_reason for s, stream in self.streams.items()):
            figures.finished = "cancelled"
        self.author.shared.leave(self.caller.sequences)


def _fed(stream: TextStream, event: Event) -> str:
    if event.error:
        raise event.error
    return "" if event.token is None else stream.feed(event.token)


def _request(author: Author, prompt: Prompt, sampling: Sampling, full: Full, logprobs: int | None = None) -> Request:
    """What the engine is asked. A token that a stop text spells ends the text by itself, for it is never shown."""
    spelled = (token_of(stop, author.tokenizer) for stop in sampling.stop)
    stops = {token for token in spelled if token is not None}
    ends = author.ends | prompt.form.ends
    keep = 1 if prompt.ids[:1] == [author.tokenizer.bos_id] else 0
    return Request(
        prompt.ids, sampling, ends | stops, frozenset(stops - ends), full, keep, author.adapter, prompt.constraint,
        logprobs, author.salt,
    )  # fmt: skip


def _stream(author: Author, prompt: Prompt, sampling: Sampling) -> TextStream:
    tokenizer, form = author.tokenizer, prompt.form

    def silent(token: int) -> str:
        return "" if tokenizer.token_bytes(token) else tokenizer.decode([token], skip_special=False)

    decoder = prompt.decoder() if prompt.decoder else tokenizer.stream(after=() if prompt.answer else prompt.ids)
    stops = StopStrings((*sampling.stop, *form.stops), form.heads)
    return TextStream(decoder, stops, silent=silent, lead=form.lead, tail=form.tail)
