"""Tokenizers: tokenizer.json of each type, its settings, tokenizer.model, tokenizer.bin; loads encode and decode."""

import json
import random
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from soban.text.tokenizers.llama2c import load_llama2c_tokenizer
from soban.text.tokenizers.tokenizer import Tokenizer, load_tokenizer
from tests.fuzz.changing import LONG_WORDS, changed_json, damaged, kept_size
from tests.fuzz.formats import Files, Format, Wrong, is_json

SENTENCES = ("Hello ab 세계 12", "<s>ab  abba</s>\n", "", "x\u0301\0 <unk>가나")
CONFIG = {"bos_token_id": 1, "eos_token_id": 2}
ADDED = [
    {"id": index, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
     "special": True}
    for index, content in enumerate(("<unk>", "<s>", "</s>"))
]  # fmt: skip
LETTERS = [
    "a",
    "b",
    "ab",
    "bb",
    "abb",
    "H",
    "e",
    "l",
    "o",
    "ll",
    "x",
    "1",
    "2",
    "가",
    "나",
    "세",
    "계",
    "▁",
    "▁a",
    "▁ab",
]
SETTINGS = {
    "add_bos_token": True,
    "add_eos_token": False,
    "bos_token": "<s>",
    "eos_token": {"content": "</s>", "lstrip": False},
    "unk_token": "<unk>",
    "pad_token": None,
    "additional_special_tokens": ["<x>", {"content": "<y>"}],
    "added_tokens_decoder": {"0": {"content": "<unk>", "special": True}, "1": {"content": "<s>", "special": True}},
    "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}",
    "clean_up_tokenization_spaces": False,
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_max_length": 1000000000000000019884624838656,
}


def used(tokenizer: Tokenizer) -> None:
    """Encodes and decodes; raises Wrong where a stream's text is not the whole decode's."""
    for text in SENTENCES:
        ids = tokenizer.encode(text, special="<" in text)
        if any(type(index) is not int or index < 0 for index in ids):
            raise Wrong(f"ids {ids[:20]}")
        stream = tokenizer.stream()
        streamed = "".join(stream.feed(index) for index in ids) + stream.finish()
        if (whole := tokenizer.decode(ids)) != streamed:
            raise Wrong(f"{streamed!r} streamed, {whole!r} whole")
    tokenizer.find_markup("a<s>b")
    tokenizer.encode_rendered("<s>a\U000f0000b", {"\U000f0000": "</s>x"})


def read(folder: Path, dice: random.Random) -> None:
    used(load_tokenizer(folder, CONFIG))


def json_of(kind: str, folder: Path) -> Format:
    texts = [json.dumps(value, ensure_ascii=False) for value in MODELS[kind]()]

    def make(dice: random.Random) -> Files:
        return {"tokenizer.json": changed_json(dice, dice.choice(texts))}

    base = {"tokenizer.json": texts[0].encode(), "tokenizer_config.json": b'{"bos_token": "<s>", "eos_token": "</s>"}'}
    return Format(f"tokenizer.json-{kind}", make, read, is_json, base)


def whole(model: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """A tokenizer.json around a model."""
    empty = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": ADDED, "normalizer": None,
             "pre_tokenizer": None, "post_processor": None, "decoder": None}  # fmt: skip
    return empty | parts | {"model": model}


def vocabulary(*more: str) -> dict[str, int]:
    return {piece: index for index, piece in enumerate(dict.fromkeys(["<unk>", "<s>", "</s>", *more, *LETTERS]))}


METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
FRAME = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
}


def bpe() -> list[dict[str, Any]]:
    merges = [["a", "b"], ["b", "b"], ["ab", "b"], ["l", "l"], ["▁", "a"], ["▁", "ab"], ["▁a", "b"]]
    model = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": False, "ignore_merges": False,
             "vocab": vocabulary(), "merges": merges}  # fmt: skip
    fallback = model | {"byte_fallback": True, "vocab": vocabulary(*(f"<0x{byte:02X}>" for byte in range(256)))}
    joined = model | {"merges": [" ".join(pair) for pair in merges]}
    decoders = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}  # fmt: skip
    normalizer = {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ],
    }
    split = {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "\\p{L}+|\\d|\\s+"}, "behavior": "Isolated", "invert": False},
            BYTE_LEVEL,
        ],
    }
    return [
        whole(model, pre_tokenizer=BYTE_LEVEL, decoder=BYTE_LEVEL, post_processor=FRAME),
        whole(model, pre_tokenizer=split, decoder=BYTE_LEVEL, post_processor=BYTE_LEVEL, normalizer={"type": "NFC"}),
        whole(fallback, normalizer=normalizer, decoder=decoders, post_processor=FRAME),
        whole(joined, pre_tokenizer=METASPACE, decoder=METASPACE),
    ]


def unigram() -> list[dict[str, Any]]:
    pieces = [[piece, 0.0 if index < 3 else -float(index)] for piece, index in vocabulary().items()]
    model = {"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": False}
    normalizers = {"type": "Sequence", "normalizers": [
        {"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]}  # fmt: skip
    return [whole(model, pre_tokenizer=METASPACE, decoder=METASPACE, normalizer=normalizers, post_processor=FRAME),
            whole(model, pre_tokenizer=METASPACE | {"prepend_scheme": "first"}, decoder=METASPACE)]  # fmt: skip


def wordpiece() -> list[dict[str, Any]]:
    model = {
        "type": "WordPiece",
        "unk_token": "<unk>",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": vocabulary("##a", "##b", "##l", "##o", "##lo", "he", "##계"),
    }
    normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
                  "lowercase": True}  # fmt: skip
    frame = {"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1]}
    decoder = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    return [
        whole(
            model,
            normalizer=normalizer,
            pre_tokenizer={"type": "BertPreTokenizer"},
            post_processor=frame,
            decoder=decoder,
        )
    ]


def wordlevel() -> list[dict[str, Any]]:
    model = {"type": "WordLevel", "vocab": vocabulary("Hello", "12"), "unk_token": "<unk>"}
    split = {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Whitespace"},
            {"type": "Digits", "individual_digits": True},
            {"type": "Punctuation", "behavior": "Isolated"},
        ],
    }
    roberta = {
        "type": "RobertaProcessing",
        "sep": ["</s>", 2],
        "cls": ["<s>", 1],
        "trim_offsets": True,
        "add_prefix_space": True,
    }
    return [whole(model, pre_tokenizer=split, normalizer={"type": "Lowercase"}, post_processor=roberta),
            whole(model, pre_tokenizer={"type": "WhitespaceSplit"}, decoder={"type": "Fuse"})]  # fmt: skip


MODELS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "bpe": bpe, "unigram": unigram, "wordpiece": wordpiece, "wordlevel": wordlevel,
}  # fmt: skip


def settings(folder: Path) -> Format:
    from soban.text.chat.template import load_template

    texts = {
        "tokenizer_config.json": json.dumps(SETTINGS),
        "special_tokens_map.json": json.dumps(
            {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "unk_token": "<unk>"}
        ),
        "added_tokens.json": json.dumps({"<x>": 23, "<y>": 24}),
        "chat_template.json": json.dumps(
            {"chat_template": [{"name": "default", "template": "{{ messages[0].content }}"}]}
        ),
    }
    base = {"tokenizer.json": json.dumps(bpe()[0]).encode()} | {name: text.encode() for name, text in texts.items()}
    del base["chat_template.json"]

    def make(dice: random.Random) -> Files:
        name = dice.choice((*texts, "tokenizer_config.json"))
        return {name: changed_json(dice, texts[name])}

    def read_both(place: Path, dice: random.Random) -> None:
        tokenizer = load_tokenizer(place, CONFIG)
        tokenizer.encode("<s>ab<x>")
        if (template := load_template(place)) is not None and dice.random() < 0.1:
            template.render([{"role": "user", "content": "ab"}])

    return Format("tokenizer_config.json", make, read_both, is_json, base)


def varint(value: int) -> bytes:
    made = bytearray()
    value %= 1 << 64
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])


Fields = list[tuple[int, int, Any]]  # field number, wire type, value: a number, bytes, or fields


def message(fields: Fields) -> bytes:
    """Fields as protocol buffers write them."""
    made = b""
    for number, wire, value in fields:
        body = message(value) if isinstance(value, list) else value
        made += varint(number << 3 | wire)
        if isinstance(body, int):
            made += varint(body)
        else:
            made += (varint(len(body)) if wire == 2 else b"") + body
    return made


def spm(kind: int, fallback: bool) -> Fields:
    """A SentencePiece model: 1 Unigram, 2 BPE, 3 word, 4 character."""
    pieces: Fields = []
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)] if fallback else []
    for index, piece in enumerate(("<unk>", "<s>", "</s>", *bytes_, *LETTERS)):
        role = (2, 3, 3)[index] if index < 3 else 6 if piece in bytes_ else 1
        pieces.append((1, 2, [(1, 2, piece.encode()), (2, 5, struct.pack("<f", -float(index))), (3, 0, role)]))
    trainer: Fields = [(3, 0, kind), (4, 0, len(pieces)), (35, 0, int(fallback)), (40, 0, 0), (41, 0, 1), (42, 0, 2)]
    normalizer: Fields = [(1, 2, b"identity"), (3, 0, 1), (4, 0, 1), (5, 0, 1)]
    return [*pieces, (2, 2, trainer), (3, 2, normalizer)]


def sentencepiece(folder: Path) -> Format:
    models = [spm(kind, False) for kind in (1, 1, 1, 2, 2, 2, 3, 4)] + [spm(2, True)]
    parts = [[message([field]) for field in model] for model in models]
    charsmap = struct.pack("<I", 16) + struct.pack("<4I", 0x100, 0x61, 0x162, 0x80000000) + b"a\0b\0"

    def make(dice: random.Random) -> Files:
        number = dice.randrange(len(models))
        whole_parts = list(parts[number])
        if dice.random() < 0.12:
            return {"tokenizer.model": damaged(dice, b"".join(whole_parts))}
        for _ in range(dice.choice((1, 1, 2, 3))):
            at = dice.choice(
                (len(whole_parts) - 1, len(whole_parts) - 2, dice.randrange(len(whole_parts)), dice.randrange(6))
            )
            at = min(at, len(whole_parts) - 1)
            act = dice.randrange(8)
            if act == 0:
                del whole_parts[at]
            elif act == 1:
                whole_parts.insert(dice.randrange(len(whole_parts)), whole_parts[at])
            elif act == 2:
                whole_parts[at] = damaged(dice, whole_parts[at], 2)
            elif act == 3 and at >= len(whole_parts) - 2:
                whole_parts[at] = message(
                    [(3, 2, [(2, 2, kept_size(dice, charsmap, 0)), (dice.randrange(1, 6), 0, 1)])]
                )
            elif at < len(models[number]):
                number_of, wire, fields = models[number][at]
                whole_parts[at] = message([(number_of, wire, changed_fields(dice, fields))])
        return {"tokenizer.model": b"".join(whole_parts)}

    def beyond(files: Files) -> bool:
        return files["tokenizer.model"].startswith(b"\n") and readable(files["tokenizer.model"])

    return Format("tokenizer.model", make, read, beyond, {"tokenizer.model": b"".join(parts[0])})


def readable(data: bytes) -> bool:
    """Whether the outermost fields are whole: then what is in them is looked at."""
    from soban.text.tokenizers import spm_file

    try:
        return all(True for _ in spm_file._fields(data))
    except ValueError:
        return False


def changed_fields(dice: random.Random, fields: Fields) -> Fields:
    """One field gone, twice there, or with another number, type or value."""
    made = list(fields)
    at = dice.randrange(len(made))
    number, wire, value = made[at]
    act = dice.randrange(6)
    if act == 0:
        del made[at]
    elif act == 1:
        made.append(made[at])
    elif act == 2:
        made[at] = (dice.choice((1, 2, 3, 4, 5, 24, 35, 40, 41, 42, 1 << 28)), wire, value)
    elif wire == 0:
        made[at] = (number, 0, dice.choice((value + 1, value - 1, 0, 1, 2, 3, 4, 5, 6, 7, *LONG_WORDS)))
    elif wire == 5:
        made[at] = (
            number,
            5,
            struct.pack("<f", dice.choice((0.0, -1.0, 1e30, -1e38, float("nan"), float("inf"), 1e-40))),
        )
    else:
        made[at] = (
            number,
            2,
            dice.choice((b"", b"\xff", b"a" * 300, value[:-1], value + b"x", b"<s>", "▁".encode(), b"\0")),
        )
    return made


def tokenizer_bin(folder: Path) -> Format:
    pieces = [b"<unk>", b"\n<s>\n", b"\n</s>\n", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    pieces += [piece.replace("▁", " ").encode() for piece in LETTERS]
    entries = [struct.pack("<fi", -float(index), len(piece)) + piece for index, piece in enumerate(pieces)]
    head = struct.pack("<i", max(map(len, pieces)))
    count = len(pieces)

    def make(dice: random.Random) -> Files:
        chance = dice.random()
        made = list(entries)
        if chance < 0.15:
            return {"tokenizer.bin": damaged(dice, head + b"".join(made))}
        for _ in range(dice.choice((1, 1, 2, 4))):
            at = dice.choice((dice.randrange(count), dice.randrange(259, count), dice.randrange(4)))
            act = dice.randrange(6)
            if act == 0:
                made[at] = (
                    struct.pack("<f", dice.choice((0.0, 1e30, float("nan"), float("inf"), -1e11, 3.0))) + made[at][4:]
                )
            elif act == 1:
                made[at] = (
                    made[at][:4] + struct.pack("<i", dice.choice((0, 1, -1, 5, 1 << 16, (1 << 31) - 1))) + made[at][8:]
                )
            elif act == 2:
                made[at] = made[dice.randrange(count)]
            elif act == 3:
                piece = dice.choice((b"", b"\xff\xfe", b" ", b"ab" * 200, b"<0x00>", b"<s>", "가나다".encode(), b"\0"))
                made[at] = made[at][:4] + struct.pack("<i", len(piece)) + piece
            elif act == 4:
                made[at] = kept_size(dice, made[at], 8) if len(made[at]) > 8 else made[at]
            else:
                made[at] = b""
        return {
            "tokenizer.bin": dice.choice((head, head, head, struct.pack("<i", dice.choice((0, -1, 1 << 30)))))
            + b"".join(made)
        }

    def read_it(place: Path, dice: random.Random) -> None:
        used(load_llama2c_tokenizer(place / "tokenizer.bin", count))

    return Format("tokenizer.bin", make, read_it, lambda files: len(files["tokenizer.bin"]) > 12, {})


FORMATS: dict[str, Callable[[Path], Format]] = {
    **{f"tokenizer.json-{kind}": partial(json_of, kind) for kind in MODELS},
    "tokenizer_config.json": settings, "tokenizer.model": sentencepiece, "tokenizer.bin": tokenizer_bin,
}  # fmt: skip
