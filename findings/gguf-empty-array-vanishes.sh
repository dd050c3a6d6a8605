#!/usr/bin/env bash
# gguf 0.19.0: a key whose value is an empty array is not written, and nothing says so.
#
# GGUFWriter.add_array("tokenizer.ggml.merges", []) returns as for any other array; the file has no such key. A
# tokenizer of single characters or bytes has no merges, a model no added tokens: readers that tell "missing" from
# "empty" refuse the file, or take their own default. The format itself has empty arrays (a type and a length of 0),
# and the package's own reader reads them. An array of arrays is written as such, but GGUFReader's contents() gives it
# back as one flat list.
#
# Ends with 0 while this is so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy==2.4.6 gguf==0.19.0
"$folder/venv/bin/python" - "$folder/model.gguf" <<'PYTHON'
import struct
import sys

from gguf import GGUFReader, GGUFWriter

path = sys.argv[1]
writer = GGUFWriter(path, "llama")
writer.add_array("tokenizer.ggml.merges", [])
writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
writer.add_array("some.table", [[1, 2], [3]])
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
fields = GGUFReader(path).fields
print("keys written:", [name for name in fields if not name.startswith("GGUF.")])
print("[[1, 2], [3]] is read as", fields["some.table"].contents())
assert "tokenizer.ggml.merges" not in fields and "tokenizer.ggml.tokens" in fields
assert fields["some.table"].contents() == [1, 2, 3]

# the same key written by hand: version 3, no tensor, one key; an array (9) of strings (8), none of them
name = b"tokenizer.ggml.merges"
with open(path, "wb") as file:
    file.write(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", len(name)) + name)
    file.write(struct.pack("<IIQ", 9, 8, 0))
found = GGUFReader(path).fields["tokenizer.ggml.merges"].contents()
print("written by hand, it is read as", found)
assert found == []
PYTHON
