"""What a tokenizer's files say of it, without making the tokenizer: its entries, the tokens with a role, its policy.

Making one takes seconds where the vocabulary is large; looking at one should not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from soban.text.tokenizers import merges
from soban.text.tokenizers.library import frame_of
from soban.text.tokenizers.library_check import checked_tokenizer
from soban.text.tokenizers.markup import Matcher, Span, is_markup, policy
from soban.text.tokenizers.settings import AddedToken, Settings, read_bytes, read_settings


@dataclass(frozen=True)
class Entries:
    """A vocabulary: `ids` has every entry's text, added tokens included; the ids run below `size`."""

    kind: str  # "BPE", "Unigram", "SentencePiece BPE", "llama2.c", ...
    file: str
    ids: Mapping[str, int]
    size: int
    added: Mapping[int, AddedToken] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
    bos_id: int | None = None
    eos_id: int | None = None
    prefix: tuple[int, ...] = ()  # what the tokenizer's own policy puts before a text, and after it
    suffix: tuple[int, ...] = ()
    markup: Mapping[str, int] = field(default_factory=dict)  # tokens that steer the model, by their text
    parts: Mapping[str, Any] = field(default_factory=dict)  # what a tokenizer.json says besides the entries

    def find_markup(self, text: str) -> list[Span]:
        """Where tokens that steer the model are written in a text, letter by letter: no normalizer has a say."""
        return list(Matcher({i: AddedToken(content) for content, i in self.markup.items()}).spans(text))

    def text(self, token_id: int) -> str | None:
        """The entry of an id; None where there is none."""
        if token_id in self.added:
            return self.added[token_id].content
        return next((content for content, index in self.ids.items() if index == token_id), None)

    @property
    def special_tokens(self) -> Mapping[str, str]:
        """The tokens with a role, as a template may name them: bos_token -> "<bos>"."""
        return self.settings.names


def read_entries(folder: Path, config: Mapping[str, Any]) -> Entries | None:
    """The entries of the tokenizer in a model's folder; None where there is no tokenizer.

    Raises UserError where its files are damaged.
    """
    settings = read_settings(folder, config)
    if (path := folder / "tokenizer.json").is_file():
        return _from_json(path, settings)
    if (path := folder / "tokenizer.model").is_file():
        return _from_sentencepiece(path, settings)
    if merges.are_there(folder):
        return _from_json(folder / merges.FILES[0], settings, merges.as_tokenizer_json(folder))
    return None


def read_llama2c_entries(path: Path, vocab_size: int) -> Entries:
    """The entries of a llama2.c tokenizer.bin, which has no tokens that are written in text."""
    from soban.text.tokenizers.llama2c import BOS, EOS, load_llama2c_tokenizer

    tokenizer = load_llama2c_tokenizer(path, vocab_size)
    ids = {tokenizer.token_bytes(i).decode("utf-8", "replace"): i for i in reversed(range(tokenizer.vocab_size))}
    added = {BOS: AddedToken("<s>"), EOS: AddedToken("</s>")}
    return Entries("llama2.c", path.name, ids, tokenizer.vocab_size, added, bos_id=BOS, eos_id=EOS, prefix=(BOS,))


def _from_json(path: Path, settings: Settings, data: bytes | None = None) -> Entries:
    """Of a tokenizer.json, as the tokenizers library would read it with the settings beside it."""
    value = checked_tokenizer(path, read_bytes(path) if data is None else data)
    model = value["model"]
    ids = _ids(model["vocab"])
    declared = _declared(value.get("added_tokens"), ids)
    special = {*settings.names.values(), *settings.extra} | {t.content for t in settings.added.values() if t.special}
    flags = ("lstrip", "rstrip", "single_word", "normalized")
    added = {
        index: AddedToken(
            entry["content"], bool(entry.get("special")) or entry["content"] in special,
            **{name: bool(entry.get(name)) for name in flags},
        )
        for index, entry in declared.items()
    }  # fmt: skip
    ids.update({token.content: index for index, token in added.items()})
    size = max(ids.values(), default=-1) + 1
    for index, token in sorted(settings.added.items()):  # what the settings alone declare is appended, or left out
        if token.content not in ids and index == size:
            added[index], ids[token.content], size = token, index, size + 1
    added |= {ids[content]: AddedToken(content) for content in special if content in ids and ids[content] not in added}
    frame = frame_of(value.get("post_processor"))
    entries = _with_roles(str(model.get("type") or "?"), path, ids, size, added, settings, frame)
    parts = {name: value.get(name) for name in ("normalizer", "pre_tokenizer", "post_processor", "decoder")}
    rest = {name: item for name, item in model.items() if name not in ("vocab", "merges")}
    return replace(entries, parts={**parts, "model": rest})


def _ids(vocabulary: Any) -> dict[str, int]:
    """The ids of a model's own pieces: it has them as an object, or (Unigram) as pairs of piece and score in order."""
    return {entry[0]: i for i, entry in enumerate(vocabulary)} if isinstance(vocabulary, list) else vocabulary


def _with_roles(
    kind: str, path: Path, ids: Mapping[str, int], size: int, added: Mapping[int, AddedToken], settings: Settings,
    frame: tuple[list[int], list[int]],
) -> Entries:  # fmt: skip
    bos = settings.names.get("bos_token")
    bos_id = ids.get(bos) if bos else next(iter(settings.bos_ids), None)
    eos_id = ids.get(settings.names.get("eos_token", ""))
    prefix, suffix = policy(settings, bos_id, eos_id, frame)
    return Entries(
        kind, path.name, ids, size, added, settings, bos_id, eos_id, tuple(prefix), tuple(suffix),
        markup={token.content: index for index, token in added.items() if is_markup(token)},
    )  # fmt: skip


def _declared(tokens: object, ids: Mapping[str, int]) -> dict[int, Mapping[str, Any]]:
    """The added tokens of a tokenizer.json by the ids that the library gives them, which need not be the file's.

    A piece of the model's own keeps its id; the others follow the vocabulary in the order of the file's ids.
    """
    tokens_by_id: dict[int, Mapping[str, Any]] = {}
    free = len(ids)
    listed = [entry for entry in tokens if _is_added(entry)] if isinstance(tokens, list) else []
    for entry in sorted(listed, key=lambda entry: entry["id"]):
        index = ids.get(entry["content"], free)
        free = max(free, index + 1)
        tokens_by_id[index] = entry
    return tokens_by_id


def _is_added(entry: object) -> bool:
    return isinstance(entry, dict) and type(entry.get("id")) is int and isinstance(entry.get("content"), str)


def _from_sentencepiece(path: Path, settings: Settings) -> Entries:
    """Of a tokenizer.model: its control and user-defined pieces are added tokens."""
    from soban.text.tokenizers.sentencepiece import added_tokens, roles
    from soban.text.tokenizers.spm_file import BPE, read_sentencepiece

    model = read_sentencepiece(path)
    settings = replace(settings, names=roles(model) | dict(settings.names))
    added = added_tokens(model, settings)
    ids = {piece.text: i for i, piece in reversed(list(enumerate(model.pieces)))}
    ids |= {token.content: index for index, token in added.items()}
    kind = "SentencePiece BPE" if model.model_type == BPE else "SentencePiece Unigram"
    bos = ids.get(settings.names.get("bos_token", ""))
    # Llama's and Gemma's, whose policy is a BOS and no EOS
    policy_of = replace(settings, add_bos=settings.add_bos is not False and bos is not None)
    return _with_roles(kind, path, ids, max(ids.values()) + 1, added, policy_of, ([], []))
