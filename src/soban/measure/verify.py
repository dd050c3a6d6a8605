"""Whether two forms of a model are the same: their tokenizers, templates and configs, their tensors, their layers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from soban.base.errors import UserError
from soban.loading.model_files import ModelFiles, files_of
from soban.measure.layers import LayerDifference, Run, Tape, config_differences, run, same_wiring
from soban.measure.tensors import Difference, alike, compare, misshapen, open_form
from soban.text.tokenizers.tokenizer import Tokenizer
from soban.weights.checkpoint import LLAMA2C

TOKENS = 256  # of the text that are read, if nobody says otherwise
SCORES = 1 << 25  # of all those tokens at most: 128 MB
SHOWN_IDS = 5
Verdict = Literal["same", "rounded", "config", "tokenizers", "templates", "different", "other family", "other shape"]
Templates = Literal["same", "different", "none", "first only", "second only"]


@dataclass(frozen=True)
class Tokenizers:
    """How two tokenizers differ. `ids`: the first ids that stand for other bytes; `count`: how many do.

    `text`: the place of the first token of the text that is another one; None: there is none.
    """

    sizes: tuple[int, int]
    ids: tuple[int, ...]
    count: int
    text: int | None

    @property
    def same(self) -> bool:
        """Whether every id that both have means the same, and the text is read as the same ids."""
        return not self.count and self.text is None


@dataclass(frozen=True)
class Verification:
    """What two forms have in common. `run` is None, and `tensors` empty, where they cannot be compared.

    `config`: keys that change what is computed, or how long a text may be, with both values. `shape`: the first tensor
    of which only one form has that shape. Layers are numbered as in `LayerDifference`.
    """

    verdict: Verdict
    families: tuple[str, str]
    layer: int | None  # the first that differs beyond rounding
    tensors: tuple[Difference, ...]
    run: Run | None
    tokenizers: Tokenizers
    templates: Templates
    config: dict[str, tuple[Any, Any]]
    shape: tuple[str, object, object] | None = None

    @property
    def first(self) -> Difference | None:
        """The first tensor that rounding does not explain; where it explains all, the first that is not the same."""
        beyond = next((one for one in self.tensors if one.beyond), None)
        return beyond or next((one for one in self.tensors if not one.same), None)

    @property
    def worst(self) -> Difference | None:
        """The tensor that is furthest off."""
        return max((one for one in self.tensors if not one.same), key=lambda one: one.relative, default=None)

    @property
    def worst_layer(self) -> LayerDifference | None:
        """The layer that makes the most different of the same input."""
        return max(self.run.layers, key=lambda one: one.relative) if self.run else None


def verify(
    path: Path, other: Path, text: str, *, tokens: int | None = None, tokenizer: Path | None = None,
    progress: Callable[[str, float], None] = lambda step, share: None,
) -> Verification:  # fmt: skip
    """Compares the models at two paths, over the first tokens of a text.

    `tokenizer`: of those that are a .bin without one beside it. `progress` hears of "tensors" and "layers", and the
    share that is done. Raises UserError for what cannot be read, or a text that is too short.
    """
    one, two = open_form(path), open_form(other)
    sources = [files_of(form.source.checkpoint) for form in (one, two)]
    words = [_tokenizer(files, tokenizer) for files in sources]
    ids = [tokenizer.encode(text) for tokenizer in words]
    if min(map(len, ids)) < 2:
        raise UserError("the text has less than two tokens", hint="take a longer text")
    plain = any(files.checkpoint.form == LLAMA2C for files in sources)
    tokenizers = compare_tokenizers(words[0], words[1], ids[0], ids[1], plain)
    templates = _templates(sources[0], sources[1])
    families = (one.architecture.family.name, two.architecture.family.name)

    def apart(verdict: Verdict, shape: tuple[str, object, object] | None, config: dict[str, Any]) -> Verification:
        return Verification(verdict, families, None, (), None, tokenizers, templates, config, shape)

    if any(form.architecture.encoder for form in (one, two)):
        raise UserError(
            "{name} is an encoder, whose layers are not compared yet", name=path,
            hint="compare the vectors of soban embed",
        )  # fmt: skip
    if families[0] != families[1]:
        return apart("other family", None, {})
    config = config_differences(one, two)
    if (shape := misshapen(one, two)) is not None:
        return apart("other shape", shape, config)
    if two.packed and not one.packed:
        one = alike(one, two)  # rounded is what the packed form has
    else:
        two = alike(two, one)
    count = min(TOKENS if tokens is None else tokens, *(form.architecture.config.longest for form in (one, two)))
    read = ids[0][: max(2, min(count, SCORES // one.architecture.config.vocab_size))]
    tapes = Tape(one, len(read)), Tape(two, len(read))
    wiring = same_wiring(tapes[0].program, tapes[1].program)
    if wiring is None:
        return apart("other family", None, config)
    if wiring:
        config = {key: values for key, values in config.items() if key == "max_position_embeddings"}
    tensors = compare(one, two, lambda share: progress("tensors", share))
    result = run(tapes, read, tensors, lambda share: progress("layers", share))
    layer = _first_layer(tensors, result)
    verdict = _verdict(tensors, layer, wiring, tokenizers, templates)
    return Verification(verdict, families, layer, tuple(tensors), result, tokenizers, templates, config)


def _verdict(
    tensors: Sequence[Difference], layer: int | None, wiring: bool, tokenizers: Tokenizers, templates: Templates
) -> Verdict:
    if layer is not None:
        return "different"
    if not wiring:
        return "config"
    if not tokenizers.same:
        return "tokenizers"
    if templates == "different":
        return "templates"
    return "same" if all(one.same for one in tensors) else "rounded"


def _first_layer(tensors: Sequence[Difference], run: Run) -> int | None:
    """The first layer in which a tensor, or what is made of the same input, is beyond what rounding explains."""
    layers = [one.layer for one in tensors if one.beyond] + [one.layer for one in run.layers if one.beyond]
    return min(layers, default=None)


def _tokenizer(files: ModelFiles, other: Path | None) -> Tokenizer:
    return files.tokenizer(other if files.checkpoint.form == LLAMA2C else None)


def compare_tokenizers(
    one: Tokenizer, other: Tokenizer, ids: Sequence[int], theirs: Sequence[int], plain: bool = False
) -> Tokenizers:
    """The differences of two tokenizers that have read a text as these ids.

    `plain`: one of them has no control tokens, as llama2.c's; what the other calls one is then not compared.
    """
    sizes = (one.vocab_size, other.vocab_size)

    def differ(i: int) -> bool:
        mine, theirs = one.token_bytes(i), other.token_bytes(i)
        if mine and theirs:
            return mine != theirs
        if plain:
            return False
        return mine != theirs or one.decode([i], skip_special=False) != other.decode([i], skip_special=False)

    differing = [i for i in range(min(sizes)) if differ(i)]
    place = next((i for i, (a, b) in enumerate(zip(ids, theirs, strict=False)) if a != b), None)
    if place is None and len(ids) != len(theirs):
        place = min(len(ids), len(theirs))
    return Tokenizers(sizes, tuple(islice(differing, SHOWN_IDS)), len(differing), place)


def _templates(one: ModelFiles, other: ModelFiles) -> Templates:
    mine, theirs = (files.template() for files in (one, other))
    if mine is None or theirs is None:
        return "none" if mine is theirs else "second only" if mine is None else "first only"
    return "same" if mine.source == theirs.source else "different"
