"""Whole merges: mergekit's weights by its recipes, models that do not fit, vocabularies, adapters, forms of files."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml  # type: ignore[import-untyped]

from soban.base.errors import UserError
from soban.convert.gguf import to_gguf
from soban.convert.merging import merging
from soban.convert.merging.recipe import Ingredient, Recipe, Slice, evaluate, recipe_of
from soban.convert.source import open_source
from soban.weights.safetensors import read_safetensors

from .parents import FAMILIES, NAMES, make_parents, write_model
from .recipes import RECIPES

GOLDEN = Path(__file__).resolve().with_name("golden.safetensors")


@cache
def golden() -> dict[str, np.ndarray]:
    return {name: tensor.float32() for name, tensor in read_safetensors(GOLDEN)[0].items()}


def find(name: str) -> tuple[Path, Path | None]:
    model, _, adapter = name.partition("+")
    return Path(model), Path(adapter) if adapter else None


def merge(recipe: Recipe, out: Path, finding: Callable[[str], Any] = find) -> dict[str, np.ndarray]:
    merging.merged(merging.prepared(recipe, finding), out)
    return weights(out)


def weights(folder: Path) -> dict[str, np.ndarray]:
    return {name: np.array(t.float32()) for name, t in read_safetensors(folder / "model.safetensors")[0].items()}


def of_two(paths: list[Path], method: str = "linear", base: bool = False, **options: Any) -> Recipe:
    parts = Slice(tuple(Ingredient(str(path), {"weight": 1.0}) for path in paths[1:]))
    return Recipe(method, (parts,), str(paths[0]) if base else None, **options)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", RECIPES)
def test_merges_are_mergekits(tmp_path: Path, family: str, name: str) -> None:
    paths = make_parents(tmp_path, family)
    told = yaml.safe_load(RECIPES[name].format(**dict(zip(NAMES, map(str, paths), strict=True))))
    found = merge(recipe_of(told, name, like="mergekit"), tmp_path / "out")
    prefix = f"{family}/{name}/"
    expected = {key.removeprefix(prefix): value for key, value in golden().items() if key.startswith(prefix)}
    if not expected:  # mergekit 0.1.5 does not stack layers of families with layer_types
        in_layers = sum(".layers.1." in key for key in found)
        assert name == "passthrough" and len(found) == len(weights(paths[1])) + in_layers
        return
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert np.abs(found[key] - value).max() < 1e-6, key


def test_stacked_layers_keep_their_kinds(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    kinds = ["sliding_attention", "full_attention"]
    paths = make_parents(tmp_path, "gemma2", layer_types=kinds)
    parts = [Slice((Ingredient(str(paths[1]), {}, (0, 2)),)), Slice((Ingredient(str(paths[2]), {}, (1, 2)),))]
    merge(Recipe("passthrough", tuple(parts)), tmp_path / "out")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.config.num_hidden_layers == 3 and model.config.layer_types == [*kinds, "full_attention"]


def test_the_angle_of_warp_is_that_of_a_whole_layer(tmp_path: Path) -> None:
    paths = make_parents(tmp_path, "llama")
    found = merge(of_two(paths, "warp", base=True), tmp_path / "out")
    start, one, two = map(weights, paths)
    layer = [name for name in start if name.startswith("model.layers.1.")]
    a, b = (np.concatenate([(m[n].astype(np.float64) - start[n]).ravel() for n in layer]) for m in (one, two))
    angle = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    share = np.sin(angle / 2) / np.sin(angle)
    for name in layer:
        expected = start[name] + share * (one[name] - start[name]) + share * (two[name] - start[name])
        assert np.abs(found[name] - expected).max() < 1e-5


@pytest.mark.parametrize("kind", ["lora", "dora", "ia3"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_becomes_part_of_its_model(tmp_path: Path, family: str, kind: str) -> None:
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    low = {"r": 3, "lora_alpha": 5, "target_modules": "all-linear", "init_lora_weights": False}
    config = {
        "lora": lambda: peft.LoraConfig(**low, use_rslora=True), "dora": lambda: peft.LoraConfig(**low, use_dora=True),
        "ia3": lambda: peft.IA3Config(
            target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"], init_ia3_weights=False
        ),
    }[kind]()  # fmt: skip
    base = make_parents(tmp_path, family, **({"attention_bias": True} if family != "gemma2" else {}))[0]
    judge = peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    if kind == "dora":  # lengths other than those of the beginning
        for name, weight in judge.named_parameters():
            if "magnitude" in name:
                weight.data *= torch.rand_like(weight) + 0.5
    judge.save_pretrained(tmp_path / "adapter")
    found = merge(Recipe("passthrough", (Slice((Ingredient(f"{base}+{tmp_path / 'adapter'}"),)),)), tmp_path / "out")
    expected = judge.merge_and_unload().state_dict()
    before = weights(base)
    changed = [name for name in found if np.abs(found[name] - before[name]).max() > 1e-3]
    assert len(changed) >= 6 and found.keys() <= expected.keys()
    for name, value in found.items():
        assert np.abs(value - expected[name].numpy()).max() < 1e-5, name


def test_a_gguf_file_is_a_parent_like_a_folder(tmp_path: Path) -> None:
    paths = make_parents(tmp_path, "llama")
    to_gguf(open_source(paths[1]), tmp_path / "one.gguf", "f32", tokenizer=None, words=False)
    expected = merge(of_two([paths[0], paths[2], paths[1]]), tmp_path / "out")
    found = merge(of_two([paths[0], paths[2], tmp_path / "one.gguf"]), tmp_path / "other")
    assert found.keys() == expected.keys()
    assert all(np.abs(found[name] - value).max() < 1e-6 for name, value in expected.items())


def test_a_tied_and_an_untied_model_give_one_with_its_own_head(tmp_path: Path) -> None:
    paths = make_parents(tmp_path, "llama")
    config = json.loads((paths[2] / "config.json").read_text(encoding="utf-8"))
    tensors = {name: value for name, value in weights(paths[2]).items() if name != "lm_head.weight"}
    write_model(tmp_path / "tied", config | {"tie_word_embeddings": True}, tensors)
    found = merge(of_two([paths[0], paths[1], tmp_path / "tied"]), tmp_path / "out")
    expected = (weights(paths[1])["lm_head.weight"] + tensors["model.embed_tokens.weight"]) / 2
    assert np.abs(found["lm_head.weight"] - expected).max() < 1e-6
    assert json.loads((tmp_path / "out" / "config.json").read_text("utf-8"))["tie_word_embeddings"] is False


def with_words(folder: Path, tokens: list[str]) -> None:
    """A tokenizer.json of whole words."""
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.models.WordLevel({token: id for id, token in enumerate(tokens)}, unk_token=tokens[0])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))


def test_rows_of_different_vocabularies_meet_by_their_tokens(tmp_path: Path) -> None:
    paths = make_parents(tmp_path, "qwen3")
    common = [f"t{n}" for n in range(20)]
    words = [[*common, "a", "b", "c", "d"], ["a", "x", *common, "y", "c"]]
    for path, tokens in zip(paths[1:], words, strict=True):
        with_words(path, tokens)
    recipe = of_two(paths)
    with pytest.raises(UserError, match="different vocabularies: 'a' is 20 in one, and 0"):
        merging.prepared(recipe, find)
    found = merge(of_two(paths, tokenizer="union"), tmp_path / "out")
    name = "model.embed_tokens.weight"
    one, two = (weights(path)[name] for path in paths[1:])
    assert found[name].shape == (26, 8)
    row = {"t3": (one[3] + two[5]) / 2, "a": (one[20] + two[0]) / 2, "b": one[21], "x": two[1]}  # alone: whoever has it
    merged = json.loads((tmp_path / "out" / "tokenizer.json").read_text(encoding="utf-8"))
    ids = merged["model"]["vocab"] | {token["content"]: token["id"] for token in merged["added_tokens"]}
    for token, expected in row.items():
        assert np.abs(found[name][ids[token]] - expected).max() < 1e-6, token
    assert json.loads((tmp_path / "out" / "config.json").read_text("utf-8"))["vocab_size"] == 26
    base = merge(of_two(paths, tokenizer="base"), tmp_path / "base")
    assert base[name].shape == (24, 8) and np.abs(base[name][21] - one[21]).max() < 1e-6


def refused(tmp_path: Path, recipe: Recipe) -> str:
    with pytest.raises(UserError) as caught:
        merging.merged(merging.prepared(recipe, find), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    return str(caught.value)


def test_models_that_do_not_fit_are_told_by_their_names(tmp_path: Path) -> None:
    llama, gemma = (make_parents(tmp_path / family, family) for family in ("llama", "gemma2"))
    larger = make_parents(tmp_path / "larger", "llama", intermediate_size=24)
    assert "of the family llama" in refused(tmp_path, of_two([llama[0], llama[1], gemma[1]]))
    told = refused(tmp_path, of_two([llama[0], llama[1], larger[1]]))
    assert f"model.layers.0.mlp.gate_proj.weight is 16 x 8 in {llama[1]} and 24 x 8 in {larger[1]}" in told
    assert "tuned from" in refused(tmp_path, of_two(llama, "ties"))
    assert "add up to 0" in refused(
        tmp_path,
        Recipe(
            "linear",
            (Slice(tuple(Ingredient(str(p), {"weight": w}) for p, w in zip(llama[1:], (1, -1), strict=True))),),
        ),
    )
    assert "merges 2 models" in refused(tmp_path, of_two([llama[0], llama[1]], "slerp"))
    assert "no weight" in refused(tmp_path, Recipe("linear", (Slice((Ingredient(str(llama[1])),)),)))
    assert "no such file" in refused(tmp_path, of_two([llama[0], llama[1], tmp_path / "missing"]))


def test_nothing_is_written_over(tmp_path: Path) -> None:
    paths = make_parents(tmp_path, "llama")
    merge(of_two(paths), tmp_path / "out")
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match="exists already"):
        merge(of_two(paths, "slerp", parameters={"t": 0.5}), tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before


def test_the_card_names_the_parents_and_their_licence(tmp_path: Path) -> None:
    paths = make_parents(tmp_path, "llama")
    for path in paths[1:]:
        (path / "README.md").write_text("---\nlicense: gemma\n---\n# a\n", encoding="utf-8")
    recipe = of_two(paths)
    merge(recipe, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "license: gemma" in text and all(str(path) in text for path in paths[1:])
    again = recipe_of(yaml.safe_load((tmp_path / "out" / "merge.json").read_text("utf-8")), "merge.json")
    assert merge(again, tmp_path / "again").keys() == weights(tmp_path / "out").keys()
    (paths[2] / "README.md").write_text("# no front matter", encoding="utf-8")
    merge(recipe, tmp_path / "other")
    assert "license: gemma" not in (tmp_path / "other" / "README.md").read_text(encoding="utf-8")


GOOD = {"merge_method": "linear", "models": [{"model": "a", "parameters": {"weight": 1}}]}
BAD: dict[str, tuple[Any, str]] = {
    "no object": ([], "merge_method"), "another method": (GOOD | {"merge_method": "karcher"}, "karcher"),
    "an unknown key": (GOOD | {"modules": {}}, "modules"),
    "no models": ({"merge_method": "linear"}, "models or slices"),
    "a template": (GOOD | {"chat_template": "chatml"}, "chat_template"),
    "tokens of a tokenizer": (GOOD | {"tokenizer": {"source": "base", "tokens": {}}}, "tokens"),
    "an unknown parameter": (GOOD | {"parameters": {"wieght": 1}}, "wieght"),
    "another dtype": (GOOD | {"dtype": "int8"}, "int8"),
    "a model that is none": (GOOD | {"models": [3]}, "models\\[0\\]"),
    "a layer range": ({"merge_method": "linear", "slices": [{"sources": [{"model": "a", "layer_range": [3, 1]}]}]},
                      "layer_range"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_recipe_that_is_not_understood_is_refused_by_name(name: str) -> None:
    told, expected = BAD[name]
    with pytest.raises(UserError, match=expected):
        recipe_of(told, "recipe.yml")


@pytest.mark.parametrize("value", [2, -0.1, "0.5", True, float("nan")])
def test_a_density_is_a_share(tmp_path: Path, value: Any) -> None:
    paths = make_parents(tmp_path, "llama")
    assert "density" in refused(tmp_path, of_two(paths, "ties", base=True, parameters={"density": value}))


def test_settings_go_evenly_from_layer_to_layer_and_by_the_first_filter() -> None:
    assert [evaluate([0, 1, 0.5], "x", depth) for depth in (0, 0.25, 0.5, 0.75, 1)] == [0, 0.5, 1, 0.75, 0.5]
    told = [{"filter": "mlp", "value": [0, 1]}, {"value": 0.3}]
    assert evaluate(told, "model.layers.0.mlp.up_proj.weight", 0.5) == 0.5
    assert evaluate(told, "model.norm.weight", 0.5) == 0.3 and evaluate([{"filter": "a", "value": 1}], "b", 0) is None
