"""The plan of a model's weights: the one description that everybody walks who loads, checks, packs or converts them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, SimpleNamespace
from typing import Any, Literal, NamedTuple

Shape = tuple[int, ...]
EMBED, HEAD = "embed", "head"  # roles: the first matrix that a token meets, and the last


class Part(NamedTuple):
    """One tensor of a checkpoint.

    `name` is the one by which soban knows it, Hugging Face's; `names` has those of other kinds of files ("gguf",
    "llama2c"). Hugging Face's file may hold it `transposed`. `wholes`: larger tensors, by kind of file ("hf", too),
    whose rows from `first` on it is; in the kinds `by_head`, these may have the rows of one head after the other, of so
    many `heads`, each with its own of every part. `precise`: where weights have four bits, this one keeps eight; a
    large `vocabulary` keeps them in two halves.
    """

    name: str
    shape: Shape
    names: Mapping[str, str] = MappingProxyType({})
    transposed: bool = False
    wholes: Mapping[str, str] = MappingProxyType({})
    first: int = 0
    heads: int = 1
    by_head: tuple[str, ...] = ("hf",)
    precise: bool = False
    vocabulary: bool = False

    def source(self, form: str = "hf") -> str | None:
        """The name of the tensor that holds it in a kind of file; None where such a file cannot."""
        return self.wholes.get(form) or (self.name if form == "hf" else self.names.get(form))

    def slice(self, whole: Any, form: str = "hf") -> Any:
        """Its rows of the larger tensor; of one with several heads (heads, rows of a head, ...)."""
        if form not in self.by_head or self.heads == 1 or whole.shape[0] % self.heads:
            return whole[self.first : self.first + self.shape[0]]
        by_heads = whole.reshape(self.heads, -1, *whole.shape[1:])
        return by_heads[:, self.first // self.heads : (self.first + self.shape[0]) // self.heads]


class Weight(NamedTuple):
    """A weight as `forward()` reads it, by its role: a vector, or the rows of several parts one below the other.

    A bias has as many parts or none.
    """

    role: str
    kind: Literal["vector", "matrix"]
    parts: tuple[Part, ...]
    biases: tuple[Part, ...] = ()


class Pair(NamedTuple):
    """Channels that may be equalised: what `source` is divided by, the columns of the `readers` are multiplied with.

    The source is a norm's weight, from which `offset` is missing, or the rows of a matrix; its `bias` goes with it.
    """

    source: Part
    readers: tuple[Part, ...]
    bias: Part | None = None
    offset: float = 0.0


class Layer(NamedTuple):
    """The weights of one layer, and which of their channels may be equalised."""

    weights: tuple[Weight, ...]
    pairs: tuple[Pair, ...] = ()

    def matrices(self) -> Iterator[Part]:
        """The parts of its matrices."""
        return (part for weight in self.weights if weight.kind == "matrix" for part in weight.parts)


@dataclass(frozen=True)
class Plan:
    """All weights of a model: those of its two ends, and of each layer.

    `head`: the name of the output's matrix, which a file may hold though the model has none of its own. `prefix` stands
    before the other names of Hugging Face's; a file may have it once more, or not at all. What ends as `computed` is in
    some files and follows from the config. `older`: how a name begins in older files -> how it does now; `endings`: the
    same of how it ends. `beside`: how names begin of what serves other ends, and is left out without a word.
    """

    ends: tuple[Weight, ...]
    layers: tuple[Layer, ...]
    head: str = "lm_head.weight"
    prefix: str = "model."
    computed: tuple[str, ...] = (".rotary_emb.inv_freq",)
    older: Mapping[str, str] = field(default_factory=dict)
    endings: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[str, ...] = ()

    def weights(self) -> Iterator[Weight]:
        """Every weight: the ends first, then layer by layer."""
        yield from self.ends
        for layer in self.layers:
            yield from layer.weights

    def places(self) -> Iterator[tuple[str, Weight]]:
        """The matrices of the layers, which adapters may change, each with its place, such as "layers.3.qkv"."""
        for i, layer in enumerate(self.layers):
            yield from ((_place(i, weight), weight) for weight in layer.weights if weight.kind == "matrix")

    def parts(self) -> Iterator[Part]:
        """Every tensor that a checkpoint of the model has to hold."""
        for weight in self.weights():
            yield from weight.parts
            yield from weight.biases

    def shapes(self) -> dict[str, Shape]:
        """The shape of every tensor, by its name."""
        return {part.name: part.shape for part in self.parts()}

    def tensors(self, form: str = "hf") -> dict[str, list[Part]]:
        """The parts that each tensor of a kind of file holds, by its name there; not those without a place there."""
        table: dict[str, list[Part]] = {}
        for part in self.parts():
            if (name := part.source(form)) is not None:
                table.setdefault(name, []).append(part)
        return table

    def file_shapes(self) -> dict[str, Shape]:
        """The shape of every tensor as a file of Hugging Face's holds it, by its name there."""
        shapes: dict[str, Shape] = {}
        for part in self.parts():
            name, shape = part.wholes.get("hf", part.name), part.shape
            if "hf" in part.wholes:
                shape = (part.first + shape[0], *shape[1:])  # of several parts the last one ends the tensor
            shapes[name] = shape[::-1] if part.transposed else shape
        return shapes

    def names(self, form: str) -> dict[str, str]:
        """The names that tensors of one part have in a kind of file -> ours; empty where there are no such files."""
        return {part.names[form]: part.name for part in self.parts() if form in part.names}

    def end(self, role: str) -> Part | None:
        """The tensor with this role at the model's ends."""
        return next((weight.parts[0] for weight in self.ends if weight.role == role), None)

    def build(self, make: Callable[[Weight, str | None], Any]) -> Any:
        """The weights as `forward()` reads them: attributes by role, and `layers`.

        `make` makes each of them, and is told where it stands, as `places` has it; None at the ends. Without a head of
        its own, a model writes by the embedding.
        """
        ends = {weight.role: make(weight, None) for weight in self.ends}
        ends.setdefault(HEAD, ends.get(EMBED))
        layers = [
            SimpleNamespace(**{weight.role: make(weight, _place(i, weight)) for weight in layer.weights})
            for i, layer in enumerate(self.layers)
        ]
        return SimpleNamespace(**ends, layers=layers)


def _place(layer: int, weight: Weight) -> str:
    return f"layers.{layer}.{weight.role}"


class Place:
    """Where weights are in each kind of file: at the model's ends, or in one of its layers."""

    def __init__(self, **prefixes: str) -> None:
        self.prefixes = prefixes  # by kind of file; "hf" is Hugging Face's

    def vector(self, role: str, size: int, *, bias: bool = False, **names: str) -> Weight:
        """A vector of `size` numbers, such as a norm's weight."""
        biases = (self._part((size,), "bias", names, {}),) if bias else ()
        return Weight(role, "vector", (self._part((size,), "weight", names, {}),), biases)

    def vocabulary(self, role: str, rows: int, columns: int, bias: bool = False, **names: str) -> Weight:
        """A row for each entry of the vocabulary."""
        about = {"precise": True, "vocabulary": True}
        biases = (self._part((rows,), "bias", names, {}),) if bias else ()
        return Weight(role, "matrix", (self._part((rows, columns), "weight", names, about),), biases)

    def matrix(self, role: str, *rows: Weight) -> Weight:
        """Several matrices of the same columns, one below the other."""
        parts = tuple(part for one in rows for part in one.parts)
        return Weight(role, "matrix", parts, tuple(bias for one in rows for bias in one.biases))

    def rows(self, rows: int, columns: int, *, bias: bool = False, **about: Any) -> Weight:
        """One matrix: its names by kind of file, and what `Part` says of it."""
        names = {key: value for key, value in about.items() if key not in Part._fields}
        about = {key: value for key, value in about.items() if key not in names}
        biases = (self._part((rows,), "bias", names, {**about, "transposed": False, "precise": False}),) if bias else ()
        return Weight("", "matrix", (self._part((rows, columns), "weight", names, about),), biases)

    def _part(self, shape: Shape, ending: str, names: Mapping[str, str], about: Mapping[str, Any]) -> Part:
        full = self._full(names, ending)
        if "wholes" in about:
            about = {**about, "wholes": self._full(about["wholes"], ending)}
        return Part(full.pop("hf"), shape, full, **about)

    def _full(self, names: Mapping[str, str], ending: str) -> dict[str, str]:
        return {kind: f"{self.prefixes[kind]}{name}.{ending}" for kind, name in names.items()}
