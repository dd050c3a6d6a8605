"""Bytes of unknown encoding to text: what text files in Korea come in."""

import codecs
from pathlib import Path

from soban.errors import UserError

BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def decode(data: bytes, path: Path) -> str:
    """Text in UTF-8, in UTF-16 with a byte order mark, or in cp949, with plain line ends."""
    marked = [name for mark, name in BOMS if data.startswith(mark)]
    for encoding in marked or ("utf-8", "cp949"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text.replace("\r\n", "\n")
    raise UserError("{path}: not text in UTF-8, UTF-16 or cp949", path=path, hint="save it again as UTF-8")
