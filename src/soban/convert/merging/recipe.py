"""What is merged, and how: mergekit's recipes as they are, or the words of a command."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from soban.base.errors import UserError
from soban.base.files import quoted

Like = Literal["paper", "mergekit"]


@dataclass(frozen=True)
class Method:
    """A way of merging. `of_tensor`: parameters that each model may have its own of; `of_merge`: of the whole.

    A value of None has to be given. `base`: whether it needs a model that the others were tuned from.
    """

    of_tensor: Mapping[str, Any] = field(default_factory=dict)
    of_merge: Mapping[str, Any] = field(default_factory=dict)
    base: bool = False
    models: tuple[int, int] = (1, 64)  # how many at least and at most, without the base


_SUM = {"normalize": False, "lambda": 1.0, "rescale": False}
_SUM_NORMAL = {**_SUM, "normalize": True}
METHODS: dict[str, Method] = {
    "linear": Method({"weight": None}, {"normalize": True}),
    "slerp": Method({}, {"t": None}, models=(2, 2)),
    "nuslerp": Method({"weight": None}, {}, models=(2, 2)),
    "task_arithmetic": Method({"weight": None}, _SUM, base=True),
    "ties": Method({"weight": None, "density": 1.0}, _SUM_NORMAL, base=True),
    "dare_linear": Method({"weight": None, "density": 1.0}, {**_SUM, "rescale": True}, base=True),
    "dare_ties": Method({"weight": None, "density": 1.0}, {**_SUM, "rescale": True}, base=True),
    "della_linear": Method(
        {"weight": None, "density": 1.0, "epsilon": 0.15}, {**_SUM, "rescale": True}, base=True
    ),
    "della": Method(
        {"weight": None, "density": 1.0, "epsilon": 0.15}, {**_SUM_NORMAL, "rescale": True}, base=True
    ),
    "breadcrumbs": Method({"weight": None, "density": 1.0, "gamma": 0.01}, _SUM, base=True),
    "breadcrumbs_ties": Method({"weight": None, "density": 1.0, "gamma": 0.01}, _SUM, base=True),
    "model_stock": Method({}, {}, base=True, models=(2, 64)),
    "warp": Method({}, {"share": 1.0}, base=True, models=(2, 64)),
    "passthrough": Method({"scale": 1.0}, {}, models=(1, 1)),
}  # fmt: skip
OTHER_NAMES = {"task": "task_arithmetic", "dare": "dare_ties", "stock": "model_stock"}
# Where a command says nothing, and a recipe would have to.
USUAL = {"weight": 1.0, "t": 0.5}
USUAL_DENSITY = {"ties": 0.2, "dare_linear": 0.5, "dare_ties": 0.5, "della": 0.5, "della_linear": 0.5,
                 "breadcrumbs": 0.9, "breadcrumbs_ties": 0.9}  # fmt: skip
KEYS = (
    "merge_method", "models", "slices", "base_model", "parameters", "dtype", "out_dtype", "tokenizer_source",
    "tokenizer", "chat_template",
)  # fmt: skip
DTYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
SHARES = ("density", "gamma", "epsilon", "t", "share")  # parameters from 0 to 1


@dataclass(frozen=True)
class Ingredient:
    """A model, the layers of it that are taken (None: all), and its own parameters."""

    model: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[int, int] | None = None


@dataclass(frozen=True)
class Slice:
    """Layers that are mixed with each other, and follow those of the slice before."""

    sources: tuple[Ingredient, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    base: str | None = None


@dataclass(frozen=True)
class Recipe:
    """All that is wanted of a merge. `tokenizer`: "base", "union", or a model's name; None: all have the same."""

    method: str
    slices: tuple[Slice, ...]
    base: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    dtype: str | None = None  # of the weights that are written
    tokenizer: str | None = None
    like: Like = "paper"
    seed: int = 0

    @property
    def rule(self) -> Method:
        return METHODS[self.method]

    def models(self) -> tuple[str, ...]:
        """Every model, the base first."""
        bases = [self.base, *(one.base for one in self.slices)]
        named = [source.model for one in self.slices for source in one.sources]
        return tuple(dict.fromkeys(name for name in (*bases, *named) if name is not None))

    def parameter(self, name: str, part: Slice, source: Ingredient | None, tensor: str, depth: float) -> Any:
        """A parameter's value for a tensor of the recipe's own name, `depth` of the way through a slice's layers."""
        of = source.parameters if source is not None else {}
        for told in (of, part.parameters, self.parameters):
            if name in told and (value := evaluate(told[name], tensor, depth)) is not None:
                return self._checked(name, value)
        usual = (self.rule.of_tensor if name in self.rule.of_tensor else self.rule.of_merge)[name]
        if usual is None:
            raise UserError(
                "{method}: no {name} for {model}", method=self.method, name=name,
                model=source.model if source else tensor, hint="the recipe has to give one under parameters",
            )  # fmt: skip
        return usual

    def _checked(self, name: str, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e6:
            if name in ("normalize", "rescale") and isinstance(value, bool):
                return value
        elif name not in SHARES or 0 <= value <= 1:
            return value
        raise UserError(
            "{name}={value}: out of range", name=name, value=quoted(value),
            hint="give a number; densities and shares go from 0 to 1",
        )  # fmt: skip


def evaluate(setting: Any, tensor: str, depth: float) -> Any:
    """A setting's value for a tensor: a number; a list over the depth, between whose entries one goes evenly; or a list
    of {filter, value}, the first of whose filters is part of the tensor's name."""
    if not isinstance(setting, list):
        return _conditional(setting, tensor, depth) if isinstance(setting, dict) else setting
    if setting and all(isinstance(one, int | float) and not isinstance(one, bool) for one in setting):
        scaled = depth * (len(setting) - 1)
        first = int(scaled)
        second = min(len(setting) - 1, first + 1)
        return (1 - (scaled - first)) * setting[first] + (scaled - first) * setting[second]
    for one in setting:
        if isinstance(one, dict) and (value := _conditional(one, tensor, depth)) is not None:
            return value
    return None


def _conditional(setting: dict[str, Any], tensor: str, depth: float) -> Any:
    told = setting.get("filter")
    if told is None or told == "*" or str(told) in tensor:
        return evaluate(setting.get("value"), tensor, depth)
    return None


def read_recipe(path: Path, like: Like = "paper", seed: int = 0) -> Recipe:
    """The recipe of a YAML file. Raises UserError for what it cannot be, and for keys that are not implemented."""
    import yaml  # type: ignore[import-untyped]

    from soban.base.files import open_regular

    with open_regular(path) as file:
        data = file.read((1 << 20) + 1)
    if len(data) > 1 << 20:
        raise UserError("{path}: too long for a recipe", path=path, hint="give one of at most a megabyte")
    try:
        told = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeError, ValueError, RecursionError) as error:
        raise UserError(
            "{path}: no YAML ({reason})", path=path, reason=str(error).splitlines()[0], hint="correct the recipe"
        ) from error
    return recipe_of(told, str(path), like, seed)


def recipe_of(told: Any, name: str, like: Like = "paper", seed: int = 0) -> Recipe:
    """The recipe that an object of YAML tells; `name` is where it stands, for errors."""
    if not isinstance(told, dict):
        raise UserError(
            "{path}: {key} is {value}", hint="a recipe begins with merge_method: and models:", **_at(name, "", told)
        )
    _check_keys(name, "", told, KEYS)
    method = named_method(told.get("merge_method"))
    if ("models" in told) == ("slices" in told):
        raise UserError("{path}: models or slices, one of them", path=name, hint="list the models that are merged")
    if "models" in told:
        slices: tuple[Slice, ...] = (Slice(tuple(_ingredients(name, "models", told["models"], ("model",)))),)
    else:
        slices = tuple(_slice(name, f"slices[{n}]", one) for n, one in enumerate(_list(name, "slices", told["slices"])))
    base = told.get("base_model")
    if base is not None and not isinstance(base, str):
        raise UserError("{path}: {key} is {value}", hint="name a model", **_at(name, "base_model", base))
    dtype = told.get("out_dtype") or told.get("dtype")
    if dtype is not None and dtype not in DTYPES:
        raise UserError(
            "{path}: {key}={value}; there are {known}", path=name, key="dtype", value=quoted(dtype),
            known=", ".join(DTYPES), hint="choose one of them",
        )  # fmt: skip
    return Recipe(
        method, slices, base, _parameters(name, "", told), None if dtype is None else DTYPES[dtype],
        _tokenizer(name, told), like, seed,
    )  # fmt: skip


def named_method(word: Any) -> str:
    """The method that a word names. Raises UserError for one that is not implemented."""
    method = OTHER_NAMES.get(word, word) if isinstance(word, str) else word
    if method not in METHODS:
        raise UserError(
            "merge_method {value} is not implemented; there are {known}", value=quoted(word), known=", ".join(METHODS),
            hint="choose one of them",
        )  # fmt: skip
    return str(method)


def _slice(name: str, place: str, told: Any) -> Slice:
    if not isinstance(told, dict):
        raise UserError("{path}: {key} is {value}", hint="a slice has sources", **_at(name, place, told))
    _check_keys(name, place, told, ("sources", "base_model", "parameters"))
    sources = _ingredients(name, f"{place}.sources", told.get("sources"), ("model", "layer_range"))
    return Slice(tuple(sources), _parameters(name, place, told), told.get("base_model"))


def _ingredients(name: str, place: str, told: Any, needed: Sequence[str]) -> list[Ingredient]:
    ingredients = []
    for number, one in enumerate(_list(name, place, told)):
        here = f"{place}[{number}]"
        if not isinstance(one, dict) or not isinstance(one.get("model"), str):
            raise UserError(
                "{path}: {key} is {value}", hint="name a model, as in - model: path/to/model", **_at(name, here, one)
            )
        _check_keys(name, here, one, (*needed, "parameters"))
        layers = None
        if "layer_range" in needed:
            layers = one.get("layer_range")
            if not (isinstance(layers, list) and len(layers) == 2 and all(type(n) is int for n in layers)
                    and 0 <= layers[0] < layers[1]):  # fmt: skip
                raise UserError(
                    "{path}: {key} is {value}",
                    hint="give the first layer and the one after the last",
                    **_at(name, f"{here}.layer_range", layers),
                )
        ingredients.append(Ingredient(one["model"], _parameters(name, here, one), layers and (layers[0], layers[1])))
    return ingredients


def _parameters(name: str, place: str, told: Mapping[str, Any]) -> dict[str, Any]:
    parameters = told.get("parameters") or {}
    where = f"{place}.parameters".lstrip(".")
    if not isinstance(parameters, dict):
        raise UserError("{path}: {key} is {value}", hint="give names and numbers", **_at(name, where, parameters))
    known = {key for method in METHODS.values() for key in (*method.of_tensor, *method.of_merge)} | {"int8_mask"}
    if "nuslerp_flatten" in parameters and parameters["nuslerp_flatten"] is not True:
        raise UserError(
            "{path}: {key} is {value}",
            hint="leave it out",
            **_at(name, f"{where}.nuslerp_flatten", parameters["nuslerp_flatten"]),
        )
    _check_keys(name, where, parameters, (*sorted(known), "nuslerp_flatten"))
    return {key: value for key, value in parameters.items() if key not in ("int8_mask", "nuslerp_flatten")}


def _tokenizer(name: str, told: Mapping[str, Any]) -> str | None:
    if told.get("chat_template") not in (None, "auto"):
        raise UserError(
            "{path}: chat_template={value} is not implemented", path=name, value=quoted(told["chat_template"]),
            hint="leave it out: the merged model has its base's template",
        )  # fmt: skip
    source, nested = told.get("tokenizer_source"), told.get("tokenizer")
    if nested is not None:
        if source is not None or not isinstance(nested, dict):
            raise UserError(
                "{path}: {key} is {value}",
                hint="give tokenizer_source or tokenizer, with a source",
                **_at(name, "tokenizer", nested),
            )
        _check_keys(name, "tokenizer", nested, ("source",))
        source = nested.get("source")
    if source is not None and not isinstance(source, str):
        raise UserError(
            "{path}: {key} is {value}", hint="give base, union or a model", **_at(name, "tokenizer_source", source)
        )
    return source


def _list(name: str, place: str, told: Any) -> list[Any]:
    if not isinstance(told, list) or not told:
        raise UserError("{path}: {key} is {value}", hint="give a list", **_at(name, place, told))
    return told


def _check_keys(name: str, place: str, told: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in told:
        if key not in known:
            raise UserError(
                "{path}: {key} is not implemented here; there are {known}", path=name,
                key=quoted(f"{place}.{key}".lstrip(".")), known=", ".join(known), hint="leave it out",
            )  # fmt: skip


def _at(name: str, place: str, value: Any) -> dict[str, Any]:
    """What an error says of a place in a recipe."""
    return {"path": name, "key": place or "?", "value": quoted(value)}
