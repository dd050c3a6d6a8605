"""tokenizer.json folders: the ids of the tokenizers library, and no user spells a token that steers the model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from soban.base.errors import UserError
from soban.text.tokenizers.tokenizer import load_tokenizer

tokenizers = pytest.importorskip("tokenizers")


def test_the_ids_and_text_of_a_trained_model(fixtures: Path, strings: list[str]) -> None:
    folder = fixtures / "models" / "TinyStories-656K"
    tokenizer = load_tokenizer(folder, {})
    judge = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert (tokenizer.bos_id, tokenizer.eos_ids, tokenizer.vocab_size) == (1, (2,), 2048)
    for case in json.loads((folder / "greedy.json").read_text(encoding="utf-8"))["cases"]:
        assert tokenizer.encode(case["prompt"]) == case["prompt_ids"]
        prompt, new = case["prompt_ids"], case["greedy256_new_ids"]
        assert case["text256"] in (tokenizer.decode(new), tokenizer.decode(prompt + new))
        stream = tokenizer.stream(after=prompt)
        added = "".join(map(stream.feed, new)) + stream.finish()
        assert case["prompt"] + added == tokenizer.decode(prompt + new)
    for text in strings:
        ids = judge.encode(text, add_special_tokens=False).ids
        if not any(content in text for content in ("<unk>", "<|")):
            assert tokenizer.encode(text, bos=False) == ids, text
        if 0 not in ids and "\ufffd" not in judge.decode(ids):  # the library does not skip its <unk>
            assert tokenizer.decode(ids) == judge.decode(ids), text


def test_typed_tokens_stay_text(byte_level: Callable[..., Path], markup_texts: list[str], strings: list[str]) -> None:
    folder = byte_level()
    tokenizer = load_tokenizer(folder, {})
    judge = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    markup = {judge.token_to_id(content) for content in [*markup_texts, "<s>", "</s>"]}
    for text in [*strings, *markup_texts, "a\n\n" + "".join(markup_texts) + " </s>", "<end_of_turn", "<<end_of_turn>>"]:
        ids = tokenizer.encode(text, bos=False)
        assert not markup & set(ids), text
        assert tokenizer.decode(ids) == text
        assert tokenizer.encode(text, bos=False, special=True) == judge.encode(text, add_special_tokens=False).ids
        if not tokenizer.find_markup(text):
            assert ids == judge.encode(text, add_special_tokens=False).ids
    assert judge.token_to_id("\n\n") in tokenizer.encode("a\n\nb")


def test_typed_tokens_stay_text_where_they_are_normalized_or_merged(tmp_path: Path) -> None:
    pieces = ["<unk>", "▁", "<", "/", "s", ">", "</", "s>", "</s>", "a", "<x>", "<x", "x", "▁<", "A"]
    library = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            vocab={piece: index for index, piece in enumerate(pieces)},
            merges=[("<", "/"), ("s", ">"), ("</", "s>"), ("<", "x"), ("<x", ">")],
            unk_token="<unk>",
        )
    )
    library.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Lowercase(), tokenizers.normalizers.Replace(" ", "▁")]
    )
    library.add_special_tokens([tokenizers.AddedToken("<unk>", normalized=False)])
    library.add_special_tokens([tokenizers.AddedToken("</s>", normalized=True)])
    library.add_tokens([tokenizers.AddedToken("<x>", normalized=True)])
    library.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path, {})
    assert tokenizer.encode("a</S><X>", special=True) == [9, 8, 10]
    assert tokenizer.encode("a</S><X>") == [9, 6, 7, 11, 5]
    assert [span.token_id for span in tokenizer.find_markup("a</S><X>")] == [8, 10]


def test_words_added_to_a_vocabulary_are_no_markup(byte_level: Callable[..., Path]) -> None:
    folder = byte_level()
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    library.add_tokens(["옛날옛적", "<h1>", "<tool>"])
    library.save(str(folder / "tokenizer.json"))
    tokenizer = load_tokenizer(folder, {})
    ids = tokenizer.encode("옛날옛적에<h1><tool>")
    assert library.token_to_id("옛날옛적") in ids and library.token_to_id("<h1>") in ids
    assert library.token_to_id("<tool>") not in ids
    assert tokenizer.decode(ids) == "옛날옛적에<h1><tool>"


def test_bos_stands_once_by_the_tokenizers_policy_or_the_callers_word(byte_level: Callable[..., Path]) -> None:
    silent, asking = load_tokenizer(byte_level(), {}), load_tokenizer(byte_level(add_bos_token=True), {})
    framing = load_tokenizer(byte_level(add_bos_token=True, add_eos_token=True), {})
    bos, eos = silent.bos_id, silent.eos_ids[0]
    text = silent.encode("fox")
    assert text[0] != bos and asking.encode("fox") == [bos, *text] == silent.encode("fox", bos=True)
    assert asking.encode("fox", bos=False) == text
    assert framing.encode("fox") == [bos, *text, eos] and framing.encode("fox", bos=True) == [bos, *text]
    for tokenizer in (silent, asking):
        for rendered in ("<s>fox", "<s><s>fox"):
            assert tokenizer.encode(rendered, bos=True, special=True) == [bos, *text]
    assert asking.encode("<s>fox", special=True) == [bos, *text]


def test_the_post_processor_is_the_policy_where_the_settings_are_silent(byte_level: Callable[..., Path]) -> None:
    folder = byte_level()
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    library.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>",
        special_tokens=[("<s>", library.token_to_id("<s>")), ("</s>", library.token_to_id("</s>"))],
    )
    library.save(str(folder / "tokenizer.json"))
    assert load_tokenizer(folder, {}).encode("fox") == library.encode("fox").ids


def test_a_stored_maximum_length_cuts_nothing(byte_level: Callable[..., Path]) -> None:
    folder = byte_level()
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    library.enable_truncation(4)
    library.enable_padding(length=9)
    library.save(str(folder / "tokenizer.json"))
    tokenizer = load_tokenizer(folder, {})
    assert tokenizer.decode(tokenizer.encode("a long prompt that goes on")) == "a long prompt that goes on"


def test_config_json_names_bos_and_eos_where_the_tokenizer_does_not(byte_level: Callable[..., Path]) -> None:
    folder = byte_level()
    (folder / "tokenizer_config.json").unlink()
    tokenizer = load_tokenizer(folder, {"bos_token_id": 5, "eos_token_id": [6, 7]})
    assert (tokenizer.bos_id, tokenizer.eos_ids) == (5, (6, 7))
    (folder / "generation_config.json").write_text('{"eos_token_id": 8}', encoding="utf-8")
    assert load_tokenizer(folder, {"eos_token_id": 6}).eos_ids == (8,)
    (folder / "special_tokens_map.json").write_text('{"eos_token": {"content": "</s>"}}', encoding="utf-8")
    assert load_tokenizer(folder, {"eos_token_id": 6}).eos_ids == (1,)


def test_text_is_any_unicode_and_nothing_else(byte_level: Callable[..., Path]) -> None:
    tokenizer = load_tokenizer(byte_level(), {})
    assert tokenizer.decode(tokenizer.encode("a\x00b\U0010ffff")) == "a\x00b\U0010ffff"
    for special in (False, True):
        with pytest.raises(UserError, match=r"U\+D83D.*position 1"):
            tokenizer.encode("a\ud83d", special=special)
    assert tokenizer.token_bytes(10**6) == b"" and tokenizer.decode([10**6, -1]) == ""


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tokenizer here") as caught:
        load_tokenizer(tmp_path, {})
    assert str(tmp_path) in str(caught.value)


BAD_JSON: list[Any] = [b"", b"{", b"[]", b"\xff\xfe", b"{}", b'{"model": {"type": "BPE"}}', b"[" * 100_000]


@pytest.mark.parametrize("data", BAD_JSON, ids=range(len(BAD_JSON)))
def test_a_broken_tokenizer_json_is_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(data)
    with pytest.raises(UserError, match=r"tokenizer\.json") as caught:
        load_tokenizer(tmp_path, {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json", "generation_config.json"])
@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff"])
def test_broken_settings_are_refused_by_name(byte_level: Callable[..., Path], name: str, data: bytes) -> None:
    folder = byte_level()
    (folder / name).write_bytes(data)
    with pytest.raises(UserError, match=name):
        load_tokenizer(folder, {})


@pytest.mark.parametrize(
    "config",
    [{"bos_token": 3}, {"add_bos_token": "yes"}, {"added_tokens_decoder": {"x": {}}}, {"eos_token": {"content": 1}}],
)
def test_settings_of_a_wrong_kind_are_refused(byte_level: Callable[..., Path], config: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(config))):
        load_tokenizer(byte_level(**config), {})


def test_a_cut_or_lying_tokenizer_model_is_refused(fixtures: Path, tmp_path: Path) -> None:
    data = (fixtures / "tokenizers" / "gemma_export_vocab.spm").read_bytes()
    path = tmp_path / "tokenizer.model"
    ends = [0, 1, 2, 100, len(data) // 2, len(data) - 1]
    broken = [data[:end] for end in ends]
    broken += [b"\x0a\xff\xff\xff\xff\x0f" + data, b"\x0b" + data, b"\xff" * 20, b"\x0a\x00" + data, b"\x08\x01" + data]
    broken += [data + b"\x12\x02\x18\x09", b"\x0a\x07\x0a\x01a\x15\x00\x00\xc0\x7f"]
    for blob in broken:
        path.write_bytes(blob)
        with pytest.raises(UserError, match=r"tokenizer\.model"):
            load_tokenizer(tmp_path, {})
