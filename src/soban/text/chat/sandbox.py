"""Jinja for chat templates from strangers: the dialect of transformers, with bounded time, memory and output.

Every loop turn, macro, call, filter, test, operator and printed value is charged to a budget of bytes and processor
time, every item that a filter passes on, too; what could make much out of little (repetition, padding, nesting, number
formats) is measured before it is done.
"""

import functools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, markup_join
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from soban.messages import translate
from soban.text.chat.limits import (
    FILTERS,
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_LAYOUT,
    OPERATORS,
    Budget,
    TooMuch,
    as_list,
    check_attribute,
    checked_method,
    limited,
    measure,
)

# filters of HTML and debugging, which no conversation needs
REMOVED_FILTERS = ("forceescape", "pprint", "striptags", "urlize", "wordwrap", "xmlattr")
# filters that neither print nor compare what they get
LIGHT_FILTERS = frozenset(
    (  # noqa: SIM905
        "attr batch count d default first items last length list map random reject rejectattr reverse select selectattr"
        " slice"
    ).split()
)
LISTING_FILTERS = frozenset(
    ("batch groupby join list map max min random reject rejectattr select selectattr slice sort sum unique").split()  # noqa: SIM905
)
# tests that compare what they get
HEAVY_TESTS = ("eq equalto == ne != lt < lessthan gt > greaterthan le <= ge >= in lower upper").split()  # noqa: SIM905
# What `Charged` writes into a template, by names that no template can spell, and `call_filter` does not know.
CHARGES = ("charge", "compared", "built", "kept", "concatenated")
HIDDEN = {name: f"\0{name}" for name in CHARGES}
# Attributes that are asked for all the time, and are safe whoever asks.
LOOP_NAMES = frozenset(("index", "index0", "revindex", "revindex0", "first", "last", "previtem", "nextitem", "depth"))
DICT_NAMES = frozenset(dir(dict))


class Generation(Extension):
    """`{% generation %}` marks what an assistant wrote, for training; here it is only a scope."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        """The body, as it is."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of one chat template; `budget` is renewed before each rendering."""

    intercepted_binops = frozenset(OPERATORS)

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
        self.filters |= {HIDDEN[name]: getattr(self, name) for name in CHARGES}
        tests: dict[str, Any] = self.tests
        tests |= {name: self._weighed(tests[name]) for name in HEAVY_TESTS}
        del self.globals["lipsum"]
        self.globals["raise_exception"] = refuse
        self.globals["strftime_now"] = date_and_time

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
        self.budget.work(measure(value))
        return value

    def concatenated(self, *values: Any) -> str:
        """What `~` makes."""
        limited(sum(map(measure, values)))
        return str(self.kept(markup_join(values)))

    def kept(self, result: Any) -> Any:
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

    def getattr(self, obj: Any, attribute: str) -> Any:
        """An attribute, or where there is none what a dict has under its name."""
        kind = type(obj)
        if (kind is dict and attribute in obj and attribute not in DICT_NAMES) or (
            kind is Namespace and not attribute.startswith("_")
        ):
            try:
                return obj[attribute] if kind is dict else getattr(obj, attribute)
            except AttributeError:
                pass
        elif kind is LoopContext and attribute in LOOP_NAMES:
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)

    def call_filter(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """A filter that a filter names, as `map` does."""
        if name in HIDDEN.values():
            raise SecurityError(translate("{name} is not for chat templates", name=name[1:]))
        return super().call_filter(name, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """`left operator right`, if it is of sensible size."""
        OPERATORS[operator](left, right)
        return self.kept(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """A call of a macro, a method or a global function, if it is of sensible size."""
        self, function = __self, __obj
        owner = getattr(getattr(function, "__wrapped__", function), "__self__", None)
        if isinstance(owner, str):
            args = checked_method(owner, function.__name__, args)
            self.budget.work(len(owner))
        elif isinstance(owner, (list, tuple)):
            self.budget.work(measure(owner))
        elif isinstance(owner, (int, float, complex, bytes)):
            raise SecurityError(translate("{name} is not for chat templates", name=function.__name__))
        if self.budget.depth >= MAX_DEPTH:
            raise TooMuch(translate("it calls itself without end"))
        self.budget.depth += 1
        try:
            result = super().call(__context, function, *args, **kwargs)
        finally:
            self.budget.depth -= 1
        if isinstance(result, (dict, Namespace)):
            measure(result)
        return self.kept(result)

    def _guarded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        first = 1 if hasattr(function, "jinja_pass_arg") else 0

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            arguments = list(args)
            if name in LISTING_FILTERS and not isinstance(arguments[first], Mapping):
                values = arguments[first]
                if hasattr(values, "__len__"):
                    limited(len(values), MAX_ITEMS)
                elif name == "join" or name == "sum":
                    arguments[first] = as_list(values)
            if name not in LIGHT_FILTERS:
                self.budget.work(measure(arguments[first]))
            elif hasattr(arguments[first], "__len__"):
                self.budget.work(len(arguments[first]))
            if name in FILTERS:
                FILTERS[name](*arguments[first:], **kwargs)
            check_attribute(name, tuple(arguments[first + 1 :]), kwargs)
            result = function(*arguments, **kwargs)
            return self._charge_each(result) if isinstance(result, Iterator) else self.kept(result)

        return guarded

    def _charge_each(self, items: Iterator[Any]) -> Iterator[Any]:
        """The items of a filter that works as they are asked for, each charged."""
        for item in items:
            self.budget.charge(0)
            yield item

    def _weighed(self, test: Callable[..., Any]) -> Callable[..., Any]:
        def weighed(*args: Any, **kwargs: Any) -> Any:
            for value in args:
                self.budget.work(measure(value))
            return test(*args, **kwargs)

        return weighed


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

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return _call("kept", node) if isinstance(node.arg, nodes.Slice) else node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        sides: list[Any] = [node, *node.ops]
        for side in sides:
            if not isinstance(side.expr, nodes.Const):
                side.expr = _call("compared", side.expr)
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


def _call(method: str, first: nodes.Expr, *others: nodes.Expr) -> nodes.Filter:
    """A call of one of `CHARGES`, as a filter: those are called directly."""
    return nodes.Filter(first, HIDDEN[method], list(others), [], None, None)


def date_and_time(layout: str) -> str:
    """Now, as the layout says."""
    limited(len(layout), MAX_LAYOUT)
    return datetime.now().strftime(layout)


def refuse(message: object) -> None:
    """What a template calls to turn a conversation down."""
    raise TemplateError(str(message))


def to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """JSON as transformers' `tojson` writes it: no HTML escapes."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
