#!/usr/bin/env bash
# tokenizers 0.23.3: the decoder Metaspace drops every blank that the first piece begins with, not the one it had added.
#
# With a Llama-like vocabulary an indented line begins with a piece of several blanks, one of which is the tokenizer's own:
# "    return x" is "▁▁▁▁", "▁return", "▁x". Decoded, all blanks of the first piece are gone and one of four is left, where
# sentencepiece 0.2.1 gives the text back, from the same ids of the same vocabulary. Whoever lets a model write
# indented code, and decodes that by itself, gets its first line nearer to the margin than the others.
#
# Ends with 0 while this is so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check tokenizers==0.23.3 sentencepiece==0.2.1
"$folder/venv/bin/python" - <<'PYTHON'
import io

import sentencepiece
from tokenizers import Tokenizer, decoders, models

model = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(["    return x", "        return y", "def f"] * 50), model_writer=model, vocab_size=60,
    model_type="bpe", remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, hard_vocab_limit=False,
    minloglevel=2,
)
judge = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
library = Tokenizer(models.BPE({judge.id_to_piece(i): i for i in range(judge.get_piece_size())}, []))
library.decoder = decoders.Metaspace()
text = "    return x"
ids = judge.encode(text)
print("pieces:", [judge.id_to_piece(i) for i in ids])
print("sentencepiece:", repr(judge.decode(ids)), " tokenizers:", repr(library.decode(ids)))
assert judge.decode(ids) == text and library.decode(ids) == " return x"
PYTHON
