"""What a text has to be like, as it is asked for: JSON of a schema, a regular expression, a choice, or Lark's rules."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from soban.base.errors import UserError
from soban.text.grammar.matching import Matching
from soban.text.grammar.schema import blame, prepared, read_schema
from soban.text.grammar.words import Words
from soban.text.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher

MAX_GRAMMAR = 400_000  # characters
KEPT = 32  # grammars that stay compiled
# No blanks but one after a comma or a colon, as Python's json writes them and most models have learnt it.
SPACING: dict[str, Any] = {
    "whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?", "coerce_one_of": False,
    "lenient": False,
}  # fmt: skip


@dataclass(frozen=True)
class Grammar:
    """A form of text. `rules` in llguidance's own words; `hints` are texts that lead to its end where it has to."""

    rules: str
    hints: tuple[str, ...] = ()


def json_rules(schema: dict[str, Any]) -> str:
    """The rules of a schema that is `prepared`."""
    from llguidance import LLMatcher  # imported where it is needed: a start waits for it

    return LLMatcher.grammar_from_json_schema(schema, overrides=SPACING)  # type: ignore[arg-type]


def of_schema(source: object) -> Grammar:
    """JSON that a schema describes. Raises UserError, by name, for what in it cannot be followed."""
    schema = prepared(read_schema(source))
    if _trouble_of(schema):
        raise blame(schema, _trouble_of)
    return Grammar(json_rules(schema))


def _trouble_of(schema: Any) -> str:
    from llguidance import LLMatcher

    return _first_line(LLMatcher.validate_grammar(json_rules(schema)))


def _first_line(error: str) -> str:
    """llguidance's words about a grammar; "" where it has none, or is only not sure."""
    return "" if error.startswith("WARNING") else " ".join(error.split())[:300]


def of_regex(pattern: object) -> Grammar:
    """A text that a regular expression matches as a whole, in Rust's syntax: no look-around, no back-references."""
    from llguidance import LLMatcher

    return _checked(LLMatcher.grammar_from_regex(_text(pattern, "regex")), "regex")


def of_choices(choices: object) -> Grammar:
    """One of several texts."""
    if isinstance(choices, str) or not isinstance(choices, Sequence) or not choices:
        raise UserError("choices={value} is no list of texts", value=choices, hint="give two texts or more")
    for choice in choices:
        if not isinstance(choice, str) or not choice:
            raise UserError("choices has {value}, which is no text", value=repr(choice), hint="give texts alone")
    return of_regex("|".join(f"(?:{_literal(choice)})" for choice in dict.fromkeys(choices)))


def _literal(text: str) -> str:
    """A regular expression for this text alone."""
    return "".join(letter if letter.isalnum() else f"\\x{{{ord(letter):x}}}" for letter in text)


def of_lark(rules: object) -> Grammar:
    """A text of a grammar in Lark's way; its rule `start` is the whole."""
    from llguidance import LLMatcher

    return _checked(LLMatcher.grammar_from_lark(_text(rules, "grammar")), "grammar")


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise UserError("{name}={value} is of the wrong type", name=name, value=value, hint="give a text")
    if len(value) > MAX_GRAMMAR:
        raise UserError(
            "{name} has {count} characters; at most {most} are read", name=name, count=len(value), most=MAX_GRAMMAR,
            hint="give a smaller one",
        )  # fmt: skip
    return value


def _checked(rules: str, name: str) -> Grammar:
    from llguidance import LLMatcher

    if trouble := _first_line(LLMatcher.validate_grammar(rules)):
        raise UserError("{name} cannot be followed: {reason}", name=name, reason=trouble, hint="correct it")
    return Grammar(rules)


FORMS: dict[str, Callable[[object], Grammar]] = {
    "schema": of_schema, "regex": of_regex, "choices": of_choices, "grammar": of_lark
}  # fmt: skip


def grammar_of(**forms: object) -> Grammar | None:
    """The form that is asked for as `schema`, `regex`, `choices` or `grammar`; None where none is. One at the most."""
    by_name = {name: value for name, value in forms.items() if value is not None}
    if len(by_name) > 1:
        raise UserError("{names}: a text has one form", names=" and ".join(by_name), hint="leave all but one out")
    return next((FORMS[name](value) for name, value in by_name.items()), None)


class Grammars:
    """The grammars of one model, compiled when they are first asked for; and its vocabulary, which takes a second."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._words: Words | None = None
        self._compiled: dict[str, LLMatcher] = {}
        self._lock = threading.Lock()

    @property
    def words(self) -> Words:
        with self._lock:
            if self._words is None:
                self._words = Words(self.tokenizer)
            return self._words

    def factory(self, grammar: Grammar) -> Callable[[], Matching]:
        """What makes a constraint of the grammar, as often as one is needed. UserError where it does not compile."""
        words = self.words
        with self._lock:
            matcher = self._compiled.pop(grammar.rules, None) or self._compile(grammar, words)
            self._compiled[grammar.rules] = matcher
            while len(self._compiled) > KEPT:
                del self._compiled[next(iter(self._compiled))]
        hints = [words.marked(hint) for hint in grammar.hints]
        return lambda: Matching(matcher.deep_copy(), words, hints)

    def _compile(self, grammar: Grammar, words: Words) -> "LLMatcher":
        from llguidance import LLMatcher

        matcher = LLMatcher(words.library, grammar.rules, log_level=0)
        if matcher.is_error():
            raise UserError(
                "the form of the text is not understood: {reason}", reason=_first_line(matcher.get_error()),
                hint="correct it",
            )  # fmt: skip
        return matcher
