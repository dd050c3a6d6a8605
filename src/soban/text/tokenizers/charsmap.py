"""SentencePiece's precompiled_charsmap: rewrites text by longest match (NFKC and the like), in a double-array trie.

Layout (sentencepiece, src/normalizer.cc): the trie's size in bytes, its 32-bit units as darts-clone packs them, then
the replacements, each ended by a zero byte.
"""

import array
import struct
import sys

from soban.messages import translate


class Charsmap:
    """The mapping; `ValueError` where the blob is not whole."""

    def __init__(self, blob: bytes) -> None:
        if len(blob) < 4:
            raise ValueError(translate("the character map is cut off"))
        (size,) = struct.unpack_from("<I", blob)
        if size % 4 or not 4 <= size <= len(blob) - 4:
            raise ValueError(
                translate(
                    "the character map promises a trie of {size} bytes and has {held}", size=size, held=len(blob) - 4
                )
            )
        self._units = array.array("I", blob[4 : 4 + size])
        if sys.byteorder == "big":
            self._units.byteswap()
        self._replacements = blob[4 + size :]
        root = self._units[0]
        self._root = _offset(root)
        self._starts: dict[str, tuple[int, str | None]] = {}

    def apply(self, text: str) -> str:
        """The text rewritten."""
        parts: list[str] = []
        position, end = 0, len(text)
        starts = self._starts
        while position < end:
            character = text[position]
            step = starts.get(character)
            if step is None:
                step = starts[character] = self._walk(self._root, character)
            node, best = step
            position += 1
            following = position
            while node >= 0 and following < end:
                node, replacement = self._walk(node, text[following])
                following += 1
                if replacement is not None:
                    best, position = replacement, following
            parts.append(character if best is None else best)
        return "".join(parts)

    def _walk(self, node: int, character: str) -> tuple[int, str | None]:
        """One character on from a node: the next node (-1: no key goes on), and what a key that ends there becomes."""
        units, count = self._units, len(self._units)
        unit = 0
        for byte in character.encode():
            node ^= byte
            if node >= count or (unit := units[node]) & 0x800000FF != byte:
                return -1, None
            node ^= _offset(unit)
        if not unit >> 8 & 1:
            return node, None
        if node >= count:
            return -1, None
        start = units[node] & 0x7FFFFFFF
        end = self._replacements.find(b"\0", start)
        return node, self._replacements[start : end if end >= 0 else None].decode(errors="replace")


def _offset(unit: int) -> int:
    return unit >> 10 << ((unit & 0x200) >> 6)
