"""The tokenizers library: opened from a file, called so that what it raises is a UserError, and its parts described."""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

from soban.base.errors import UserError
from soban.text.tokenizers.library_check import checked_tokenizer
from soban.text.tokenizers.settings import AddedToken

if TYPE_CHECKING:
    import tokenizers

EMPTY = {"type": "BPE", "vocab": {}, "merges": []}  # a model for carriers of other parts
FLAGS = ("lstrip", "rstrip", "single_word", "normalized")


class Opened(Protocol):
    """What was read from a file."""

    @property
    def path(self) -> Path:
        """The file."""


Given = ParamSpec("Given")
Result = TypeVar("Result")
Of = TypeVar("Of", bound=Opened)


@contextlib.contextmanager
def library_errors(path: Path) -> Iterator[None]:
    """What the library raises over the tokenizer in a file, as a UserError.

    It raises plain Exceptions, and where it panics a BaseException of its own.
    """
    try:
        yield
    except (UserError, OSError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise  # OSError: of the texts that it is given
    except BaseException as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            "{path}: the tokenizer fails ({reason})", path=path, reason=reason or type(error).__name__,
            hint="take the tokenizer files of the original model, all of one version",
        ) from None  # fmt: skip


def translating_errors(method: Callable[Concatenate[Of, Given], Result]) -> Callable[Concatenate[Of, Given], Result]:
    """A method that calls the library, with `library_errors` around it."""

    @functools.wraps(method)
    def call(own: Of, /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        with library_errors(own.path):
            return method(own, *args, **kwargs)

    return call


def open_library(path: Path, data: bytes) -> tuple["tokenizers.Tokenizer", dict[str, Any]]:
    """The tokenizer in the tokenizer.json at `path`, which holds `data`, and what it says of its model.

    UserError where it is none.
    """
    from tokenizers import Tokenizer

    model = checked_tokenizer(path, data)["model"]
    try:
        library = Tokenizer.from_buffer(data)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # a plain Exception, and where it panics a BaseException
        reason = " ".join(str(error).split())[:300]
        raise UserError("{path}: not a tokenizer ({reason})", path=path, reason=reason, hint="fetch it again") from None
    return library, model


def state_of(part: Any) -> dict[str, Any]:
    """A component of the library as the JSON that describes it."""
    state = {} if part is None else json.loads(part.__getstate__())
    return state if isinstance(state, dict) else {}


def decoder_of(state: Mapping[str, Any]) -> "tokenizers.decoders.Decoder":
    """The decoder that the library describes as `state`."""
    from tokenizers import Tokenizer

    carrier = {"version": "1.0", "added_tokens": [], "decoder": state, "model": EMPTY}
    decoder: tokenizers.decoders.Decoder = Tokenizer.from_str(json.dumps(carrier)).decoder
    return decoder


def frame_of(processor: object) -> tuple[list[int], list[int]]:
    """The ids that a post-processor, as its JSON describes it, puts before and after a text."""
    before: list[int] = []
    after: list[int] = []
    description = _object(processor)
    if description.get("type") == "Sequence":
        for part in _list(description.get("processors")):
            more = frame_of(part)
            before, after = more[0] + before, after + more[1]
    elif description.get("type") in ("BertProcessing", "RobertaProcessing"):
        first, last = (_list(description.get(name))[1:2] for name in ("cls", "sep"))
        return _numbers(first), _numbers(last)
    elif description.get("type") == "TemplateProcessing":
        special = _object(description.get("special_tokens"))
        side = before
        for piece in map(_object, _list(description.get("single"))):
            if "Sequence" in piece:
                side = after
            else:
                name = str(_object(piece.get("SpecialToken")).get("id"))
                side += _numbers(_list(_object(special.get(name)).get("ids")))
    return before, after


def pair_of(processor: object) -> list[tuple[int | str, int]]:
    """How a post-processor puts two texts together: ids, and "A" and "B" for the texts, each with its tokens' type.

    Empty where it does not.
    """
    description = _object(processor)
    kind = description.get("type")
    if kind == "Sequence":
        parts = (pair_of(part) for part in _list(description.get("processors")))
        return next((part for part in parts if part), [])
    if kind in ("BertProcessing", "RobertaProcessing"):
        first, last = (_numbers(_list(description.get(name))[1:2]) for name in ("cls", "sep"))
        if not (first and last):
            return []
        between, second = (last, 1) if kind == "BertProcessing" else (last * 2, 0)
        return [(first[0], 0), ("A", 0), *((i, 0) for i in between), ("B", second), (last[0], second)]
    pieces: list[tuple[int | str, int]] = []
    special = _object(description.get("special_tokens"))
    for piece in map(_object, _list(description.get("pair")) if kind == "TemplateProcessing" else []):
        about = _object(piece.get("Sequence") or piece.get("SpecialToken"))
        name, type_id = str(about.get("id")), about.get("type_id")
        own = [name] if "Sequence" in piece else _numbers(_list(_object(special.get(name)).get("ids")))
        pieces += [(one, type_id if type(type_id) is int else 0) for one in own]
    return pieces if {"A", "B"} <= {piece for piece, _ in pieces} else []


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _numbers(values: list[Any]) -> list[int]:
    return [value for value in values if type(value) is int]


def without_added(
    library: "tokenizers.Tokenizer", tokens: Mapping[int, AddedToken]
) -> tuple["tokenizers.Tokenizer", dict[int, int]]:
    """A tokenizer that shares the model but knows only these added `tokens`, and its ids where they differ."""
    from tokenizers import AddedToken as Declared
    from tokenizers import Tokenizer

    plain = Tokenizer(library.model)
    if library.normalizer is not None:
        plain.normalizer = library.normalizer
    if library.pre_tokenizer is not None:
        plain.pre_tokenizer = library.pre_tokenizer
    plain.add_tokens([Declared(t.content, **{name: getattr(t, name) for name in FLAGS}) for t in tokens.values()])
    ids = {plain.token_to_id(token.content): index for index, token in tokens.items()}
    return plain, {own: index for own, index in ids.items() if own is not None and own != index}


def continuing(library: "tokenizers.Tokenizer", plain: "tokenizers.Tokenizer") -> "tokenizers.Tokenizer":
    """`plain` for text that does not begin the whole: only Metaspace's "first" makes a difference."""
    from tokenizers import Tokenizer

    state = state_of(library.pre_tokenizer)
    parts = state.get("pretokenizers", [state])
    if not any(part.get("prepend_scheme") == "first" for part in parts):
        return plain
    for part in parts:
        if part.get("prepend_scheme") == "first":
            part["prepend_scheme"] = "never"
    carrier = Tokenizer.from_str(
        json.dumps({"version": "1.0", "added_tokens": [], "pre_tokenizer": state, "model": EMPTY})
    )
    inner = Tokenizer.from_str(json.dumps({"version": "1.0", "added_tokens": [], "model": EMPTY}))
    inner.model = plain.model
    if plain.normalizer is not None:
        inner.normalizer = plain.normalizer
    inner.pre_tokenizer = carrier.pre_tokenizer
    added = plain.get_added_tokens_decoder()
    inner.add_tokens([added[index] for index in sorted(added)])
    return inner
