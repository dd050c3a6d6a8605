"""The engine: requests in, tokens out, one step at a time over a paged cache; it has no thread of its own."""

import time
from collections.abc import Callable

from soban.base.errors import UserError
from soban.engine.blocks import BlockPool
from soban.engine.limits import check_request
from soban.engine.logprobs import logprobs_of
from soban.engine.lookup import MOST, Lookup, StepCosts, best_length
from soban.engine.pace import Pace
from soban.engine.scheduler import Scheduler, Work
from soban.engine.sequence import Event, Request, Sequence
from soban.ops import Batch, Cache, Runner, make_batch
from soban.ops.adapters import Adapter
from soban.ops.formats import Floats


class Engine:
    """Runs sequences together. `add` requests, then call `step` as long as there is work.

    It belongs to one thread at a time, which `SharedEngine` sees to.
    """

    def __init__(
        self, runner: Runner, cache: Cache, context: int, rotation: Callable[[int, int | None], int] = lambda *_: 0
    ) -> None:
        """`rotation(length, before)`: by which row of rotary frequencies a text of that length turns, after another."""
        self.runner, self.cache, self.context, self.rotation = runner, cache, context, rotation
        self.blocks = BlockPool(cache.pages)
        self.pace = Pace()
        self.scheduler = Scheduler(cache, self.blocks, runner.max_tokens, runner.max_outputs, self.pace)
        self.costs = StepCosts()
        self.long = False  # whether the step that runs now is a long piece of a prompt that is alone
        # The latest batch of a single token, used again while what it depends on stays the same: with a small model,
        # making one anew is a twentieth of a step.
        self.last_single: Batch = make_batch([[0]], [0], [[0]], [0])
        self.last_like: tuple[object, ...] | None = None
        self.adapters: tuple[Adapter, ...] = ()  # that the latest steps chose from; the same tuple is quicker again

    @property
    def busy(self) -> bool:
        return self.scheduler.busy

    def prepare(self, request: Request) -> list[Sequence]:
        """The sequences of a request, not yet queued.

        Raises UserError where it does not fit, as `check_request`, nor what its constraint wants, as `begin`.
        """
        check_request(request, self.context, self.cache.pages)
        sequences = request.sequences()
        for sequence in sequences:
            if sequence.constraint:
                sequence.constraint.begin(sequence.room(self.context))
        return sequences

    def queue(self, sequences: list[Sequence]) -> None:
        """Let the sequences of one request run: the first computes the prompt for all."""
        if self.busy:
            self.pace.join()
        first = sequences[0]
        first.siblings = sequences[1:]
        if len(first.tokens) > self.context:
            self._slide(first)
        for sequence in sequences:
            sequence.rotation = self.rotation(len(first.tokens), None)
        self.scheduler.waiting.append(first)

    def add(self, request: Request) -> list[Sequence]:
        """`prepare` and `queue`."""
        sequences = self.prepare(request)
        self.queue(sequences)
        return sequences

    def resume(self, sequence: Sequence, tokens: list[int]) -> None:
        """Let a sequence that has filled the context go on after other tokens, which leave room in it."""
        assert sequence.finish_reason == "context" and len(tokens) <= self.context
        sequence.tokens, sequence.finish_reason, sequence.lookup = tokens, None, None
        sequence.rotation = self.rotation(len(tokens), None)
        self.scheduler.waiting.append(sequence)

    def cancel(self, sequence: Sequence) -> None:
        """Forget a sequence; its full blocks stay findable, and siblings that have not begun go on without it."""
        sequence.finish_reason = sequence.finish_reason or "cancelled"
        self.scheduler.cancel(sequence)

    def clear(self) -> None:
        """Forgets every sequence and what the cache holds, after a step that broke off in the middle."""
        self.scheduler.clear()
        self.last_like = None

    def step(self) -> list[Event]:
        """Runs one batch: a token of each sequence that is being continued, and a piece of the prompts that wait.

        Raises what the runner raises (Cancelled, UserError); the sequences are then as they were before. A sequence
        whose logits are not numbers ends with an event that carries the error.
        """
        work = self.scheduler.schedule()
        match, draft = self._look_up(work)
        states = self.scheduler.states
        if draft and states and not states.draft(work[0][0]):
            draft = []
        batch = self._batch(work, draft)
        prompts = work[-1][0].pending > 1
        self.long = prompts and len(work) == 1 and self.pace.long(batch.token_count)
        start = time.perf_counter()
        try:
            logits = self.runner.run(batch, self.cache)
        except BaseException:
            if states:
                for sequence, _ in work:
                    states.undo(sequence)
            raise
        finally:
            self.long = False
        seconds = time.perf_counter() - start
        if batch.token_count == batch.output_count and len(work) == 1:
            self.costs.note(batch.token_count, seconds)
        again = states and work[-1][0].produced and batch.token_count <= MOST  # what a draft has left
        if not draft and not again:
            self.pace.note(batch.token_count, prompts, seconds)
        events: list[Event] = []
        row = 0
        for sequence, count in work:
            self.scheduler.advance(sequence, count)
            if not sequence.pending:
                events += self._sample(sequence, logits[row])
                row += 1
        if draft:
            events += self._verify(work[0][0], match, draft, logits[1:])
        return events

    def _batch(self, work: Work, draft: list[int]) -> Batch:
        """The step's tokens; logits are asked for where a sequence is at its end, and after each drafted token."""
        sequence, count = work[0]
        single = len(work) == 1 and sequence.pending == 1 and not draft
        rotation, (adapters, choices) = sequence.rotation, self._adapters(work)
        like = (sequence.blocks, rotation, adapters, choices)
        states = [self.scheduler.states.of(s) for s, _ in work] if self.scheduler.states else []
        if single and self.last_like == like:
            self.last_single.put(sequence.tokens[-1], sequence.cached, states[0] if states else None)
            return self.last_single
        tokens, outputs, end = [], [], 0
        for sequence, count in work:
            tokens.append(sequence.tokens[sequence.cached : sequence.cached + count])
            end += count
            if count == sequence.pending:
                outputs.append(end - 1)
        if draft:
            tokens[0] += draft
            outputs += range(end, end + len(draft))
        offsets, tables = [s.cached for s, _ in work], [s.blocks for s, _ in work]
        batch = make_batch(tokens, offsets, tables, outputs, rotation, adapters, choices, states=states)
        if single:
            self.last_single, self.last_like = batch, (list(sequence.blocks), *like[1:])
        return batch

    def _adapters(self, work: Work) -> tuple[tuple[Adapter, ...], tuple[int, ...]]:
        """The adapters of a step, and which of them each sequence has chosen; -1: none."""
        per_sequence = [sequence.request.adapter for sequence, _ in work]
        if not any(per_sequence):
            return (), ()
        if any(adapter is not None and adapter not in self.adapters for adapter in per_sequence):
            self.adapters = tuple(dict.fromkeys(adapter for adapter in per_sequence if adapter is not None))
        return self.adapters, tuple(-1 if one is None else self.adapters.index(one) for one in per_sequence)

    def _look_up(self, work: Work) -> tuple[int, list[int]]:
        """What a sequence that has the step for itself may go on with; and how many tokens this was found by.

        Nothing for several: their tokens fill the step as well, and are sure to be wanted.
        """
        (sequence, count), *others = work
        fixed = sequence.request.sampling.prompt_lookup_num_tokens
        if others or count > 1 or fixed == 0 or sequence.pending > 1 or sequence.siblings:
            return 0, []
        room = self.context - len(sequence.tokens)  # a context that is full by the last token at the earliest
        if (limit := sequence.request.limit) is not None:
            room = min(room, limit - sequence.produced - 1)
        most = min(room, MOST, self.runner.max_outputs - 1, self.runner.max_tokens - 1)
        while most > 0 and self.rotation(len(sequence.tokens) + most, sequence.rotation) != sequence.rotation:
            most -= 1
        if most < 1:
            return 0, []
        if sequence.constraint and (forced := sequence.constraint.forced()[:most]):
            return (0, forced) if self.scheduler.reserve(sequence, len(sequence.tokens) + len(forced)) else (0, [])
        if sequence.lookup is None:
            sequence.lookup = Lookup(sequence.tokens)
        place, length = sequence.lookup.find()
        if not length:
            return 0, []
        number = min(fixed, most) if fixed else best_length(sequence.lookup.chances, length, most, self.costs)
        if not number:
            sequence.lookup.rest(length)
            self.costs.rest()
        elif self.scheduler.reserve(sequence, len(sequence.tokens) + number):
            draft = sequence.lookup.draft(place, number)
            if sequence.constraint:
                draft = draft[: sequence.constraint.valid(draft)]
            return length, draft
        return 0, []

    def _verify(self, sequence: Sequence, match: int, draft: list[int], logits: Floats) -> list[Event]:
        """Goes on for as long as the chosen token is the drafted one.

        The next row is then what it would be without a draft, bit for bit, and it is sampled as it would be. What
        the cache holds of the others is overwritten by the steps to come.
        """
        events: list[Event] = []
        for token, row in zip(draft, logits, strict=True):
            if sequence.finish_reason or sequence.tokens[-1] != token:
                break
            self.scheduler.advance(sequence, 1)
            events.append(self._choose(sequence, row))
        sequence.drafted += len(draft)
        sequence.accepted += len(events)
        if sequence.lookup and match:
            sequence.lookup.note(match, len(draft), len(events))
        if self.scheduler.states:
            self.scheduler.states.settle(sequence, len(draft), len(events))
        return events

    def _sample(self, sequence: Sequence, logits: Floats) -> list[Event]:
        """The next token of a sequence; the first time also of its siblings, which share its blocks from then on."""
        if not sequence.siblings:
            return [self._choose(sequence, logits)]
        return [self._choose(member, logits) for member in self.scheduler.fork(sequence)]

    def _choose(self, sequence: Sequence, logits: Floats) -> Event:
        try:
            token = sequence.choose(logits, self.context)
        except UserError as error:
            return self._end(sequence, None, "error", error)
        if token is None:
            return self._end(sequence, None, "length")
        event = self._take_token(sequence, token)
        if (count := sequence.request.logprobs) is not None:
            event.logprobs = logprobs_of(logits, token, count)
        return event

    def _take_token(self, sequence: Sequence, token: int) -> Event:
        constraint = sequence.constraint
        ending = "length" if constraint and constraint.shortened else "end"
        if token in sequence.request.ends:
            sequence.ended_by = token
            return self._end(sequence, None, ending)
        sequence.tokens.append(token)
        sequence.sampler.note([token])
        sequence.produced += 1
        if constraint and constraint.ended:
            return self._end(sequence, token, ending)
        if sequence.produced == sequence.request.limit:
            return self._end(sequence, token, "length")
        if len(sequence.tokens) > self.context:
            if sequence.request.on_full != "slide":
                return self._end(sequence, token, "context")
            self._slide(sequence)
        if (rotation := self.rotation(len(sequence.tokens), sequence.rotation)) != sequence.rotation:
            sequence.rotation = rotation
            self.scheduler.forget(sequence)
        return Event(sequence, token)

    def _end(self, sequence: Sequence, token: int | None, reason: str, error: UserError | None = None) -> Event:
        sequence.finish_reason = reason
        self.scheduler.retire(sequence)
        return Event(sequence, token, reason, error)

    def _slide(self, sequence: Sequence) -> None:
        """Forget the older half of the context, save the first `keep` tokens; the rest is computed anew."""
        keep = min(sequence.request.keep, self.context // 2)
        rest = self.context // 2 - keep
        tokens = [*sequence.tokens[:keep], *sequence.tokens[len(sequence.tokens) - rest :]]
        sequence.dropped += len(sequence.tokens) - len(tokens)
        sequence.tokens, sequence.lookup, sequence.rotation = tokens, None, self.rotation(len(tokens), None)
        self.scheduler.forget(sequence)
