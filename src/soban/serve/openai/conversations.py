"""Conversations that go on from a response: kept in memory, each for its owner alone, as long as there is room."""

import json
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from soban.serve.errors import ApiError

Item = Mapping[str, Any]


@dataclass(frozen=True)
class KeptResponse:
    """A response and all that was said until then, as compressed JSON. `owner`: who may see it."""

    owner: str
    data: bytes
    ids: tuple[str, ...]  # of its items

    def read(self) -> tuple[dict[str, Any], list[Item]]:
        """The response, and the items of its conversation."""
        response, items = json.loads(zlib.decompress(self.data))
        return response, items


class Conversations:
    """Responses by their ids; the oldest make room for new ones."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self.most, self.most_bytes = most, most_bytes
        self.responses: OrderedDict[str, KeptResponse] = OrderedDict()
        self.places: dict[tuple[str, str], str] = {}  # the latest response with an item, by its owner and its id
        self.bytes = 0

    def keep(self, owner: str, response: dict[str, Any], items: Sequence[Item]) -> None:
        """Keeps a response, with all items of its conversation: those of its own are the last."""
        data = zlib.compress(json.dumps([response, items]).encode(), 1)
        ids = tuple(id for item in items if isinstance(id := item.get("id"), str))
        self.responses[response["id"]] = KeptResponse(owner, data, ids)
        self.places |= {(owner, id): response["id"] for id in ids}
        self.bytes += len(data)
        while len(self.responses) > self.most or self.bytes > self.most_bytes:
            self._drop(next(iter(self.responses)))

    def find(self, owner: str, id: str, field: str | None = None) -> KeptResponse:
        """What is kept under that id. Raises ApiError, which names the field."""
        response = self.responses.get(id)
        if response is None or response.owner != owner:
            raise ApiError(
                f"{field or 'the response'} '{id}' is not kept here: a server keeps the latest ones, as long as it "
                "runs; send the whole conversation as input", 404, field, "response_not_found",
            )  # fmt: skip
        return response

    def forget(self, owner: str, id: str) -> None:
        """Forgets a response. Raises ApiError where there is none."""
        self.find(owner, id)
        self._drop(id)

    def _drop(self, id: str) -> None:
        dropped = self.responses.pop(id)
        self.bytes -= len(dropped.data)
        for item in dropped.ids:
            if self.places.get((dropped.owner, item)) == id:
                del self.places[dropped.owner, item]

    def resolved(self, owner: str, items: Sequence[Item]) -> list[Item]:
        """The items, with those that are only referred to in their places. Raises ApiError, by the place."""
        by_id: dict[object, Item] = {}
        resolved = []
        for number, item in enumerate(items):
            if item.get("type") == "item_reference":
                id = item.get("id")
                if id not in by_id and isinstance(id, str) and (place := self.places.get((owner, id))):
                    by_id |= {one["id"]: one for one in self.responses[place].read()[1] if "id" in one}
                if id not in by_id:
                    raise ApiError(
                        f"input[{number}] refers to '{id}', which is not kept here; send the item itself", 404,
                        f"input[{number}]", "item_not_found",
                    )  # fmt: skip
                item = by_id[id]
            resolved.append(item)
        return resolved
