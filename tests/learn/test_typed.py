"""Settings and progress out of damaged JSON: every field of another type is refused, and none is used."""

import json
from dataclasses import asdict, fields
from typing import Any

import pytest

from soban.learn.training.checkpoint import Progress
from soban.learn.training.presets import Shape
from soban.learn.training.settings import Settings
from soban.learn.training.settings import from_json as settings_from
from soban.learn.typed import from_json

SHAPE = Shape(16, 32, 1, 2, 1, 32)
GOOD: tuple[Any, ...] = (Progress(3, 10, 1.5, None, 2), Progress(3, 10, 1, 2.5, 2), SHAPE)
STRANGE: tuple[Any, ...] = (None, True, "1", [], {}, 1e400, float("nan"), 1 << 62, -(1 << 70), 1.5, "x", 7)


def test_every_field_has_the_type_that_it_is_declared_with() -> None:
    for good in GOOD:
        values = asdict(good)
        assert from_json(type(good), values) == good and from_json(type(good), values | {"new": 1}) == good
        for field in fields(good):
            kinds: Any = {int: (int,), float: (int, float)}.get(field.type, (int, float, type(None)))
            for value in STRANGE:
                usable = type(value) in kinds and (value is None or abs(value) < 1 << 62)
                changed = values | {field.name: value}
                if usable:
                    assert getattr(from_json(type(good), changed), field.name) == value
                else:
                    with pytest.raises(ValueError, match=field.name):
                        from_json(type(good), changed)


def test_settings_come_back_as_they_were_kept_and_no_others() -> None:
    settings = Settings("llama", SHAPE, 50, 2, 10, 1e-3)
    values = json.loads(json.dumps(settings.as_json()))
    assert settings_from(values) == settings
    for changes in (
        {"family": "gpt"},
        {"family": 1},
        {"schedule": None},
        {"seed": "0"},
        {"shape": None},
        {"shape": []},
        {"steps": 1.0},
    ):
        with pytest.raises(ValueError):
            settings_from(values | changes)
    for name in ("family", "steps", "shape"):
        with pytest.raises(ValueError):
            settings_from({key: value for key, value in values.items() if key != name})
