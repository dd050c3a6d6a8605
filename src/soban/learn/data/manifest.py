"""What a manifest has to hold: each field of its type and range, and no shard outside of its folder."""

import re
from typing import Any

MOST = 1 << 48  # ids or bytes: more than any disk
SHARD = re.compile(r"[A-Za-z0-9_-]+/[0-9]+\.npy")
HASH = re.compile(r"[0-9a-f]{64}")


def check(manifest: dict[str, Any]) -> None:
    """Raises ValueError, with the field's name, for what cannot be."""
    _text(manifest, "data_hash")
    tokenizer = _object(manifest, "tokenizer")
    entries = _number(tokenizer, "entries", 1, 1 << 31)
    if tokenizer.get("bos_token_id", "missing") is not None:
        _number(tokenizer, "bos_token_id", 0, entries)
    _number(tokenizer, "eos_token_id", 0, entries)
    if not (splits := _object(manifest, "splits")):
        raise ValueError("splits")
    for name, split in splits.items():
        if not isinstance(split, dict):
            raise ValueError(f"splits.{name}")
        for key in ("documents", "tokens", "bytes"):
            _number(split, key, 0, MOST)
        if not isinstance(split.get("shards"), list):
            raise ValueError(f"splits.{name}.shards")
        for shard in split["shards"]:
            _check_shard(shard)
        for key in ("documents", "tokens"):
            if split[key] != sum(shard[key] for shard in split["shards"]):
                raise ValueError(f"splits.{name}.{key}")


def _check_shard(shard: Any) -> None:
    if not isinstance(shard, dict) or not SHARD.fullmatch(_text(shard, "name")):
        raise ValueError("shards")
    for key in ("sha256", "starts_sha256"):
        if (key == "sha256" or key in shard) and not HASH.fullmatch(_text(shard, key)):
            raise ValueError(key)
    for key in ("documents", "tokens"):
        _number(shard, key, 1, MOST)


def _object(content: dict[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(value := content.get(name), dict):
        raise ValueError(name)
    return value


def _text(content: dict[str, Any], name: str) -> str:
    if not isinstance(value := content.get(name), str):
        raise ValueError(name)
    return value


def _number(content: dict[str, Any], name: str, least: int, end: int) -> int:
    if type(value := content.get(name)) is not int or not least <= value < end:
        raise ValueError(name)
    return value
