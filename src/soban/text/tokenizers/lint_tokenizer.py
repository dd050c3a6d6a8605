"""What a tokenizer.json says against the settings beside it, and what becomes of characters that it does not know."""

import json
from collections.abc import Iterator

from soban.base.errors import Finding, UserError
from soban.text.tokenizers.entries import Entries
from soban.text.tokenizers.library import frame_of

SETTINGS = "tokenizer_config.json"
# Classes of transformers 5 that make the tokenizer anew, from a tokenizer.json's vocabulary and merges alone, and
# whether characters that no piece spells become its unknown token there.
ANEW = {"LlamaTokenizer": False, "CodeLlamaTokenizer": True, "GemmaTokenizer": True}


def lint_tokenizer(entries: Entries) -> Iterator[Finding]:
    """All that is amiss."""
    if entries.parts:  # of a tokenizer.json
        yield from _policy(entries)
        yield from _unknown(entries)


def _policy(entries: Entries) -> Iterator[Finding]:
    """A BOS or EOS that one file puts around a text and the other does not."""
    before, after = frame_of(entries.parts["post_processor"])
    for key, add, token, there in (
        ("add_bos_token", entries.settings.add_bos, entries.bos_id, before),
        ("add_eos_token", entries.settings.add_eos, entries.eos_id, after),
    ):
        if add is None or token is None or add == (token in there):
            continue
        error = UserError(
            "{key} is {value}, and the post-processor of {file} does otherwise", key=key,
            value=json.dumps(add), file=entries.file,
            hint="soban goes by the key, as transformers 4 and llama.cpp do; transformers 5 goes by {file}",
        )  # fmt: skip
        yield Finding("policy-differs", error, SETTINGS, add, "note")


def _unknown(entries: Entries) -> Iterator[Finding]:
    """Characters that the vocabulary lacks, where programs differ over them or nothing is left of them."""
    model = entries.parts["model"]
    bytes_known = all(f"<0x{byte:02X}>" in entries.ids for byte in range(256))
    if _mentions(entries.parts["pre_tokenizer"], "ByteLevel") or _mentions(entries.parts["normalizer"], "ByteLevel"):
        return
    unknown = model.get("unk_id") if entries.kind == "Unigram" else model.get("unk_token")
    none = unknown is None or (entries.kind != "Unigram" and unknown not in entries.ids)
    spelled = bool(model.get("byte_fallback")) and bytes_known
    kind = entries.settings.tokenizer_class.removesuffix("Fast")
    if kind in ANEW and (entries.kind != "BPE" or not (spelled or none or ANEW[kind])):
        error = UserError(
            "transformers 5 makes a {kind} anew from the vocabulary of {file}, and loses what the vocabulary lacks",
            kind=kind, file=entries.file,
            hint="soban goes by {file}; PreTrainedTokenizerFast as tokenizer_class makes transformers do so",
        )  # fmt: skip
        yield Finding("class-differs", error, SETTINGS, entries.settings.tokenizer_class, "note")
    if none and not spelled:
        error = UserError(
            "{file} has no token for characters that it does not know: they are left out of a text"
            if entries.kind == "BPE" and unknown is None
            else "{file} has no token for characters that it does not know: a text with one is refused",
            file=entries.file, hint="take a tokenizer with byte fallback for other languages",
        )  # fmt: skip
        yield Finding("unknown-lost", error, entries.file, level="note")


def _mentions(part: object, kind: str) -> bool:
    return f'"{kind}"' in json.dumps(part)
