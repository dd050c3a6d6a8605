"""Small folders as sentence-transformers writes them: an encoder, its tokenizer, and what is made of its states."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from soban.weights.safetensors import write_safetensors

from .models.encoders import BERT, ROBERTA, folder_of

WORDS = [
    "a", "is", "the", "cat", "sat", "rain", "weather", "seoul", "query", "passage", ":", ".", "서울", "날씨", "비가",
    "맑다",
]  # fmt: skip
TEXTS = ["The cat sat.", "서울 날씨", "is", "rain weather rain the cat is a seoul query . " * 4, "비가 맑다 서울 xyz"]
META = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
PREFIX = "sentence_transformers.models."


def word_pieces() -> dict[str, Any]:
    """BERT's kind of tokenizer.json: [CLS] text [SEP], or [CLS] text [SEP] text [SEP] with types."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(c) for c in range(97, 123)]
    pieces = [*special, *dict.fromkeys([*WORDS, *letters]), *(f"##{letter}" for letter in letters)]
    ids = {piece: i for i, piece in enumerate(pieces)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": ids[token], "content": token, **flags} for token in special],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", ids["[SEP]"]], "cls": ["[CLS]", ids["[CLS]"]]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": ids},
    }  # fmt: skip


def unigram() -> dict[str, Any]:
    """XLM-RoBERTa's kind: <s> text </s>, or <s> text </s></s> text </s>, all of one type."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    letters = [chr(c) for c in range(97, 123)]
    pieces = [
        *special,
        "▁",
        *(f"▁{word}" for word in WORDS),
        *dict.fromkeys([*letters, *"ABCDEFTR.:", *"서울날씨비가맑다"]),
    ]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}

    def text(name: str) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": 0}}

    def token(name: str) -> dict[str, Any]:
        return {"SpecialToken": {"id": name, "type_id": 0}}

    s, end = token("<s>"), token("</s>")
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": token, **flags} for i, token in enumerate(special)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, META]},
        "post_processor": {
            "type": "TemplateProcessing", "single": [s, text("A"), end],
            "pair": [s, text("A"), end, end, text("B"), end],
            "special_tokens": {
                name: {"id": name, "ids": [special.index(name)], "tokens": [name]} for name in ("<s>", "</s>")
            },
        },
        "decoder": META,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": [[piece, -float(i)] for i, piece in enumerate(pieces)]},
    }  # fmt: skip


ROLES = {
    "bert": {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]",
             "mask_token": "[MASK]", "tokenizer_class": "BertTokenizerFast"},
    "xlm-roberta": {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>",
                    "pad_token": "<pad>", "unk_token": "<unk>", "tokenizer_class": "XLMRobertaTokenizerFast"},
}  # fmt: skip
KINDS = {"bert": BERT, "xlm-roberta": {**ROBERTA, "model_type": "xlm-roberta", "architectures": ["XLMRobertaModel"]}}


def put(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def encoder(folder: Path, kind: str = "bert", **config: Any) -> Path:
    """An encoder with a tokenizer of its kind."""
    folder_of(folder, {**KINDS[kind], **config})
    put(folder / "tokenizer.json", word_pieces() if kind == "bert" else unigram())
    put(folder / "tokenizer_config.json", {**ROLES[kind], "model_max_length": 64})
    return folder


def sentence_model(
    folder: Path, pooling: dict[str, Any] | None = None, *, kind: str = "bert", dense: str | None = None,
    normalize: bool = True, longest: int | None = None, about: dict[str, Any] | None = None, **config: Any,
) -> Path:  # fmt: skip
    """An encoder with sentence-transformers' files beside it."""
    encoder(folder, kind, **config)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    put(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32, **(pooling or {})})
    if dense is not None:
        modules.append(("2_Dense", "Dense"))
        put(folder / "2_Dense" / "config.json", {
            "in_features": 32, "out_features": 12, "bias": True, "activation_function": dense,
        })  # fmt: skip
        dice = np.random.default_rng(5)
        tensors = {"linear.weight": dice.normal(0, 0.2, (12, 32)), "linear.bias": dice.normal(0, 0.2, 12)}
        entries = [(name, "F32", value.shape) for name, value in tensors.items()]
        write_safetensors(
            folder / "2_Dense" / "model.safetensors", entries, lambda name: [tensors[name].astype(np.float32)],
            {"format": "pt"},
        )  # fmt: skip
    if normalize:
        modules.append((f"{len(modules)}_Normalize", "Normalize"))
    put(folder / "modules.json", [
        {"idx": i, "name": str(i), "path": path, "type": PREFIX + name} for i, (path, name) in enumerate(modules)
    ])  # fmt: skip
    put(folder / "sentence_bert_config.json", {"max_seq_length": longest, "do_lower_case": False})
    put(folder / "config_sentence_transformers.json", about or {})
    return folder
