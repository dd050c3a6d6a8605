"""`soban show` as a user sees it: tables of 80 columns, everything as JSON, an exit code for scripts."""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest

from soban.cli import main
from soban.cli.show import as_text, tensor_table
from soban.cli.terminal.table import width
from soban.measure.inspect import inspect_model
from soban.models import architecture
from soban.weights.safetensors import write_safetensors

from .. import tiny
from .conftest import Command

CHAT = {"eos_token_id": 1, "bos_token_id": 2}  # the end of turn is missing


def write(folder: Path, name: str, value: Any) -> None:
    (folder / name).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A chat model at a path with Hangul, with one thing amiss."""
    made = tiny.make_model(tmp_path / "작은 모델", chat=True)
    write(made, "generation_config.json", CHAT)
    return made


def test_it_shows_a_model_and_what_is_amiss(soban: Command, folder: Path) -> None:
    done = soban("show", folder)
    told = done.stdout.decode()
    assert done.returncode == 0 and done.stderr == b"" and told.startswith("작은 모델\n")
    for part in (
        "gemma2", "2 of width 64, 128 inside", "4 heads of 16, 2 for keys and values", "128, 16 in the windowed layers",
        "<bos> (2) before a text, nothing after it", "Gemma (tokenizer_config.json)", "user, assistant",
        "refused; soban puts it into the first user turn", "f32: as stored", "<eos> (1) <end_of_turn> (5)",
        "warnings: 1, notes: 2", "! generation_config.json: the chat template ends a turn with",
    ):  # fmt: skip
        assert part in told, part
    assert "offset" not in told


def test_json_holds_everything(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    parts = "name path model files licence catalogue tokenizer template run findings tensors"
    assert set(told) == set(parts.split()) and told["catalogue"] is None
    assert [finding["code"] for finding in told["findings"]] == ["end-of-turn-missing", "bos-twice", "system-refused"]
    assert set(told["findings"][0]) == {"code", "level", "file", "value", "problem", "remedy"}
    assert told["findings"][0]["value"] == 5 and len(told["tensors"]) == 25
    assert told["tensors"][-1]["shared"] == "model.embed_tokens.weight"
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert told["files"]["bytes"] == size and told["template"]["example"].startswith("<bos><start_of_turn>user\n")


def test_strict_fails_for_warnings_and_not_for_notes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(folder), "--strict"]) == 1
    write(folder, "generation_config.json", CHAT | {"eos_token_id": [1, 5]})
    assert main(["show", str(folder), "--strict"]) == 0
    assert "warnings: 0, notes: 2" in capsys.readouterr().out


def test_every_tensor_stands_in_the_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(folder), "--tensors"]) == 0
    table = capsys.readouterr().out.split("tensor  ")[1].splitlines()[1:]
    told = {one["name"]: one for one in inspect_model(folder)["tensors"]}
    group, found = "", []
    for line in table:
        cells = line.split()
        if len(cells) == 1:
            group = line + "."
        elif cells[0] != "=":
            name = (group if line.startswith("  ") else "") + cells[0]
            one = told[name]
            assert (cells[-3], int(cells[-2]), int(cells[-1])) == (one["format"], one["offset"], one["bytes"])
            found.append(name)
    assert found == list(told) and table[-1].strip() == "= model.embed_tokens.weight"


def test_nothing_is_wider_than_80_columns_and_hangul_stands_straight(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for language in ("en", "ko"):
        monkeypatch.setenv("SOBAN_LANG", language)
        lines = as_text(inspect_model(folder), tensors=False)
        assert max(map(width, lines)) <= 80
        starts = {
            width(line[: len(line) - len(rest)])
            for line in lines
            if line.startswith("  ") and line[2:3].strip() not in ("", "-", "!", "→")
            and (rest := line[2:].partition("  ")[2].lstrip())
        }  # fmt: skip
        assert len(starts) == 1, language


def test_a_large_model_s_table_fits_into_80_columns() -> None:
    big = {"format": "bf16", "offset": 4988046272, "bytes": 1179648000, "file": "model.safetensors", "shared": ""}
    names = {"model.layers.25.post_feedforward_layernorm.weight": [2304], "model.embed_tokens.weight": [256000, 2304]}
    lines = tensor_table([{**big, "name": name, "shape": shape} for name, shape in names.items()])
    assert max(map(len, lines)) <= 80 and len({line.index("bf16") for line in lines if "bf16" in line}) == 1


def test_a_model_of_the_hub_is_shown_by_its_name_and_one_that_is_not_fetched_by_its_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert main(["show", "gemma2:2b"]) == 0
    told = capsys.readouterr().out
    assert "google/gemma-2-2b-it [1]" in told and "soban pull gemma2:2b" in told and "  [1] https://" in told
    assert main(["show", "gemma2:2b", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["fetched"] is False and facts["repository"] == "google/gemma-2-2b-it"
    assert facts["sources"]["parameters"]["url"].startswith("https://") and facts["sources"]["parameters"]["read"]
    assert main(["show", "owner/name"]) == 2 and "soban plan owner/name" in capsys.readouterr().err
    repository, commit = tmp_path / "models--google--gemma-2-2b-it", "0" * 40
    tiny.make_model(repository / "snapshots" / commit, chat=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    for word in ("gemma2:2b", "google/gemma-2-2b-it", str(repository / "snapshots" / commit)):
        assert main(["show", word]) == 0
        told = capsys.readouterr().out
        assert told.startswith(("gemma2:2b\n", "google/gemma-2-2b-it\n")) and "2 of width 64" in told
        assert "under conditions" in told and "https://" in told
    assert main(["show", "gemma2:2b", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["catalogue"]["fetched"] and facts["catalogue"]["name"] == "gemma2:2b" and facts["tensors"]


def test_the_bundled_model_is_shown_without_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("the bundled model\n") and "warnings: 0" in told and "q8" in told


@pytest.mark.parametrize(("continues", "told"), [(True, "is the beginning of a text"), (False, "is answered")])
def test_what_a_prompt_is_to_the_model_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], continues: bool, told: str
) -> None:
    model = tiny.make_model(tmp_path, chat=True)
    write(model, "generation_config.json", CHAT | {"continue_prompt": continues})
    assert main(["show", str(model)]) == 0
    (line,) = (line for line in capsys.readouterr().out.split("\n") if line.strip().startswith("a prompt"))
    assert told in line


def test_a_llama2_c_model_is_shown_with_run_c_s_names(llama2c_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(llama2c_model), "--tensors"]) == 0
    told = capsys.readouterr().out
    names = [line.split()[0] for line in told.split("tensor  ")[1].splitlines()[1:]]
    assert names == [
        "token_embedding_table", "rms_att_weight", "wq", "wk", "wv", "wo", "rms_ffn_weight", "w1", "w2", "w3",
        "rms_final_weight", "freq_cis_real", "freq_cis_imag", "wcls",
    ]  # fmt: skip


def test_looking_writes_nothing(soban: Command, folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    before = sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir())
    assert soban("show", folder, "--tensors", SOBAN_CACHE=str(cache), SOBAN_OPS="native").returncode == 0
    assert before == sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir())
    assert not list(cache.rglob("*.safetensors"))


def test_a_strangers_text_moves_no_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.safetensors"
    write_safetensors(path, [("a\x1b[2Jb\n", "U8", (1,))], lambda name: [b"x"])
    assert main(["show", str(path), "--tensors"]) == 0
    assert "no model by itself" in (told := capsys.readouterr().out) and "what run would do" not in told
    assert "\x1b" not in told
    folder = tiny.make_model(tmp_path / "model")
    settings = {
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "chat_template": "{{ bos_token }}\x1b[31m{{ messages[0].content }}",
    }
    write(folder, "tokenizer_config.json", settings)
    (folder / "README.md").write_text("---\nlicense: \x1b[5mevil\n---\n", encoding="utf-8")
    write(folder, "generation_config.json", {"eos_token_id": 1, "stop_strings": ["<|\x1b[2J|>"]})
    assert main(["show", str(folder)]) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "wanted"),
    [(["nowhere"], "nowhere"), (["a", "b"], "too much: b"), (["{folder}/config.json"], "not a model file")],
)
def test_what_is_wrong_is_said_in_one_line(soban: Command, folder: Path, words: list[str], wanted: str) -> None:
    done = soban("show", *(word.format(folder=folder) for word in words))
    assert done.returncode == 2 and done.stdout == b""
    assert wanted in done.stderr.decode() and done.stderr.count(b"\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="needs sparse files")
def test_a_model_of_gigabytes_answers_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sparse file stands for the weights: whoever reads them all needs seconds."""
    folder = tiny.make_model(tmp_path / "model")
    config = tiny.CONFIG | {"intermediate_size": 2**23, "num_hidden_layers": 4}
    write(folder, "config.json", config)
    header, end = {}, 0
    for name, shape in architecture(config).plan.shapes().items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    start = time.process_time()
    assert main(["show", str(folder)]) == 0
    seconds, told = time.process_time() - start, capsys.readouterr().out
    print(f"soban show, {end / 1e9:.1f} GB: {seconds:.2f} s of processor time")
    assert end > 1e10 and seconds < 3 and f"{end // 2:,}" in told
