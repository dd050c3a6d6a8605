"""How near a text is to the one that was wanted: the same, chrF, and ROUGE over units that Hangul has, too.

The usual ROUGE keeps Latin letters and digits alone, and so finds nothing alike in two identical Korean sentences.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec

ORDER, BETA = 6, 2  # chrF2: character n-grams up to 6, recall twice as heavy as precision (Popovic 2015, 2017)
# A syllable block of Hangul, or a sign of Chinese and Japanese, is a unit; of other scripts, a word is.
UNIT = re.compile(
    r"[가-힣ㄱ-ㆎ\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W_가-힣ㄱ-ㆎ\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+"
)

Units = Callable[[str], Sequence[str]]


def normal(text: str) -> str:
    """The text composed (NFC), each run of white space as one space: a syllable may be stored as its letters."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def same(answer: str, wanted: str) -> bool:
    """Whether two texts are the same but for white space and the way in which they are stored."""
    return normal(answer) == normal(wanted)


def chrf(answer: str, wanted: str) -> float:
    """chrF2 of a text, 0 to 1, as sacrebleu's sentence_chrf has it of composed texts: white space does not count."""
    texts = ["".join(normal(text).split()) for text in (answer, wanted)]
    total, orders = [0.0, 0.0], 0
    for n in range(1, ORDER + 1):
        ours, theirs = (Counter(text[i : i + n] for i in range(len(text) - n + 1)) for text in texts)
        if ours and theirs:
            both = sum((ours & theirs).values())
            total[0] += both / sum(ours.values())
            total[1] += both / sum(theirs.values())
            orders += 1
    return _f(total[0] / orders, total[1] / orders, BETA) if orders else 0.0


def units(text: str) -> list[str]:
    """Syllables of Hangul, and words of other scripts, in small letters."""
    return UNIT.findall(normal(text).lower())


@cache
def morphemes() -> Units | None:
    """What parts a text into morphemes: kiwipiepy, where that is installed."""
    if find_spec("kiwipiepy") is None:
        return None
    from kiwipiepy import Kiwi  # type: ignore[import-not-found]

    kiwi = Kiwi()
    return lambda text: [token.form for token in kiwi.tokenize(normal(text).lower()) if token.tag[0] != "S"]


def rouge_n(answer: Sequence[str], wanted: Sequence[str], n: int) -> float:
    """ROUGE-N of units, 0 to 1: how many runs of n of them are in both (Lin 2004)."""
    ours, theirs = (Counter(zip(*(some[i:] for i in range(n)), strict=False)) for some in (answer, wanted))
    if not ours or not theirs:
        return 0.0
    both = sum((ours & theirs).values())
    return _f(both / sum(ours.values()), both / sum(theirs.values()))


def rouge_l(answer: Sequence[str], wanted: Sequence[str]) -> float:
    """ROUGE-L of units, 0 to 1: the longest sequence that both have, with gaps (Lin 2004)."""
    if not answer or not wanted:
        return 0.0
    row = [0] * (len(wanted) + 1)
    for one in answer:
        before = row
        row = [0]
        for i, other in enumerate(wanted):
            row.append(before[i] + 1 if one == other else max(row[i], before[i + 1]))
    return _f(row[-1] / len(answer), row[-1] / len(wanted))


def _f(precision: float, recall: float, beta: float = 1.0) -> float:
    """The harmonic mean, recall beta times as heavy."""
    if precision + recall == 0:
        return 0.0
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)
