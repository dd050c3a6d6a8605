"""The packed tokenizer gives the ids and texts of the tokenizers library, or leaves the work to it."""

import itertools
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from soban.base.errors import UserError
from soban.base.system import CacheUnavailableError
from soban.ops import native
from soban.text.tokenizers import tokenizer as tokenizer_module
from soban.text.tokenizers.fast import FastTokenizer, load_fast
from soban.text.tokenizers.markup import single_bos
from soban.text.tokenizers.packed import PackedTokenizer
from soban.text.tokenizers.settings import read_settings
from soban.text.tokenizers.spm_file import PieceType, read_sentencepiece
from soban.text.tokenizers.tokenizer import load_tokenizer
from tests.text import shapes

tokenizers = pytest.importorskip("tokenizers")
pytestmark = pytest.mark.skipif(native.library() is None, reason="the native library is not built")


def pair(folder: Path) -> tuple[PackedTokenizer, FastTokenizer]:
    """The packed tokenizer of a folder, and its judge over the library."""
    packed = load_tokenizer(folder, {})
    assert isinstance(packed, PackedTokenizer)
    return packed, load_fast(folder / "tokenizer.json", read_settings(folder, {}))


def made(tmp_path: Path, shape: str, strips: bool = False) -> tuple[PackedTokenizer, FastTokenizer]:
    return pair(shapes.write(tmp_path / shape, shapes.tokenizer_json(shape, strips)))


def same_ids(packed: PackedTokenizer, judge: FastTokenizer, text: str) -> list[int]:
    """The ids with markup, which are the library's; those without are what is made of the library today."""
    ids = packed.encode(text, bos=False, special=True)
    assert ids == single_bos(judge.library.encode(text, add_special_tokens=False).ids, judge.bos_id), text
    assert packed.encode(text, bos=False) == judge.encode(text, bos=False), text
    return ids


def compare(packed: PackedTokenizer, judge: FastTokenizer, strings: Iterable[str]) -> int:
    """How many strings were compared: ids, where markup stands, rendered templates, and the text again."""
    count = 0
    for text in strings:
        ids = same_ids(packed, judge, text)
        assert packed.decode(ids, skip_special=count % 2 > 0) == judge.decode(ids, skip_special=count % 2 > 0), text
        assert packed.find_markup(text) == judge.find_markup(text), text
        hidden = {"\U000f0000": text[:7], "\U000f0001": "<eos> a"}
        rendered = f"<bos>{text}\U000f0000<end_of_turn>{text[3:]}\U000f0001"
        assert packed.encode_rendered(rendered, hidden) == judge.encode_rendered(rendered, hidden), text
        assert packed.encode_rendered(text, {}) == judge.encode_rendered(text, {}), text
        count += 1
    return count


@pytest.mark.parametrize("strips", [False, True], ids=["", "strips"])
@pytest.mark.parametrize("shape", shapes.SHAPES)
def test_hundreds_of_strings_of_each_shape(tmp_path: Path, strings: list[str], shape: str, strips: bool) -> None:
    packed, judge = made(tmp_path, shape, strips)
    assert (packed.bos_id, packed.eos_ids, packed.vocab_size) == (2, (1,), judge.vocab_size)
    dice = random.Random(f"{shape} {strips}")
    tokens = [
        "".join(texts) for texts in itertools.product(["", " ", "a", "<mask>", "여우 "], shapes.TOKENS, ["", " b"])
    ]
    assert compare(packed, judge, strings[:100] + tokens + [shapes.string(dice) for _ in range(150)]) > 350
    assert packed.encode("a") == judge.encode("a") == judge.library.encode("a").ids


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_a_million_strings(tmp_path: Path, part: int) -> None:
    dice = random.Random(part)
    for shape, strips in itertools.product(shapes.SHAPES, (False, True)):
        packed, judge = made(tmp_path / str(strips), shape, strips)
        for _ in range(6250):
            same_ids(packed, judge, shapes.string(dice))


def test_merges_are_taken_in_the_librarys_order_whatever_they_are(tmp_path: Path) -> None:
    """Of two letters, at random: several pairs make one piece, ranks go against lengths, a pair stands twice."""
    dice = random.Random(11)
    for n in range(20):
        state = shapes.tokenizer_json("gemma")
        words = ["".join(letters) for size in range(1, 6) for letters in itertools.product("ab", repeat=size)]
        pieces = [*(f"<0x{byte:02X}>" for byte in range(256)), *words]
        pairs = [[word[:cut], word[cut:]] for word in words for cut in range(1, len(word))]
        dice.shuffle(pairs)
        state["model"] |= {"vocab": {piece: i for i, piece in enumerate(pieces)}, "merges": [*pairs[:70], *pairs[:5]]}
        state |= {"added_tokens": [], "post_processor": None}
        packed, judge = pair(shapes.write(tmp_path / str(n), state, bos_token=None, eos_token=None))
        for _ in range(300):
            text = "".join(dice.choices("ab", k=dice.randrange(60)))
            assert packed.encode(text) == judge.library.encode(text).ids, (n, text)


@pytest.mark.parametrize("shape", ["llama", "gemma", "metaspace-first"])
def test_the_vocabulary_of_llama_2(fixtures: Path, tmp_path: Path, strings: list[str], shape: str) -> None:
    pieces = read_sentencepiece(fixtures / "tokenizers" / "tokenizer.model").pieces
    ids = {piece.text: index for index, piece in enumerate(pieces)}
    merges = [
        [piece.text[:cut], piece.text[cut:]]
        for piece in sorted(pieces, key=lambda piece: -piece.score)
        for cut in range(1, len(piece.text))
        if piece.type is PieceType.NORMAL and piece.text[:cut] in ids and piece.text[cut:] in ids
    ]
    state = shapes.tokenizer_json(shape)
    state["model"] |= {"vocab": ids, "merges": merges}
    state["added_tokens"] = [shapes.added(ids[text], text, special=True) for text in ("<unk>", "<s>", "</s>")]
    state["post_processor"] = None
    packed, judge = pair(shapes.write(tmp_path, state, bos_token="<s>", eos_token="</s>"))
    dice = random.Random(7)
    text = (fixtures / "text" / "shakespeare.txt").read_text(encoding="utf-8")[:20_000]
    assert compare(packed, judge, [text, *strings, *(shapes.string(dice) for _ in range(300))]) > 900


def test_a_megabyte_of_one_word_takes_seconds(tmp_path: Path) -> None:
    packed, judge = made(tmp_path, "llama")
    start = time.perf_counter()
    for word in ("ㅋ" * 350_000, "Once" * 250_000, "\x00" * 1_000_000):
        assert len(packed.encode(word)) > 1000
    assert time.perf_counter() - start < 30
    for word in ("ㅋ" * 10_000, "Once" * 10_000, "\n" * 10_000):
        assert packed.encode(word) == judge.encode(word)


def test_text_is_any_unicode_and_nothing_else(tmp_path: Path) -> None:
    packed, judge = made(tmp_path, "gemma")
    for text in ("a\ud83d", "\udc00", "<eos>\ud83d\u0020\ude00"):
        with pytest.raises(UserError) as refused:
            judge.encode(text)
        with pytest.raises(UserError, match=r"half a character") as caught:
            packed.encode(text)
        assert str(caught.value) == str(refused.value)
    assert packed.token_bytes(10**6) == b"" and packed.decode([10**6, -1]) == ""
    assert packed.decode(packed.encode("a\x00b\U0010ffff")) == "a\x00b\U0010ffff"


def test_a_streams_pieces_join_to_the_text(tmp_path: Path) -> None:
    packed, judge = made(tmp_path, "llama")
    for text in ("여우는 바다를 👩‍👩‍👧‍👦 보았어요", " a  b", "<bos> 각"):
        ids = packed.encode(text, special=True)
        for stream, other in ((packed.stream(), judge.stream()), (packed.stream(ids[:3]), judge.stream(ids[:3]))):
            assert [stream.feed(i) for i in ids] == [other.feed(i) for i in ids] and stream.finish() == other.finish()


def test_the_policy_and_the_names_come_from_the_settings(tmp_path: Path) -> None:
    state = shapes.tokenizer_json("gemma")
    for n, settings in enumerate(
        [
            {"add_bos_token": False}, {"add_bos_token": True, "add_eos_token": True}, {"bos_token": "</s>"},
            {"bos_token": None, "eos_token": None}, {"additional_special_tokens": ["<tool>", "여우"]},
            {"added_tokens_decoder": {"914": {"content": "<extra>", "special": True}}},
        ]
    ):  # fmt: skip
        packed, judge = pair(shapes.write(tmp_path / str(n), state, **settings))
        for text in ("", "a<tool>여우 <extra>b", "<bos>a"):
            for flags in ({}, {"bos": True}, {"bos": False}, {"special": True}):
                assert packed.encode(text, **flags) == judge.encode(text, **flags), (settings, text)
        assert (packed.bos_id, packed.eos_ids, packed.special_tokens) == (
            judge.bos_id, judge.eos_ids, judge.special_tokens,
        )  # fmt: skip


def test_config_json_names_bos_and_eos_where_the_tokenizer_does_not(tmp_path: Path) -> None:
    folder = shapes.write(tmp_path, shapes.tokenizer_json("gemma"))
    (folder / "tokenizer_config.json").unlink()
    for _ in range(2):
        tokenizer = load_tokenizer(folder, {"bos_token_id": 5, "eos_token_id": [6, 7]})
        assert isinstance(tokenizer, PackedTokenizer) and (tokenizer.bos_id, tokenizer.eos_ids) == (5, (6, 7))


def changed(**changes: Any) -> dict[str, Any]:
    """The Gemma-shaped tokenizer.json with other values; "model" is changed key by key."""
    state = shapes.tokenizer_json("gemma")
    changes["model"] = state["model"] | changes.get("model", {})
    return state | changes


VOCABULARY, MERGES = shapes.vocabulary()
OTHERS = {
    "nfc": changed(normalizer={"type": "NFC"}),
    "lowercase": changed(normalizer={"type": "Sequence", "normalizers": [{"type": "Lowercase"}, shapes.REPLACE]}),
    "other replacement": changed(normalizer=shapes.REPLACE | {"content": "_"}),
    "regex": changed(normalizer=shapes.REPLACE | {"pattern": {"Regex": " "}}),
    "nothing is replaced": changed(normalizer=None, pre_tokenizer=None),
    "digits": changed(pre_tokenizer={"type": "Digits", "individual_digits": True}),
    "split at a letter": changed(pre_tokenizer=shapes.SPLIT | {"pattern": {"String": "a"}}),
    "metaspace after a normalizer": changed(pre_tokenizer=shapes.metaspace("first", False)),
    "metaspace with another sign": changed(
        normalizer=None, pre_tokenizer=shapes.metaspace("first", False) | {"replacement": "_"}
    ),
    "no byte fallback": changed(model={"byte_fallback": False}),
    "ignore_merges": changed(model={"ignore_merges": True}),
    "suffix": changed(model={"end_of_word_suffix": "</w>", "merges": []}),
    "a byte missing": changed(
        model={"vocab": {p if p != "<0x41>" else "<0x4G>": i for p, i in VOCABULARY.items()}}
    ),
    "gaps": changed(
        added_tokens=[], model={"vocab": {piece: i if i < 800 else i + 5 for piece, i in VOCABULARY.items()}}
    ),
    "single word": changed(added_tokens=[shapes.added(1, "<eos>", special=True, single_word=True)]),
    "strips at blanks": changed(
        added_tokens=[shapes.added(1, "<eos>", rstrip=True), shapes.added(VOCABULARY["\n\n"], "\n\n")]
    ),
    "another decoder": changed(decoder={"type": "ByteFallback"}),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_known_to_mean_the_same_goes_through_the_library(tmp_path: Path, name: str) -> None:
    tokenizer = load_tokenizer(shapes.write(tmp_path, OTHERS[name]), {})
    assert isinstance(tokenizer, FastTokenizer)
    assert not list(tmp_path.rglob("*.tmp"))


def test_merges_may_be_written_as_lines(tmp_path: Path) -> None:
    lines = ["#version: 0.2", *map(" ".join, MERGES)]
    packed, judge = pair(shapes.write(tmp_path, changed(model={"merges": lines})))
    assert compare(packed, judge, (shapes.string(random.Random(n)) for n in range(200))) == 200


def packed_file(cache: Path) -> Path:
    (path,) = (cache / "packed").glob("*.safetensors")
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_cut_or_altered_file_is_made_anew(tmp_path: Path, cache: Path) -> None:
    folder = shapes.write(tmp_path / "model", shapes.tokenizer_json("gemma"))
    ids = load_tokenizer(folder, {}).encode("Once upon a time")
    path = packed_file(cache)
    good = path.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    cuts = [good[:end] for end in (0, 4, 8, 100, header, header + 5, len(good) // 2, len(good) - 1)]
    altered = [
        good.replace(b'"soban.tokenizer"', b'"soban.tokeniser"'), good.replace(b'\\"bits\\"', b'\\"bots\\"'),
        good.replace(b'\\"merges\\": ', b'\\"merges\\":9'), good.replace(b'\\"cut\\"', b'\\"cat\\"'), good + b"\0",
    ]  # fmt: skip
    for blob in [*cuts, *altered]:
        assert blob != good
        path.write_bytes(blob)
        again = load_tokenizer(folder, {})
        assert isinstance(again, PackedTokenizer) and again.encode("Once upon a time") == ids
        assert path.read_bytes() == good


def test_no_damage_to_the_tables_leads_outside_them(tmp_path: Path, cache: Path) -> None:
    folder = shapes.write(tmp_path / "model", shapes.tokenizer_json("llama"))
    limit = load_tokenizer(folder, {}).vocab_size
    path = packed_file(cache)
    good = path.read_bytes()
    begin = 8 + int.from_bytes(good[:8], "little")
    tables = [json.loads(good[8:begin])[name]["data_offsets"] for name in ("merges", "characters", "pieces")]
    dice, refused = random.Random(17), 0
    for _ in range(150):
        blob = bytearray(good)
        start, end = dice.choice(tables)
        for place in dice.choices(range(start, end - 4), k=dice.choice((1, 30, 300, 3000))):
            blob[begin + place : begin + place + 4] = dice.choice((b"\xff\xff\xff\xff", b"\1\0\0\0", dice.randbytes(4)))
        path.write_bytes(blob)
        tokenizer = load_tokenizer(folder, {})
        assert path.read_bytes() == blob  # nothing that a glance can see
        try:
            for text in (shapes.SENTENCES, shapes.string(dice)):
                assert all(0 <= index < limit for index in tokenizer.encode(text))
                tokenizer.decode(range(limit))
        except UserError as error:
            assert "damaged" in str(error)
            refused += 1
    assert 10 < refused < 150


def test_a_changed_tokenizer_gets_another_file_and_a_deleted_one_is_made_again(tmp_path: Path, cache: Path) -> None:
    folder = shapes.write(tmp_path / "model", shapes.tokenizer_json("gemma"))
    load_tokenizer(folder, {})
    packed_file(cache).unlink()
    load_tokenizer(folder, {})
    packed_file(cache).unlink()
    shapes.write(folder, shapes.tokenizer_json("llama"))
    judge = load_fast(folder / "tokenizer.json", read_settings(folder, {}))
    assert load_tokenizer(folder, {}).encode(" a") == judge.encode(" a")
    assert packed_file(cache)


def test_a_cache_that_cannot_be_written_leaves_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("SOBAN_CACHE", str(tmp_path / "file" / "cache"))
    tokenizer = load_tokenizer(shapes.write(tmp_path / "model", shapes.tokenizer_json("gemma")), {})
    assert isinstance(tokenizer, FastTokenizer) and tokenizer.encode("Once", bos=False)
    monkeypatch.setattr(tokenizer_module, "cached_path", no_home)
    assert isinstance(load_tokenizer(tmp_path / "model", {}), FastTokenizer)


def no_home(*_: object) -> Path:
    raise CacheUnavailableError("no home folder to keep a cache in")


def test_the_library_is_not_imported_once_the_file_is_there(tmp_path: Path, cache: Path) -> None:
    folder = shapes.write(tmp_path / "model", shapes.tokenizer_json("gemma"))
    load_tokenizer(folder, {})
    code = (
        "import sys, pathlib; from soban.text.tokenizers.tokenizer import load_tokenizer;"
        "load_tokenizer(pathlib.Path(sys.argv[1]), {}).encode('a b');"
        "print(sys.modules.keys() & {'tokenizers', 'filelock', 'jinja2', 'huggingface_hub'})"
    )
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
