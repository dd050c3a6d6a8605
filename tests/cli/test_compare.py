"""soban compare as a user sees it: a table, a page to judge by, adapters, one line for what is wrong."""

import json
import re
import shutil
from pathlib import Path

import pytest

from ..packing.test_adapters import adapted
from .conftest import Command, text

ROWS = [{"prompt": "안녕?", "completion": "반가워요"}, {"prompt": "a </script> b", "completion": "<b>c</b>"}]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "질문.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS), encoding="utf-8")
    return path


def test_models_stand_side_by_side(soban: Command, chat_model: Path, data: Path, tmp_path: Path) -> None:
    other = shutil.copytree(chat_model, tmp_path / "other")
    lines = text(soban("compare", chat_model, other, "--data", data, "--max-new-tokens", "4")).splitlines()
    assert lines[0].split() == [
        "model",
        "perplexity",
        "bits/byte",
        "the",
        "same",
        "chrF",
        "ROUGE-L",
        "length",
        "tokens/s",
    ]
    figures = [line.split()[-9:-1] for line in lines[1:3]]
    assert figures[0] == figures[1] and len(figures[0]) == 8
    assert any("chrF +0.0 ± 0.0" in line for line in lines)


def test_json_has_every_answer(soban: Command, chat_model: Path, data: Path) -> None:
    found = json.loads(text(soban("compare", chat_model, "--data", data, "--json", "--max-new-tokens", "5")))
    (model,) = found["models"]
    assert [one["wanted"] for one in found["examples"]] == [row["completion"] for row in ROWS]
    assert len(model["answers"]) == 2 and all(one["tokens"] <= 5 for one in model["answers"])
    assert model["perplexity"]["mean"] > 1 and set(model["answers"][0]["scores"]) >= {"exact", "chrf", "rouge_l"}


def test_the_page_has_the_answers_and_no_markup_of_theirs(
    soban: Command, chat_model: Path, data: Path, tmp_path: Path
) -> None:
    page = tmp_path / "답.html"
    text(soban("compare", chat_model, "--data", data, "--html", page, "--max-new-tokens", "3"))
    content = page.read_text(encoding="utf-8")
    (found,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', content, re.DOTALL)
    told = json.loads(found)
    assert [one["question"] for one in told["examples"]] == [row["prompt"] for row in ROWS]
    assert told["examples"][1]["wanted"] == "<b>c</b>" and "<b>c" not in content
    assert len(told["rows"]) == 1 and content.count("<script") == 2


def test_an_adapter_is_the_first_model_with_it(soban: Command, chat_model: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    chat_model = shutil.copytree(chat_model, tmp_path / "model")
    adapted(chat_model, "llama")
    adapter = chat_model / "adapter"
    words = ("--data", data, "--json", "--max-new-tokens", "3")
    one = json.loads(text(soban("compare", chat_model, adapter, *words)))["models"]
    other = json.loads(text(soban("compare", chat_model, f"{chat_model}+{adapter}", *words)))["models"]
    assert one[1]["perplexity"] == other[1]["perplexity"] != one[0]["perplexity"] == other[0]["perplexity"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "no questions"), (["--data", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--data", "{data}", "--limit", "0"], "--limit 0"), (["{model}", "{model}", "--data", "{data}"], "twice"),
        (["--data", "{data}", "--html", "no/a.html"], "no such folder"),
        (["{model}", "no-such-model-9", "--data", "{data}"], "no-such-model-9"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(
    soban: Command, chat_model: Path, data: Path, words: list[str], expected: str
) -> None:
    done = soban("compare", *(word.format(data=data, model=chat_model) for word in words), HF_HUB_OFFLINE="1")
    told = done.stderr.decode().strip().splitlines()
    assert done.returncode == 2 and len(told) == 1 and expected in told[0], told
