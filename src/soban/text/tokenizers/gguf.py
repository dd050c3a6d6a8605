"""The tokenizer that a GGUF file's keys describe, by its kinds."""

import json
from collections.abc import Callable, Mapping

from soban.text.tokenizers.gguf_json import library_form
from soban.text.tokenizers.gguf_vocabulary import CHARSMAP, SCORES, TYPES, GgufVocabulary
from soban.text.tokenizers.spm_file import BPE, UNIGRAM, Piece, PieceType, SentencePieceFile
from soban.text.tokenizers.tokenizer import Tokenizer


def gguf_tokenizer(vocabulary: GgufVocabulary) -> Tokenizer:
    """The tokenizer. Raises UserError for what is damaged, or cuts texts in a way that is not known."""
    return KINDS[str(vocabulary.model)](vocabulary)


def _sentencepiece(vocabulary: GgufVocabulary, model_type: int) -> Tokenizer:
    from soban.text.tokenizers.sentencepiece import SentencePieceTokenizer

    scores = vocabulary.numbers(SCORES)
    if scores is None:
        raise vocabulary.damaged(SCORES)
    kinds = {int(kind): kind for kind in PieceType}
    pieces = [
        Piece(text, score, kinds[kind] if text else PieceType.UNUSED)
        for text, score, kind in zip(vocabulary.tokens, scores, vocabulary.types, strict=True)
    ]
    unknown = next((i for i, piece in enumerate(pieces) if piece.type is PieceType.UNKNOWN), None)
    byte_pieces = {piece.text for piece in pieces if piece.type is PieceType.BYTE}
    whole = byte_pieces == {f"<0x{byte:02X}>" for byte in range(256)}
    if byte_pieces and not whole:
        raise vocabulary.damaged(TYPES)
    try:
        return SentencePieceTokenizer(
            SentencePieceFile(
                pieces, model_type, byte_fallback=whole, charsmap=vocabulary.charsmap(),
                unk_id=vocabulary.ids.get("unknown", 0) if unknown is None else unknown,
                bos_id=vocabulary.ids.get("bos", -1), eos_id=vocabulary.ids.get("eos", -1),
                add_dummy_prefix=vocabulary.flag("add_space_prefix", True),
                remove_extra_whitespaces=vocabulary.flag("remove_extra_whitespaces", model_type == UNIGRAM),
            ),
            vocabulary.settings,
        )  # fmt: skip
    except ValueError:  # of the character map
        raise vocabulary.damaged(CHARSMAP) from None


def _library(vocabulary: GgufVocabulary) -> Tokenizer:
    """A byte-pair tokenizer of the tokenizers library."""
    from soban.text.tokenizers.fast import load_fast

    data = json.dumps(library_form(vocabulary), ensure_ascii=False).encode("utf-8", "surrogatepass")
    return load_fast(vocabulary.path, vocabulary.settings, data)


KINDS: Mapping[str, Callable[[GgufVocabulary], Tokenizer]] = {
    "llama": lambda vocabulary: _sentencepiece(vocabulary, BPE),
    "t5": lambda vocabulary: _sentencepiece(vocabulary, UNIGRAM),
    "gpt2": _library,
    "gemma4": _library,
}
