"""Files to examples: those that are learnt from and those that are held out, without one of the others among them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from soban.base.errors import UserError
from soban.learn.data import near, sources
from soban.learn.data.cleaning import key
from soban.learn.data.reading import Read, Reading, documents
from soban.learn.data.splitting import split
from soban.learn.tuning.examples import Example, Form

ALIKE = 0.8  # share of common letter runs from which two examples are kept on one side
FEWEST = 2  # that differ: one to learn from, one to measure


@dataclass(frozen=True)
class Sets:
    """Examples, and why others were left out."""

    train: list[Example]
    held_out: list[Example]
    left_out: Counter[str] = field(default_factory=Counter)  # reason -> how many
    files: list[Read] = field(default_factory=list)

    @property
    def answers(self) -> bool:
        """Whether some of them are questions with answers, and not texts alone."""
        return any(one.prompt > 1 for one in self.train)

    @property
    def longest(self) -> int:
        """Tokens of the longest example."""
        return max(len(one.ids) for one in (*self.train, *self.held_out))


def read(
    paths: Sequence[str | Path], form: Form, context: int, *, fields: tuple[str, ...], share: float, seed: int
) -> Sets:
    """The examples in files. Raises UserError where too few are left."""
    files: list[Read] = []
    left_out: Counter[str] = Counter()
    examples: list[Example] = []
    known: set[bytes] = set()
    reading = Reading(fields=fields, conversations=True)
    for document in documents(sources.find(list(paths)).sources, reading, files):
        example = form.example(document)
        if isinstance(example, str):
            left_out[example] += 1
        elif len(example.ids) - 1 > context:
            left_out["too long"] += 1
        elif example.learns == 0:
            left_out["empty"] += 1
        elif (ids := example.ids.tobytes()) in known:
            left_out["duplicate"] += 1
        else:
            known.add(ids)
            examples.append(example)
    left_out["empty"] += sum(file.empty for file in files)
    left_out["broken"] += sum(file.broken for file in files)
    left_out = +left_out
    if len(examples) < FEWEST:
        raise UserError(
            "{path}: {count} examples to learn from; left out: {reasons}", path=", ".join(map(str, paths)),
            count=len(examples), reasons=", ".join(f"{name} {count}" for name, count in left_out.items()) or "-",
            hint="look at some with --show, or give more",
        )  # fmt: skip
    texts = [example.text for example in examples]
    keys = np.array([key(text) for text in texts], np.uint64)
    parts = split(keys, _groups(examples, texts), np.arange(len(examples)), (share, 0.0), seed)
    train, held_out = ([examples[i] for i in parts[name]] for name in ("train", "validation"))
    return Sets(train, held_out, left_out, files)


def _groups(examples: Sequence[Example], texts: Sequence[str]) -> NDArray[np.int64]:
    """The group of each example: those with one prompt, or nearly one text, are not to be parted."""
    sets = [near.shingles(near.code_points(text)) for text in texts]
    _, groups, _ = near.alike(near.signatures(sets), lambda number: sets[number], ALIKE, lambda share: None)
    first: dict[bytes, int] = {}
    joined = near.Groups(len(examples))
    for number, example in enumerate(examples):
        for name in (example.ids[: example.prompt].tobytes(), b"group" + int(groups[number]).to_bytes(8, "little")):
            if example.prompt > 1 or name.startswith(b"group"):
                joined.join(number, first.setdefault(name, number))
    return joined.of_all()
