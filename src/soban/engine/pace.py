"""How many tokens a step may have, so that neither a running answer nor a prompt that has just come waits for long."""

import time

LONGEST = 0.25  # seconds that a step with a piece of a prompt may take where others wait for it
SHORTEST = 0.05  # that it may take however quick the answers are: what nobody notices
STRETCH = 1.8  # by which it may be longer than a step of the answers alone, between those two
LEAST = 16  # tokens of prompts in a step, however slow the machine: with fewer, the weights are read for little
CROWDED = 10.0  # seconds after somebody had to wait in which another one is expected
WEIGHT = 0.5  # of the latest observation


class Pace:
    """Follows what steps take.

    The budget is proportional to the rate of the latest step with a prompt in it, its fixed costs included: it settles
    where a step takes the time that it may.
    """

    def __init__(self) -> None:
        self.rate = 0.0  # tokens per second of steps with a piece of a prompt; 0: not known yet
        self.answers = 0.0  # seconds of a step of answers alone; 0: not known yet
        self.joined = float("-inf")  # when a request last found others being answered, in time.monotonic()'s seconds

    def note(self, tokens: int, prompts: bool, seconds: float) -> None:
        """A step of so many tokens, with pieces of prompts or without any, took so long."""
        if seconds <= 0:
            return
        if prompts:
            self.rate = _nearer(self.rate, tokens / seconds)
        else:
            self.answers = _nearer(self.answers, seconds)

    def join(self) -> None:
        """A request has come while others are being answered."""
        self.joined = time.monotonic()

    @property
    def crowded(self) -> bool:
        """Whether requests have met so lately that even a prompt that is alone should be read in small pieces."""
        return time.monotonic() - self.joined < CROWDED

    def budget(self, answers: int) -> int:
        """The tokens of a step with pieces of prompts and so many answers beside them."""
        seconds = min(LONGEST, max(SHORTEST, STRETCH * self.answers)) if answers and self.answers else LONGEST
        return max(answers + LEAST, int(seconds * self.rate))

    def long(self, tokens: int) -> bool:
        """Whether a step of so many tokens takes longer than whoever comes meanwhile should wait."""
        return tokens > LONGEST * self.rate


def _nearer(known: float, seen: float) -> float:
    """The mean of what was known and what is seen, which counts as twice or half of that at the most."""
    return known + WEIGHT * (min(max(seen, known / 2), 2 * known) - known) if known else seen
