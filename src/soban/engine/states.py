"""What sequences carry besides keys and values: slots of the cache, and snapshots by which prefixes are found again.

A step reads a sequence's slot and writes another one, so that a step that breaks off has changed nothing.
"""

from collections import OrderedDict

from soban.engine.blocks import BlockPool
from soban.engine.sequence import NextState, Sequence
from soban.ops import Cache
from soban.ops.batch import PAGE, State

SPARE = 2  # slots beside two for each sequence that runs: a draft's way back, and a snapshot


class StatePool:
    """Hands out slots. Those that are free may keep a snapshot: what a prefix, by its number, has left.

    The snapshot longest unused is given up first.
    """

    def __init__(self, count: int) -> None:
        self.empty = list(range(count - 1, -1, -1))
        self.snapshots: OrderedDict[int, int] = OrderedDict()  # prefix -> slot

    @property
    def free(self) -> int:
        """How many slots can be taken."""
        return len(self.empty) + len(self.snapshots)

    def take(self) -> int:
        """A slot, if need be that of a snapshot; its content stays. There must be a free one."""
        return self.empty.pop() if self.empty else self.snapshots.popitem(last=False)[1]

    def give(self, slot: int | None) -> None:
        """A slot, if it is one, is free again."""
        if slot is not None:
            self.empty.append(slot)

    def find(self, prefix: int) -> int:
        """The slot with the snapshot of a prefix, which counts as used. There must be one."""
        self.snapshots.move_to_end(prefix)
        return self.snapshots[prefix]

    def keep(self, prefix: int | None, slot: int) -> bool:
        """Whether a slot is a snapshot from now on. One of an unknown prefix, or the second of one, is just free."""
        if prefix is None or prefix in self.snapshots:
            self.give(slot)
            return False
        self.snapshots[prefix] = slot
        return True

    def drop(self, prefix: int | None) -> None:
        """A snapshot, if it is still there, is of no use any more."""
        if prefix is not None:
            self.give(self.snapshots.pop(prefix, None))


class States:
    """The states of the sequences that run.

    Snapshots are made where a step passes the end of a page. Of an answer, the latest takes the place of the one
    before; of a prompt, only where no slot is free; that at a prompt's end stays as long as nobody needs its slot.
    """

    def __init__(self, cache: Cache, blocks: BlockPool) -> None:
        self.cache, self.blocks = cache, blocks
        self.most_running = max(1, (cache.slots - SPARE) // 2)
        self.clear()

    def clear(self) -> None:
        """Forgets every slot's content."""
        self.pool = StatePool(self.cache.slots)

    def match(self, blocks: list[int]) -> list[int]:
        """Of the known beginning of a text as much as there is a snapshot of."""
        prefixes = self.blocks.prefixes
        ends = (n for n in range(len(blocks), 0, -1) if prefixes[blocks[n - 1]] in self.pool.snapshots)
        return blocks[: next(ends, 0)]

    def begin(self, sequence: Sequence) -> None:
        """A sequence starts from the snapshot at the end of its blocks."""
        if sequence.blocks:
            source = self.pool.find(self.blocks.prefixes[sequence.blocks[-1]])
            sequence.state = self.pool.take()
            if sequence.state != source:  # which may have been the last one free
                self.cache.copy_state(source, sequence.state)

    def prepare(self, sequence: Sequence, count: int, running: int) -> None:
        """Finds room for the state after a step of `count` tokens, and for a snapshot if all that run have some."""
        step = sequence.next = NextState(self.pool.take())
        until = min(sequence.cached + count, self._useful(sequence)) // PAGE * PAGE - sequence.cached
        if until <= 0:
            return
        if sequence.produced or not self.pool.empty:
            self.pool.drop(sequence.moving)
        if self.pool.free > running:
            step.saved, step.until, step.border = self.pool.take(), until, True

    def draft(self, sequence: Sequence) -> bool:
        """Whether a step of one token, after which drafted ones follow, keeps a way back."""
        step = sequence.next
        assert step is not None
        if step.saved is None and not self.pool.free:
            return False
        step.saved = self.pool.take() if step.saved is None else step.saved
        step.until, step.border = 1, False
        return True

    def of(self, sequence: Sequence) -> State:
        """Which slots a step reads and writes."""
        step = sequence.next
        assert step is not None and (sequence.state is not None or not sequence.cached)
        return State(sequence.state or 0, step.slot, step.saved or 0, step.until)

    def undo(self, sequence: Sequence) -> None:
        """The step broke off."""
        if sequence.next is not None:
            self.pool.give(sequence.next.saved)
            self.pool.give(sequence.next.slot)
            sequence.next = None

    def advance(self, sequence: Sequence) -> None:
        """The step is done, and the sequence's blocks are known."""
        step, sequence.next = sequence.next, None
        if step is None:
            return
        self.pool.give(sequence.state)
        sequence.state = step.slot
        if step.saved is None:
            return
        if not step.border:
            sequence.back = step.saved
            return
        end = min(sequence.cached, self._useful(sequence)) // PAGE
        prefix = self.blocks.prefixes.get(sequence.blocks[end - 1])
        if self.pool.keep(prefix, step.saved):
            last = not sequence.produced and end == self._useful(sequence) // PAGE
            sequence.moving = None if last else prefix

    @staticmethod
    def _useful(sequence: Sequence) -> int:
        """How long a snapshot may be: the same prompt begun again computes its last token in any case."""
        return len(sequence.tokens) - (not sequence.produced)

    def settle(self, sequence: Sequence, drafted: int, accepted: int) -> None:
        """Of the drafted tokens so many were right; where not all, they are computed once more."""
        back, sequence.back = sequence.back, None
        if sequence.state is None or accepted == drafted:  # it has ended, or begins anew
            self.pool.give(back)
            return
        self.pool.give(sequence.state)
        sequence.state = back
        sequence.cached -= accepted

    def fork(self, sequence: Sequence, sibling: Sequence, running: int) -> None:
        """A copy for a sibling, one of so many that run; beyond those that may, it has to begin again later."""
        if running <= self.most_running and self.pool.free and sequence.state is not None:
            sibling.state = self.pool.take()
            self.cache.copy_state(sequence.state, sibling.state)

    def release(self, sequence: Sequence) -> None:
        """A sequence runs no more, or begins anew."""
        self.pool.give(sequence.state)
        sequence.state = sequence.moving = None
