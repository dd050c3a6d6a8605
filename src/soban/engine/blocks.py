"""Which blocks of the cache belong to whom: shared, counted, found again by the tokens that they hold."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence

from soban.ops.batch import PAGE

Key = tuple[Hashable, tuple[int, ...]]  # the prefix before a block, and the block's tokens


class BlockPool:
    """Hands out the cache's blocks, of PAGE positions each. A full one is remembered by its tokens and all before them.

    Every sequence begins at a `root`: whatever else its keys and values depend on, such as its adapter. Sequences of
    different roots share nothing. A block given back stays findable until its place is needed: the one longest unused
    goes first.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.clear()

    def clear(self) -> None:
        """Forgets everything: no block has users, and none is found."""
        self.empty = list(range(self.count - 1, -1, -1))
        self.users = [0] * self.count
        self.idle: OrderedDict[int, None] = OrderedDict()  # blocks that nobody uses but that can be found again
        self.by_key: dict[Key, int] = {}
        self.keys: dict[int, Key] = {}  # the inverse
        self.prefixes: dict[int, int] = {}  # block -> number of the prefix that ends with it
        self.next_prefix = 0

    @property
    def free(self) -> int:
        """How many blocks can be taken."""
        return len(self.empty) + len(self.idle)

    def take(self) -> int:
        """A block for one user. There must be a free one."""
        if self.empty:
            block = self.empty.pop()
        else:
            block, _ = self.idle.popitem(last=False)
            del self.by_key[self.keys.pop(block)]
            del self.prefixes[block]
        self.users[block] = 1
        return block

    def share(self, blocks: Sequence[int]) -> None:
        """One more user for each of the blocks."""
        for block in blocks:
            self.users[block] += 1
            self.idle.pop(block, None)

    def release(self, blocks: Sequence[int]) -> None:
        """One user less for each; the last blocks of a sequence become idle first, so that prefixes live longest."""
        for block in reversed(blocks):
            self.users[block] -= 1
            if self.users[block] == 0:
                if block in self.keys:
                    self.idle[block] = None
                else:
                    self.empty.append(block)

    def remember(self, block: int, previous: int | None, tokens: Sequence[int], root: tuple[Hashable, ...]) -> None:
        """A block is full of these tokens and follows `previous` (None: it is the first of its root)."""
        before = root if previous is None else self.prefixes.get(previous)
        if before is None or block in self.keys or (before, tuple(tokens)) in self.by_key:
            return  # an equal block is remembered already, or one before this is not
        self.keys[block] = (before, tuple(tokens))
        self.by_key[self.keys[block]] = block
        self.prefixes[block] = self.next_prefix
        self.next_prefix += 1

    def match(self, tokens: Sequence[int], root: tuple[Hashable, ...]) -> list[int]:
        """The blocks that hold the longest known beginning of the tokens, not yet shared."""
        blocks: list[int] = []
        prefix: Hashable = root  # a tuple, so it is no prefix's number
        for start in range(0, len(tokens) - PAGE + 1, PAGE):
            block = self.by_key.get((prefix, tuple(tokens[start : start + PAGE])))
            if block is None:
                break
            blocks.append(block)
            prefix = self.prefixes[block]
        return blocks
