"""What changes a row of logits before a token is chosen: penalties, biases, bans, as transformers and OpenAI mean them.

The repetition penalty comes first, for it multiplies; then what is added; bans hold whatever that was.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from soban.engine.sampling import Sampling
from soban.ops.formats import Floats

MOST_IDS = 1 << 31  # far above any vocabulary


class Processors:
    """Of one sequence, whose tokens they are told; `ends` are what its minimum length holds back."""

    def __init__(self, sampling: Sampling, ends: frozenset[int]) -> None:
        self.sampling, self.ends = sampling, ends
        self.penalised = sampling.repetition_penalty != 1.0
        self.known: set[int] = set()
        self.seen: npt.NDArray[np.int64] = np.zeros(64, np.int64)  # the same, at the beginning of the array
        self.counted = bool(sampling.presence_penalty or sampling.frequency_penalty)
        self.counts: Counter[int] = Counter()  # of the tokens after the prompt
        biases = {token: bias for token, bias in sampling.logit_bias if token < MOST_IDS and bias}
        self.biased, self.biases = _ids(biases), np.array([*biases.values()], np.float32)
        self.prompt_length: int | None = None
        self.length = 0
        size = sampling.no_repeat_ngram_size
        words = [word for word in sampling.bad_words_ids or () if len(word) > 1 or word[0] not in ends]
        self.banned = _ids([word[0] for word in words if len(word) == 1])
        self.phrases = [word for word in words if len(word) > 1]
        self.suppressed, self.suppressed_first = _ids(sampling.suppress_tokens), _ids(sampling.begin_suppress_tokens)
        self.followers: dict[tuple[int, ...], list[int]] = {}  # of each size - 1 tokens that stood in a row
        self.reach = max([size, *map(len, self.phrases)])
        self.tail: list[int] = []  # the latest tokens, as many as that
        bans = len(self.banned) or len(self.suppressed) or len(self.suppressed_first) or self.reach
        added = self.counted or len(self.biased)
        self.idle = not (self.penalised or added or bans or sampling.min_new_tokens or sampling.min_length)

    def note(self, tokens: Iterable[int]) -> None:
        """Tokens that the sequence now holds; the first are its prompt."""
        size = self.sampling.no_repeat_ngram_size
        for token in tokens:
            self.length += 1
            if self.counted and self.prompt_length is not None:
                self.counts[token] += 1
            if self.penalised and token not in self.known:
                if len(self.known) == len(self.seen):
                    self.seen = np.concatenate([self.seen, self.seen])
                self.seen[len(self.known)] = token
                self.known.add(token)
            if self.reach:
                if size and len(self.tail) >= size - 1:
                    self.followers.setdefault(self._last(size - 1), []).append(token)
                self.tail = [*self.tail, token][-self.reach :]
        if self.prompt_length is None:
            self.prompt_length = self.length

    def _last(self, count: int) -> tuple[int, ...]:
        return tuple(self.tail[max(0, len(self.tail) - count) :])

    def __call__(self, logits: Floats) -> Floats:
        """The logits as they are, or a changed copy."""
        if self.idle:
            return logits
        banned = self._banned()
        if not (self.penalised or self.counts or len(self.biased) or len(banned)):
            return logits
        scores = logits.copy()
        if self.penalised:
            # divided by the penalty if positive, multiplied if negative (Keskar et al. 2019)
            penalty = np.float32(self.sampling.repetition_penalty)
            ids = self.seen[: len(self.known)]
            before = scores[ids]
            scores[ids] = np.where(before < 0, before * penalty, before / penalty)
        if self.counts:
            # c[j] * alpha_frequency + float(c[j] > 0) * alpha_presence, in OpenAI's words
            counts = np.fromiter(self.counts.values(), np.float32, len(self.counts))
            counts *= np.float32(self.sampling.frequency_penalty)
            scores[_ids(self.counts)] -= counts + np.float32(self.sampling.presence_penalty)
        if len(self.biased):
            inside = self.biased < len(scores)
            scores[self.biased[inside]] += self.biases[inside]
        scores[banned[banned < len(scores)]] = -np.inf
        return scores

    def _banned(self) -> npt.NDArray[np.int64]:
        """Tokens that may not come next."""
        sampling, new = self.sampling, self.length - (self.prompt_length or 0)
        banned = [self.banned, self.suppressed]
        if new == 0:
            banned.append(self.suppressed_first)
        if size := sampling.no_repeat_ngram_size:
            banned.append(_ids(self.followers.get(self._last(size - 1), ()) if len(self.tail) >= size - 1 else ()))
        banned += [_ids(word[-1:]) for word in self.phrases if self._last(len(word) - 1) == word[:-1]]
        least = sampling.min_new_tokens
        if new < least if least is not None else self.length < sampling.min_length:
            banned.append(_ids(self.ends))
        return np.concatenate(banned)


def _ids(values: Iterable[int] | None) -> npt.NDArray[np.int64]:
    """Those of the values that a token can have: a file may name any number."""
    return np.array([value for value in values or () if 0 <= value < MOST_IDS], np.int64)
