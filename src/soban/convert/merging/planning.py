"""Which tensors of which parents make each tensor of the merged model, with every parameter looked up."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from soban.base.errors import UserError
from soban.convert.merging import tensors
from soban.convert.merging.parents import Parent
from soban.convert.merging.recipe import Ingredient, Recipe, Slice
from soban.convert.merging.tensors import Ingredients, Rows
from soban.models.plan import Shape

Adjust = Callable[[Parent, str], tuple[Rows, Shape]]  # a parent's tensor of the vocabulary, with the merged one's rows
WHOLE = "warp"  # the method whose angle is that of a whole layer


@dataclass(frozen=True)
class Merge:
    """The merged model: its tensors, each with what it is made of, and how many layers it has of which parents."""

    tensors: Mapping[str, Ingredients]
    layers: tuple[tuple[Parent, int], ...]  # whose settings a layer has: of the first of its sources

    @property
    def shapes(self) -> dict[str, Shape]:
        return {name: one.shape for name, one in self.tensors.items()}


def planned(recipe: Recipe, parents: Mapping[str, Parent], adjust: Adjust | None = None) -> Merge:
    """What makes each tensor. Raises UserError where parameters are missing, or models and layers do not fit.

    `adjust` gives tensors of the vocabulary the merged vocabulary's rows.
    """
    made: dict[str, Ingredients] = {}
    layers: list[tuple[Parent, int]] = []
    rule = recipe.rule
    for part in recipe.slices:
        base, sources = _parts(recipe, part, parents)
        least, most = rule.models
        if not least <= len(sources) <= most:
            raise UserError(
                "{method} merges {wanted} models, and the recipe gives {count}", method=recipe.method,
                wanted=str(least) if least == most else f"{least} - {most}", count=len(sources),
                hint="give as many, besides the base",
            )  # fmt: skip
        ranges = [_range(one, parents[one.model]) for one in sources]
        if len({stop - start for start, stop in ranges}) > 1:
            raise UserError(
                "layers of {models} are to be merged, and they are not as many: {ranges}",
                models=", ".join(one.model for one in sources), ranges=", ".join(f"{a}-{b}" for a, b in ranges),
                hint="give layer_range the same length for each",
            )  # fmt: skip
        count = ranges[0][1] - ranges[0][0]
        start_of_base = ranges[0][0]
        for i in range(count):
            names = [parents[one.model].layers[start + i] for one, (start, _) in zip(sources, ranges, strict=True)]
            out = _renumbered(parents[sources[0].model], names[0], ranges[0][0] + i, len(layers))
            inside = None if base is None else base.layers[start_of_base + i]
            depth = i / (count - 1) if count > 1 else 1.0
            group = {
                out[k]: _ingredients(
                    recipe, part, sources, parents, out[k], [name[k] for name in names], base,
                    None if inside is None else inside[k], depth,
                )
                for k in range(len(out))
            }  # fmt: skip
            made |= _with_angle(recipe, group)
            layers.append((parents[sources[0].model], ranges[0][0] + i))
    first, last = recipe.slices[0], recipe.slices[-1]
    return Merge(_ends(recipe, first, last, parents, adjust) | made, tuple(layers))


def _parts(recipe: Recipe, part: Slice, parents: Mapping[str, Parent]) -> tuple[Parent | None, list[Ingredient]]:
    """The base, and the models that are mixed: of a method with differences, without the base itself."""
    name = part.base or recipe.base
    base = None if name is None else parents[name]
    sources = list(part.sources)
    if recipe.method == "slerp":  # whose base is the one of t = 0
        if name is not None and name != sources[0].model:
            if name not in [one.model for one in sources]:
                sources = [Ingredient(name, {}, sources[0].layers), *sources]
            sources.sort(key=lambda one: one.model != name)
        return None, sources
    if recipe.rule.base:
        if base is None:
            raise UserError(
                "{method} needs the model that the others were tuned from", method=recipe.method,
                hint="name it with --base, or as base_model in the recipe",
            )  # fmt: skip
        return base, [one for one in sources if one.model != name]
    if recipe.method == "nuslerp":
        return base, [one for one in sources if one.model != name]
    return None, sources


def _range(one: Ingredient, parent: Parent) -> tuple[int, int]:
    count = len(parent.layers)
    if one.layers is None:
        return 0, count
    if one.layers[1] > count:
        raise UserError(
            "layer_range {start} to {stop}: {model} has {count} layers", start=one.layers[0], stop=one.layers[1],
            model=one.model, count=count, hint="the second number is the layer after the last, counted from 0",
        )  # fmt: skip
    return one.layers


def _renumbered(parent: Parent, names: Sequence[str], layer: int, new: int) -> list[str]:
    """The names of a layer's tensors as those of another layer."""
    return [name.replace(f".{layer}.", f".{new}.", 1) for name in names]


def _ingredients(
    recipe: Recipe,
    part: Slice,
    sources: Sequence[Ingredient],
    parents: Mapping[str, Parent],
    out: str,
    names: Sequence[str],
    base: Parent | None,
    base_name: str | None,
    depth: float,
    adjust: Adjust | None = None,
) -> Ingredients:
    """One tensor: `names` are its names in the sources."""
    take = adjust or _plain
    found = [take(parents[one.model], name) for one, name in zip(sources, names, strict=True)]
    rule = recipe.rule
    of_tensor = [
        {key: recipe.parameter(key, part, one, name, depth) for key in rule.of_tensor}
        for one, name in zip(sources, names, strict=True)
    ]
    of_merge = {key: recipe.parameter(key, part, None, out, depth) for key in rule.of_merge}
    _check(recipe.method, of_tensor, of_merge)
    return Ingredients(
        out, found[0][1], recipe.method, tuple(rows for rows, _ in found), tuple(of_tensor), of_merge,
        None if base is None or base_name is None else take(base, base_name)[0], None, recipe.like, recipe.seed,
    )  # fmt: skip


def _plain(parent: Parent, name: str) -> tuple[Rows, Shape]:
    if name not in parent.shapes and name == parent.architecture.plan.head:
        name = parent.embedding  # by which it writes
    return partial(parent.rows, name), parent.shapes[name]


def _check(method: str, of_tensor: Sequence[Mapping[str, Any]], of_merge: Mapping[str, Any]) -> None:
    """UserError for numbers that cannot be together."""
    total = abs(sum(float(one.get("weight", 1)) for one in of_tensor))
    if of_merge.get("normalize") and method in ("linear", "task_arithmetic") and total < 1e-8:
        raise UserError(
            "the weights {weights} add up to 0, and are to be parts of their sum",
            weights=", ".join(f"{one['weight']:g}" for one in of_tensor),
            hint="change one, or give normalize: false",
        )
    for one in of_tensor:
        if (
            "epsilon" in one
            and one["density"] < 1
            and not (one["epsilon"] < one["density"] and one["density"] + one["epsilon"] < 1)
        ):
            raise UserError(
                "density={density}, epsilon={epsilon}: their sum and difference have to lie between 0 and 1",
                density=one["density"], epsilon=one["epsilon"], hint="give a smaller epsilon",
            )  # fmt: skip


def _with_angle(recipe: Recipe, group: dict[str, Ingredients]) -> dict[str, Ingredients]:
    """The tensors of a layer with the products that all of them have together, where the method takes these."""
    if recipe.method != WHOLE:
        return group

    @cache
    def total() -> Any:
        return sum(tensors.gram_of(one.rows, one.base) for one in group.values())

    return {name: replace(one, gram=total) for name, one in group.items()}


def _ends(
    recipe: Recipe, first: Slice, last: Slice, parents: Mapping[str, Parent], adjust: Adjust | None
) -> dict[str, Ingredients]:
    """The tensors that belong to no layer: the embedding by the first slice's sources, the others by the last's."""
    made: dict[str, Ingredients] = {}
    base, sources = _parts(recipe, first, parents)
    lead = parents[sources[0].model]
    in_layers = {name for layer in lead.layers for name in layer}
    head = lead.architecture.plan.head
    names = [name for name in lead.shapes if name not in in_layers]
    every = [*(parents[one.model] for one in sources), *([base] if base else [])]
    if head not in names and not all(one.tied for one in every):
        names.append(head)
    for name in names:
        part = first if name == lead.embedding else last
        base, sources = _parts(recipe, part, parents)
        made[name] = _ingredients(
            recipe, part, sources, parents, name, [name] * len(sources), base, name, 0.0,
            adjust if name in lead.vocabularies else None,
        )  # fmt: skip
    return made


def layer_lists(merge: Merge, config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Keys of config.json that are a list of something for each layer, with what the merged model's layers have."""
    count = len(merge.layers[0][0].layers)
    for key, value in config.items():
        if isinstance(value, list) and len(value) == count:
            yield key, [parent.source.config.get(key, value)[layer] for parent, layer in merge.layers]
