"""tokenizer_config.json and its kin, read as transformers reads them, key by key; where not, for a reason."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from soban.base.errors import UserError
from soban.text.chat.template import load_template
from soban.text.tokenizers.tokenizer import load_tokenizer
from tests.text import kinds

transformers = pytest.importorskip("transformers")

TURN = [{"role": "user", "content": "hi"}]
TEXTS = ["the cat", "a <x> b<y>", "x<tool>y <|end|>", "안녕 <new> the", "a</s>b <unk>", " a", "", "hello ."]
ENTRY = {
    "content": "</s>",
    "lstrip": False,
    "rstrip": False,
    "single_word": False,
    "normalized": False,
    "special": True,
}
GONE = object()


def tokenizer_json() -> tuple[dict[str, Any], int]:
    """A tokenizer that puts <s> before a text and knows <tool> and <|end|>, and how many entries it has."""
    model = kinds.bpe(random.Random(5), bytes="all", byte_fallback=True)
    size = len(model["vocab"])
    model["vocab"] |= {"<x>": size, "<y>": size + 1}
    parts = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    spelled = {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}
    space = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    told = kinds.state(
        model, "<unk>", "<s>", "</s>", pre_tokenizer=kinds.METASPACE,
        decoder={"type": "Sequence", "decoders": [space, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        post_processor={"type": "TemplateProcessing", "single": parts, "pair": parts, "special_tokens": spelled},
    )  # fmt: skip
    told["added_tokens"] += [kinds.added(size + 2, "<tool>"), kinds.added(size + 3, "<|end|>", special=True)]
    return told, size + 4


TOLD, SIZE = tokenizer_json()
BASE: dict[str, Any] = {
    "tokenizer_class": "TokenizersBackend", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
    "pad_token": "</s>", "model_max_length": 64, "clean_up_tokenization_spaces": False,
    "chat_template": "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}",
}  # fmt: skip
NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "mask_token")
LISTS = ("additional_special_tokens", "extra_special_tokens")
UNREAD = (
    "clean_up_tokenization_spaces", "legacy", "add_prefix_space", "model_max_length", "max_len", "padding_side",
    "truncation_side", "spaces_between_special_tokens", "use_default_system_prompt", "sp_model_kwargs", "errors",
    "name_or_path", "processor_class", "model_input_names", "do_lower_case", "auto_map", "tokenizer_class",
    "split_special_tokens",
)  # fmt: skip
KEYS = (
    "add_bos_token",
    "add_eos_token",
    *NAMED,
    "image_token",
    "chat_template",
    "added_tokens_decoder",
    *LISTS,
    *UNREAD,
)
VALUES: list[Any] = [
    GONE, None, True, False, 3, -1.5, "", "<s>", "<x>", "<new>", "true", [], ["<x>"], ["<new>"], [3], {}, {"a": "<x>"},
    ENTRY, {"__type": "AddedToken", **ENTRY}, {"default": "D{{ messages[0].content }}"}, {"3": {"content": "<x>"}},
    [{"name": "default", "template": "D"}], [{"name": "tool_use", "template": "D"}],
    {str(SIZE - 2): {"content": "<tool>", "special": True}}, {str(SIZE): {"content": "<new>", "special": True}},
    {str(SIZE + 3): {"content": "<new>", "special": False}},
]  # fmt: skip

# Where soban differs: for which keys and values, whether it is laxer, stricter or another, and why.
REASONS: list[tuple[tuple[str, ...], Callable[[Any], bool], str, str]] = [
    (UNREAD, lambda v: v is not GONE, "laxer", "what is not read cannot be wrong"),
    (NAMED, lambda v: v == ENTRY, "laxer", "transformers 4 wrote tokens so"),
    (LISTS, lambda v: v in (False, ""), "laxer", "it says nothing"),
    (LISTS, lambda v: isinstance(v, dict), "laxer", "tokens by name are read as one by one"),
    (("added_tokens_decoder",), lambda v: v is None, "laxer", "it says nothing"),
    (("chat_template",), lambda v: isinstance(v, list | dict), "laxer", "where there is one template, that is the one"),
    ((*NAMED, *LISTS, "image_token"), lambda v: "<new>" in (v if isinstance(v, list) else [v]), "other",
     "a token that no file gives a place would get an id beyond the weights: it stays text, and `show` tells it"),
    (("added_tokens_decoder",), lambda v: not {str(SIZE), str(SIZE - 2)} & {*v}, "other",
     "a token of another id is one of another version: it is left out with a warning"),
    (("add_bos_token", "add_eos_token"), lambda v: isinstance(v, bool), "other",
     "transformers 4 and llama.cpp go by these keys, transformers 5 only without a tokenizer.json: `show` tells it"),
    (("add_bos_token", "add_eos_token"), lambda v: not isinstance(v, bool), "stricter",
     "on a BOS every answer depends, and what is neither true nor false does not say whether there is one"),
    (("tokenizer_class",), lambda v: v is None or v is GONE, "other",
     "transformers 5 makes some classes anew without most of tokenizer.json, and here by the model's type"),
    (("split_special_tokens",), lambda v: v is True, "other", "who asks for special tokens gets them"),
]  # fmt: skip


def written(folder: Path, **changes: Any) -> Path:
    kinds.write(folder, TOLD)
    config = {key: value for key, value in (BASE | changes).items() if value is not GONE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "config.json").write_text('{"model_type": "gemma2"}', encoding="utf-8")
    return folder


def theirs(folder: Path) -> tuple[Any, ...]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer.encode(text) for text in TEXTS]
    bare = [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS]
    shown = [tokenizer.decode(one, skip_special_tokens=True) for one in ids]
    try:
        return ids, bare, shown, tokenizer.apply_chat_template(TURN, tokenize=False)
    except Exception:
        return ids, bare, shown, None


def ours(folder: Path) -> tuple[Any, ...]:
    tokenizer = load_tokenizer(folder, {})
    ids = [tokenizer.encode(text, special=True) for text in TEXTS]
    bare = [tokenizer.encode(text, special=True, bos=False) for text in TEXTS]
    shown = [tokenizer.decode(one) for one in ids]
    try:
        template = load_template(folder)
        return ids, bare, shown, template and template.render(TURN)
    except UserError:
        return ids, bare, shown, None


def outcome(read: Callable[[Path], tuple[Any, ...]], folder: Path) -> tuple[Any, ...] | None:
    try:
        return read(folder)
    except Exception as error:
        assert read is theirs or isinstance(error, UserError), error
        return None


def difference(expected: tuple[Any, ...] | None, found: tuple[Any, ...] | None) -> str:
    """How soban differs; "" where it does not."""
    if expected == found or (expected is None and found is not None and found[-1] is None):
        return ""  # a template may be refused when it is read or when it is rendered
    if expected is None or (found is not None and expected[:-1] == found[:-1] and expected[-1] is None):
        return "laxer"
    return "stricter" if found is None else "other"


def cases(per_key: int | None) -> Iterator[tuple[str, Any]]:
    dice = random.Random(8)
    for key in KEYS:
        values = [value for value in VALUES if value is not GONE or key in BASE]
        for value in values if per_key is None else dice.sample(values, per_key):
            yield key, value


@pytest.mark.parametrize("per_key", [3, pytest.param(None, marks=pytest.mark.slow)])
def test_each_key_of_tokenizer_config_counts_as_in_transformers(tmp_path: Path, per_key: int | None) -> None:
    used = set()
    for n, (key, value) in enumerate(cases(per_key)):
        folder = written(tmp_path / str(n), **{key: value})
        if differs := difference(outcome(theirs, folder), outcome(ours, folder)):
            rows = [
                i for i, (keys, fits, how, _) in enumerate(REASONS) if key in keys and how == differs and fits(value)
            ]
            assert rows, (key, value, differs)
            used.update(rows)
        shutil.rmtree(folder)
    assert per_key or used == {*range(len(REASONS))}


def test_the_older_files_beside_it_count_as_in_transformers(tmp_path: Path) -> None:
    """special_tokens_map.json and added_tokens.json, which count where tokenizer_config.json tells no tokens by id."""
    maps: list[dict[str, Any]] = [
        {}, {"eos_token": "<x>"}, {"eos_token": ENTRY | {"content": "<|end|>"}, "bos_token": "<x>"},
        {"pad_token": "<y>"}, {"additional_special_tokens": ["<x>"]}, {"extra_special_tokens": ["<y>"]},
        {"eos_token": None},
    ]  # fmt: skip
    settings: list[dict[str, Any]] = [
        {}, {"eos_token": GONE}, {"added_tokens_decoder": {}}, {"extra_special_tokens": ["<x>"]},
        {"eos_token": GONE, "added_tokens_decoder": {"2": ENTRY}}, {"additional_special_tokens": ["<y>"]},
    ]  # fmt: skip
    for n, (older, changes) in enumerate((older, changes) for older in maps for changes in settings):
        folder = written(tmp_path / str(n), **changes)
        (folder / "special_tokens_map.json").write_text(json.dumps(older), encoding="utf-8")
        assert outcome(ours, folder) == outcome(theirs, folder), (older, changes)
        judge = transformers.AutoTokenizer.from_pretrained(folder)
        tokenizer = load_tokenizer(folder, {})
        assert tokenizer.special_tokens == {name: judge.special_tokens_map[name] for name in tokenizer.special_tokens}
        assert tokenizer.eos_ids == (() if judge.eos_token_id is None else (judge.eos_token_id,))
    folder = written(tmp_path / "added", extra_special_tokens=["<new>"])
    (folder / "added_tokens.json").write_text(json.dumps({"<new>": SIZE}), encoding="utf-8")
    assert outcome(ours, folder) == outcome(theirs, folder)


def test_a_template_may_be_an_object_of_templates(tmp_path: Path) -> None:
    for value in ({"default": "A{{ messages[0].content }}", "tool_use": "B"}, {"rag": "A{{ messages[0].content }}"}):
        template = load_template(written(tmp_path, chat_template=value))
        assert template is not None and template.render(TURN) == "Ahi"
    for value in ({}, {"a": "x", "b": "y"}, {"default": 3}):
        with pytest.raises(UserError, match="chat_template"):
            load_template(written(tmp_path, chat_template=value))
