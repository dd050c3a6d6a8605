"""How many entries a tokenizer should have: judged by bits per byte of held-out text under a small n-gram model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from soban.learn.tokenizer import FILE, Layout, train_tokenizer
from soban.text.tokenizers.library import library_errors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SIZES = (512, 1024, 2048, 4096, 8192, 16384, 32000)  # llama2.c's 512, 4096 and 32000 among them
ORDER = 3
# An entry costs a row of the embedding, most of a small model: the smallest size within this of the best is taken.
GOOD_ENOUGH = 0.02
LEARNT, MEASURED = 8_000_000, 500_000  # characters


@dataclass(frozen=True)
class Trial:
    """What a size would give."""

    entries: int
    bits_per_byte: float
    bytes_per_token: float


def choose_size(
    texts: Sequence[str], layout: Layout, tell: Callable[[float], None] = lambda share: None
) -> tuple[int, list[Trial]]:
    """One of SIZES, and what each that was tried would give; the text may support fewer entries.

    One text in eight is measured with, and not learnt from. Too little text gives the first of SIZES, and no trials.
    """
    lessons = _some([text for number, text in enumerate(texts) if number % 8], LEARNT)
    tests = _some(list(texts[::8]), MEASURED)
    trials: list[Trial] = []
    for number, size in enumerate(SIZES if lessons else ()):
        tokenizer = train_tokenizer(lessons, size, layout)
        if tokenizer.get_vocab_size() < size and trials:
            break  # the text offers no more
        if (attempt := trial(tokenizer, lessons, tests)) is None:
            break
        trials.append(attempt)
        tell((number + 1) / len(SIZES))
        if len(trials) > 1 and trials[-1].bits_per_byte > trials[-2].bits_per_byte:
            break  # it has become worse, for want of text
    if not trials:
        return SIZES[0], []
    best = min(one.bits_per_byte for one in trials)
    enough = (one.bits_per_byte <= best * (1 + GOOD_ENOUGH) for one in trials)
    return next(size for size, is_enough in zip(SIZES, enough, strict=False) if is_enough), trials


def _some(texts: Sequence[str], characters: int) -> list[str]:
    """Texts from all over, of so many characters at most; at least one."""
    total = sum(map(len, texts))
    step = max(1, -(-total // characters))
    return list(texts[::step])


def trial(tokenizer: "Tokenizer", lessons: Sequence[str], tests: Sequence[str]) -> Trial | None:
    """Bits per byte of some texts, as a model sees them that has counted the tokens of others; None for too few."""
    with library_errors(FILE):
        old, new = (
            np.concatenate([e.ids for e in tokenizer.encode_batch_fast(list(some))]) for some in (lessons, tests)
        )
    if min(len(old), len(new)) < ORDER:
        return None
    count = sum(len(text.encode()) for text in tests)
    bits = -np.log2(probabilities(old.astype(np.int64), new.astype(np.int64), tokenizer.get_vocab_size())).sum()
    return Trial(tokenizer.get_vocab_size(), float(bits / count), count / len(new))


def probabilities(old: NDArray[np.int64], new: NDArray[np.int64], size: int, order: int = ORDER) -> NDArray[np.float64]:
    """The probability of each token of `new` but the first ones, by n-grams of `old`: Witten-Bell, interpolated.

    p(w|h) = (c(hw) + t(h) p(w|shorter h)) / (c(h) + t(h)), where t(h) is how many different tokens followed h. Witten
    and Bell, "The zero-frequency problem" (1991).
    """
    chances = np.full(len(new) - order + 1, 1 / size)
    for length in range(1, order + 1):
        history, history_new = _grams(old, length - 1, order, size), _grams(new, length - 1, order, size)
        whole, whole_new = history * size + old[order - 1 :], history_new * size + new[order - 1 :]
        kinds, counts = np.unique(whole, return_counts=True)
        followed = _lookup(kinds, counts, whole_new)
        histories, totals = np.unique(history, return_counts=True)
        different = np.unique(kinds // size, return_counts=True)[1]  # of the same histories, in the same order
        total, types = _lookup(histories, totals, history_new), _lookup(histories, different, history_new)
        met = total > 0
        chances[met] = (followed[met] + types[met] * chances[met]) / (total[met] + types[met])
    return chances


def _grams(tokens: NDArray[np.int64], length: int, order: int, size: int) -> NDArray[np.int64]:
    """The `length` tokens before each token from the place `order` on, as one number each."""
    grams = np.zeros(len(tokens) - order + 1, np.int64)
    for back in range(length, 0, -1):
        grams = grams * size + tokens[order - 1 - back : len(tokens) - back]
    return grams


def _lookup(keys: NDArray[np.int64], values: NDArray[np.int64], queries: NDArray[np.int64]) -> NDArray[np.int64]:
    """The values of the keys that are wanted, 0 where there is none; keys are in order."""
    places = np.minimum(np.searchsorted(keys, queries), len(keys) - 1)
    return np.where(keys[places] == queries, values[places], 0)
