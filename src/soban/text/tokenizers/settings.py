"""What lies beside a tokenizer and governs it: tokenizer_config.json and its kin."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soban.base.border import reason
from soban.base.errors import UserError
from soban.base.files import quoted
from soban.messages import translate

MAX_BYTES = 256 << 20  # the largest tokenizer.json of a known model has 35 MB
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
LISTED = ("extra_special_tokens", "additional_special_tokens")
FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")
MAX_ID = 1 << 24  # of a token; the largest known vocabulary has 262,144


@dataclass(frozen=True)
class AddedToken:
    """A token that is matched in text before the model's own pieces."""

    content: str
    special: bool = True
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False


@dataclass(frozen=True)
class Settings:
    """The files beside a tokenizer, read. `names` has the tokens with a role: bos_token -> "<bos>"."""

    names: Mapping[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ()  # further tokens declared special
    added: Mapping[int, AddedToken] = field(default_factory=dict)
    add_bos: bool | None = None  # None: nothing is said
    add_eos: bool | None = None
    bos_ids: tuple[int, ...] = ()  # by generation_config.json or config.json
    eos_ids: tuple[int, ...] = ()
    tokenizer_class: str = ""  # of transformers


def files_beside(folder: Path) -> list[Path]:
    """The files that say which tokens there are besides the tokenizer's own."""
    names = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
    return [path for name in names if (path := folder / name).is_file()]


def read_settings(folder: Path, config: Mapping[str, Any]) -> Settings:
    """The settings of the tokenizer in `folder`; what no file says stays empty."""
    path = folder / "tokenizer_config.json"
    values = read_json(path) if path.is_file() else {}
    # as transformers has it: the older file counts, and before the newer, where that tells no tokens by id
    beside = {} if "added_tokens_decoder" in values else _read_map(folder)
    merged = values | beside
    generation_path = folder / "generation_config.json"
    generation = read_json(generation_path) if generation_path.is_file() else {}
    names = {name: content for name in NAMED if (content := _content(path, name, merged.get(name))) is not None}
    extra = tuple(dict.fromkeys([*_extra(path, values, beside), *_others(merged)]))
    return Settings(
        names=names,
        extra=extra,
        added=_added(path, folder, values, {*names.values(), *extra}),
        add_bos=_flag(path, values, "add_bos_token"),
        add_eos=_flag(path, values, "add_eos_token"),
        bos_ids=_ids(generation, config, "bos_token_id"),
        eos_ids=_ids(generation, config, "eos_token_id"),
        tokenizer_class=str(values.get("tokenizer_class") or ""),
    )


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; UserError where there is none."""
    return parse_json_object(path, read_bytes(path))


def read_bytes(path: Path) -> bytes:
    """The contents of a file of sensible size."""
    size = path.stat().st_size
    if size == 0:
        raise UserError("{path}: the file is empty", path=path, hint="fetch it again")
    if size > MAX_BYTES:
        raise UserError(
            "{path}: {size} bytes; at most {most} are read", path=path, size=size, most=MAX_BYTES, hint="fetch it again"
        )
    return path.read_bytes()


def parse_json_object(path: Path, data: bytes) -> dict[str, Any]:
    """The JSON object in `data`, which came from `path`."""
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError("{path}: not JSON ({reason})", path=path, reason=reason(error), hint="fetch it again") from None
    if not isinstance(value, dict):
        raise UserError(
            "{path}: not a valid JSON object: {reason}", path=path,
            reason=translate("it holds {value}", value=quoted(value)), hint="fetch it again",
        )  # fmt: skip
    return value


def _read_map(folder: Path) -> dict[str, Any]:
    path = folder / "special_tokens_map.json"
    return read_json(path) if path.is_file() else {}


def _content(path: Path, name: str, value: object) -> str | None:
    """The text of a token that is written as a string or as an object with a `content`."""
    if value is None:
        return None
    text = value.get("content") if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise UserError(
            "{path}: {name} is {value!r}, not a token's text", path=path, name=name, value=value, hint="fetch it again"
        )
    return text or None


def _extra(path: Path, values: Mapping[str, Any], beside: Mapping[str, Any]) -> list[str]:
    """Further special tokens, which had another key before."""
    new, old = LISTED
    own = _contents(path, new if values.get(new) else old, values.get(new) or values.get(old))
    return own + _contents(path, new, beside.get(new)) + ([] if own else _contents(path, old, beside.get(old)))


def _contents(path: Path, key: str, value: object) -> list[str]:
    """The texts of tokens in a list, or in an object that names them."""
    if value is None:
        return []
    if not isinstance(value, list | dict):
        raise UserError(
            "{path}: {name} is {value!r}, not a list of tokens", path=path, name=key, value=value, hint="fetch it again"
        )
    listed = value.values() if isinstance(value, dict) else value
    return [content for item in listed if (content := _content(path, key, item)) is not None]


def _others(values: Mapping[str, Any]) -> Iterator[str]:
    """Tokens with a role that only some models have: image_token, boi_token ..."""
    for key, value in values.items():
        text = value.get("content") if isinstance(value, dict) else value
        if key.endswith("_token") and key not in NAMED and isinstance(text, str) and text:
            yield text


def _added(path: Path, folder: Path, values: Mapping[str, Any], special: set[str]) -> dict[int, AddedToken]:
    """Added tokens by id: tokenizer_config.json's, else the older added_tokens.json's, of which some are `special`."""
    declared = values.get("added_tokens_decoder")
    if declared is not None:
        return _decoder(path, declared)
    added: dict[int, AddedToken] = {}
    older = folder / "added_tokens.json"
    for content, index in read_json(older).items() if older.is_file() else ():
        if type(index) is not int or not 0 <= index <= MAX_ID:
            raise UserError(
                "{path}: the id of {content!r} is {value!r}",
                path=older,
                content=content,
                value=index,
                hint="fetch it again",
            )
        added[index] = AddedToken(content, special=content in special, normalized=content not in special)
    return added


def _decoder(path: Path, declared: object) -> dict[int, AddedToken]:
    if not isinstance(declared, dict):
        raise UserError(
            "{path}: {name} is {value!r}, not an object", path=path, name="added_tokens_decoder", value=declared,
            hint="fetch it again",
        )  # fmt: skip
    added: dict[int, AddedToken] = {}
    for key, value in declared.items():
        whole = isinstance(value, dict) and isinstance(value.get("content"), str)
        if not (whole and key.isdecimal() and len(key) < 10 and int(key) <= MAX_ID):
            raise UserError(
                "{path}: added_tokens_decoder has no token at {key!r}", path=path, key=key, hint="fetch it again"
            )
        flags = {name: bool(value.get(name, False)) for name in FLAGS}
        added[int(key)] = AddedToken(value["content"], **flags)
    return added


def _flag(path: Path, values: Mapping[str, Any], name: str) -> bool | None:
    value = values.get(name)
    if value is not None and not isinstance(value, bool):
        raise UserError(
            "{path}: {name} is {value!r}, not true or false", path=path, name=name, value=value, hint="fetch it again"
        )
    return value


def _ids(generation: Mapping[str, Any], config: Mapping[str, Any], name: str) -> tuple[int, ...]:
    value = generation.get(name)
    if value is None:
        value = config.get(name)
    values = value if isinstance(value, list) else [value]
    return tuple(index for index in values if isinstance(index, int) and not isinstance(index, bool) and index >= 0)
