"""How much a chat template may ask for: sizes are measured before the work is done."""

import itertools
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.utils import Namespace

from soban.messages import translate

MAX_BYTES = 96 << 20  # made in one rendering, all together
MAX_SECONDS = 0.8  # of processor time
SECONDS_PER_TURN = 0.008  # more of it for each message: some templates look at all messages for each of them
MAX_TEXT = 4_000_000  # characters of one text
MAX_ITEMS = 100_000  # of one list; jinja's range has the same bound
MAX_NODES = 200_000  # of one nested value, counted as a tree
MAX_WIDTH = 10_000  # of padding
MAX_DEPTH = 100  # of calls in calls
MAX_BITS = 4096  # of an integer
MAX_WORDY = 200_000  # characters of a text that is taken apart into words, each an object
MAX_LAYOUT = 200  # characters of a date's layout: for each the library takes 256 bytes
MAX_COMPARED = 100_000_000  # characters, in a search that starts over at each place
MAX_DIGITS = 100  # that a number is rounded to
MAX_STEPS = 20  # of the path to an attribute
STRIDE = 4096  # characters or items that take about as long as looking at the clock sixteen times

WIDTHS = re.compile(r"\d+")
WIDE_FORMAT = re.compile(r"\d{5,}|\*")
NESTED_FORMAT = re.compile(r":[^{}]*\{")
TEXT_METHODS = frozenset(
    (  # noqa: SIM905
        "strip lstrip rstrip split rsplit splitlines startswith endswith replace upper lower title capitalize swapcase"
        " casefold join format format_map find rfind index rindex count partition rpartition removeprefix removesuffix"
        " center ljust rjust zfill isalnum isalpha isascii isdecimal isdigit islower isnumeric isspace istitle isupper"
    ).split()
)


class TooMuch(Exception):
    """The template asks for more than a conversation can need."""


class Budget:
    """What one rendering may still use."""

    def __init__(self, turns: int = 0, until: float | None = None) -> None:
        now = time.thread_time()
        self._left = MAX_BYTES
        self._end = now + MAX_SECONDS + SECONDS_PER_TURN * turns if until is None else until
        self._earliest = time.perf_counter() + self._end - now
        self._work = 0
        self.depth = 0

    def charge(self, size: int) -> None:
        """Take `size` bytes off; TooMuch where bytes or time have run out."""
        self._left -= size + 50
        if self._left < 0:
            raise TooMuch(translate("it makes more text than a conversation can need"))
        self._work += 1 + size * 16 // STRIDE
        if self._work >= 16:
            self.look()

    def work(self, size: int) -> None:
        """Something is done with `size` characters or items; TooMuch where time has run out."""
        self._work += 1 + size * 16 // STRIDE
        if self._work >= 16:
            self.look()

    def look(self) -> None:
        """Look at the clock; at the thread's own, which the system has to be asked for, only where it can be time."""
        self._work = 0
        if time.perf_counter() > self._earliest:
            left = self._end - time.thread_time()
            if left < 0:
                raise TooMuch(translate("it takes too long"))
            self._earliest = time.perf_counter() + left


def measure(value: object) -> int:
    """The characters and nodes of a value as a tree; TooMuch where printing or comparing it would not end soon."""
    if isinstance(value, str):
        return len(value)
    if value is None or isinstance(value, int | float):
        return 1
    total = count = 0
    waiting = [value]
    while waiting:
        item = waiting.pop()
        count += 1
        if isinstance(item, str):
            total += len(item)
        elif isinstance(item, Mapping):
            waiting += item.keys()
            waiting += item.values()
        elif isinstance(item, (list, tuple)):
            waiting += item
        elif isinstance(item, range):
            count += len(item)
        elif isinstance(item, Namespace):
            waiting.append(object.__getattribute__(item, "_Namespace__attrs"))
        if total > MAX_TEXT or count + len(waiting) > MAX_NODES:
            raise TooMuch(translate("it nests values without end"))
    return total + count


def limited(number: int, most: int = MAX_TEXT) -> None:
    """TooMuch where a text or list would be longer than `most`."""
    if number > most:
        raise TooMuch(
            translate("it asks for {number} of at most {most}", number=number, most=most)
            if number < 1 << 63
            else translate("it asks for too large a number")
        )


def as_list(values: Iterable[Any]) -> list[Any]:
    """The values as a list of bounded length."""
    items = list(itertools.islice(values, MAX_ITEMS + 1))
    limited(len(items), MAX_ITEMS)
    return items


def checked_method(owner: str, name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments for a method of a text, if it is of sensible size."""
    if name not in TEXT_METHODS:
        raise SecurityError(translate("{name} is not for chat templates", name=name))
    if name == "join" and args:
        items = as_list(args[0])
        check_join(items, owner)
        return (items,)
    if name in METHODS:
        METHODS[name](owner, *args)
    return args


def check_numbers(left: Any, right: Any) -> None:
    for value in (left, right):
        if isinstance(value, int):
            limited(value.bit_length(), MAX_BITS)


def check_sum(left: Any, right: Any) -> None:
    if isinstance(left, (str, list, tuple)) and isinstance(right, (str, list, tuple)):
        limited(len(left) + len(right), MAX_TEXT if isinstance(left, str) else MAX_ITEMS)


def check_product(left: Any, right: Any) -> None:
    for value, times in ((left, right), (right, left)):
        if isinstance(value, (str, list, tuple)) and isinstance(times, int):
            limited(measure(value) * times, MAX_TEXT if isinstance(value, str) else MAX_ITEMS)
    if isinstance(left, int) and isinstance(right, int):
        limited(left.bit_length() + right.bit_length(), MAX_BITS)


def check_power(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int) and right > 0:
        limited(left.bit_length() * right, MAX_BITS)


def check_remainder(left: Any, right: Any) -> None:
    if isinstance(left, str):
        check_format(left, right)
    check_numbers(left, right)


def check_format(layout: Any, *values: Any, **keywords: Any) -> None:
    if WIDE_FORMAT.search(str(layout)):
        raise TooMuch(translate("it asks for very wide numbers"))
    limited(measure(values) + measure(keywords) + sum(map(int, WIDTHS.findall(str(layout)))))


def check_braces(layout: str, *values: Any, **keywords: Any) -> None:
    if NESTED_FORMAT.search(layout):
        raise TooMuch(translate("it computes the width of a number"))
    check_format(layout, *values, **keywords)
    limited(layout.count("{") * (measure(values) + MAX_WIDTH))


def check_width(value: Any, width: int = 0, *_: Any, **keywords: Any) -> None:
    limited(keywords.get("width", width), MAX_WIDTH)


def check_indent(text: Any, width: Any = 4, *_: Any, **keywords: Any) -> None:
    width = keywords.get("width", width)
    step = len(width) if isinstance(width, str) else width
    lines = str(text).count("\n") + 1
    limited(len(str(text)) + lines * step)


def check_replace(text: Any, old: Any, new: Any = "", *_: Any, **keywords: Any) -> None:
    text, old, new = str(text), str(old), str(keywords.get("new", new))
    limited(len(text) + (text.count(old) if old else len(text) + 1) * len(new))


def check_join(items: list[Any], between: Any = "", *_: Any, **keywords: Any) -> None:
    limited(measure(items) + len(items) * len(str(keywords.get("d", between))))


def check_split(text: str, separator: Any = None, *_: Any) -> None:
    counts = [separator] if isinstance(separator, str) and separator else [" ", "\n", "\t", "\r"]
    limited(sum(map(text.count, counts)), MAX_ITEMS)


def check_letters(text: Any, letters: Any = None, *_: Any, **keywords: Any) -> None:
    """Each character of the text may be looked for among all of the letters to strip."""
    letters = keywords.get("chars", letters)
    limited(len(str(letters or "")), MAX_LAYOUT)


def check_backwards(text: str, word: Any = None, *_: Any) -> None:
    """A search from the end may compare the word at each place of the text."""
    if isinstance(word, str) and len(word) > MAX_LAYOUT:
        limited(len(text) * len(word), MAX_COMPARED)


def check_rsplit(text: str, separator: Any = None, *rest: Any) -> None:
    check_split(text, separator, *rest)
    check_backwards(text, separator)


def check_round(value: Any, precision: Any = 0, *_: Any, **keywords: Any) -> None:
    limited(abs(keywords.get("precision", precision)), MAX_DIGITS)
    check_numbers(value, 0)


def check_attribute(name: str, values: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
    """The path to an attribute is walked for every item."""
    place = ATTRIBUTES.get(name)
    path = keywords.get("attribute", values[place] if place is not None and place < len(values) else None)
    if isinstance(path, str):
        limited(path.count(".") + path.count(","), MAX_STEPS)


def check_wordy(text: Any, *_: Any, **__: Any) -> None:
    limited(len(str(text)), MAX_WORDY)


def check_total(values: Any, attribute: Any = None, start: Any = 0, **_: Any) -> None:
    if isinstance(start, (list, tuple)):
        limited(len(values), 1000)  # each addition copies the whole


def check_json(value: Any, *_: Any, **keywords: Any) -> None:
    indent = keywords.get("indent")
    limited(len(indent) if isinstance(indent, str) else indent or 0, 32)
    limited(sum(len(part) for part in keywords.get("separators") or ()), 32)


OPERATORS: dict[str, Callable[[Any, Any], None]] = {
    "+": check_sum,
    "*": check_product,
    "**": check_power,
    "%": check_remainder,
    "//": check_numbers,
}
# Where among a filter's arguments the path to an attribute stands, which all may name "attribute".
ATTRIBUTES = {
    "map": None, "selectattr": 0, "rejectattr": 0, "groupby": 0, "sum": 0, "join": 1, "unique": 1, "min": 1, "max": 1,
    "sort": 2,
}  # fmt: skip
METHODS: dict[str, Callable[..., None]] = {
    "center": check_width,
    "ljust": check_width,
    "rjust": check_width,
    "zfill": check_width,
    "replace": check_replace,
    "split": check_split,
    "rsplit": check_rsplit,
    "rfind": check_backwards,
    "rindex": check_backwards,
    "rpartition": check_backwards,
    "strip": check_letters,
    "lstrip": check_letters,
    "rstrip": check_letters,
    "splitlines": check_split,
    "format": check_braces,
    "format_map": check_braces,
}
FILTERS: dict[str, Callable[..., None]] = {
    "center": check_width,
    "indent": check_indent,
    "replace": check_replace,
    "format": check_format,
    "join": check_join,
    "batch": lambda value, linecount=0, *_, **keywords: limited(keywords.get("linecount", linecount), MAX_WIDTH),
    "slice": lambda value, slices=0, *_, **keywords: limited(keywords.get("slices", slices), MAX_WIDTH),
    "sum": check_total,
    "round": check_round,
    "title": check_wordy,
    "trim": check_letters,
    "tojson": check_json,
    "wordcount": check_wordy,
}
