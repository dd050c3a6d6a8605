"""Noticing that memory is short while a model writes: what was thrown out comes from the disk again and again."""

import time

from soban import messages
from soban.base import system

SECONDS = 3.0  # between two looks
READ = 20 << 20  # bytes a second, below which nobody notices
# Share of the time that something waits for memory. A model that is read for the first time makes nobody wait that way;
# one whose pages have gone made 6 to 17 % (Linux, in a control group of half its size).
STALLED = 0.02
SCARCE = 300 << 20  # bytes free, below which pages go, where the system does not tell of waiting


class Watch:
    """Looks every few seconds while a model writes; what it saw is said once, at the end of a line of the text."""

    def __init__(self) -> None:
        self.next = 0.0
        self.before: system.Paging | None = None
        self.rate = 0.0  # bytes a second, where memory is short
        self.said = False

    def begin(self) -> None:
        """A text is begun."""
        if not self.said:
            self.before, self.next = system.paging(), time.perf_counter() + SECONDS

    def look(self, now: float) -> None:
        """Called often: costs a comparison as long as it is not time."""
        if now < self.next or self.before is None or self.rate:
            return
        after, seconds = system.paging(), now - self.next + SECONDS
        if after is not None and swaps(self.before, after, seconds):
            self.rate = (after.read - self.before.read) / seconds
        self.before, self.next = after, now + SECONDS

    def say(self) -> None:
        """One line with the remedy, if there is something to say that was not said yet."""
        if self.rate and not self.said:
            self.said = True
            messages.warn(
                "memory is short: while the model wrote, {rate:.0f} MB came from the disk every second; close other "
                "programs, or take a smaller form (--dtype q4, --cache-dtype int8, a shorter --context)",
                rate=self.rate / 1e6,
            )  # fmt: skip


def swaps(before: system.Paging, after: system.Paging, seconds: float) -> bool:
    """Whether so much came from the disk, for want of memory and not because it was read for the first time."""
    if after.read - before.read < READ * seconds:
        return False
    if before.stalled is not None and after.stalled is not None:
        return after.stalled - before.stalled >= STALLED * seconds
    free = system.available_memory()
    return free is not None and free < SCARCE
