"""Who runs next: sequences that need one token first, then prompts, the shortest first, as far as there is room."""

from collections import deque

from soban.engine.blocks import BlockPool
from soban.engine.pace import Pace
from soban.engine.sequence import Sequence
from soban.engine.states import States
from soban.ops import Cache
from soban.ops.batch import PAGE

Work = list[tuple[Sequence, int]]  # who has a part in a step, and with how many tokens


class Scheduler:
    """Shares out steps of at most `max_tokens` tokens, `max_outputs` of which are asked for logits.

    Where several wait for a step, or lately did, prompts are read in pieces of the pace's size.
    """

    def __init__(self, cache: Cache, blocks: BlockPool, max_tokens: int, max_outputs: int, pace: Pace) -> None:
        self.cache, self.blocks, self.pace = cache, blocks, pace
        self.states = States(cache, blocks) if cache.slots else None
        self.max_tokens, self.max_outputs = max_tokens, max_outputs
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.steps = 0

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.running)

    def schedule(self) -> Work:
        """The next step's work. There must be some; only sequences that rest may keep it from being done."""
        self.steps += 1
        for sequence in [s for s in self.running if self.states and s.cached and s.state is None]:
            self._step_back(sequence)
        while True:
            self._admit_waiting()
            if work := self._work():
                return work
            self._make_room()

    def _admit_waiting(self) -> None:
        """Lets in the first that wait, as long as there is room."""
        if not self.waiting:
            return
        free = self.max_outputs - sum(not s.rests for s in self.running)
        for sequence in [s for s in self.waiting if not s.rests][: max(0, free)]:
            if not self._admit(sequence):
                return
            self.waiting.remove(sequence)
            self.running.append(sequence)

    def _admit(self, sequence: Sequence) -> bool:
        """Start from the longest beginning that the cache still holds; always compute the last token."""
        known = self.blocks.match(sequence.tokens[:-1], sequence.root)
        if self.states:
            if len(self.running) >= self.states.most_running:
                return False
            known = self.states.match(known)
        self.blocks.share(known)
        needed = -(-len(sequence.tokens) // PAGE) - len(known)
        if self.running and self.blocks.free < needed:
            self.blocks.release(known)
            return False
        sequence.blocks, sequence.cached = known, len(known) * PAGE
        if self.states:
            self.states.begin(sequence)
        if not sequence.produced:
            sequence.reused = sequence.cached
        return True

    def _work(self) -> Work:
        order = [s for s in self.running if not s.rests]
        if len(order) > 1:
            # A step turns all of its tokens by one row: that of whoever has waited longest.
            rotation = min(order, key=lambda s: s.turn).rotation
            order = [s for s in order if s.rotation == rotation]
        prompts = [s for s in order if s.pending > 1]
        answers = len(order) - len(prompts)
        budget, outputs = self.max_tokens, self.max_outputs
        if prompts and (len(order) > 1 or self.pace.crowded):
            budget = min(budget, self.pace.budget(answers))
        # The first to come has a quarter for itself: however many short ones come, it gets to its end, too.
        first, share = prompts[:1], max(0, budget - answers) // 4
        if len(order) > 1:
            order.sort(key=lambda s: (0, s.turn) if s.pending == 1 else (s.pending, 0))
        work: Work = []
        for sequence in order:
            pending = sequence.pending
            if sequence in first:
                share = 0
            count = min(pending, budget if pending == 1 else budget - share)
            if count < 1 or (count == pending and not outputs):
                continue
            if not self.reserve(sequence, sequence.cached + count):
                continue
            if self.states:
                self.states.prepare(sequence, count, len(self.running))
            work.append((sequence, count))
            sequence.turn = self.steps
            budget -= count
            outputs -= count == pending
        return work

    def _make_room(self) -> None:
        """Every block is taken: one that rests, else the last to come, steps back and begins again later."""
        resting = [s for s in self.running if s.rests]
        assert resting or len(self.running) > 1, "one sequence always fits"
        self._step_back((resting or self.running)[-1])

    def _step_back(self, sequence: Sequence) -> None:
        self.retire(sequence)
        self.waiting.appendleft(sequence)

    def reserve(self, sequence: Sequence, length: int) -> bool:
        """Whether there are blocks for `length` tokens; those to be written are this sequence's alone from then on."""
        missing = max(0, -(-length // PAGE) - len(sequence.blocks))
        last = sequence.cached // PAGE
        shared = last < len(sequence.blocks) and self.blocks.users[sequence.blocks[last]] > 1
        if not (missing or shared):
            return True
        if self.blocks.free < missing + shared:
            return False
        if shared:
            block = self.blocks.take()
            self.cache.copy_page(sequence.blocks[last], block)
            self.blocks.release([sequence.blocks[last]])
            sequence.blocks[last] = block
        sequence.blocks += [self.blocks.take() for _ in range(missing)]
        return True

    def advance(self, sequence: Sequence, count: int) -> None:
        """The cache now holds `count` more tokens; full blocks can be found by others from here on."""
        before, sequence.cached = sequence.cached, sequence.cached + count
        for n in range(before // PAGE, sequence.cached // PAGE):
            previous = sequence.blocks[n - 1] if n else None
            tokens = sequence.tokens[n * PAGE : (n + 1) * PAGE]
            self.blocks.remember(sequence.blocks[n], previous, tokens, sequence.root)
        if self.states:
            self.states.advance(sequence)

    def fork(self, sequence: Sequence) -> list[Sequence]:
        """A sequence whose prompt is computed, and its siblings, which run from here on and share its blocks."""
        siblings, sequence.siblings = sequence.siblings, []
        for sibling in siblings:
            self.blocks.share(sequence.blocks)
            sibling.blocks, sibling.cached, sibling.tokens = (
                list(sequence.blocks), sequence.cached, list(sequence.tokens)
            )  # fmt: skip
            sibling.reused, sibling.dropped, sibling.rotation = sequence.cached, sequence.dropped, sequence.rotation
            self.running.append(sibling)
            if self.states:
                self.states.fork(sequence, sibling, len(self.running))
        return [sequence, *siblings]

    def retire(self, sequence: Sequence) -> None:
        """A sequence runs no more; its full blocks stay findable."""
        self.running.remove(sequence)
        self.forget(sequence)

    def forget(self, sequence: Sequence) -> None:
        """What the cache holds of a sequence is of no use any more: it is computed anew."""
        self.blocks.release(sequence.blocks)
        sequence.blocks, sequence.cached = [], 0
        if self.states:
            self.states.release(sequence)

    def cancel(self, sequence: Sequence) -> None:
        """A sequence is gone; siblings that have not begun go on without it."""
        for leader in (*self.waiting, *self.running):
            if sequence in leader.siblings:
                leader.siblings.remove(sequence)
        if sequence in self.running:
            self.retire(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        if sequence.siblings:
            heir, *heir.siblings = sequence.siblings
            sequence.siblings = []
            self.waiting.append(heir)

    def clear(self) -> None:
        """Forgets every sequence and what the cache holds."""
        for sequence in (*self.running, *self.waiting):
            sequence.siblings = []
        self.blocks.clear()
        if self.states:
            self.states.clear()
        self.running = []
        self.waiting.clear()
