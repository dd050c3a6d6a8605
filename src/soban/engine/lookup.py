"""Prompt lookup: where the end of a sequence occurred before, what followed there, and how much of it to try."""

SHORTEST = 2  # tokens that have to be equal before what followed them is worth trying
LONGEST = 16  # tokens that are compared; a longer match is as good as certain
CANDIDATES = 16  # earlier occurrences of the last three tokens that are compared
NEAR = 8  # tokens around the place where copying broke off, in which it is taken up again

# How likely the next token of a match is right, by the match's length in tokens, before anything is known of the text.
# 1 stands for a single token near the place where copying broke off.
CHANCES = (0.0, 0.3, 0.35, 0.5, 0.6, 0.65, 0.7, 0.72, 0.75, 0.78, 0.8, 0.82, 0.84, 0.86, 0.88, 0.89, 0.9)
# The time of a step of so many tokens, where one of a single token takes 1. Up to here weights are read from memory
# once and the multipliers wait for them; these are AVX-512's, and what other machines take is soon measured.
COSTS = {1: 1.0, 2: 1.05, 3: 1.1, 4: 1.15, 6: 1.3, 8: 1.4, 12: 1.8, 16: 2.2}
MOST = max(COSTS) - 1  # tokens that are tried at once
LEAST_GAIN = 1.02  # below this the step is left alone
WEIGHT = 0.15  # of the latest observation
FADING = 0.01  # what is known fades while nothing is tried, so that it is tried again


class Lookup:
    """Finds the longest earlier occurrence of a sequence's last tokens; of equally long ones the latest.

    `tokens` is the sequence's own list, which grows; each of its tokens is indexed once.
    """

    def __init__(self, tokens: list[int]) -> None:
        self.tokens = tokens
        self.chances = list(CHANCES)  # as CHANCES, for this text
        self._indexed = 2  # the first place that is not: a place p has tokens before it, and tokens[p] follows
        self._after_two: dict[tuple[int, int], int] = {}  # the latest place after each pair of tokens
        self._after_three: dict[tuple[int, int, int], int] = {}
        self._earlier = [0, 0]  # for each place the one before it that has the same three tokens, or 0
        self._copied_from = 0  # the place that the last match led to, 0: none
        self._copied_at = 0  # how many tokens there were then

    def find(self) -> tuple[int, int]:
        """The place whose tokens may follow, and how many tokens before it equal the sequence's last; (0, 0): none."""
        self._index()
        place, length = self._longest()
        if length < SHORTEST:
            place, length = self._near()
        if length:
            self._copied_from, self._copied_at = place, len(self.tokens)
        return place, length

    def draft(self, place: int, count: int) -> list[int]:
        """The `count` tokens that follow a place; where the sequence ends before, it is taken to repeat itself."""
        follow = self.tokens[place : place + count]
        return follow if len(follow) == count else (follow * (count // len(follow) + 1))[:count]

    def note(self, length: int, drafted: int, accepted: int) -> None:
        """Of a draft after a match of that length so many tokens were accepted."""
        for n in range(length, length + min(accepted + 1, drafted)):
            kind = min(n, LONGEST)
            self.chances[kind] += WEIGHT * ((n < length + accepted) - self.chances[kind])

    def rest(self, length: int) -> None:
        """A match of that length was not tried."""
        self.chances[length] += FADING * (CHANCES[length] - self.chances[length])

    def _index(self) -> None:
        tokens, two, three, earlier = self.tokens, self._after_two, self._after_three, self._earlier
        for place in range(self._indexed, len(tokens)):
            last = tokens[place - 2], tokens[place - 1]
            two[last] = place
            key = (tokens[place - 3], *last) if place > 2 else (-1, *last)
            earlier.append(three.get(key, 0))
            three[key] = place
        self._indexed = max(self._indexed, len(tokens))

    def _longest(self) -> tuple[int, int]:
        tokens = self.tokens
        if len(tokens) < 3:
            return 0, 0
        best = length = 0
        if self._copied_from:
            best = self._copied_from + len(tokens) - self._copied_at
            length = self._equal(best)
        place = self._after_three.get((tokens[-3], tokens[-2], tokens[-1]), 0)
        tries = CANDIDATES
        while place and tries and length < LONGEST:
            if (equal := self._equal(place)) > length:
                best, length = place, equal
            place = self._earlier[place]
            tries -= 1
        if length < SHORTEST and (place := self._after_two.get((tokens[-2], tokens[-1]), 0)):
            best, length = place, 2
        return best, length

    def _near(self) -> tuple[int, int]:
        """The last token alone, where copying from an earlier place broke off a few tokens ago: a word was changed."""
        since = len(self.tokens) - self._copied_at
        if not self._copied_from or since > NEAR:
            return 0, 0
        middle = self._copied_from + since
        last = self.tokens[-1]
        places = range(max(1, middle - NEAR), min(middle + NEAR, len(self.tokens) - since))
        same = [place for place in places if self.tokens[place - 1] == last]
        return (min(same, key=lambda place: abs(place - middle)), 1) if same else (0, 0)

    def _equal(self, place: int) -> int:
        """How many tokens before a place equal the last ones."""
        tokens = self.tokens
        back = len(tokens) - place
        most = min(place, LONGEST)
        length = 0
        while length < most and tokens[place - 1 - length] == tokens[place + back - 1 - length]:
            length += 1
        return length


class StepCosts:
    """How long a step takes by its number of tokens, where one of a single token takes 1: COSTS, then what was seen."""

    def __init__(self) -> None:
        self.ratios = dict(COSTS)
        self._single = 0.0  # seconds

    def note(self, tokens: int, seconds: float) -> None:
        """A step of so many tokens took so long. One observation counts as twice or half the expected at the most."""
        if tokens == 1:
            self._single += (WEIGHT if self._single else 1) * (min(seconds, 2 * self._single or seconds) - self._single)
        elif self._single and tokens in self.ratios:
            expected = self.ratios[tokens]
            ratio = min(max(seconds / self._single, expected / 2), 2 * expected)
            self.ratios[tokens] += WEIGHT * (ratio - expected)

    def rest(self) -> None:
        """No step of several tokens was tried."""
        for tokens, expected in COSTS.items():
            self.ratios[tokens] += FADING * (expected - self.ratios[tokens])


def best_length(chances: list[float], length: int, most: int, costs: StepCosts) -> int:
    """How many tokens, up to `most`, to draft after a match of that length, for the most tokens in a given time."""
    best, best_rate = 0, LEAST_GAIN
    expected = chance = 1.0
    for count in range(1, most + 1):
        chance *= chances[min(length + count - 1, LONGEST)]
        expected += chance
        cost = costs.ratios.get(count + 1)
        if cost is not None and expected > best_rate * cost:
            best, best_rate = count, expected / cost
    return best
