"""Changes to inputs: JSON by its structure, bytes by their places; all drawn from the dice that they are given."""

import copy
import json
import math
import random
from typing import Any

MOST_DEEP = 20_000  # levels of nesting: far beyond what any parser takes
NUMBERS = (
    0, 1, -1, 2, 3, 5, 7, 16, 63, 64, 127, 128, 255, 256, 257, 65535, 65536, 2**31 - 1, 2**31, -(2**31), 2**32 - 1,
    2**32, 2**53, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**30, -(10**30),
    0.0, -0.0, 0.5, 1.5, -2.5, 1e-320, 1e308, -1e308, 3.4e38,
)  # fmt: skip
TEXTS = (
    "",
    " ",
    "x",
    "a b",
    "null",
    "true",
    "NaN",
    "\0",
    "\n",
    "\u2581",
    "가",
    "\ud800",
    "<0x00>",
    "../x",
    "/etc/passwd",
    "a" * 999,
    "\U0001f600",
    "e\u0301",
    "<s>",
    "{{ x }}",
    "%s",
    "{x}",
)
SHAPES: tuple[Any, ...] = ([], {}, [None], [[]], {"": {}}, [1, 2, 3], ["a"], {"type": "x"}, [[1, 2], [3, 4]], [True])
WORDS = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
LONG_WORDS = (*WORDS, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
DEEP = "\u0001deep"  # stands in a tree for what no tree can hold, and is put into the text


def changed_json(dice: random.Random, text: str, keep: tuple[str, ...] = ()) -> bytes:
    """The JSON text with one to three of its values changed; now and then its bytes are damaged instead.

    `keep`: keys of the object that stay as they are.
    """
    chance = dice.random()
    if chance < 0.08:
        return damaged(dice, text.encode())
    value = json.loads(text)
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        value = changed(dice, value, keep)
    return written(dice, value)


def written(dice: random.Random, value: Any) -> bytes:
    """A tree as JSON, its placeholders filled; some of it spelt in ways that are rare."""
    text = json.dumps(value, ensure_ascii=dice.random() < 0.5)
    if DEEP_IN_TEXT in text:
        text = _filled(dice, text)
    if dice.random() < 0.03 and isinstance(value, dict) and value:
        key = dice.choice(list(value))
        text = "{" + json.dumps(key) + ": " + json.dumps(strange(dice)).replace(DEEP_IN_TEXT, "") + ", " + text[1:]
    data = text.encode("utf-8", "surrogatepass")
    if dice.random() < 0.02:
        data = b"\xef\xbb\xbf" + data
    return data


DEEP_IN_TEXT = json.dumps(DEEP)[1:-1]


def _filled(dice: random.Random, text: str) -> str:
    count = dice.choice((10, 200, 900, 1100, 5000, MOST_DEEP))
    kinds = ("[" * count + "]" * count, '{"a":' * count + "1" + "}" * count, "9" * count, "1e" + "9" * min(count, 400),
             "-" + "9" * count, "NaN", "-Infinity", "Infinity", "0." + "3" * count)  # fmt: skip
    return text.replace(f'"{DEEP_IN_TEXT}"', dice.choice(kinds))


def strange(dice: random.Random) -> Any:
    """A value of any type."""
    kind = dice.randrange(12)
    if kind < 4:
        return dice.choice(NUMBERS)
    if kind < 7:
        return dice.choice(TEXTS)
    if kind < 9:
        return copy.deepcopy(dice.choice(SHAPES))  # a tree is changed in place, and may get the same shape twice
    return DEEP if kind == 9 else dice.choice((None, True, False))


def near(dice: random.Random, value: Any) -> Any:
    """A value of nearly the same kind, or the same in another type."""
    if isinstance(value, bool) or value is None:
        return dice.choice((not value, int(bool(value)), None, str(value), [value]))
    if isinstance(value, int):
        return dice.choice((value + 1, value - 1, -value, 2 * value, value // 2, float(value), str(value), [value],
                            value ^ 1, value + 2**32, 3 * value, 1000 * value))  # fmt: skip
    if isinstance(value, float):
        whole = int(value) if math.isfinite(value) else 0
        return dice.choice((-value, value * 2, value / 2, value * 1e30, value * 1e-30, whole, str(value), [value]))
    if isinstance(value, str):
        at = dice.randrange(len(value) + 1)
        return dice.choice((value[:at], value[at:], value + "x", value.upper(), value.lower(), value * 2, [value],
                            {"content": value}, value[:at] + dice.choice(TEXTS) + value[at:], value[::-1]))  # fmt: skip
    if isinstance(value, list):
        if not value:
            return [strange(dice)]
        at = dice.randrange(len(value))
        return dice.choice((value[:at], value[at:], [*value, value[at]], value[::-1], [*value, strange(dice)], [value],
                            {str(n): item for n, item in enumerate(value)}, value * 2, value[at]))  # fmt: skip
    keys = list(value)
    if not keys:
        return {"x": strange(dice)}
    key = dice.choice(keys)
    return dice.choice(
        (
            {k: v for k, v in value.items() if k != key},
            {**value, key + "_": value[key]},
            {**value, dice.choice(TEXTS): 1},
            [value],
            list(value.values()),
            value[key],
            {k: value[key] for k in keys},
            {(k + "x" if k == key else k): v for k, v in value.items()},
        )
    )


def changed(dice: random.Random, value: Any, keep: tuple[str, ...] = ()) -> Any:
    """The tree with one of its values changed, removed, or exchanged for another of them. It is changed in place."""
    if not isinstance(value, dict | list) or not value or dice.random() < 0.004:
        return strange(dice)
    holder = value
    while True:
        keys: list[Any] = (
            [key for key in holder if key not in keep] if isinstance(holder, dict) else [*range(len(holder))]
        )
        if not keys:
            return value
        key = dice.choice(keys)
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner or dice.random() < 0.25:
            break
        holder = inner
    act = dice.random()
    if act < 0.4:
        holder[key] = near(dice, inner)
    elif act < 0.75:
        holder[key] = strange(dice)
    elif act < 0.85:
        del holder[key]
    else:
        other = dice.choice(keys)
        holder[key], holder[other] = holder[other], inner
    return value


def damaged(dice: random.Random, data: bytes, start: int = 0) -> bytes:
    """The bytes, from `start` on, with one to four places changed."""
    made = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        size = len(made) - start
        if size < 1:
            return bytes(made) + dice.randbytes(4)
        at = start + dice.randrange(size)
        act = dice.randrange(11)
        if act < 3:
            made[at] ^= 1 << dice.randrange(8)
        elif act < 5:
            made[at] = dice.randrange(256)
        elif act < 7:
            width = dice.choice((2, 4, 4, 8))
            made[at : at + width] = (dice.choice(LONG_WORDS) % (1 << 8 * width)).to_bytes(width, "little")[
                : len(made) - at
            ]
        elif act == 7:
            del made[at:]
        elif act == 8:
            made[at:at] = dice.randbytes(dice.randrange(1, 9))
        elif act == 9:
            del made[at : at + dice.randrange(1, 9)]
        else:
            other = start + dice.randrange(size)
            count = dice.randrange(1, 33)
            made[at : at + count] = made[other : other + count]
    return bytes(made)


def kept_size(dice: random.Random, data: bytes, start: int, stop: int | None = None) -> bytes:
    """The bytes between `start` and `stop` changed, and their number kept: what lies behind a header."""
    made = bytearray(data)
    end = len(made) if stop is None else stop
    if end <= start:
        return data
    for _ in range(dice.choice((1, 1, 2, 4, 16))):
        at = dice.randrange(start, end)
        act = dice.randrange(5)
        if act < 2:
            made[at] ^= 1 << dice.randrange(8)
        elif act == 2:
            made[at] = dice.choice((0, 0x7F, 0x80, 0xFF))
        else:
            width = min(dice.choice((2, 4, 4, 8)), end - at)
            made[at : at + width] = (dice.choice(LONG_WORDS) % (1 << 8 * width)).to_bytes(width, "little")
    return bytes(made)


def put_number(dice: random.Random, data: bytes, at: int, layout: str = "<i") -> bytes:
    """One number of a binary header changed: one more or less, doubled, or one that is strange."""
    import struct

    (value,) = struct.unpack_from(layout, data, at)
    width = struct.calcsize(layout)
    new = dice.choice((value + 1, value - 1, -value, 2 * value, value // 2, dice.choice(LONG_WORDS), 3 * value, 0))
    return data[:at] + (int(new) % (1 << 8 * width)).to_bytes(width, "little") + data[at + width :]
