"""The engine: requests in, tokens out, one step at a time over a paged cache; it has no thread of its own."""

import time
from collections import deque
from collections.abc import Callable, Sized
from dataclasses import dataclass, field

from soban.base.errors import UserError
from soban.engine.lookup import Lookup, StepCosts, best_length
from soban.engine.pages import Pages
from soban.engine.sampling import Sampler, Sampling
from soban.ops import Batch, Cache, Runner, make_batch
from soban.ops.batch import PAGE
from soban.ops.formats import Floats

AHEAD = 64  # events that a reader may be behind before its sequences rest


@dataclass(eq=False)
class Request:
    """A prompt and what is wanted of it. `keep` prompt tokens stay when the context slides (a BOS, say).

    Where `keep` is None nothing slides: a sequence ends when the context is full, and `resume` lets it go on.
    """

    prompt: list[int]
    sampling: Sampling
    ends: frozenset[int] = frozenset()  # tokens that end a sequence
    keep: int | None = 0
    asked: frozenset[int] = frozenset()  # of the ends those that a minimum length does not hold back

    @property
    def limit(self) -> int | None:
        """How many tokens a sequence gets at the most."""
        return self.sampling.limit(len(self.prompt))


@dataclass(eq=False)
class Running:
    """One sequence: its tokens, how many of them the cache holds, and in which pages."""

    request: Request
    index: int  # which of the request's num_return_sequences
    sampler: Sampler
    tokens: list[int]
    pages: list[int] = field(default_factory=list)
    cached: int = 0
    reused: int = 0  # prompt tokens that another sequence had left in the cache
    produced: int = 0
    dropped: int = 0  # tokens that a sliding context has forgotten
    rotation: int = 0  # the row of rotary frequencies that all of its tokens have
    siblings: list["Running"] = field(default_factory=list)  # they begin when this one's prompt is in the cache
    turn: int = 0  # the last step that it had a part in
    lookup: Lookup | None = None  # made when it is first asked
    drafted: int = 0  # tokens that were looked up, and how many of them the model then chose
    accepted: int = 0
    finished: str | None = None
    unread: Sized = ()  # its events that its reader has still to fetch

    @property
    def rests(self) -> bool:
        """Whether its reader is so far behind that going on would only take the others' time."""
        return len(self.unread) >= AHEAD


@dataclass(eq=False, slots=True)
class Event:
    """A sequence got a token, or ended: "end" (by a token that is not given), "length", "context" or "error"."""

    sequence: Running
    token: int | None
    finished: str | None = None
    error: UserError | None = None


def slides(request: Request) -> bool:
    """Whether the engine itself forgets the oldest tokens of a full context."""
    return request.sampling.on_full == "slide" and request.keep is not None


class Engine:
    """Runs sequences together. `add` requests, then call `step` as long as there is work.

    It belongs to one thread at a time, which `SharedEngine` sees to.
    """

    def __init__(
        self, runner: Runner, cache: Cache, context: int, rotation: Callable[[int, int | None], int] = lambda *_: 0
    ) -> None:
        """`rotation(length, before)`: by which row of rotary frequencies a text of that length turns, after another."""
        self.runner, self.cache, self.context, self.rotation = runner, cache, context, rotation
        self.pages = Pages(cache.pages)
        self.waiting: deque[Running] = deque()
        self.running: list[Running] = []
        self.steps = 0
        self.costs = StepCosts()
        # The latest batch of a single token, used again while its pages stay the same: with a small model, making
        # one anew is a twentieth of a step.
        self.last_single: Batch = make_batch([[0]], [0], [[0]], [0])
        self.last_pages: list[int] = []

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.running)

    def prepare(self, request: Request) -> list[Running]:
        """The sequences of a request, one for each of its num_return_sequences, not yet queued.

        Raises UserError for an empty prompt, or one that leaves no room in the context.
        """
        if not request.prompt:
            raise UserError("the prompt is empty", hint="give some text")
        self._check_length(request)
        sequences = [
            Running(request, i, Sampler(request.sampling, i, request.ends - request.asked), list(request.prompt))
            for i in range(request.sampling.num_return_sequences)
        ]
        for sequence in sequences:
            sequence.sampler.note(request.prompt)
        return sequences

    def queue(self, sequences: list[Running]) -> None:
        """Let the sequences of one request run: the first computes the prompt for all."""
        first = sequences[0]
        first.siblings = sequences[1:]
        if len(first.tokens) > self.context:
            self._slide(first)
        for sequence in sequences:
            sequence.rotation = self.rotation(len(first.tokens), None)
        self.waiting.append(first)

    def add(self, request: Request) -> list[Running]:
        """`prepare` and `queue`."""
        sequences = self.prepare(request)
        self.queue(sequences)
        return sequences

    def resume(self, sequence: Running, tokens: list[int]) -> None:
        """Let a sequence that has filled the context go on after other tokens, which leave room in it."""
        assert sequence.finished == "context" and len(tokens) <= self.context
        sequence.tokens, sequence.finished, sequence.lookup = tokens, None, None
        sequence.rotation = self.rotation(len(tokens), None)
        self.waiting.append(sequence)

    def _check_length(self, request: Request) -> None:
        wanted = 1 if request.keep is None else request.sampling.wanted
        # The last token to be produced is never fed, so it needs no place.
        if not slides(request) and len(request.prompt) + wanted > self.context + 1:
            raise UserError(
                "the prompt has {prompt} tokens and up to {wanted} are to follow, but the context holds {context}",
                prompt=len(request.prompt), wanted=wanted, context=self.context,
                hint="shorten it, lower max_new_tokens, or choose on_full slide to forget the oldest tokens",
            )  # fmt: skip
        if request.limit is not None and request.limit < 1:
            raise UserError(
                "the prompt has {prompt} tokens, and max_length={length} counts them", prompt=len(request.prompt),
                length=request.sampling.max_length, hint="give a greater max_length, or max_new_tokens",
            )  # fmt: skip
        if -(-self.context // PAGE) > self.cache.pages:
            raise UserError(
                "the cache holds {pages} pages, a context of {context} tokens needs more",
                pages=self.cache.pages, context=self.context, hint="choose a shorter context",
            )  # fmt: skip

    def cancel(self, sequence: Running) -> None:
        """Forget a sequence; its full pages stay findable, and siblings that have not begun go on without it."""
        sequence.finished = sequence.finished or "cancelled"
        for leader in (*self.waiting, *self.running):
            if sequence in leader.siblings:
                leader.siblings.remove(sequence)
        if sequence in self.running:
            self._retire(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        if sequence.siblings:
            heir, *heir.siblings = sequence.siblings
            sequence.siblings = []
            self.waiting.append(heir)

    def step(self) -> list[Event]:
        """Runs one batch: a token of each sequence that is being continued, and a piece of the prompts that wait.

        Raises what the runner raises (Cancelled, UserError); the sequences are then as they were before. A sequence
        whose logits are not numbers ends with an event that carries the error.
        """
        self.steps += 1
        work = self._schedule()
        match, draft = self._look_up(work)
        batch = self._batch(work, draft)
        start = time.perf_counter()
        logits = self.runner.run(batch, self.cache)
        if batch.token_count == batch.output_count and len(work) == 1:
            self.costs.note(batch.token_count, time.perf_counter() - start)
        events: list[Event] = []
        row = 0
        for sequence, count in work:
            self._advance(sequence, count)
            if sequence.cached == len(sequence.tokens):
                events += self._sample(sequence, logits[row])
                row += 1
        if draft:
            events += self._verify(work[0][0], match, draft, logits[1:])
        return events

    def _batch(self, work: list[tuple[Running, int]], draft: list[int]) -> Batch:
        """The step's tokens; logits are asked for where a sequence is at its end, and after each drafted token."""
        sequence, count = work[0]
        single = len(work) == 1 and sequence.cached + 1 == len(sequence.tokens) and not draft
        rotation = sequence.rotation
        if single and self.last_pages == sequence.pages and self.last_single.rotation == rotation:
            self.last_single.put(sequence.tokens[-1], sequence.cached)
            return self.last_single
        tokens, outputs, end = [], [], 0
        for sequence, count in work:
            tokens.append(sequence.tokens[sequence.cached : sequence.cached + count])
            end += count
            if sequence.cached + count == len(sequence.tokens):
                outputs.append(end - 1)
        if draft:
            tokens[0] += draft
            outputs += range(end, end + len(draft))
        batch = make_batch(tokens, [s.cached for s, _ in work], [s.pages for s, _ in work], outputs, rotation)
        if single:
            self.last_single, self.last_pages = batch, list(sequence.pages)
        return batch

    def _look_up(self, work: list[tuple[Running, int]]) -> tuple[int, list[int]]:
        """What a sequence that has the step for itself may go on with; and how many tokens this was found by.

        Nothing for several: their tokens fill the step as well, and are sure to be wanted.
        """
        (sequence, count), *others = work
        sampling = sequence.request.sampling
        wanted = sampling.prompt_lookup_num_tokens
        if others or count > 1 or wanted == 0 or len(sequence.tokens) - sequence.cached > 1 or sequence.siblings:
            return 0, []
        room = self.context - len(sequence.tokens)  # a context that is full by the last token at the earliest
        if (limit := sequence.request.limit) is not None:
            room = min(room, limit - sequence.produced - 1)
        most = min(room, self.runner.max_outputs - 1, self.runner.max_tokens - 1)
        while most > 0 and self.rotation(len(sequence.tokens) + most, sequence.rotation) != sequence.rotation:
            most -= 1
        if most < 1:
            return 0, []
        if sequence.lookup is None:
            sequence.lookup = Lookup(sequence.tokens)
        place, length = sequence.lookup.find()
        if not length:
            return 0, []
        number = min(wanted, most) if wanted else best_length(sequence.lookup.chances, length, most, self.costs)
        if not number:
            sequence.lookup.rest(length)
            self.costs.rest()
        elif self._reserve(sequence, len(sequence.tokens) + number):
            return length, sequence.lookup.draft(place, number)
        return 0, []

    def _verify(self, sequence: Running, match: int, draft: list[int], logits: Floats) -> list[Event]:
        """Goes on for as long as the chosen token is the drafted one.

        The next row is then what it would be without a draft, bit for bit, and it is sampled as it would be. What
        the cache holds of the others is overwritten by the steps to come.
        """
        events: list[Event] = []
        for token, row in zip(draft, logits, strict=True):
            if sequence.finished or sequence.tokens[-1] != token:
                break
            self._advance(sequence, 1)
            events.append(self._choose(sequence, row))
        sequence.drafted += len(draft)
        sequence.accepted += len(events)
        if sequence.lookup:
            sequence.lookup.note(match, len(draft), len(events))
        return events

    def _schedule(self) -> list[tuple[Running, int]]:
        """Who runs next, with how many tokens: those that need one first, then prompts in the order of arrival."""
        while True:
            self._admit_waiting()
            if work := self._work():
                return work
            self._make_room()

    def _admit_waiting(self) -> None:
        """Lets in the first that wait, as long as there is room."""
        if not self.waiting:
            return
        free = self.runner.max_outputs - sum(not s.rests for s in self.running)
        for sequence in [s for s in self.waiting if not s.rests][: max(0, free)]:
            if not self._admit(sequence):
                return
            self.waiting.remove(sequence)
            self.running.append(sequence)

    def _work(self) -> list[tuple[Running, int]]:
        budget, outputs = self.runner.max_tokens, self.runner.max_outputs
        work: list[tuple[Running, int]] = []
        order = [s for s in self.running if not s.rests]
        if len(order) > 1:
            # A step turns all of its tokens by one row: that of whoever has waited longest.
            rotation = min(order, key=lambda s: s.turn).rotation
            order = [s for s in order if s.rotation == rotation]
            order.sort(key=lambda s: (len(s.tokens) - s.cached > 1, s.turn))
        for sequence in order:
            pending = len(sequence.tokens) - sequence.cached
            count = min(pending, budget)
            if not count or (count == pending and not outputs):
                continue
            if not self._reserve(sequence, sequence.cached + count):
                continue
            work.append((sequence, count))
            sequence.turn = self.steps
            budget -= count
            outputs -= count == pending
        return work

    def _make_room(self) -> None:
        """Every page is taken: one that rests, else the last to come, steps back and begins again later."""
        resting = [s for s in self.running if s.rests]
        assert resting or len(self.running) > 1, "one sequence always fits"
        self._suspend((resting or self.running)[-1])

    def _admit(self, sequence: Running) -> bool:
        """Start from the longest beginning that the cache still holds; always compute the last token."""
        known = self.pages.match(sequence.tokens[:-1], sequence.rotation)
        self.pages.share(known)
        needed = -(-len(sequence.tokens) // PAGE) - len(known)
        if self.running and self.pages.free < needed:
            self.pages.release(known)
            return False
        sequence.pages, sequence.cached = known, len(known) * PAGE
        if not sequence.produced:
            sequence.reused = sequence.cached
        return True

    def _reserve(self, sequence: Running, length: int) -> bool:
        """Pages for `length` tokens, of which those to be written are this sequence's alone."""
        missing = max(0, -(-length // PAGE) - len(sequence.pages))
        last = sequence.cached // PAGE
        copied = last < len(sequence.pages) and self.pages.users[sequence.pages[last]] > 1
        if not (missing or copied):
            return True
        if self.pages.free < missing + copied:
            return False
        if copied:
            page = self.pages.take()
            self.cache.copy_page(sequence.pages[last], page)
            self.pages.release([sequence.pages[last]])
            sequence.pages[last] = page
        sequence.pages += [self.pages.take() for _ in range(missing)]
        return True

    def _advance(self, sequence: Running, count: int) -> None:
        """The cache now holds `count` more tokens; full pages can be found by others from here on."""
        before, sequence.cached = sequence.cached, sequence.cached + count
        for n in range(before // PAGE, sequence.cached // PAGE):
            previous = sequence.pages[n - 1] if n else None
            tokens = sequence.tokens[n * PAGE : (n + 1) * PAGE]
            self.pages.remember(sequence.pages[n], previous, tokens, sequence.rotation)

    def _sample(self, sequence: Running, logits: Floats) -> list[Event]:
        """The next token of a sequence; the first time also of its siblings, which share its pages from then on."""
        if not sequence.siblings:
            return [self._choose(sequence, logits)]
        group = [sequence, *sequence.siblings]
        for sibling in sequence.siblings:
            self.pages.share(sequence.pages)
            sibling.pages, sibling.cached, sibling.tokens = list(sequence.pages), sequence.cached, list(sequence.tokens)
            sibling.reused, sibling.dropped, sibling.rotation = sequence.cached, sequence.dropped, sequence.rotation
            self.running.append(sibling)
        sequence.siblings = []
        return [self._choose(member, logits) for member in group]

    def _choose(self, sequence: Running, logits: Floats) -> Event:
        try:
            token = sequence.sampler.choose(logits)
        except UserError as error:
            return self._end(sequence, None, "error", error)
        return self._take_token(sequence, token)

    def _take_token(self, sequence: Running, token: int) -> Event:
        if token in sequence.request.ends:
            return self._end(sequence, None, "end")
        sequence.tokens.append(token)
        sequence.sampler.note([token])
        sequence.produced += 1
        if sequence.produced == sequence.request.limit:
            return self._end(sequence, token, "length")
        if len(sequence.tokens) > self.context:
            if not slides(sequence.request):
                return self._end(sequence, token, "context")
            self._slide(sequence)
        if (rotation := self.rotation(len(sequence.tokens), sequence.rotation)) != sequence.rotation:
            sequence.rotation = rotation
            self._forget(sequence)
        return Event(sequence, token)

    def _end(self, sequence: Running, token: int | None, reason: str, error: UserError | None = None) -> Event:
        sequence.finished = reason
        self._retire(sequence)
        return Event(sequence, token, reason, error)

    def _retire(self, sequence: Running) -> None:
        self.running.remove(sequence)
        self._forget(sequence)

    def _suspend(self, sequence: Running) -> None:
        self._retire(sequence)
        self.waiting.appendleft(sequence)

    def clear(self) -> None:
        """Forgets every sequence and what the cache holds, after a step that broke off in the middle."""
        for sequence in (*self.running, *self.waiting):
            sequence.siblings = []
        self.pages, self.running, self.last_pages = Pages(self.cache.pages), [], []
        self.waiting.clear()

    def _slide(self, sequence: Running) -> None:
        """Forget the older half of the context, save the first `keep` tokens; the rest is computed anew."""
        keep = min(sequence.request.keep or 0, self.context // 2)
        rest = self.context // 2 - keep
        kept = [*sequence.tokens[:keep], *sequence.tokens[len(sequence.tokens) - rest :]]
        sequence.dropped += len(sequence.tokens) - len(kept)
        sequence.tokens, sequence.lookup, sequence.rotation = kept, None, self.rotation(len(kept), None)
        self._forget(sequence)

    def _forget(self, sequence: Running) -> None:
        """What the cache holds of a sequence is of no use any more: it is computed anew."""
        self.pages.release(sequence.pages)
        sequence.pages, sequence.cached = [], 0
