"""A tokenizer learnt from text, as SentencePiece would have it: byte pairs over characters, bytes for the unseen."""

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from soban.text.tokenizers.library import library_errors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE = Path("tokenizer.json")  # what errors call one that is not saved yet
PAD, EOS, BOS, UNKNOWN = "<pad>", "<eos>", "<bos>", "<unk>"
SPECIALS = (PAD, EOS, BOS, UNKNOWN)  # Gemma's own order: 0, 1, 2, 3
LLAMA_SPECIALS = ("<unk>", "<s>", "</s>")  # 0, 1, 2, and the bytes from 3 on, which llama2.c takes for granted
Layout = Literal["llama", "gemma"]
SPACE = "▁"
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
SMALLEST_VOCABULARY = len(SPECIALS) + len(BYTES)
COVERED = 0.9995  # share of the characters that get entries of their own, as SentencePiece's default is
MOST_SINGLE = 0.5  # share of the entries that may be single characters
COUNTED = 1 << 24  # characters of text in which the commonest are found

# While merges are learnt, a piece is a word with the space before it, a digit, or a run of one kind of mark, so that no
# merge crosses from one word to the next. Encoding needs no such cut: the merges keep to it by themselves.
PIECES = rf"{SPACE}?[\p{{L}}\p{{M}}]+|{SPACE}?\p{{N}}|\n|{SPACE}?[^\p{{L}}\p{{M}}\p{{N}}\n{SPACE}]|{SPACE}"


def train_tokenizer(texts: Iterable[str], vocab_size: int, layout: Layout = "gemma") -> "Tokenizer":
    """A tokenizer of `vocab_size` entries (fewer where the text offers no more): specials, bytes, characters, merges.

    Text is put in Unicode's NFC form and spaces become ▁. As Gemma has it none is added in front, `<bos>` comes first;
    as Llama has it one is added, `<s>` comes first, and llama2.c's run.c finds the same tokens.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    specials = SPECIALS if layout == "gemma" else LLAMA_SPECIALS
    unknown = "<unk>"
    rest = iter(texts)
    first = _beginning(rest, COUNTED)
    tokenizer = Tokenizer(models.BPE(unk_token=unknown, byte_fallback=True, fuse_unk=True))
    in_front = [normalizers.Prepend(SPACE)] if layout == "llama" else []
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), *in_front, normalizers.Replace(" ", SPACE)])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), "isolated")
    alphabet = _alphabet(first, vocab_size - len(specials) - len(BYTES))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[*specials, *BYTES], min_frequency=2, show_progress=False,
        initial_alphabet=alphabet, limit_alphabet=len(alphabet),
    )  # fmt: skip
    with library_errors(FILE):
        tokenizer.train_from_iterator(chain(first, rest), trainer)
    state = json.loads(tokenizer.to_str())
    # The byte entries were listed as special only to get their places; a special token would be dropped from the text.
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in specials]
    state["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(state))
    _frame(tokenizer, layout)
    return tokenizer


def _beginning(texts: Iterator[str], characters: int) -> list[str]:
    """The first texts, until they have so many characters."""
    beginning: list[str] = []
    size = 0
    for text in texts:
        beginning.append(text)
        size += len(text)
        if size >= characters:
            break
    return beginning


def _alphabet(texts: list[str], room: int) -> list[str]:
    """The characters that get entries of their own: the commonest ones, and no more than leave room for merges."""
    counts = Counter(chain.from_iterable(unicodedata.normalize("NFC", text).replace(" ", SPACE) for text in texts))
    total, covered = sum(counts.values()), 0
    alphabet: list[str] = []
    # of equally common ones the first, so that the same text always gives the same tokenizer
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if covered >= COVERED * total or len(alphabet) >= int(MOST_SINGLE * room):
            break
        covered += count
        alphabet.append(character)
    return alphabet


def _frame(tokenizer: "Tokenizer", layout: Layout) -> None:
    """What stands around the merges: BOS, and the way back to text."""
    from tokenizers import decoders, processors

    steps: list[Any] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if layout == "llama":
        steps.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(steps)
    bos = BOS if layout == "gemma" else "<s>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos}:0 $A:0",
        pair=f"{bos}:0 $A:0 {bos}:1 $B:1",
        special_tokens=[(bos, tokenizer.token_to_id(bos))],
    )


def special_ids(tokenizer: "Tokenizer") -> dict[str, int]:
    """The ids that config.json names; Llama's layout has no padding of its own."""
    names = {"pad_token_id": (PAD,), "eos_token_id": (EOS, "</s>"), "bos_token_id": (BOS, "<s>")}
    vocabulary = tokenizer.get_vocab()
    return {key: vocabulary[name] for key, candidates in names.items() for name in candidates if name in vocabulary}


def save_tokenizer(tokenizer: "Tokenizer", folder: Path, context: int | None = None) -> None:
    """tokenizer.json and tokenizer_config.json, as transformers reads them."""
    # as its own save does, whose errors are no OSError
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8", newline="\n")
    ids = special_ids(tokenizer)
    roles = {key.removesuffix("_id"): tokenizer.id_to_token(index) for key, index in ids.items()}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        **roles,
        "unk_token": UNKNOWN,
    }
    if context is None:
        del config["model_max_length"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
