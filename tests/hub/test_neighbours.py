"""Models that Ollama, LM Studio and llama.cpp have fetched: found by their folders, run, never touched."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

import soban
from soban.base.errors import UserError
from soban.hub import neighbours
from tests.models.official import CONFIGS, folder_of
from tests.tiny import TEMPLATE
from tests.weights.gguf.making import make_gguf

OLLAMA = "application/vnd.ollama.image."


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without any program's models."""
    for name in ("OLLAMA_MODELS", "LLAMA_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    folder_of(folder, CONFIGS["llama"] | {"max_position_embeddings": 256})
    make_gguf(folder, folder / "model.gguf", "F32", tokenizer__chat_template=TEMPLATE)
    return folder / "model.gguf"


def blob(models: Path, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    (models / "blobs").mkdir(parents=True, exist_ok=True)
    (models / "blobs" / f"sha256-{digest}").write_bytes(data)
    return f"sha256:{digest}"


def ollama(models: Path, name: str, layers: dict[str, bytes]) -> Path:
    """A model as Ollama keeps it."""
    path = models / "manifests" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    told = [
        {"mediaType": OLLAMA + kind, "digest": blob(models, data), "size": len(data)} for kind, data in layers.items()
    ]
    config = {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": "sha256:0", "size": 1}
    path.write_text(json.dumps({"schemaVersion": 2, "config": config, "layers": told}))
    return path


GEMMA = "registry.ollama.ai/library/gemma2/2b"
PARAMETERS = {"stop": ["<end>", "User:"], "temperature": 0.6, "top_k": 12, "num_ctx": 4096, "num_predict": 9}


def everything(home: Path, gguf_file: Path) -> dict[str, Any]:
    data = gguf_file.read_bytes()
    models = home / ".ollama" / "models"
    layers = {
        "model": data, "template": b"{{ .Prompt }}", "license": b"MIT", "system": "짧게 답해.".encode(),
        "params": json.dumps(PARAMETERS).encode(),
    }  # fmt: skip
    ollama(models, GEMMA, layers)
    ollama(models, "registry.ollama.ai/kim/story/latest", {"model": data})
    ollama(models, "hf.co/owner/Some-GGUF/Q4_K_M", {"model": data})
    studio = home / ".lmstudio" / "models" / "owner" / "Model-GGUF"
    studio.mkdir(parents=True)
    (studio / "Model-Q4_K_M.gguf").write_bytes(data)
    (studio / "mmproj-Model-f16.gguf").write_bytes(b"GGUF")
    two = studio.parent / "Two"
    two.mkdir()
    for name in ("a", "b"):
        (two / f"{name}.gguf").write_bytes(data)
    (home / ".lmstudio" / "models" / "stray.gguf").write_bytes(data)  # LM Studio sees none there
    cache = home / ".cache" / "llama.cpp"
    cache.mkdir(parents=True)
    (cache / "owner_Tiny-GGUF_tiny-q8_0.gguf").write_bytes(data)
    (cache / "manifest=owner=Tiny-GGUF=latest.json").write_text("{}")
    return {path: path.stat().st_mtime_ns for path in home.rglob("*")}


def test_all_are_found_with_their_owners_and_nothing_is_changed(home: Path, gguf_file: Path) -> None:
    before = everything(home, gguf_file)
    found = {one.name: (one.owner, one.bytes >= gguf_file.stat().st_size) for one in neighbours.neighbours()}
    if os.name == "posix" and os.uname().sysname == "Linux":
        assert found.pop("llama.cpp/owner_Tiny-GGUF_tiny-q8_0") == ("llama.cpp", True)
    assert found == {
        "ollama/gemma2:2b": ("Ollama", True), "ollama/kim/story:latest": ("Ollama", True),
        "ollama/hf.co/owner/Some-GGUF:Q4_K_M": ("Ollama", True), "lmstudio/owner/Model-GGUF": ("LM Studio", True),
        "lmstudio/owner/Two/a": ("LM Studio", True), "lmstudio/owner/Two/b": ("LM Studio", True),
    }  # fmt: skip
    for name in found:
        assert soban.load(name).generate("안녕", max_new_tokens=2) is not None
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before


def test_ollamas_parameters_and_system_text_hold_and_its_go_template_does_not(home: Path, gguf_file: Path) -> None:
    everything(home, gguf_file)
    model, plain = soban.load("ollama/gemma2:2b"), soban.load(gguf_file)
    told = model.loaded.generation_config
    assert (told["temperature"], told["top_k"], told["max_new_tokens"]) == (0.6, 12, 9) and told["do_sample"] is True
    assert told["stop_strings"] == ["<end>", "User:"]
    assert model.loaded.system == "짧게 답해." and plain.loaded.system is None
    assert model.template is not None and model.template.source == TEMPLATE
    assert model.prompt("안녕").ids == plain.prompt("안녕", system="짧게 답해.").ids != plain.prompt("안녕").ids
    assert model.prompt("안녕", system="길게").ids == plain.prompt("안녕", system="길게").ids
    talk = [{"role": "user", "content": "안녕"}]
    asked = [{"role": "system", "content": "짧게 답해."}, *talk]
    options = {"max_new_tokens": 6, "do_sample": False}
    assert model.chat(talk, **options) == plain.chat(asked, **options)


def test_a_tag_of_latest_may_be_left_out_and_other_spellings_name_what_there_is(home: Path, gguf_file: Path) -> None:
    everything(home, gguf_file)
    assert neighbours.locate("ollama/kim/story") == neighbours.locate("Ollama/Kim/Story:latest") is not None
    assert neighbours.locate("owner/name") is None and neighbours.locate("ollama is good") is None
    with pytest.raises(UserError, match=r"no such model of Ollama's on this PC; there are: ollama/gemma2:2b"):
        soban.load("ollama/gemma2:9b")


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ({"tensor": b"x", "json": b"{}"}, "its tensors lie apart"),
        ({"model": b"", "adapter": b"x"}, "it has an adapter"),
        ({"license": b"MIT"}, "not a model of Ollama's: model"),
        ({"model": b"GGML1234"}, "not a whole GGUF file"),
    ],
)
def test_what_is_no_gguf_model_is_refused_by_name(home: Path, layers: dict[str, bytes], words: str) -> None:
    path = ollama(home / ".ollama" / "models", GEMMA, layers)
    with pytest.raises(UserError) as refusal:
        soban.load(path)
    assert words in str(refusal.value) or (words.startswith("not a whole") and "not a model file" in str(refusal.value))


def test_a_blob_that_is_cut_off_and_a_manifest_that_points_elsewhere_are_refused(home: Path, gguf_file: Path) -> None:
    models = home / ".ollama" / "models"
    path = ollama(models, GEMMA, {"model": gguf_file.read_bytes()})
    told = json.loads(path.read_text())
    told["layers"][0]["size"] += 1
    path.write_text(json.dumps(told))
    with pytest.raises(UserError, match="has not fetched all of this model"):
        soban.load("ollama/gemma2:2b")
    told["layers"][0]["digest"] = "sha256:../../../../etc/passwd"
    path.write_text(json.dumps(told))
    with pytest.raises(UserError, match="not a model of Ollama's"):
        soban.load(path)
    assert neighbours.neighbours() == []


def test_the_list_tells_whose_they_are_and_rm_leaves_them_alone(
    home: Path, gguf_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from soban.cli import main

    everything(home, gguf_file)
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("ollama/gemma2:2b" in line and "Ollama's" in line for line in lines)
    assert main(["list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"name": "lmstudio/owner/Two/a", "owner": "LM Studio"}.items() <= next(
        one for one in told if one["name"].endswith("Two/a")
    ).items()
    assert main(["rm", "ollama/gemma2:2b", "--yes"]) != 0
    assert "belongs to another program" in capsys.readouterr().err
    for command in (["show"], ["plan"], ["run", "-q", "--max-new-tokens", "3", "-i", "안녕"]):
        assert main([command[0], "ollama/gemma2:2b", *command[1:]]) == 0
    assert neighbours.locate("ollama/gemma2:2b") is not None
