"""Settings that make no training are refused, also where a file says them."""

from dataclasses import replace

import pytest

from soban.base.errors import UserError
from soban.learn.training.presets import preset
from soban.learn.training.settings import Settings, check

PLAIN = Settings("llama", preset("1m"), 50, 2, 10, 1e-3)


@pytest.mark.parametrize("name", ["batch_size", "accumulation", "steps", "processes"])
@pytest.mark.parametrize("value", [0, -1])
def test_less_than_one_of_what_there_has_to_be_is_refused(name: str, value: int) -> None:
    check(PLAIN)
    with pytest.raises(UserError, match="is too small; at least 1"):
        check(replace(PLAIN, **{name: value}))
