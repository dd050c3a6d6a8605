"""`soban merge`: one model made of several, or of a model and an adapter."""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from soban.base import system
from soban.base.errors import UserError
from soban.cli.terminal import console
from soban.messages import translate

if TYPE_CHECKING:
    from soban.convert.merging.merging import Prepared
    from soban.convert.merging.recipe import Recipe

ADAPTER, MODEL = "adapter_config.json", "config.json"
EXAMPLES = """\
  soban merge gemma2:2b abstracts/ --out merged              an adapter becomes part of its model
  soban merge one/ two/ --method slerp --t 0.3 --out merged
  soban merge one/ two/ --method linear --weight 0.7 --weight 0.3 --out merged
  soban merge one/ two/ --base gemma2:2b --method ties --density 0.3 --out merged
  soban merge one/ two/ --base start/ --method warp --share 0.8 --out merged
  soban merge recipe.yml --out merged                        mergekit's recipes
  soban merge recipe.yml --out merged --check                only whether they fit, and what it takes
"""


@dataclass(frozen=True)
class MergeOptions:
    """Make one model of several of the same family and size, tensor by tensor.

    linear, slerp and nuslerp mix whole weights; task (arithmetic), ties, dare, della, breadcrumbs, stock and warp add
    up what each has learnt since --base. MODEL+FOLDER is a model with an adapter. What is mixed is never all in memory.
    """

    words: tuple[str, ...] = field(
        default=(), metadata={"positional": True, "metavar": "MODEL ... | MODEL ADAPTER | RECIPE.yml"}
    )
    out: str | None = field(default=None, metadata={"metavar": "FOLDER", "help": "where to put the merged model"})
    method: str | None = field(
        default=None,
        metadata={
            "metavar": "NAME",
            "help": "linear, slerp, nuslerp, task, ties, dare, della, breadcrumbs, stock, warp ... (default: linear)",
        },
    )
    base: str | None = field(default=None, metadata={"metavar": "MODEL", "help": "what the models were tuned from"})
    weight: tuple[float, ...] = field(default=(), metadata={"help": "of each model in turn, or one for all [1]"})
    t: float | None = field(default=None, metadata={"help": "slerp: how far from the first to the second [0.5]"})
    density: float | None = field(default=None, metadata={"help": "share of each difference that is kept"})
    scale: float | None = field(default=None, metadata={"help": "of the sum of differences [1]"})
    share: float | None = field(
        default=None, metadata={"help": "warp: how far to go from the start to the merged model [1]"}
    )
    tokenizer: str | None = field(
        default=None,
        metadata={"metavar": "base|union|MODEL", "help": "whose tokens, where vocabularies differ (default: refuse)"},
    )
    dtype: Literal["f32", "bf16", "f16"] | None = field(
        default=None, metadata={"help": "of the merged weights (default: the first model's)"}
    )
    like: Literal["paper", "mergekit"] = field(
        default="paper", metadata={"help": "whose rule, where mergekit's is not its paper's"}
    )
    seed: int = field(default=0, metadata={"short": "-s", "help": "decides what dare and della leave out"})
    check: bool = field(default=False, metadata={"help": "only look whether they fit, and what it takes"})


OPTIONS = MergeOptions


def call(options: MergeOptions) -> int:
    """Writes the merged model; the outcome is told on stderr."""
    from soban.convert.merging.merging import merged, prepared

    recipe = recipe_of(options)
    if options.dtype is not None:
        recipe = replace(recipe, dtype=options.dtype)
    if options.out is None and not options.check:
        raise UserError("there is no place for the merged model", hint="name a new folder with --out")
    path = None if options.out is None else system.extended(Path(options.out))
    if path is not None and not path.parent.is_dir():
        raise UserError("{path}: there is no such folder", path=path.parent, hint="make it first")
    with console.Status(False) as status:
        status.show(translate("looking at the models ..."))
        one = prepared(recipe, files)
        if options.check or path is None:
            console.write(outlook(one) + "\n")
            return 0

        def progress(share: float) -> None:
            status.show(translate("merging into {path} ... {percent:.0f} %", path=path, percent=100 * share))

        merged(one, path, progress, ("soban", *sys.argv[1:]))
    console.tell(
        translate("merged {count} models into {path}: {size:.2f} GB", count=len(one.parents), path=options.out,
                  size=one.size / 1e9)
    )  # fmt: skip
    return 0


def recipe_of(options: MergeOptions) -> "Recipe":
    """What the words of the command mean. Raises UserError for what they cannot."""
    from soban.convert.merging.recipe import (
        METHODS,
        USUAL,
        USUAL_DENSITY,
        Ingredient,
        Recipe,
        Slice,
        named_method,
        read_recipe,
    )

    if not options.words:
        raise UserError("no models to merge", hint="as in soban merge one/ two/ --out merged")
    if len(options.words) == 1 and options.words[0].lower().endswith((".yml", ".yaml", ".json")):
        for flag in ("method", "base", "weight", "t", "density", "scale", "share", "tokenizer"):
            if getattr(options, flag) not in (None, ()):
                raise UserError("--{flag} has no meaning beside a recipe", flag=flag, hint="write it into the recipe")
        return read_recipe(Path(options.words[0]), options.like, options.seed)
    words = list(options.words)
    if len(words) == 2 and (Path(words[1]) / ADAPTER).is_file() and not (Path(words[1]) / MODEL).is_file():
        words = ["+".join(words)]
    if len(words) == 1 and options.method is None:
        return Recipe("passthrough", (Slice((Ingredient(words[0]),)),))
    method = named_method(options.method or "linear")
    weights = options.weight or (USUAL["weight"],)
    if len(weights) not in (1, len(words)):
        raise UserError(
            "{weights} weights for {models} models", weights=len(weights), models=len(words),
            hint="give --weight once for all, or once for each",
        )  # fmt: skip
    each = weights * len(words) if len(weights) == 1 else weights
    rule = METHODS[method]
    known = {*rule.of_tensor, *rule.of_merge}
    told = {"t": options.t, "density": options.density, "lambda": options.scale, "share": options.share}
    for name, flag in (("t", "t"), ("density", "density"), ("lambda", "scale"), ("share", "share")):
        if told[name] is not None and name not in known:
            raise UserError("--{flag} has no meaning for {method}", flag=flag, method=method, hint="leave it out")
    if options.weight and "weight" not in known:
        raise UserError("--{flag} has no meaning for {method}", flag="weight", method=method, hint="leave it out")
    usual = {"t": USUAL["t"], "density": USUAL_DENSITY.get(method)}
    parameters = {
        name: value
        for name in told
        if name in known and (value := usual.get(name) if told[name] is None else told[name]) is not None
    }
    sources = tuple(
        Ingredient(word, {"weight": weight} if "weight" in known else {})
        for word, weight in zip(words, each, strict=True)
    )
    base = options.base or (words[0] if method == "slerp" else None)
    return Recipe(method, (Slice(sources),), base, parameters, None, options.tokenizer, options.like, options.seed)


def files(name: str) -> tuple[Path, Path | None]:
    """Where a model lies, and its adapter: a name, a path, or either with +folder behind it."""
    from soban.cli.shared import files_of
    from soban.loading import custom
    from soban.loading.loaded import BUNDLED

    base, plus, adapter = name.partition("+") if not Path(name).exists() else (name, "", "")
    if not plus and (own := custom.adapter_of(base)) is not None:
        adapter = own
    told = None if base == custom.BUNDLED and not Path(base).exists() else custom.base_of(base)
    return (BUNDLED if told is None else files_of(told)), Path(adapter) if adapter else None


def outlook(one: "Prepared") -> str:
    """What a merge would be, in lines."""
    from soban.cli.terminal.table import table
    from soban.convert.folder import DTYPE_NAMES

    rows = [
        [translate("models"), " + ".join(parent.name for parent in one.parents)],
        [translate("method"), one.recipe.method],
        [translate("layers"), str(len(one.merge.layers))],
        [translate("weights"), f"{one.numbers / 1e6:,.1f} M, {DTYPE_NAMES[one.dtype][1]}"],
        [translate("disk"), f"{one.size / 1e9:.2f} GB"],
    ]
    return table(rows, heads=False).rstrip("\n")
