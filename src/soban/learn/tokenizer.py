"""A tokenizer of Gemma's kind, learnt from text: byte-pair encoding over characters, bytes for what was never seen."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, EOS, BOS, UNKNOWN = "<pad>", "<eos>", "<bos>", "<unk>"
SPECIALS = (PAD, EOS, BOS, UNKNOWN)  # Gemma's own order: 0, 1, 2, 3
SPACE = "▁"
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
SMALLEST_VOCABULARY = len(SPECIALS) + len(BYTES)

# While merges are learnt, a piece is a word with the space before it, a digit, or a run of one kind of mark, so that no
# merge crosses from one word to the next. Encoding needs no such cut: the merges keep to it by themselves.
PIECES = rf"{SPACE}?[\p{{L}}\p{{M}}]+|{SPACE}?\p{{N}}|\n|{SPACE}?[^\p{{L}}\p{{M}}\p{{N}}\n{SPACE}]|{SPACE}"


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> "Tokenizer":
    """A tokenizer of `vocab_size` entries (fewer where the text offers no more): specials, bytes, characters, merges.

    Text is put in Unicode's NFC form, spaces become ▁ and none is added in front; `<bos>` comes first.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN, byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(" ", SPACE)])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), "isolated")
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[*SPECIALS, *BYTES], min_frequency=2, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    learnt = json.loads(tokenizer.to_str())
    # The byte entries were listed as special only to get their places; a special token would be dropped from the text.
    learnt["added_tokens"] = [token for token in learnt["added_tokens"] if token["content"] in SPECIALS]
    learnt["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(learnt))
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS}:0 $A:0",
        pair=f"{BOS}:0 $A:0 {BOS}:1 $B:1",
        special_tokens=[(BOS, tokenizer.token_to_id(BOS))],
    )
    return tokenizer


def special_ids(tokenizer: "Tokenizer") -> dict[str, int]:
    """The ids that config.json names."""
    vocabulary = tokenizer.get_vocab()
    return {"pad_token_id": vocabulary[PAD], "eos_token_id": vocabulary[EOS], "bos_token_id": vocabulary[BOS]}


def save_tokenizer(tokenizer: "Tokenizer", folder: Path, context: int) -> None:
    """tokenizer.json and tokenizer_config.json, as transformers reads them."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "pad_token": PAD,
        "eos_token": EOS,
        "bos_token": BOS,
        "unk_token": UNKNOWN,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
