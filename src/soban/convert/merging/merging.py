"""Several models to one: the folder of the merged model, written a few pieces of tensors at a time."""

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from soban.base.files import new_folder
from soban.base.version import VERSION
from soban.convert.folder import DTYPE_NAMES, OTHERS, describe, encoded, entry_size, write_shards
from soban.convert.merging import words
from soban.convert.merging.parents import Parent, check_together, opened
from soban.convert.merging.planning import Merge, layer_lists, planned
from soban.convert.merging.recipe import Recipe
from soban.convert.merging.tensors import mixed
from soban.convert.merging.thinning import Floats
from soban.weights.naming import CONFIG

RECIPE, CARD = "merge.json", "README.md"
LAYERS = ("num_hidden_layers", "n_layer", "num_layers")  # keys that say how many there are
AHEAD = 3  # pieces that are mixed before they are written
IDS = ("bos_token_id", "eos_token_id", "pad_token_id")

Progress = Callable[[float], None]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A merge whose parents have been opened and fit each other. `parents`: the base first; `lead`: whose config and
    template it has; `size`: bytes of its weights."""

    recipe: Recipe
    parents: tuple[Parent, ...]
    lead: Parent
    merge: Merge
    words: words.Words | None
    dtype: str

    @property
    def size(self) -> int:
        return sum(entry_size((name, DTYPE_NAMES[self.dtype][0], shape)) for name, shape in self.merge.shapes.items())

    @property
    def numbers(self) -> int:
        return sum(one.count for one in self.merge.tensors.values())


def prepared(recipe: Recipe, find: Callable[[str], tuple[Path, Path | None]]) -> Prepared:
    """The merge of a recipe, nothing of it computed. `find`: a model's name -> its files, and an adapter's folder.

    Raises UserError for models that do not fit each other, with names.
    """
    parents = {name: opened(name, *find(name)) for name in recipe.models()}
    every = list(parents.values())
    stacked = recipe.method == "passthrough"
    check_together(every, vocabularies=recipe.tokenizer is None, layers=not stacked)
    base = None if recipe.base is None else parents[recipe.base]
    chosen = None
    if recipe.tokenizer is None:
        words.check_same(every)
    else:
        chosen = words.words_of(recipe.tokenizer, every, base)
    merge = planned(recipe, parents, None if chosen is None else chosen.adjust)
    lead = base or parents[recipe.slices[0].sources[0].model]
    return Prepared(recipe, tuple(every), lead, merge, chosen, recipe.dtype or _usual_dtype(lead))


def _usual_dtype(lead: Parent) -> str:
    """That of a model's own first matrix, where it has plain numbers."""
    stored = lead.source.checkpoint.tensors.get(lead.embedding)
    return stored.format if stored is not None and stored.format in DTYPE_NAMES else "bf16"


def merged(one: Prepared, path: Path, progress: Progress = lambda share: None, command: Sequence[str] = ()) -> None:
    """Writes the merged model as a new folder that transformers loads, with its recipe and a card.

    The folder appears whole or not at all. Raises UserError where it cannot be written.
    """
    kind, _ = DTYPE_NAMES[one.dtype]
    entries = [(name, kind, shape) for name, shape in one.merge.shapes.items()]
    with new_folder(path, one.size + OTHERS) as folder, ThreadPoolExecutor(1) as pool:
        source = one.lead.source if one.words is None else one.words.source.source
        describe(source, folder, one.dtype, tokenizer=_tokenizer_bin(source))
        if one.words is not None:
            one.words.write(folder)
        _write_json(folder / CONFIG, _config(one, json.loads((folder / CONFIG).read_text(encoding="utf-8"))))
        _write_json(folder / RECIPE, told(one))
        (folder / CARD).write_text(card(one, command), encoding="utf-8")

        def fill(name: str) -> Iterator[npt.NDArray]:
            return ahead(pool, mixed(one.merge.tensors[name]), one.dtype)

        write_shards(folder, entries, fill, progress)


def ahead(pool: ThreadPoolExecutor, pieces: Iterator[Floats], dtype: str) -> Iterator[npt.NDArray]:
    """The pieces in a dtype; some are encoded while those after them are mixed and those before them written."""
    waiting: deque[Future[npt.NDArray]] = deque()
    for piece in pieces:
        waiting.append(pool.submit(encoded, piece, dtype))
        if len(waiting) > AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _tokenizer_bin(source: Any) -> Path | None:
    """The tokenizer.bin beside a .bin."""
    from soban.loading.model_files import tokenizer_beside

    return tokenizer_beside(source.path) if source.is_llama2c else None


def _config(one: Prepared, described: dict[str, Any]) -> dict[str, Any]:
    """The merged model's config.json: the lead's, with what the merge changes."""
    config = _of_lead(one, described)
    head = one.lead.architecture.plan.head
    config["tie_word_embeddings"] = head not in one.merge.tensors
    count, before = len(one.merge.layers), len(one.lead.layers)
    if one.recipe.method == "passthrough" and (count != before or len(one.parents) > 1):
        key = next((name for name in LAYERS if config.get(name) == before), LAYERS[0])
        config |= dict(layer_lists(one.merge, one.lead.source.config))
        config[key] = count
    if one.words is not None:
        config["vocab_size"] = one.words.rows
        config |= {name: described[name] for name in IDS if name in described}
    return config


def _of_lead(one: Prepared, described: dict[str, Any]) -> dict[str, Any]:
    """The lead's config, where the folder was described by another model's files."""
    if one.words is None or one.words.source is one.lead:
        return described
    own = {key: value for key, value in one.lead.source.config.items() if key != "quantization_config"}
    return own | {key: described[key] for key in ("dtype", "torch_dtype") if key in described}


def told(one: Prepared) -> dict[str, Any]:
    """The recipe, as mergekit's keys have it, for whoever wants to repeat it."""
    recipe = one.recipe
    whole = len(recipe.slices) == 1 and recipe.slices[0].sources[0].layers is None

    def source(part: Any) -> dict[str, Any]:
        layers = {} if part.layers is None else {"layer_range": list(part.layers)}
        return {"model": part.model, **layers, **({"parameters": dict(part.parameters)} if part.parameters else {})}

    def piece(part: Any) -> dict[str, Any]:
        more = {"parameters": dict(part.parameters)} if part.parameters else {}
        return {"sources": [source(each) for each in part.sources], **more}

    names = {ours: theirs for theirs, ours in (("float32", "f32"), ("bfloat16", "bf16"), ("float16", "f16"))}
    return {
        "merge_method": recipe.method,
        **({"models": [source(part) for part in recipe.slices[0].sources]} if whole
           else {"slices": [piece(part) for part in recipe.slices]}),
        **({"base_model": recipe.base} if recipe.base else {}),
        **({"parameters": dict(recipe.parameters)} if recipe.parameters else {}),
        **({"tokenizer_source": recipe.tokenizer} if recipe.tokenizer else {}),
        "dtype": names[one.dtype],
    }  # fmt: skip


def card(one: Prepared, command: Sequence[str] = ()) -> str:
    """The merged model's README.md: its parents, how they were merged, and whose terms hold."""
    named = [parent.name for parent in one.parents]
    licences = {parent.name: text for parent in one.parents if (text := licence(parent))}
    common = set(licences.values())
    head = ["---", "base_model:", *(f"- {json.dumps(name, ensure_ascii=False)}" for name in named)]
    if len(common) == 1 and len(licences) == len(named):
        head.append(f"license: {common.pop()}")
    head += ["tags:", "- merge", "- soban", "---", ""]
    lines = [
        f"# {' + '.join(Path(name).name for name in named)}", "",
        f"Merged by soban {VERSION} with the method `{one.recipe.method}`, {one.numbers / 1e6:,.1f} M weights in "
        f"{DTYPE_NAMES[one.dtype][1]}.", "", "| parent | licence that its card names |", "|---|---|",
        *(f"| {name} | {licences.get(name, 'not told')} |" for name in named), "",
        "The terms of all parents hold for this model.", "", "```json",
        json.dumps(told(one), indent=2, ensure_ascii=False), "```", "",
    ]  # fmt: skip
    if command:
        lines += ["```", " ".join(command), "```", ""]
    return "\n".join([*head, *lines])


def licence(parent: Parent) -> str | None:
    """What the card beside a model says of its licence; None where there is none."""
    import yaml  # type: ignore[import-untyped]

    path = parent.source.folder / CARD
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8", errors="replace")[:100_000]
    if not text.startswith("---") or (end := text.find("\n---", 3)) < 0:
        return None
    try:
        front = yaml.safe_load(text[3:end])
    except yaml.YAMLError:
        return None
    name = front.get("license_name") or front.get("license") if isinstance(front, dict) else None
    return name if isinstance(name, str) else None


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
