"""Tokenizers become tokenizer.bin and come back: the ids stay, and what cannot stay is refused or told."""

import json
import logging
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from soban import messages
from soban.base.errors import UserError
from soban.text.tokenizers.fast import load_fast
from soban.text.tokenizers.llama2c import Llama2cTokenizer, read_pieces
from soban.text.tokenizers.llama2c_json import tokenizer_files
from soban.text.tokenizers.llama2c_writing import llama2c_pieces, tokenizer_bin
from soban.text.tokenizers.settings import Settings, read_settings
from soban.text.tokenizers.tokenizer import load_tokenizer
from tests.convert import small
from tests.text.test_llama2c import run_c

IDS = {"bos_token_id": 1, "eos_token_id": 2}


def folder_of(path: Path, pieces: list[bytes], scores: list[float]) -> Path:
    """A folder with the tokenizer.json of these pieces."""
    path.mkdir(parents=True)
    for name, content in tokenizer_files(path / "tokenizer.bin", pieces, scores, 64).items():
        (path / name).write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def notes(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The notes that the user gets."""
    messages._once.cache_clear()
    caplog.set_level(logging.WARNING, "soban")
    return lambda: [record.getMessage() for record in caplog.records]


def test_llama_2_s_own_tokenizer_bin_is_made_from_its_model_byte_by_byte(
    fixtures: Path, tmp_path: Path, notes: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soban.text.tokenizers.llama2c_writing.LINES", 40)
    shutil.copy(fixtures / "tokenizers" / "tokenizer.model", tmp_path)
    made = tokenizer_bin(*llama2c_pieces(tmp_path, IDS | {"vocab_size": 32000}))
    assert made == (fixtures / "tokenizers" / "tokenizer.bin").read_bytes()  # llama2.c's tokenizer.py wrote that
    assert notes() == []


@pytest.mark.parametrize("source", ["models/stories260K/tok512.bin", "tokenizers/tokenizer.bin"])
def test_the_library_reads_text_as_llama2c_does(
    fixtures: Path, tmp_path: Path, strings: list[str], source: str
) -> None:
    path = fixtures / source
    pieces, scores = read_pieces(path, {"tok512.bin": 512, "tokenizer.bin": 32000}[path.name])
    folder = folder_of(tmp_path / "m", pieces, scores)
    made, judge = load_fast(folder / "tokenizer.json", read_settings(folder, {})), Llama2cTokenizer(pieces, scores)
    story = (fixtures / "text" / "tinystories_sample.txt").read_text(encoding="utf-8")[:30_000].split("\n")
    for text in (*strings, *story):
        if "▁" in text:  # which llama2.c does not take for a space
            continue
        assert made.encode(text) == judge.encode(text), text
        assert made.decode(judge.encode(text)) == judge.decode(judge.encode(text))
    assert (made.bos_id, made.eos_ids, made.vocab_size) == (1, (2,), len(pieces))


def test_random_vocabularies_come_back_with_the_ids_of_run_c(tmp_path: Path) -> None:
    chance = random.Random(4)
    base = [
        b"<unk>",
        b"\n<s>\n",
        b"\n</s>\n",
        *(f"<0x{byte:02X}>".encode() for byte in range(256)),
        *[b" ", b"a", b"b"],
    ]
    for number in range(15):
        # grown as a trainer grows them: each piece joins two that are there
        pieces = list(base)
        while len(pieces) < 280:
            joined = chance.choice(pieces[259:]) + chance.choice(pieces[259:])
            if joined not in pieces and len(joined) < 9:
                pieces.append(joined)
        scores = [0.0] * 259 + [-float(n) for n in range(len(pieces) - 259)]
        folder = folder_of(tmp_path / str(number), pieces, scores)
        library = load_fast(folder / "tokenizer.json", read_settings(folder, {}))
        back, again = llama2c_pieces(folder, IDS | {"vocab_size": len(pieces)})
        assert back == pieces
        differing = 0
        for _ in range(40):
            text = "".join(chance.choices("aab c한", k=chance.randrange(30)))
            wanted = run_c(pieces, scores, text)
            assert run_c(back, again, text) == wanted
            differing += library.encode(text, bos=False) != wanted
        # where two pairs of one piece overlap, run.c takes the left one, and the library the one it ranks first
        assert differing <= 4


def written(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The small tokenizer with a change."""
    path.mkdir()
    content = small.tokenizer(300)
    change(content)
    small.write_tokenizer(path, content)
    settings = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return path


def test_rows_without_a_token_get_pieces_that_nothing_leads_to(tmp_path: Path, notes: Callable[[], list[str]]) -> None:
    folder = written(tmp_path / "m", lambda content: None)
    pieces, scores = llama2c_pieces(folder, IDS | {"vocab_size": 300})
    assert len(pieces) == len(scores) == 300 and len(set(pieces)) == 300 and all(pieces)
    assert pieces[1:4] == [b"\n<s>\n", b"\n</s>\n", b"<0x00>"] and pieces[299] == b"<unused299>"
    own = load_tokenizer(folder, {})
    for text in ("hello and the world", "the the  hell", "한국 x\n", " a", "zażółć"):
        assert run_c(pieces, scores, text) == own.encode(text, bos=False)
    assert notes() == []
    assert tokenizer_bin(pieces, scores)[:4] == max(map(len, pieces)).to_bytes(4, "little")


def edited(**changes: Any) -> Callable[[dict[str, Any]], None]:
    """Replaces parts of a tokenizer.json; those of the model are named model__x."""

    def change(content: dict[str, Any]) -> None:
        for key, value in changes.items():
            place, _, name = key.rpartition("__")
            (content[place] if place else content)[name] = value

    return change


def begins_with_two(content: dict[str, Any]) -> None:
    """Begin and end change places."""
    content["model"]["vocab"].update({"<s>": 2, "</s>": 1})
    content["added_tokens"][1]["content"], content["added_tokens"][2]["content"] = "</s>", "<s>"
    content["post_processor"]["special_tokens"]["<s>"]["ids"] = [2]


REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
SPLIT = {"type": "Split", "pattern": {"Regex": r"\d"}, "behavior": "Isolated", "invert": False}
REFUSED = {
    "no space is put before a text": edited(normalizer=REPLACE),
    "the pre_tokenizer Split has no place": edited(pre_tokenizer=SPLIT),
    "the normalizer Lowercase has no place": edited(normalizer={"type": "Lowercase"}),
    "the end_of_word_suffix w has no place": edited(model__end_of_word_suffix="w"),
    "texts begin with token 2, and llama2.c": begins_with_two,
}  # fmt: skip


@pytest.mark.parametrize("complaint", REFUSED)
def test_what_run_c_would_read_otherwise_is_refused(tmp_path: Path, complaint: str) -> None:
    folder = written(tmp_path / "m", REFUSED[complaint])
    with pytest.raises(UserError, match=complaint) as caught:
        llama2c_pieces(folder, IDS | {"vocab_size": 300})
    assert "--weights-only" in str(caught.value) and "\n" not in str(caught.value)


def test_another_end_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", lambda content: None)
    (folder / "tokenizer_config.json").write_text('{"bos_token": "<s>", "eos_token": "he"}', encoding="utf-8")
    with pytest.raises(UserError, match=r"token 259 ends a text, and in llama2.c tokens 1 and 2 do"):
        llama2c_pieces(folder, IDS | {"vocab_size": 300})


def test_a_byte_level_or_unigram_tokenizer_is_refused(
    fixtures: Path, tmp_path: Path, byte_level: Callable[..., Path]
) -> None:
    with pytest.raises(UserError, match="the pre_tokenizer ByteLevel has no place"):
        llama2c_pieces(byte_level(), IDS | {"vocab_size": 500})
    unigram = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["<s>", 0.0], ["▁a", -1.0]]}
    folder = written(tmp_path / "m", edited(model=unigram, added_tokens=[], post_processor=None))
    with pytest.raises(UserError, match="the model Unigram has no place"):
        llama2c_pieces(folder, IDS | {"vocab_size": 300})


def test_what_may_be_read_otherwise_is_told(tmp_path: Path, notes: Callable[[], list[str]]) -> None:
    def change(content: dict[str, Any]) -> None:
        content["normalizer"]["normalizers"].insert(0, {"type": "NFC"})
        content["added_tokens"].append({**content["added_tokens"][0], "id": 299, "content": "<|user|>"})
        vocabulary = content["model"]["vocab"]
        vocabulary["<0x00>"], vocabulary["he"] = vocabulary["he"], vocabulary["<0x00>"]
        # one more way to spell a piece, which the merges do not know: l + lo has no rank, ll + o is not there
        for piece in ("lo", "llo"):
            vocabulary[piece] = len(vocabulary)
        content["model"]["merges"] += ["l o", "ll o"]

    pieces, _ = llama2c_pieces(written(tmp_path / "m", change), IDS | {"vocab_size": 300})
    assert pieces[299] == b"<|user|>"
    told = " | ".join(notes())
    assert "does not put text into the form NFC" in told and "1 added tokens, such as <|user|>" in told
    assert "the bytes are not tokens 3 to 258" in told


def test_pairs_that_only_run_c_joins_are_found_and_told(tmp_path: Path, notes: Callable[[], list[str]]) -> None:
    def change(content: dict[str, Any]) -> None:
        vocabulary = content["model"]["vocab"]
        vocabulary["rd"], vocabulary["ord"] = len(vocabulary), len(vocabulary) + 1
        # "o rd" is never joined by the library, whose only way to "ord" is "or d"; run.c joins either
        vocabulary["or"] = len(vocabulary)
        content["model"]["merges"] = ["r d", "o r", "or d"]

    llama2c_pieces(written(tmp_path / "m", change), IDS | {"vocab_size": 300})
    assert "made-up lines" in " ".join(notes()) and "become other tokens in llama2.c" in " ".join(notes())


def test_a_piece_that_no_merge_makes_is_not_made_by_run_c_either(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", lambda content: content["model"]["vocab"].update({"rd": 290, "lord": 291}))
    pieces, scores = llama2c_pieces(folder, IDS | {"vocab_size": 300})
    assert run_c(pieces, scores, "lord") == load_tokenizer(folder, {}).encode("lord", bos=False)
    assert scores[290] < -1e10


@pytest.mark.parametrize(
    ("piece", "complaint"),
    [(b"\xff", r"token 260 is b'\\xff'"), (b"", "token 260 is b''"), (b"<0x41>", "tokens 68 and 260 are both")],
)
def test_pieces_that_no_tokenizer_json_can_name_are_refused(tmp_path: Path, piece: bytes, complaint: str) -> None:
    pieces = [b"<unk>", b"\n<s>\n", b"\n</s>\n", *(f"<0x{byte:02X}>".encode() for byte in range(256)), b" ", piece]
    with pytest.raises(UserError, match=complaint):
        tokenizer_files(tmp_path / "tokenizer.bin", pieces, [0.0] * len(pieces), 64)


def test_names_of_begin_and_end_survive(tmp_path: Path) -> None:
    pieces = [
        b"<unk>",
        b"\n<|go|>\n",
        b"\n<|stop|>\n",
        *(f"<0x{byte:02X}>".encode() for byte in range(256)),
        b" ",
        b"a",
    ]
    folder = folder_of(tmp_path / "m", pieces, [0.0] * len(pieces))
    made = load_fast(folder / "tokenizer.json", read_settings(folder, {}))
    assert isinstance(read_settings(folder, {}), Settings) and made.special_tokens["bos_token"] == "<|go|>"
    assert llama2c_pieces(folder, IDS | {"vocab_size": len(pieces)})[0] == pieces
