"""Reports: the same figures in every format, several PCs side by side, strangers' files read with care."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from soban.base.errors import UserError
from soban.measure import report


def example(**changes: Any) -> dict[str, Any]:
    rate = {"median": 12.0, "low": 11.0, "high": 13.0, "times": 5, "share": 0.5}
    made = {
        "soban": "1.0", "when": "2026-01-01", "pc": {"cpu": "Z80", "cores": 1, "memory": 65536, "system": "CP/M"},
        "threads": 1, "isa": "scalar", "limits": {"bandwidth": 2e9, "multiply_adds": {"avx2": 3e9}}, "model": "m",
        "dtype": "q4", "cache": "bf16", "load_seconds": 1.5, "first_token_seconds": 2.5, "characters_per_second": 30.0,
        "weights": 10, "weight_bytes": 1_500_000_000, "body_bits": 4.5, "head_bits": 8.25,
        "prefill": {"tokens": 512, **rate}, "decode": [{"context": 32, **rate}, {"context": 4000, **rate}],
        "answer_seconds": 16.0, "memory": {"anonymous": 5e6, "mapped": 2e9},
    }  # fmt: skip
    return {**made, **changes}


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_LANG", "en")


def test_markdown_is_a_table_with_a_column_for_each_pc() -> None:
    lines = report.write([example(), example(model="a|b")], "markdown").splitlines()
    assert lines[0] == "| PC | Z80 | Z80 |" and lines[1] == "|---|---|---|"
    assert "| model, weights, cache | m, q4, bf16 | a\\|b, q4, bf16 |" in lines
    assert (
        "| writing after 32 tokens | "
        + " | ".join(["12.0 tokens/s (11.0 - 13.0, 5x), 50% of the bandwidth"] * 2)
        + " |"
        in lines
    )


def test_where_the_time_goes_is_a_line_below_the_rate_where_it_was_counted() -> None:
    parts = {"products": 0.7, "attention": 0.2, "rest": 0.1}
    rate = {"median": 12.0, "low": 11.0, "high": 13.0, "times": 5, "share": 0.5}
    counted = example(decode=[{"context": 32, **rate, "parts": parts}, {"context": 4000, **rate, "parts": None}])
    names = [name for name, _ in report.rows(counted)]
    assert names[names.index("writing after 32 tokens") + 1] == "time of writing after 32"
    assert "time of writing after 4000" not in names and "time of reading" not in names
    assert dict(report.rows(counted))["time of writing after 32"] == (
        "products 70%, attention 20%, norms and all else 10%"
    )


def test_csv_has_a_line_for_each_pc_and_plain_numbers() -> None:
    lines = list(csv.DictReader(io.StringIO(report.write([example(), example(dtype="q8, new")], "csv"))))
    assert [line["dtype"] for line in lines] == ["q4", "q8, new"]
    assert float(lines[0]["decode_per_second"]) == 12 and float(lines[0]["bandwidth"]) == 2e9


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    for reports in ([example()], [example(), example(model="다른 것")]):
        path = tmp_path / "made.json"
        path.write_text(report.write(reports, "json"), encoding="utf-8")
        assert report.read(str(path)) == reports


def test_columns_line_up_in_korean_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOBAN_LANG", "ko")
    lines = report.write([example()], "text").splitlines()
    places = {
        report.width(line[: line.index(value)])
        for line in lines
        for value in ("Z80", "CP/M", "1.50 s")
        if value in line
    }
    assert len(places) == 1


def test_what_a_terminal_would_obey_is_left_out() -> None:
    assert "\x1b" not in report.write([example(pc={**example()["pc"], "cpu": "\x1b[2JZ80\n"})], "text")


def test_without_limits_and_memory_the_rest_stands() -> None:
    text = report.write([example(limits=None, memory=None, characters_per_second=None)], "text")
    assert "12.0 tokens/s" in text and "bandwidth measured" not in text
    assert report.write([example(limits=None, memory=None)], "csv").count("\n") == 2


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", "3", '"x"', "[[]]", "[" * 100_000, json.dumps(example(pc=3)), json.dumps(example(decode=[]))],
)
def test_other_files_are_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"other\.json holds no results of soban bench"):
        report.read(str(path))
