"""What `look` says of whole models: judged by the config, by what loading does, and by the files' sizes."""

import contextlib
import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from soban.base import system
from soban.base.errors import UserError
from soban.cli import show
from soban.loading.loaded import load_files
from soban.measure import papers
from soban.measure.inspect import inspect_model
from soban.model import load
from soban.models import architecture
from soban.ops import native
from soban.resources import memory
from soban.weights.opening import open_checkpoint

from .. import tiny
from ..cli import tiny as bins


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is packed here can be told from what others have packed."""
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path / "cache"))


def codes(report: dict[str, Any]) -> list[str]:
    return [finding.code for finding in report["findings"] if finding.level == "warning"]


def test_what_run_would_do_is_what_loading_does(tmp_path: Path) -> None:
    folder = tiny.make_model(tmp_path / "모델", chat=True)
    generation = {"eos_token_id": [1, 5], "do_sample": True, "temperature": 0.7, "top_p": 0.9}
    (folder / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
    told = inspect_model(folder)["run"]
    model = load(folder)
    assert told["dtype"] == model.loaded.dtype == "f32" and told["why"] == "tiny" and told["packed"] is None
    assert told["context"] == model.engine.context and told["cache_dtype"] == model.loaded.cache_format
    assert told["sampling"].items() <= vars(model.sampling()).items()
    assert {end["id"] for end in told["ends"]} == model.ends | model.chat_form(model.template).ends  # type: ignore[arg-type]
    assert [end["text"] for end in told["ends"]] == ["<eos>", "<end_of_turn>"]


def test_a_large_model_is_said_to_be_packed_as_loading_packs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if native.library() is None:
        pytest.skip("the native library is not built")
    folder = tiny.make_model(tmp_path / "model")
    monkeypatch.setattr("soban.loading.loaded.TINY", 1)
    monkeypatch.setattr("soban.loading.loaded.WORTH", 0.0)  # q8 is always worth it
    monkeypatch.setattr("soban.loading.loaded.NOISE", 1e9)  # and reads no slower, whatever else this PC does
    before = inspect_model(folder)["run"]
    assert before["dtype"] == "q8" and before["why"] == "faster" and not before["packed"]["there"]
    cache = system.cache_folder() / "packed"
    assert not list(cache.glob("model-*")), "looking packs nothing"
    loaded = load_files(folder, dtype="auto", tokenizer=None, force=False)
    after = inspect_model(folder)["run"]
    packed = Path(after["packed"]["path"])
    assert loaded.dtype == "q8" and after["packed"]["there"] and packed.is_file()
    assert after["memory"]["weights"] == pytest.approx(packed.stat().st_size, rel=0.05)
    exact, small = (needs_of(folder, kind) for kind in ("f32", "q8"))
    assert small < exact
    monkeypatch.setattr("soban.base.system.available_memory", lambda: (small + exact) // 2)
    tight = inspect_model(folder)["run"]
    assert (tight["dtype"], tight["why"]) == ("q8", "memory")


def needs_of(folder: Path, kind: str) -> int:
    """Bytes that loading takes in this kind, by its own check."""
    checkpoint = open_checkpoint(folder)
    made = architecture(checkpoint.config)
    return memory.needs(made, checkpoint, kind, made.config.max_position_embeddings).total


def test_what_does_not_fit_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.make_model(tmp_path / "model")
    monkeypatch.setattr("soban.loading.loaded.TINY", 1)
    monkeypatch.setattr("soban.base.system.available_memory", lambda: 1000)
    report = inspect_model(folder)
    assert report["run"] is None and codes(report) == ["not-runnable"]


def test_a_packed_file_shows_its_matrices(tmp_path: Path) -> None:
    folder = tiny.make_model(tmp_path / "model")
    exact, loaded = inspect_model(folder), load_files(folder, dtype="q4", tokenizer=None, force=False)
    packed = next((system.cache_folder() / "packed").glob("model-q4-*.safetensors"))
    report = inspect_model(packed)
    shapes = {one["name"]: one["shape"] for one in exact["tensors"] if not one["shared"]}
    assert {one["name"]: one["shape"] for one in report["tensors"]} == shapes
    assert set(report["model"]["formats"]) == {"q4", "q8", "f32"} and loaded.dtype == "q4"
    assert report["model"]["parameters"] == exact["model"]["parameters"] == sum(map(math.prod, shapes.values()))
    assert report["run"] is None and report["tokenizer"] is None and report["findings"] == []
    assert report["model"]["origin"] == str(folder.resolve()) and exact["model"]["origin"] is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"vocab_size": 265}, "tensor-shape"), ({"num_hidden_layers": 3}, "tensors-missing"),
        ({"model_type": "mamba"}, "not-runnable"),
        ({"hidden_activation": "relu6"}, "not-runnable"),
        ({"quantization_config": {"quant_method": "bitnet"}}, "not-runnable"),
        ({"num_hidden_layers": 2**31 - 1}, "not-runnable"),
    ],
)  # fmt: skip
def test_a_config_that_contradicts_the_tensors_is_found(tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    folder = tiny.make_model(tmp_path / "model")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    report = inspect_model(folder)
    assert code in codes(report) and report["run"] is None
    assert report["model"]["parameters"] > 0 and len(report["tensors"]) > 20
    with pytest.raises(UserError):
        load(folder)


def test_what_config_json_leaves_out_is_shown_as_the_family_has_it(tmp_path: Path) -> None:
    folder = tiny.make_model(tmp_path / "model")
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({k: v for k, v in config.items() if k != "max_position_embeddings"}), encoding="utf-8")
    assert inspect_model(folder)["model"]["context"] == 8192 == load(folder).config.longest
    longer = {**config, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}
    path.write_text(json.dumps(longer), encoding="utf-8")
    assert inspect_model(folder)["model"]["context"] == 256 == load(folder, context=256).engine.context


def test_a_damaged_tokenizer_or_template_leaves_the_rest(tmp_path: Path) -> None:
    folder = tiny.make_model(tmp_path / "model", chat=True)
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe")
    assert codes(inspect_model(folder)) == ["template-unreadable"]
    (folder / "tokenizer.json").write_text("nonsense", encoding="utf-8")
    report = inspect_model(folder)
    assert "tokenizer-unreadable" in codes(report) and report["model"]["layers"] == 2 and report["run"] is not None
    (folder / "generation_config.json").write_text('{"temperature": "hot"}', encoding="utf-8")
    assert codes(inspect_model(folder)) == ["tokenizer-unreadable", "not-runnable"]


def test_weights_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    folder = tiny.make_model(tmp_path / "model")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-10])
    with pytest.raises(UserError, match="the header promises"):
        inspect_model(folder)


def test_a_bin_is_shown_with_its_tokenizer_or_the_want_of_one(tmp_path: Path) -> None:
    path = bins.llama2c(tmp_path / "bin")
    report = inspect_model(path)
    assert report["tokenizer"]["kind"] == "llama2.c" and report["tokenizer"]["size"] == 259 and codes(report) == []
    assert {end["id"] for end in report["run"]["ends"]} == load(path).ends == {1, 2}
    assert report["model"]["parameters"] == sum(
        math.prod(tensor.shape) for tensor in open_checkpoint(path).tensors.values()
    )
    (path.parent / "tokenizer.bin").rename(path.parent / "tok.bin")
    assert codes(inspect_model(path)) == ["tokenizer-unreadable"]
    assert inspect_model(path, tokenizer=path.parent / "tok.bin")["tokenizer"]["file"] == "tok.bin"


def test_real_models_have_nothing_amiss(fixtures: Path) -> None:
    (note,) = inspect_model(fixtures / "models" / "TinyStories-656K")["findings"]
    assert (note.code, note.level) == ("class-differs", "note")  # transformers 5.23 drops its unknown characters
    story = fixtures / "models" / "stories260K" / "stories260K.bin"
    report = inspect_model(story, tokenizer=story.with_name("tok512.bin"))
    assert report["findings"] == [] and report["model"]["parameters"] == 260_032  # as its author counts them


WEIRD = (None, [], {}, "", -1, 1e300, True, [None], ["x", 3], {"content": 5}, "\x1b[2J", "\ud800")


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"])
def test_nonsense_in_any_place_is_told_or_refused_in_words(tmp_path: Path, name: str) -> None:
    """Every value of a file in turn becomes something else; the lines and the JSON can be made of whatever comes."""
    folder = tiny.make_model(tmp_path / "model", chat=True)
    path, dice = folder / name, random.Random(4)
    whole = json.loads(path.read_text(encoding="utf-8")) | FURTHER.get(name, {})
    places = [(key,) for key in whole] + [
        (key, inner) for key in whole if isinstance(whole[key], dict) for inner in whole[key]
    ]
    for place in places:
        changed = json.loads(json.dumps(whole))
        holder = changed if len(place) == 1 else changed[place[0]]
        holder[place[-1]] = dice.choice(WEIRD)
        path.write_text(json.dumps(changed), encoding="utf-8")
        with contextlib.suppress(UserError):
            report = inspect_model(folder)
            assert "\x1b" not in "\n".join(show.as_text(report, tensors=True)) and json.loads(show.as_json(report))


FURTHER: dict[str, dict[str, Any]] = {
    "config.json": {"architectures": ["Gemma2ForCausalLM"], "eos_token_id": 1, "rope_scaling": None},
    "generation_config.json": {"do_sample": True, "temperature": 0.5, "stop_strings": ["x"], "pad_token_id": 0},
    "tokenizer_config.json": {
        "added_tokens_decoder": {"2": {"content": "<bos>"}}, "extra_special_tokens": {},
    },
}  # fmt: skip
LICENCES = {
    "apache-2.0": "\n                 Apache License\n           Version 2.0, January 2004\n",
    "mit": "Copyright (c) 2024 Somebody\n\nPermission is hereby granted, free of charge, to any person\n",
    "gemma": "Gemma Terms of Use\n\nLast modified: April 1, 2024\n",
    "llama3.2": "LLAMA 3.2 COMMUNITY LICENSE AGREEMENT\nLlama 3.2 Version Release Date: September 25, 2024\n",
    "A licence of our own": "A licence of our own\nfor nobody else\n",
}


@pytest.mark.parametrize("name", LICENCES)
def test_a_licence_file_is_recognised_by_its_beginning(tmp_path: Path, name: str) -> None:
    (tmp_path / "LICENSE.txt").write_text(LICENCES[name], encoding="utf-8")
    assert papers.licence(tmp_path) == {"name": name, "file": "LICENSE.txt"}


def test_the_front_matter_goes_before_a_licence_file(tmp_path: Path) -> None:
    shutil.copyfile(Path(__file__).parents[2] / "LICENSE", tmp_path / "LICENSE")
    assert papers.licence(tmp_path) == {"name": "apache-2.0", "file": "LICENSE"}
    front = [
        "language:",
        "- ko",
        "license: other",
        'license_name: "gemma"',
        "license_link: https://x.test",
        "base_model: a/b",
    ]
    text = "\n".join(["---", *front, "---", "# Text", "license: mit", ""])
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    told = {"name": "gemma", "file": "README.md", "license_link": "https://x.test", "base_model": "a/b"}
    assert papers.licence(tmp_path) == told
    (tmp_path / "README.md").write_text("# No front matter\nlicense: mit\n", encoding="utf-8")
    assert papers.licence(tmp_path) == {"name": "apache-2.0", "file": "LICENSE"}
    assert papers.licence(tmp_path / "nowhere") is None
