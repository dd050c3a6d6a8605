"""`soban plan`: from headers alone, by the hub or from disk; what fits, and what to take instead."""

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest

import soban
from soban.base import system
from soban.base.errors import UserError
from soban.cli import main
from soban.cli.terminal import plan_table
from soban.hub import catalogue
from soban.hub.choosing import RemoteFile
from soban.hub.names import Repository
from soban.measure import forecast, headers, plan
from soban.measure.forecast import Rates
from soban.measure.plan import PlanOptions
from soban.models import architecture
from soban.ops import native
from soban.packing.fitting import fitted
from soban.resources import memory
from soban.weights.opening import open_checkpoint
from soban.weights.safetensors import write_safetensors
from tests.hub import stub
from tests.resources.test_memory import GEMMA_2B, imagined
from tests.tiny import make_model


class Hub:
    """A folder as a repository: what was read of it is noted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.read_parts: list[tuple[str, int, int]] = []

    def files(self) -> list[RemoteFile]:
        return [RemoteFile(path.name, path.stat().st_size, "0" * 40) for path in self.folder.iterdir()]

    def read(self, name: str, start: int, stop: int) -> bytes:
        self.read_parts.append((name, start, stop))
        return (self.folder / name).read_bytes()[start:stop]

    def outline(self) -> headers.Outline:
        return headers.remote_outline(Repository("owner/name"), self.files(), self.read)


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for measuring: 4 bits are the quickest."""
    speeds = {"f32": 2.0, "bf16": 5.0, "q8": 8.0, "q4": 13.0}
    monkeypatch.setattr(
        forecast, "rates", lambda made, checkpoint, kind, users, cache: Rates(10 * speeds[kind], speeds[kind])
    )


def planned(monkeypatch: pytest.MonkeyPatch, free: float, *words: str, **options: Any) -> dict[str, Any]:
    """The plan for Gemma 2 2B, of which there are only headers, on a PC with so much memory free."""
    _, checkpoint = imagined(GEMMA_2B)
    found = headers.Outline("gemma2:2b", checkpoint, Repository("google/gemma-2-2b-it"), 5_260_000_000)
    monkeypatch.setattr(plan, "outline", lambda name: found)
    monkeypatch.setattr(system, "available_memory", lambda: int(free))
    return plan.plan(PlanOptions(words=("gemma2:2b", *words), **options), lambda text: None)


def test_of_a_remote_model_only_the_headers_are_read(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", hidden_size=512)
    hub = Hub(folder)
    there, here = hub.outline(), open_checkpoint(folder)
    assert there.checkpoint.config == here.config
    shapes = {name: (tensor.format, tensor.shape) for name, tensor in here.tensors.items()}
    assert {name: (t.format, t.shape) for name, t in there.checkpoint.tensors.items()} == shapes
    weights = [part for part in hub.read_parts if part[0].endswith(".safetensors")]
    length = int.from_bytes((folder / "model.safetensors").read_bytes()[:8], "little")
    assert sorted(weights) == [("model.safetensors", 0, 8), ("model.safetensors", 8, 8 + length)]
    assert there.download == sum(path.stat().st_size for path in folder.iterdir())


def test_shards_are_read_by_their_index(tmp_path: Path) -> None:
    whole = make_model(tmp_path / "whole")
    checkpoint = open_checkpoint(whole)
    folder = tmp_path / "shards"
    folder.mkdir()
    names = list(checkpoint.tensors)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        weight_map |= dict.fromkeys(part, file)
        write_safetensors(
            folder / file, [(n, "F32", checkpoint.tensors[n].shape) for n in part],
            lambda name: [checkpoint.tensors[name].data],
        )  # fmt: skip
    for file in ("config.json", "tokenizer.json"):
        (folder / file).write_bytes((whole / file).read_bytes())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    found = Hub(folder).outline().checkpoint.tensors
    assert {name: t.shape for name, t in found.items()} == {name: t.shape for name, t in checkpoint.tensors.items()}


def test_a_remote_head_of_its_own_counts_and_a_copy_does_not(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    values = {name: tensor.float32() for name, tensor in open_checkpoint(folder).tensors.items()}
    for factor, tied in ((1, True), (2, False)):
        values["lm_head.weight"] = factor * values["model.embed_tokens.weight"]
        (folder / "model.safetensors").unlink()
        entries = [(name, "F32", value.shape) for name, value in values.items()]
        write_safetensors(folder / "model.safetensors", entries, lambda name: [values[name].tobytes()])
        found = open_checkpoint(folder), Hub(folder).outline().checkpoint
        here, there = (fitted(architecture(checkpoint.config), checkpoint) for checkpoint in found)
        assert here.architecture.config.tie_word_embeddings == there.architecture.config.tie_word_embeddings == tied
        assert memory.stored_weights(here.architecture, here.checkpoint, "q8") == memory.stored_weights(
            there.architecture, there.checkpoint, "q8"
        )


def test_a_hub_that_sends_less_than_it_was_asked_for_is_told_in_one_line(tmp_path: Path) -> None:
    hub = Hub(make_model(tmp_path / "model"))
    with pytest.raises(UserError, match="bytes came where") as caught:
        headers.remote_outline(Repository("owner/name"), hub.files(), lambda name, start, stop: b"")
    assert "\n" not in str(caught.value)


def test_a_repository_without_config_or_weights_is_refused_by_name(tmp_path: Path) -> None:
    for missing, said in (("config.json", "no config.json"), ("model.safetensors", "no weights")):
        folder = make_model(tmp_path / missing)
        (folder / missing).unlink()
        with pytest.raises(UserError, match=said):
            Hub(folder).outline()


def test_gemma_2_2b_by_its_headers(monkeypatch: pytest.MonkeyPatch, rates: None) -> None:
    found = planned(monkeypatch, 16e9, speed=100.0)
    assert found["parameters"] == 2_614_341_888
    # the rule of thumb as people tell it, "8 GB in float32 and 4 in 16 bits", is for 2.0 billion
    assert [round(size / 1e9, 1) for size in found["rule_of_thumb"].values()] == [5.2, 10.5]
    assert found["cache_token_bytes"]["bf16"] == 104 * 1024
    assert found["disk"]["download_seconds"] == pytest.approx(5_260_000_000 * 8 / 100e6)
    assert {form["dtype"]: form["verdict"] for form in found["forms"]} == dict.fromkeys(
        ("f32", "bf16", "q8", "q4"), "fits"
    )
    assert found["advice"]["take"] == "q4"
    q4 = found["forms"][3]
    assert q4["users_that_fit"] == (16_000_000_000 - q4["total"] + q4["cache"]) // q4["cache"]


def test_what_does_not_fit_is_said_with_what_would(monkeypatch: pytest.MonkeyPatch, rates: None) -> None:
    found = planned(monkeypatch, 4e9)
    assert [form["verdict"] for form in found["forms"]] == ["slow", "slow", "fits", "fits"]
    found = planned(monkeypatch, 2.5e9)
    assert found["advice"]["take"] is None
    assert found["advice"]["instead"][0]["flags"] == "--dtype q4 --cache-dtype int8"
    shown = plan_table.text(found)
    assert "no form fits" in shown and "--dtype q4 --cache-dtype int8" in shown
    assert {form["verdict"] for form in planned(monkeypatch, 0.5e9)["forms"]} == {"no"}


def test_several_users_share_the_weights_and_have_a_cache_each(monkeypatch: pytest.MonkeyPatch, rates: None) -> None:
    one, four = (planned(monkeypatch, 64e9, *words)["forms"][3] for words in ((), ("serve",)))
    assert four["weights"] == one["weights"] and four["cache"] == 4 * one["cache"]


def test_learning_takes_sixteen_bytes_a_weight_and_what_a_step_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    found = planned(monkeypatch, 64e9, "train")["training"]
    (way,) = found["ways"]
    assert way["weights"] + way["gradients"] + way["optimiser"] == 16 * 2_614_341_888
    tune = planned(monkeypatch, 64e9, "tune")["training"]
    # by hand, a layer's in + out: q and o 4352 each, k and v 3328 each, gate, up and down 11520 each
    assert tune["adapter_parameters"] == 26 * 16 * (2 * 4352 + 2 * 3328 + 3 * 11520)
    assert not tune["possible"] and [way["dtype"] for way in tune["ways"]] == ["f32", "bf16", "q8", "q4"]


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("words", [(), ("serve",), ("train",), ("tune",)])
@pytest.mark.parametrize("free", [16e9, 4e9, 2.5e9])
def test_the_table_fits_80_columns(
    monkeypatch: pytest.MonkeyPatch, rates: None, language: str, words: tuple[str, ...], free: float
) -> None:
    monkeypatch.setenv("SOBAN_LANG", language)
    for line in plan_table.text(planned(monkeypatch, free, *words)).splitlines():
        assert sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line) < 80, line


def test_a_family_without_an_engine_says_so_and_how_large_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | {"model_type": "mamba"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert main(["plan", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "model_type mamba is not implemented" in shown and "q4" in shown
    assert main(["plan", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "mamba" in found["obstacle"] and found["forms"][0]["weights"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--context", "1"], "2 to 128"), (["--users", "0"], "--users 0"), (["--speed", "-1"], "--speed"),
        (["--cache-dtype", "q2"], "cache_dtype=q2"), (["fly"], "fly"),
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["plan", str(make_model(tmp_path / "model")), *arguments]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


@pytest.mark.skipif(native.library() is None, reason="needs the native library")
def test_the_speed_of_a_slice_is_measured_once_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path / "cache"))
    checkpoint = open_checkpoint(make_model(tmp_path / "model"))
    made = architecture(checkpoint.config)
    monkeypatch.setattr(forecast, "BUSY", 0.0)
    first = forecast.rates(made, checkpoint, "q8", 1, "bf16")
    assert first and first.prefill > 0 and first.decode > 0
    assert forecast.rates(made, checkpoint, "q8", 1, "bf16") == first
    path = tmp_path / "cache" / forecast.MEMORY
    path.write_text(path.read_text(encoding="utf-8").replace('"decode": ', '"decode": -'), encoding="utf-8")
    again = forecast.rates(made, checkpoint, "q8", 1, "bf16")
    assert again and again.decode > 0


@pytest.mark.skipif(native.library() is None, reason="needs the native library")
def test_what_was_measured_while_the_cores_had_other_work_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(forecast, "BUSY", 2.0)  # more than there is
    monkeypatch.setattr(forecast, "SHORT", 0.0)
    checkpoint = open_checkpoint(make_model(tmp_path / "model"))
    found = forecast.rates(architecture(checkpoint.config), checkpoint, "q8", 1, "bf16")
    assert found and found.busy and not (tmp_path / "cache" / forecast.MEMORY).exists()


def test_a_slice_is_so_many_layers_of_the_model() -> None:
    made, checkpoint = imagined(GEMMA_2B)
    for kind, most in (("f32", 3), ("q8", 6), ("q4", 8)):
        layers, part = forecast.slice_of(made, checkpoint, kind)
        assert 1 <= layers <= most and part.config.num_hidden_layers == layers
        share = memory.stored_weights(made, checkpoint, kind) * layers / 26
        held = sum(p.data.nbytes for layer in memory.hollow(part, checkpoint, kind).layers for p in layer.down.parts)
        assert 0.9 * forecast.SLICE < share < 2 * forecast.SLICE and held < share


def test_without_a_model_the_bundled_one_is_planned(capsys: pytest.CaptureFixture[str], rates: None) -> None:
    assert main(["plan", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] == 4_590_848 and [form["dtype"] for form in found["forms"]] == ["q8"]
    assert soban.__version__ == found["soban"]


def test_a_model_of_the_hub_is_planned_by_its_headers_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rates: None
) -> None:
    folder = make_model(tmp_path / "model", hidden_size=512)
    files: dict[str, bytes | Path] = {path.name: path.read_bytes() for path in folder.iterdir()}
    with stub.Hub() as hub:
        hub.models["owner/name"] = stub.Model(files)
        for name, value in hub.environment(tmp_path / "home").items():
            monkeypatch.setenv(name, value)
        assert main(["plan", "owner/name", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        header = 8 + int.from_bytes(bytes(files["model.safetensors"])[:8], "little")  # type: ignore[arg-type]
        assert hub.sent("model.safetensors") == header
        assert hub.sent() == header + len(bytes(files["config.json"]))  # type: ignore[arg-type]
    assert found["repository"] == "owner/name" and found["disk"]["download"] == sum(map(len, files.values()))  # type: ignore[arg-type]
    assert not (tmp_path / "home" / "hub").exists()


def test_a_model_whose_files_cannot_be_asked_is_planned_by_the_catalogue(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["plan", "gemma2:2b"]) == 0
    shown = capsys.readouterr().out
    assert "Only roughly" in shown and "HF_HUB_OFFLINE" in shown and max(map(len, shown.splitlines())) < 80
    assert main(["plan", "gemma2:2b", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    true = memory.stored_weights(*imagined(GEMMA_2B), "q4")
    assert found["parameters"] == 2_614_341_888 and found["forms"][3]["weights"] == pytest.approx(true, rel=0.02)
    stored = memory.stored_weights(*imagined(GEMMA_2B), "f32")  # bfloat16, and norms in float32
    assert found["forms"][0]["weights"] == pytest.approx(stored, rel=0.001)
    assert main(["plan", "stories:15m", "--json"]) == 0  # llama2.c's files hold four
    found = json.loads(capsys.readouterr().out)
    assert found["forms"][0]["weights"] == found["disk"]["download"] == 4 * found["parameters"]
    assert main(["plan", "nobody/nothing"]) == 2  # of which the catalogue knows nothing
    assert capsys.readouterr().err.count("\n") == 1


def test_training_without_a_network_has_the_table_of_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    count = 2_614_341_888
    for purpose, way in (("train", "float32"), ("tune", "LoRA, q4")):
        assert main(["plan", "gemma2:2b", purpose]) == 0
        shown = capsys.readouterr().out
        assert "gradients" in shown and f"\n{way} " in shown and "Only roughly" in shown
        assert "write/s" not in shown and "\nq8 " not in shown and max(map(len, shown.splitlines())) < 80
        assert main(["plan", "gemma2:2b", purpose, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["forms"] == [] and found["training"]["tokens_in_a_step"] == 512
        for one in found["training"]["ways"]:
            assert one["activations"] is None and one["total"] is None and one["fits"] in (None, False)
            assert one["least"] == sum(one[part] or 0 for part in ("weights", "gradients", "optimiser", "program"))
    assert main(["plan", "gemma2:2b", "train", "--json"]) == 0
    (way,) = json.loads(capsys.readouterr().out)["training"]["ways"]
    assert (way["weights"], way["gradients"], way["optimiser"]) == (4 * count, 4 * count, 8 * count)


def test_a_model_without_an_engine_is_not_said_to_fit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    without = [entry for entry in catalogue.entries() if entry.parameters and plan.obstacle(entry)]
    assert {"t5:small", "t5:base"} <= {entry.name for entry in without}
    for entry in without:
        for purpose in ("run", "train"):
            assert main(["plan", entry.name, purpose]) == 0
            shown = capsys.readouterr().out
            assert "soban cannot run this model: " in shown and not re.search(r" fits$", shown, re.MULTILINE)
    assert main(["plan", "t5:small", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["obstacle"] == "it has no engine for t5 models yet"


def test_flags_are_checked_without_a_network_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for words, said in (
        (("--users", "0"), "--users 0"), (("--context", "-3"), "context=-3"), (("--context", "9000"), "2 to 8192"),
        (("--speed", "0"), "--speed 0"), (("--cache-dtype", "f8"), "cache_dtype=f8"),
    ):  # fmt: skip
        assert main(["plan", "gemma2:2b", *words]) == 2
        told = capsys.readouterr()
        assert told.out == "" and told.err.count("\n") == 1 and said in told.err
