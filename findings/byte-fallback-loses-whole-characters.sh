#!/usr/bin/env bash
# tokenizers 0.23.3: one unfinished character at the end of a run of byte tokens costs every character of that run.
#
# A model with byte fallback writes a Hangul syllable that its vocabulary lacks as three tokens <0xNN>. Where such a run
# is not valid UTF-8 as a whole (the text was cut after two of three bytes, say), the decoder ByteFallback gives U+FFFD
# for each byte of the whole run: "가나" and one byte more are seven U+FFFD. sentencepiece 0.2.1, given the same ids
# of the same vocabulary, keeps the complete syllables and marks the one that is not.
#
# So decoded text does not grow at its end: what stood there becomes something else with the next token. DecodeStream
# raises an Exception ("Invalid prefix encountered while decoding stream") one token later, on ids that a model may
# well write: a complete syllable, the first byte of another, then a letter.
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
from tokenizers.decoders import DecodeStream

model = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(["a few letters are enough here"] * 20), model_writer=model, vocab_size=300,
    model_type="bpe", byte_fallback=True, hard_vocab_limit=False, minloglevel=2,
)
judge = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
pieces = {judge.id_to_piece(i): i for i in range(judge.get_piece_size())}
library = Tokenizer(models.BPE(pieces, [], unk_token="<unk>", byte_fallback=True))
library.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])


def ids(data: bytes) -> list[int]:
    return [pieces[f"<0x{byte:02X}>"] for byte in data]


cut = ids("가나".encode() + "다".encode()[:1])
print("sentencepiece:", ascii(judge.decode(cut)), " tokenizers:", ascii(library.decode(cut)))
assert judge.decode(cut) == "가나\N{REPLACEMENT CHARACTER}"
assert library.decode(cut) == 7 * "\N{REPLACEMENT CHARACTER}"

told, stream = "", DecodeStream(skip_special_tokens=True)
for token in cut:
    told += stream.step(library, token) or ""
print("DecodeStream so far:", told)
assert told == "가나"
try:
    for token in [*ids("다".encode()[1:2]), pieces["a"]]:
        stream.step(library, token)
except Exception as error:
    print("DecodeStream raises:", str(error)[:60])
else:
    raise SystemExit("DecodeStream raised nothing")
PYTHON
