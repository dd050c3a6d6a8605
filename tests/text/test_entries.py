"""What a tokenizer's files say, without making the tokenizer, is what the tokenizer that is made of them says."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from soban.base.errors import UserError
from soban.text.tokenizers.entries import Entries, read_entries
from soban.text.tokenizers.tokenizer import load_tokenizer

from .shapes import SHAPES, tokenizer_json

TEXTS = ["<start_of_turn>user\nhi<end_of_turn>", "a <|end|> b <mask>", "plain", "<bos><bos>x</s>", "<tool>여우"]


def assert_alike(folder: Path, *texts: str) -> Entries:
    """The entries of a folder against its tokenizer, which for a tokenizer.json is the tokenizers library's."""
    entries, tokenizer = read_entries(folder, {}), load_tokenizer(folder, {})
    assert entries is not None
    assert entries.size == tokenizer.vocab_size and entries.bos_id == tokenizer.bos_id
    assert ([] if entries.eos_id is None else [entries.eos_id]) == list(tokenizer.eos_ids)
    assert [*entries.prefix, *entries.suffix] == tokenizer.encode("")
    for text in texts if not any(token.normalized for token in entries.added.values()) else ():
        assert [span.token_id for span in entries.find_markup(text)] == [
            span.token_id for span in tokenizer.find_markup(text)
        ]
    return entries


@pytest.mark.parametrize("shape", SHAPES)
def test_entries_are_the_library_s(tmp_path: Path, shape: str) -> None:
    import tokenizers

    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer_json(shape)), encoding="utf-8")
    settings = {"bos_token": "<bos>", "eos_token": {"content": "<eos>"}, "add_bos_token": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    entries = assert_alike(tmp_path, *TEXTS)
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert entries.ids == library.get_vocab(with_added_tokens=True)
    assert {i: t.content for i, t in entries.added.items()} == {
        i: t.content for i, t in library.get_added_tokens_decoder().items()
    }


@pytest.mark.parametrize("add_bos", [True, False, None])
def test_the_policy_is_that_of_the_settings_or_the_post_processor(
    byte_level: Callable[..., Path], add_bos: bool | None
) -> None:
    import tokenizers

    folder = byte_level(**({} if add_bos is None else {"add_bos_token": add_bos}))
    path = folder / "tokenizer.json"
    library = tokenizers.Tokenizer.from_file(str(path))
    library.post_processor = tokenizers.processors.Sequence(
        [
            tokenizers.processors.ByteLevel(trim_offsets=False),
            tokenizers.processors.TemplateProcessing(
                single="<s> $A </s>", special_tokens=[("<s>", library.token_to_id("<s>")), ("</s>", 1)]
            ),
        ]
    )
    library.save(str(path))
    entries = assert_alike(folder, "<|im_start|>x", "<think>y</think>")
    assert entries.prefix == (() if add_bos is False else (0,)) and entries.suffix == ((1,) if add_bos is None else ())


def test_the_entries_of_real_tokenizers(fixtures: Path, tmp_path: Path) -> None:
    assert assert_alike(fixtures / "models" / "TinyStories-656K", "<|start_story|>x<|end_story|>").size == 2048
    for path in sorted((fixtures / "tokenizers").glob("*.spm")):
        shutil.copyfile(path, tmp_path / "tokenizer.model")
        assert_alike(tmp_path, *TEXTS)


@pytest.mark.parametrize("indent", [None, 2])
def test_leaving_out_the_merges_changes_nothing(tmp_path: Path, indent: int | None) -> None:
    import tokenizers

    made = json.loads(json.dumps(tokenizer_json("gemma")))
    vocabulary = made["model"]["vocab"]
    for piece in ('"merges": [', "]}}"):  # as the key and the end look
        vocabulary[piece] = len(vocabulary)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(made, ensure_ascii=False, indent=indent), encoding="utf-8")
    entries = read_entries(tmp_path, {})
    library = tokenizers.Tokenizer.from_file(str(path))
    assert entries is not None and entries.ids == library.get_vocab(with_added_tokens=True)
    model = {"merges": made["model"].pop("merges"), **made["model"]}  # something follows them
    path.write_text(json.dumps({**made, "model": model}, ensure_ascii=False, indent=indent), encoding="utf-8")
    again = read_entries(tmp_path, {})
    assert again is not None and again.ids == entries.ids


def test_settings_add_tokens_at_the_end_alone(byte_level: Callable[..., Path]) -> None:
    size = len(json.loads((byte_level() / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"])
    added = {str(n): {"content": content, "special": True} for n, content in ((5, "<wrong>"),)}
    entries = assert_alike(byte_level(added_tokens_decoder=added), "<wrong>")
    assert "<wrong>" not in entries.ids and entries.size >= size
    added = {str(entries.size): {"content": "<new>", "special": True}}
    assert assert_alike(byte_level(added_tokens_decoder=added), "<new>").ids["<new>"] == entries.size


def test_a_folder_without_a_tokenizer_has_no_entries_and_a_damaged_one_says_so(tmp_path: Path) -> None:
    assert read_entries(tmp_path, {}) is None
    for content in ("{}", '{"model": {"vocab": {"a": "b"}}}', '{"model": {"vocab": [1, 2]}}', "[]", "nonsense"):
        (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
        with pytest.raises(UserError, match=r"tokenizer\.json"):
            read_entries(tmp_path, {})
