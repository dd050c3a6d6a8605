"""The vocabularies of models that are merged: whether they are the same, and rows of one in the order of another."""

import filecmp
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from soban import messages
from soban.base.errors import UserError
from soban.base.files import quoted
from soban.convert.merging.parents import TOKENIZER, Parent
from soban.convert.merging.tensors import Rows
from soban.convert.source import Floats
from soban.models.plan import Shape
from soban.weights.checkpoint import GGUF

STEP = 4096  # rows in a piece
BASE, UNION = "base", "union"


def check_same(parents: Sequence[Parent]) -> None:
    """Raises UserError where two models have different vocabularies, with the first token that differs."""
    first, *others = parents
    different = [other for other in others if not _same_file(first, other)]
    ours = first.tokens if different else None
    for other in different:
        theirs = other.tokens
        if ours is None or theirs is None:
            messages.warn(
                "{model}: no tokenizer.json, so nobody can see whether its tokens are {first}'s",
                model=other.name if theirs is None else first.name, first=first.name,
            )  # fmt: skip
        elif ours != theirs:
            token, here, there = _difference(ours, theirs)
            raise UserError(
                "{first} and {other} have different vocabularies: {token} is {here} in one, and {there} in the other",
                first=first.name, other=other.name, token=quoted(token), here=here, there=there,
                hint="--tokenizer union keeps the tokens of all, --tokenizer base those of the first",
            )  # fmt: skip


def _same_file(one: Parent, other: Parent) -> bool:
    """Whether both have the same tokenizer.json, byte for byte; large ones take seconds to be read."""
    if GGUF in (one.source.checkpoint.form, other.source.checkpoint.form):
        return False
    ours, theirs = one.source.folder / TOKENIZER, other.source.folder / TOKENIZER
    return ours.is_file() and theirs.is_file() and filecmp.cmp(ours, theirs, shallow=False)


def _difference(ours: Mapping[str, int], theirs: Mapping[str, int]) -> tuple[str, str, str]:
    token = min(
        (token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token)),
        key=lambda token: (min(ours.get(token, 1 << 40), theirs.get(token, 1 << 40)), token),
    )
    here, there = (str(one.get(token, "-")) for one in (ours, theirs))
    return token, here, there


@dataclass(frozen=True)
class Words:
    """The merged model's vocabulary: `source` is the parent whose files it takes; `added`: tokens of others, behind
    its own."""

    source: Parent
    tokens: Mapping[str, int]
    added: tuple[str, ...]
    parents: tuple[Parent, ...]
    base: Parent | None = None

    @cached_property
    def rows(self) -> int:
        return max(self.tokens.values()) + 1

    @cached_property
    def places(self) -> dict[str, npt.NDArray[np.int64]]:
        """Of each parent, by its name: the row of each merged token; -1 where it has none."""
        places = {}
        for parent in self.parents:
            theirs, most = parent.tokens or {}, parent.shapes[parent.embedding][0]
            row = np.full(self.rows, -1)
            for token, id in self.tokens.items():
                if 0 <= (place := theirs.get(token, -1)) < most:
                    row[id] = place
            places[parent.name] = row
        return places

    def adjust(self, parent: Parent, name: str) -> tuple[Rows, Shape]:
        """A parent's tensor of the vocabulary in the merged order. A token that it lacks has the base's row, or the
        mean of those that others have for it; that nobody has, zeros."""
        shape = (self.rows, *_tensor(parent, name).shape[1:])
        return partial(self._rows, parent, name, shape), shape

    def _rows(self, parent: Parent, name: str, shape: Shape) -> Iterator[Floats]:
        places = self.places[parent.name]
        for start in range(0, len(places), STEP):
            part = places[start : start + STEP]
            out = picked(parent, name, part)
            for n in np.flatnonzero(part < 0):
                out[n] = self._instead(name, start + int(n), shape)
            yield out

    def _instead(self, name: str, id: int, shape: Shape) -> Floats:
        having = [one for one in self.parents if self.places[one.name][id] >= 0]
        if self.base is not None and self.base in having:
            having = [self.base]
        if not having:
            return np.zeros(shape[1:], np.float32)
        rows = [picked(one, name, self.places[one.name][id : id + 1])[0] for one in having]
        return np.mean(rows, axis=0, dtype=np.float32)

    def write(self, folder: Path) -> None:
        """Adds the tokens of others to the tokenizer.json that lies in the folder."""
        if not self.added:
            return
        from soban.text.tokenizers.library import library_errors, open_library

        path = folder / TOKENIZER
        with library_errors(path):
            library = open_library(path, path.read_bytes())[0]
            library.add_tokens(list(self.added))
            path.write_text(json.dumps(json.loads(library.to_str()), ensure_ascii=False), encoding="utf-8")


def _tensor(parent: Parent, name: str) -> Any:
    tensors = parent.source.checkpoint.tensors
    return tensors[name if name in parent.shapes else parent.embedding]


def picked(parent: Parent, name: str, places: npt.NDArray[np.int64]) -> Floats:
    """Rows of a parent's tensor, in any order; zeros where the place is -1."""
    tensor = _tensor(parent, name)
    out = np.zeros((len(places), *tensor.shape[1:]), np.float32)
    ends = np.flatnonzero(np.diff(places) != 1) + 1  # of runs that follow one another in the file
    for run in np.split(np.arange(len(places)), ends):
        if len(run) and places[run[0]] >= 0:
            out[run] = tensor.float32(int(places[run[0]]), int(places[run[-1]]) + 1)
    return out


def words_of(choice: str, parents: Sequence[Parent], base: Parent | None) -> Words:
    """The merged vocabulary: "base", "union", or that of the parent with this name. Raises UserError for others."""
    lead = base or parents[0]
    named = {parent.name: parent for parent in parents}
    if choice not in (BASE, UNION, *named):
        raise UserError(
            "--tokenizer {value}: neither base nor union nor one of the models", value=choice,
            models=", ".join(named), hint="choose base, union, or one of {models}",
        )  # fmt: skip
    source = named.get(choice, lead)
    tokens = source.tokens
    missing = next((parent for parent in parents if parent.tokens is None), None)
    packed = next((parent for parent in parents if parent.source.layout or parent.adapter_of_words()), None)
    if tokens is None or missing is not None or source.source.checkpoint.form == GGUF:
        raise UserError(
            "{model}: --tokenizer needs a tokenizer.json", model=(missing or source).name,
            hint="take models in Hugging Face's folders",
        )  # fmt: skip
    if packed is not None:
        raise UserError(
            "{model}: its vocabulary cannot be put into another order", model=packed.name,
            hint="take the model as it was before it was packed, and an adapter that leaves the vocabulary alone",
        )  # fmt: skip
    added: list[str] = []
    if choice == UNION:
        known = set(tokens)
        for parent in parents:
            for token in sorted(theirs := parent.tokens or {}, key=theirs.__getitem__):
                if token not in known:
                    known.add(token)
                    added.append(token)
        first = max(tokens.values()) + 1
        tokens |= {token: first + n for n, token in enumerate(added)}
    return Words(source, tokens, tuple(added), tuple(parents), base)
