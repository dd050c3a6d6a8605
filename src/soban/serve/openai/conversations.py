"""Conversations that go on from a response: kept in memory, each for its owner alone, as long as there is room."""

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from soban.serve.errors import ApiError

Item = Mapping[str, Any]


@dataclass(frozen=True)
class Kept:
    """A response, all that was said until then, and how much that is. `owner`: who may see it."""

    owner: str
    response: dict[str, Any]
    items: tuple[Item, ...]
    size: int


class Conversations:
    """Responses by their ids; the oldest make room for new ones."""

    def __init__(self, most: int, most_characters: int) -> None:
        self.most, self.most_characters = most, most_characters
        self.kept: OrderedDict[str, Kept] = OrderedDict()
        self.characters = 0

    def keep(self, owner: str, response: dict[str, Any], items: Sequence[Item]) -> None:
        """Keeps a response, with all items of its conversation: those of its own are the last."""
        size = len(json.dumps([response, *items], ensure_ascii=False))
        self.kept[response["id"]] = Kept(owner, response, tuple(items), size)
        self.characters += size
        while len(self.kept) > self.most or self.characters > self.most_characters:
            self._drop(next(iter(self.kept)))

    def find(self, owner: str, id: str, field: str | None = None) -> Kept:
        """What is kept under that id. Raises ApiError, which names the field."""
        found = self.kept.get(id)
        if found is None or found.owner != owner:
            raise ApiError(
                f"{field or 'the response'} '{id}' is not kept here: a server keeps the latest ones, as long as it "
                "runs; send the whole conversation as input", 404, field, "response_not_found",
            )  # fmt: skip
        return found

    def forget(self, owner: str, id: str) -> None:
        """Forgets a response. Raises ApiError where there is none."""
        self.find(owner, id)
        self._drop(id)

    def _drop(self, id: str) -> None:
        self.characters -= self.kept.pop(id).size

    def resolved(self, owner: str, items: Sequence[Item]) -> list[Item]:
        """The items, with those that are only referred to in their places. Raises ApiError, by the place."""
        if not any(item.get("type") == "item_reference" for item in items):
            return list(items)
        known = {
            item["id"]: item
            for kept in self.kept.values()
            if kept.owner == owner
            for item in kept.items
            if "id" in item
        }
        resolved = []
        for number, item in enumerate(items):
            if item.get("type") == "item_reference":
                if (id := item.get("id")) not in known:
                    raise ApiError(
                        f"input[{number}] refers to '{id}', which is not kept here; send the item itself", 404,
                        f"input[{number}]", "item_not_found",
                    )  # fmt: skip
                item = known[id]
            resolved.append(item)
        return resolved
