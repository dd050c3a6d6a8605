"""Files of every kind give the records that the standard library's own writers put there."""

import csv
import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from soban.base.errors import UserError
from soban.learn.data import decoding, records, values
from soban.learn.data.reading import Read, Reading, documents
from soban.learn.data.sources import find

TEXTS = ["옛날 옛적에, 토끼가 살았다.", 'He said "hi",\nand left.', "A third one; with\ttabs"]


def read(*paths: Path, **how: Any) -> tuple[list[str], list[Read]]:
    reads: list[Read] = []
    return list(documents(find(list(paths)).sources, Reading(**how), reads)), reads


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-bom", "utf-16-be-bom", "cp949"])
def test_the_encodings_that_koreans_meet_are_told_apart(tmp_path: Path, encoding: str) -> None:
    content = "옛날 옛적에\r\n토끼가\r\n\r\n뷁을 보았다.\r\n"
    if encoding.endswith("-bom"):
        data = ("\ufeff" + content).encode(encoding.removesuffix("-bom"))
    else:
        data = content.encode(encoding)
    (tmp_path / "a.txt").write_bytes(data)
    assert read(tmp_path)[0] == ["옛날 옛적에\n토끼가", "뷁을 보았다."]


def test_each_file_of_a_folder_has_its_own_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("가나다라".encode("cp949"))
    (tmp_path / "b.txt").write_bytes("가나다라".encode())
    texts, reads = read(tmp_path)
    assert texts == ["가나다라"] * 2 and [one.encoding for one in reads] == ["cp949", "utf-8"]


def test_an_encoding_is_judged_by_the_whole_file_and_a_character_may_lie_across_two_pieces(tmp_path: Path) -> None:
    # Korean in cp949 only after two megabytes of ASCII; in UTF-8 with a syllable over the border of the pieces
    ascii_ = "word " * (2 * decoding.PIECE // 5)
    (tmp_path / "a.txt").write_bytes((ascii_ + "끝").encode("cp949"))
    (tmp_path / "b.txt").write_bytes(("x" * (decoding.PIECE - 1) + "끝").encode())
    texts, _ = read(tmp_path)
    encodings = [decoding.detect(source) for source in find([tmp_path]).sources]
    assert [(one.name, one.damage) for one in encodings] == [("cp949", 0), ("utf-8", 0)]
    assert [text[-1] for text in texts] == ["끝", "끝"]


def test_a_text_with_a_few_damaged_bytes_is_read_and_a_binary_file_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.txt").write_bytes("가나다 라마바\n\n".encode() * 500 + b"\xff\xff rest")
    (tmp_path / "b.txt").write_bytes(bytes(range(256)) * 10)
    texts, reads = read(tmp_path)
    assert texts[-1] == "\ufffd\ufffd rest" and len(texts) == 501
    assert "not text" in reads[1].problem
    with pytest.raises(UserError, match=r"b\.txt: not text in UTF-8, UTF-16, cp949"):
        read(tmp_path / "b.txt")


def test_a_text_with_a_mark_and_a_damaged_byte_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + "가나다 라마바\n\n".encode() * 500 + b"\xff rest")
    texts, (file,) = read(tmp_path / "a.txt")
    assert (texts[0], texts[-1], file.encoding) == ("가나다 라마바", "\ufffd rest", "utf-8-sig")


def test_end_of_text_parts_documents_where_a_file_has_it_and_blank_lines_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\nstill one<|endoftext|>\ntwo\n<|endoftext|>\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("one\n \ntwo\nlines\n", encoding="utf-8")
    assert read(tmp_path)[0] == ["one\n\nstill one", "two", "one", "two\nlines"]
    assert read(tmp_path / "b.txt", parting="line")[0] == ["one", "two", "lines"]
    assert read(tmp_path / "b.txt", parting="file")[0] == ["one\n \ntwo\nlines"]


def as_json(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, ensure_ascii=False, indent=1)


def as_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def as_table(rows: list[dict[str, Any]], delimiter: str = ",") -> str:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


WRITERS = {
    "a.json": as_json,
    "b.json": as_lines,  # as many are named
    "c.json": lambda rows: json.dumps({"version": "1", "data": rows, "few": [{"x": 1}]}),
    "d.jsonl": as_lines,
    "e.csv": as_table,
    "f.csv": lambda rows: as_table(rows, ";"),
    "g.tsv": lambda rows: as_table(rows, "\t"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_records_come_back_whatever_wrote_them(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"id": str(number), "text": text} for number, text in enumerate(TEXTS * 50)]
    (tmp_path / name).write_text(WRITERS[name](rows), encoding="utf-8", newline="")
    monkeypatch.setattr(values, "PIECE", 37)  # so that every record lies across pieces
    texts, reads = read(tmp_path)
    assert texts == TEXTS * 50 and reads[0].fields == "text" and reads[0].broken == 0


def test_parquet_is_read_also_out_of_a_zip(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table({"content": TEXTS}), tmp_path / "a.parquet")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.write(tmp_path / "a.parquet", "inner/a.parquet")
    assert read(tmp_path)[0] == TEXTS * 2
    (tmp_path / "c.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(UserError, match=r"c\.parquet: damaged"):
        read(tmp_path / "c.parquet")


def test_without_pyarrow_parquet_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r'needs pyarrow.*pip install "soban\[parquet\]"'):
        read(tmp_path)


@pytest.mark.parametrize(
    ("row", "fields", "text"),
    [
        ({"story": "S", "instruction": {"words": ["a"]}, "summary": "y"}, "story", "S"),
        ({"instruction": "I", "input": "", "output": "O"}, "instruction + input + output", "I\nO"),
        ({"prompt": "P", "completion": "C"}, "prompt + completion", "P\nC"),
        ({"Q": "물음", "A": "답", "label": "0"}, "Q + A", "물음\n답"),
        ({"질문": "물음", "답변": "답"}, "질문 + 답변", "물음\n답"),
        ({"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]}, "messages", "u\na"),
        ({"messages": [{"content": [{"type": "text", "text": "u"}]}]}, "messages", "u"),
        ({"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]}, "conversations", "u\na"),
        ({"id": 7, "utterance": "only words"}, "utterance", "only words"),
    ],
)
def test_the_fields_with_the_text_are_found(tmp_path: Path, row: dict[str, Any], fields: str, text: str) -> None:
    (tmp_path / "a.jsonl").write_text(as_lines([row] * 3), encoding="utf-8")
    texts, reads = read(tmp_path)
    assert (texts, reads[0].fields) == ([text] * 3, fields)


def test_fields_are_put_together_as_they_are_named_and_reached_where_they_are_nested(tmp_path: Path) -> None:
    rows = [{"Meta": {"summary": "짧은 글"}, "body": [{"line": "긴"}, {"line": "글"}], "text": "no"}]
    (tmp_path / "a.json").write_text(json.dumps({"data": rows}), encoding="utf-8")
    assert read(tmp_path, fields=("Meta.summary", "body.line"))[0] == ["짧은 글\n긴\n글"]
    with pytest.raises(UserError, match=r"no text in a field title; it has Meta, body, text"):
        read(tmp_path, fields=("title",))


def test_records_whose_text_cannot_be_told_are_asked_about(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("left,right\nsome words,more words\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"which field is the text\? It has left, right; name it with --field"):
        read(tmp_path)


def test_broken_records_are_counted_and_the_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": \n{"text": "b"}\n{"other": 1}\n', encoding="utf-8")
    texts, (file,) = read(tmp_path)
    assert (texts, file.broken, file.empty) == (["a", "b"], 1, 1)
    (tmp_path / "b.jsonl").write_text("no json at all\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"b\.jsonl: no jsonl in it"):
        read(tmp_path / "b.jsonl")


def test_commas_that_nobody_has_quoted_cut_no_line_of_the_only_column(tmp_path: Path) -> None:
    lines = ["안녕, 나는 토끼야, 너는?", '"Hi", he said, "there"', "no comma"]
    (tmp_path / "a.csv").write_text("text\n" + "\r\n".join([*lines, '"quoted, ""all"" of it"']), encoding="utf-8")
    texts, (file,) = read(tmp_path)
    assert texts == [*lines, 'quoted, "all" of it'] and file.broken == 0


@pytest.mark.parametrize(("name", "tab"), [("a.csv", ","), ("a.tsv", "\t")])
def test_a_row_with_more_cells_than_columns_is_broken(tmp_path: Path, name: str, tab: str) -> None:
    rows = [["id", "text"], ["1", "one"], ["2", "two", " and more"], ["3", "three", ""], ["4"], ["5", "five"]]
    (tmp_path / name).write_text("\n".join(map(tab.join, rows)), encoding="utf-8")
    texts, (file,) = read(tmp_path)
    assert (texts, file.broken, file.empty) == (["one", "three", "five"], 1, 1)


STRAY = ['"안녕', '둘"', '"Hi," he said.', 'a 5" disk', '"', '"whole"', "plain"]


@pytest.mark.parametrize("texts", [STRAY, STRAY[:2], STRAY[:1], ["plain", *STRAY[:1]], ["plain", "two", 'end"']])
@pytest.mark.parametrize("columns", [1, 2])
def test_quotes_of_a_text_between_tabs_stay_and_swallow_no_rows(tmp_path: Path, texts: list[str], columns: int) -> None:
    rows = [["n", "text"], *([str(number), text] for number, text in enumerate(texts))]
    lines = ["\t".join(row[-columns:]) for row in rows]
    (tmp_path / "a.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if (columns, texts) != (1, STRAY[:2]):  # that is what a writer makes of one text with a line end
        assert read(tmp_path)[0] == texts


def test_quotes_of_a_writer_between_tabs_are_taken_away(tmp_path: Path) -> None:
    texts = ['"안녕"', "a\tb", "one\n\ntwo", 'he said "hi"\n"no"', "plain", "tail"]
    out = io.StringIO(newline="")
    csv.writer(out, delimiter="\t").writerows([["n", "text", "more"], *([1, text, text] for text in texts)])
    (tmp_path / "a.tsv").write_text(out.getvalue(), encoding="utf-8", newline="")
    assert read(tmp_path, fields=("text",))[0] == texts


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json", "a.csv"])
def test_one_huge_line_is_refused_before_it_is_in_memory(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "LONGEST", 1000)
    monkeypatch.setattr(values, "PIECE", 100)
    start = {"a.txt": "", "a.jsonl": '{"text": "', "a.json": '[{"text": "', "a.csv": "text\n"}[name]
    (tmp_path / name).write_text(start + "x" * 50_000, encoding="utf-8")
    with pytest.raises(UserError, match=rf"{name}: (line|a record).*1,000 characters"):
        read(tmp_path)


def test_gzipped_files_and_zips_are_read_with_korean_names(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("가나다".encode("cp949")))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("폴더/글.txt", "라마바".encode("cp949"))
        archive.writestr("image.png", b"\x89PNG")
    # a zip as old Korean archivers write it: the name in cp949, and no flag that says so
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("xxxx/yy.txt", "사아자")
    old = (tmp_path / "c.zip").read_bytes().replace(b"xxxx/yy.txt", "폴더/글.txt".encode("cp949"))
    (tmp_path / "c.zip").write_bytes(old)
    texts, reads = read(tmp_path)
    assert texts == ["가나다", "라마바", "사아자"]
    assert [one.name.partition("/")[2] for one in reads] == ["a.txt.gz", "b.zip/폴더/글.txt", "c.zip/폴더/글.txt"]
    assert find([tmp_path / "b.zip"]).ignored == {".png": 1}


@pytest.mark.parametrize("name", ["../out.txt", "/etc/out.txt", "a/../../out.txt", "C:\\out.txt", "..\\out.txt"])
def test_a_zip_whose_names_lead_out_of_it_is_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, "text")
    with pytest.raises(UserError, match=r"a\.zip: it has a file called .*out\.txt"):
        find([tmp_path / "a.zip"])


def test_files_that_unpack_to_a_thousand_times_their_size_are_refused(tmp_path: Path) -> None:
    bomb = b"\n" * (70 << 20)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", bomb)
    with pytest.raises(UserError, match=r"a\.zip: unpacked, it is more than 200 times"):
        find([tmp_path / "a.zip"])
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(bomb, 9))
    with pytest.raises(UserError, match=r"b\.txt\.gz: unpacked"):
        read(tmp_path / "b.txt.gz")


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(bytes(range(65, 91)) * 1000)
    (tmp_path / "a.txt.gz").write_bytes(whole[:-20])
    (tmp_path / "b.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(UserError, match=r"a\.txt\.gz: damaged"):
        read(tmp_path / "a.txt.gz")
    with pytest.raises(UserError, match=r"b\.zip: damaged"):
        find([tmp_path / "b.zip"])


def test_a_zip_of_a_folder_that_cannot_be_read_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.txt").write_text("text", encoding="utf-8")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    with zipfile.ZipFile(tmp_path / "locked.zip", "w") as archive:
        archive.writestr("first.txt", "text")
        archive.writestr("locked.txt", "text")
    data = bytearray((tmp_path / "locked.zip").read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1  # the flag of an encrypted file
    (tmp_path / "locked.zip").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as archive:
        archive.writestr("b.txt", "more")
        archive.writestr("c.png", b"")
    inputs = find([tmp_path])
    assert [source.path.name for source in inputs.sources] == ["a.txt", "whole.zip"]
    assert inputs.ignored == {".zip": 2, ".png": 1}
    said = [record.getMessage() for record in caplog.records]
    assert "broken.zip: damaged" in said[0] and "locked.zip/locked.txt: locked by a password" in said[1]
    with pytest.raises(UserError, match="locked by a password"):
        find([tmp_path / "locked.zip"])


@pytest.mark.parametrize("name", ["x" * 300, "글" * 100 + ".txt", "a\0b"])
def test_a_name_that_no_file_can_have_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        find([tmp_path / name])


def test_an_empty_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no text in it"):
        find([tmp_path])
    with pytest.raises(UserError, match=r"nowhere: no such file or folder"):
        find([tmp_path / "nowhere"])


def test_the_real_files_are_read_without_help(fixtures: Path) -> None:
    counts = {}
    for path in sorted((fixtures / "data").iterdir()):
        texts, (description,) = read(path)
        counts[path.name] = (len(texts), description.fields)
    with (fixtures / "data" / "ko_chatbot.csv").open(encoding="utf-8", newline="") as file:
        pairs = [f"{row['Q'].strip()}\n{row['A'].strip()}" for row in csv.DictReader(file)]
    assert counts["ko_chatbot.csv"] == (len(pairs), "Q + A")
    assert read(fixtures / "data" / "ko_chatbot.csv")[0] == pairs
    assert counts["messages_demo.jsonl"] == (500, "messages")
    assert counts["alpaca_en_demo.json"][1] == "instruction + input + output"
