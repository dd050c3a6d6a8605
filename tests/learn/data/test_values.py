"""JSON in every layout gives its records, and a damaged one costs itself alone, counted."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from soban.learn.data import records, values
from soban.learn.data.reading import Read, Reading, documents
from soban.learn.data.sources import find


def read(path: Path, content: str, **how: Any) -> tuple[list[str], Read]:
    path.write_text(content, encoding="utf-8")
    reads: list[Read] = []
    return list(documents(find([path]).sources, Reading(**how), reads)), reads[0]


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {"text": f'문서 {n}: a "quoted" [one], {{so}}', "id": n, "tags": [{"a": 1}, {"b": [n]}]} for n in range(count)
    ]


def broken(chance: random.Random, row: dict[str, Any]) -> str:
    """A record as a person or a program may have spoilt it."""
    whole = json.dumps(row, ensure_ascii=False)
    return chance.choice([
        whole.replace("문서", "문\\서"),  # a wrong escape
        whole.replace('"id": ', '"id" '),  # a colon, a comma, a quote or a bracket is missing
        whole.replace(', "id"', ' "id"'),
        whole.replace('"text": "', '"text": '),
        whole[:-1],
        whole.replace("[{", "[[{"),
        whole.replace('"id": ', '"id": None, "x": '),
        whole[: len(whole) // 2],
    ])  # fmt: skip


LAYOUTS = {
    "array": lambda some: "[" + ", ".join(some) + "]",
    "array-lines": lambda some: "[\n" + ",\n".join(some) + "\n]\n",
    "row": "\n".join,
    "jsonl": "\n".join,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("piece", [97, 1 << 20])
def test_a_broken_record_costs_itself_alone(
    tmp_path: Path, layout: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "PIECE", piece)
    monkeypatch.setattr(records, "LONGEST", 2000)  # as a file above 16 MB has it
    for seed in range(60):
        chance = random.Random(seed)
        good = rows(40)
        hurt = set(chance.sample(range(40), chance.choice([1, 3])))
        some = [broken(chance, row) if n in hurt else json.dumps(row, ensure_ascii=False) for n, row in enumerate(good)]
        texts, file = read(tmp_path / ("a.jsonl" if layout == "jsonl" else "a.json"), LAYOUTS[layout](some))
        assert [row["text"] for n, row in enumerate(good) if n not in hurt] == [
            text for text in texts if text in {row["text"] for n, row in enumerate(good) if n not in hurt}
        ], seed
        assert file.broken + file.documents + file.empty >= 40, seed
        assert file.broken <= 2 * len(hurt), seed


PANDAS = {
    "columns": lambda some: {name: {str(n): row[name] for n, row in enumerate(some)} for name in some[0]},
    "index": lambda some: {str(n): row for n, row in enumerate(some)},
    "split": lambda some: {
        "columns": list(some[0]), "index": list(range(len(some))), "data": [list(row.values()) for row in some],
    },
    "records": lambda some: some,
    "values": lambda some: [list(row.values()) for row in some],
    "table": lambda some: {
        "schema": {"fields": [{"name": name} for name in some[0]], "primaryKey": ["index"]},
        "data": [{"index": n, **row} for n, row in enumerate(some)],
    },
}  # fmt: skip


@pytest.mark.parametrize("layout", PANDAS)
@pytest.mark.parametrize("count", [1, 2, 60])
def test_every_layout_of_pandas_to_json_is_read(tmp_path: Path, layout: str, count: int) -> None:
    some = [
        {"text": f"문서 {n}, with words enough to be told from a label", "id": n, "title": f"t{n}"}
        for n in range(count)
    ]
    texts, file = read(tmp_path / "a.json", json.dumps(PANDAS[layout](some)))
    assert texts == [row["text"] for row in some] and file.broken == file.empty == 0


def test_a_nested_record_is_no_table(tmp_path: Path) -> None:
    record = {"Meta": {"title": "t", "summary": "짧은 글"}, "Annotation": {"title": "u", "summary": "다른 글"}}
    assert read(tmp_path / "a.json", json.dumps(record), fields=("Meta.summary",))[0] == ["짧은 글"]


def test_lines_may_hold_several_values_marks_nan_and_line_ends(tmp_path: Path) -> None:
    content = '\ufeff{"text": "a", "x": NaN}{"text": "b", "x": -Infinity}\n\n{"text": "c\nd"}\n'.replace("c\n", "c\t")
    texts, file = read(tmp_path / "a.jsonl", content)
    assert texts == ["a", "b", "c\td"] and file.broken == 0
    assert read(tmp_path / "a.json", '[{"text": "a\nb"}]')[0] == ["a\nb"]


def test_a_jsonl_that_is_one_array_or_spread_over_lines_is_read(tmp_path: Path) -> None:
    for content in (json.dumps(rows(9), indent=1), "\n".join(json.dumps(row, indent=2) for row in rows(9))):
        assert read(tmp_path / "a.jsonl", content)[0] == [row["text"] for row in rows(9)]


def test_conversations_in_bare_lists_are_conversations(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "물음"}, {"role": "assistant", "content": "답"}]
    assert read(tmp_path / "a.json", json.dumps([turns] * 3))[0] == ["물음\n답"] * 3


def test_texts_in_an_array_of_which_one_is_damaged(tmp_path: Path) -> None:
    texts, file = read(tmp_path / "a.json", '["one", "t\\xo", None, "three", \'four\', "five"]')
    assert (texts, file.broken) == (["one", "three", "five"], 3)
