"""Jinja for chat templates from strangers: the dialect of transformers, with bounded time, memory and output.

Every loop turn, macro, call, filter, operator and printed value is charged to a budget of bytes and processor time, and
what could make much out of little (repetition, padding, nesting, number formats) is measured before it is done.
"""

import functools
import itertools
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, markup_join
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

MAX_BYTES = 96 << 20  # made in one rendering, all together
MAX_SECONDS = 0.8  # of processor time
SECONDS_PER_TURN = 0.008  # more of it for each message: some templates look at all messages for each of them
MAX_TEXT = 4_000_000  # characters of one text
MAX_ITEMS = 100_000  # of one list; jinja's range has the same bound
MAX_NODES = 200_000  # of one nested value, counted as a tree
MAX_WIDTH = 10_000  # of padding
MAX_DEPTH = 100  # of calls in calls
MAX_BITS = 4096  # of an integer

WIDE_FORMAT = re.compile(r"\d{5,}|\*")
NESTED_FORMAT = re.compile(r":[^{}]*\{")
TEXT_METHODS = frozenset(
    "strip lstrip rstrip split rsplit splitlines startswith endswith replace upper lower title capitalize swapcase"
    " casefold join format format_map find rfind index rindex count partition rpartition removeprefix removesuffix"
    " center ljust rjust zfill isalnum isalpha isascii isdecimal isdigit islower isnumeric isspace istitle isupper".split()
)
# filters of HTML and debugging, which no conversation needs
REMOVED_FILTERS = ("forceescape", "pprint", "striptags", "urlize", "wordwrap", "xmlattr")
# filters that neither print nor compare what they get
LIGHT_FILTERS = frozenset(
    "attr batch count d default first items last length list map random reject rejectattr reverse select selectattr"
    " slice".split()
)
LISTING_FILTERS = frozenset(
    "batch groupby join list map max min random reject rejectattr select selectattr slice sort sum unique".split()
)


class TooMuch(Exception):
    """The template asks for more than a conversation can need."""


class Budget:
    """What one rendering may still use."""

    def __init__(self, turns: int = 0) -> None:
        self._left = MAX_BYTES
        self._end = time.thread_time() + MAX_SECONDS + SECONDS_PER_TURN * turns
        self._charges = 0
        self.depth = 0

    def charge(self, size: int) -> None:
        """Take `size` bytes off; TooMuch where bytes or time have run out."""
        self._left -= size + 50
        self._charges += 1
        if self._left < 0:
            raise TooMuch("it makes more text than a conversation can need")
        if self._charges % 16 == 0 and time.thread_time() > self._end:
            raise TooMuch("it takes too long")


def measure(value: object) -> int:
    """The characters and nodes of a value as a tree; TooMuch where printing or comparing it would not end soon."""
    if isinstance(value, str):
        return len(value)
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
        elif isinstance(item, Namespace):
            waiting.append(object.__getattribute__(item, "_Namespace__attrs"))
        if total > MAX_TEXT or count + len(waiting) > MAX_NODES:
            raise TooMuch("it nests values without end")
    return total + count


def limited(number: int, most: int = MAX_TEXT) -> None:
    """TooMuch where a text or list would be longer than `most`."""
    if number > most:
        raise TooMuch(
            f"it asks for {number} of at most {most}" if number < 1 << 63 else "it asks for too large a number"
        )


def as_list(values: Iterable[Any]) -> list[Any]:
    """The values as a list of bounded length."""
    found = list(itertools.islice(values, MAX_ITEMS + 1))
    limited(len(found), MAX_ITEMS)
    return found


class Generation(Extension):
    """`{% generation %}` marks what an assistant wrote, for training; here it is only a scope."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        """The body, as it is."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of one chat template; `budget` is renewed before each rendering."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            finalize=self.printed,
            extensions=[Generation, loopcontrols],
        )
        self.budget = Budget()
        self.filters["tojson"] = to_json
        for name in REMOVED_FILTERS:
            del self.filters[name]
        self.filters = {name: self._guarded(name, function) for name, function in self.filters.items()}
        del self.globals["lipsum"]
        self.globals["raise_exception"] = refuse
        self.globals["strftime_now"] = lambda layout: datetime.now().strftime(layout)

    def compiled(self, source: str) -> Any:
        """The template, with charges put into its loops and macros."""
        self.budget = Budget()
        return self.from_string(Charged().visit(self.parse(source)))

    def charge(self, size: int) -> bool:
        """One loop turn or macro call, which prints `size` literal characters."""
        self.budget.charge(size)
        return True

    def printed(self, value: Any) -> Any:
        """A value that is about to be printed."""
        self.budget.charge(measure(value))
        return value

    def built(self, value: Any) -> Any:
        """A list, tuple or dict that the template writes."""
        self.budget.charge(measure(value))
        return value

    def compared(self, value: Any) -> Any:
        """A value that is about to be compared."""
        measure(value)
        return value

    def concatenated(self, *values: Any) -> str:
        """What `~` makes."""
        limited(sum(map(measure, values)))
        return self._kept(markup_join(values))

    def _kept(self, result: Any) -> Any:
        """A new value, charged."""
        if isinstance(result, str):
            limited(len(result))
            self.budget.charge(sys.getsizeof(result))
        elif isinstance(result, (list, tuple)):
            limited(len(result), MAX_ITEMS)
            self.budget.charge(8 * len(result))
        else:
            self.budget.charge(0)
        return result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """`left operator right`, if it is of sensible size."""
        OPERATORS[operator](left, right)
        return self._kept(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """A call of a macro, a method or a global function, if it is of sensible size."""
        self, function = __self, __obj
        owner = getattr(getattr(function, "__wrapped__", function), "__self__", None)
        if isinstance(owner, str):
            args = checked_method(owner, function.__name__, args)
        elif isinstance(owner, (int, float, complex, bytes)):
            raise SecurityError(f"{function.__name__} is not for chat templates")
        if self.budget.depth >= MAX_DEPTH:
            raise TooMuch("it calls itself without end")
        self.budget.depth += 1
        try:
            result = super().call(__context, function, *args, **kwargs)
        finally:
            self.budget.depth -= 1
        if isinstance(result, (dict, Namespace)):
            measure(result)
        return self._kept(result)

    def _guarded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        first = 1 if hasattr(function, "jinja_pass_arg") else 0

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            given = list(args)
            if name in LISTING_FILTERS and not isinstance(given[first], Mapping):
                values = given[first]
                if hasattr(values, "__len__"):
                    limited(len(values), MAX_ITEMS)
                elif name == "join" or name == "sum":
                    given[first] = as_list(values)
            if name not in LIGHT_FILTERS:
                measure(given[first])
            if name in FILTERS:
                FILTERS[name](*given[first:], **kwargs)
            return self._kept(function(*given, **kwargs))

        return guarded


class Charged(NodeTransformer):
    """Writes charges and measurements into a template's syntax tree."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.body = [self._charge(node.body), *node.body]
        if node.test is not None:
            node.test = nodes.And(_call("charge", nodes.Const(0)), node.test)
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        self.generic_visit(node)
        node.body = [self._charge(node.body), *node.body]
        return node

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:
        self.generic_visit(node)
        node.body = [self._charge(node.body), *node.body]
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _call("concatenated", *node.nodes)

    def visit_List(self, node: nodes.List) -> nodes.Node:
        return self._built(node, node.items)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        if node.ctx != "load":
            return node
        return self._built(node, node.items)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        return self._built(node, [pair.value for pair in node.items])

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        if not isinstance(node.expr, nodes.Const):
            node.expr = _call("compared", node.expr)
        return node

    def _built(self, node: nodes.Expr, items: list[Any]) -> nodes.Node:
        self.generic_visit(node)
        if all(isinstance(item, (nodes.Const, nodes.Slice)) for item in items):
            return node
        return _call("built", node)

    def _charge(self, body: list[nodes.Node]) -> nodes.Node:
        size = sum(len(data.data) for part in body for data in _literals(part))
        return nodes.ExprStmt(_call("charge", nodes.Const(size)))


def _literals(node: nodes.Node) -> Iterable[nodes.TemplateData]:
    if isinstance(node, nodes.TemplateData):
        return [node]
    return node.find_all(nodes.TemplateData)


def _call(method: str, *args: nodes.Expr) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(method), list(args), [], None, None)


def refuse(message: object) -> None:
    """What a template calls to turn a conversation down."""
    raise TemplateError(str(message))


def to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """JSON as transformers' `tojson` writes it: no HTML escapes."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def checked_method(owner: str, name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments for a method of a text, if it is of sensible size."""
    if name not in TEXT_METHODS:
        raise SecurityError(f"{name} is not for chat templates")
    if name == "join" and args:
        items = as_list(args[0])
        check_join(items, owner)
        return (items,)
    if name in METHODS:
        METHODS[name](owner, *args)
    return args


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


def check_format(layout: Any, *values: Any, **named: Any) -> None:
    if WIDE_FORMAT.search(str(layout)):
        raise TooMuch("it asks for very wide numbers")
    limited(measure(values) + measure(named))


def check_braces(layout: str, *values: Any, **named: Any) -> None:
    if NESTED_FORMAT.search(layout):
        raise TooMuch("it computes the width of a number")
    check_format(layout, *values, **named)
    limited(layout.count("{") * (measure(values) + MAX_WIDTH))


def check_width(value: Any, width: int = 0, *_: Any, **named: Any) -> None:
    limited(named.get("width", width), MAX_WIDTH)


def check_indent(text: Any, width: Any = 4, *_: Any, **named: Any) -> None:
    width = named.get("width", width)
    step = len(width) if isinstance(width, str) else width
    lines = str(text).count("\n") + 1
    limited(len(str(text)) + lines * step)


def check_replace(text: Any, old: Any, new: Any = "", *_: Any, **named: Any) -> None:
    text, old, new = str(text), str(old), str(named.get("new", new))
    limited(len(text) + (text.count(old) if old else len(text) + 1) * len(new))


def check_join(items: list[Any], between: Any = "", *_: Any, **named: Any) -> None:
    limited(measure(items) + len(items) * len(str(named.get("d", between))))


def check_split(text: str, separator: Any = None, *_: Any) -> None:
    counts = [separator] if isinstance(separator, str) and separator else [" ", "\n", "\t", "\r"]
    limited(sum(map(text.count, counts)), MAX_ITEMS)


def check_total(values: Any, attribute: Any = None, start: Any = 0, **_: Any) -> None:
    if isinstance(start, (list, tuple)):
        limited(len(values), 1000)  # each addition copies the whole


def check_json(value: Any, *_: Any, **named: Any) -> None:
    indent = named.get("indent")
    limited(len(indent) if isinstance(indent, str) else indent or 0, 32)
    limited(sum(len(part) for part in named.get("separators") or ()), 32)


OPERATORS: dict[str, Callable[[Any, Any], None]] = {
    "+": check_sum,
    "*": check_product,
    "**": check_power,
    "%": check_remainder,
}
METHODS: dict[str, Callable[..., None]] = {
    "center": check_width,
    "ljust": check_width,
    "rjust": check_width,
    "zfill": check_width,
    "replace": check_replace,
    "split": check_split,
    "rsplit": check_split,
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
    "batch": lambda value, linecount=0, *_, **named: limited(named.get("linecount", linecount), MAX_WIDTH),
    "slice": lambda value, slices=0, *_, **named: limited(named.get("slices", slices), MAX_WIDTH),
    "sum": check_total,
    "tojson": check_json,
}
