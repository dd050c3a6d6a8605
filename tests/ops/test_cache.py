"""The cache's memory: where it begins, and that it is empty."""

import numpy as np
import pytest

from soban.ops.cache import CACHE_FORMATS, LARGE_PAGE, make_cache


@pytest.mark.parametrize("format", CACHE_FORMATS)
@pytest.mark.parametrize("size", [16, 100, 256])
def test_every_cache_is_zero_and_begins_on_a_large_page(format: str, size: int) -> None:
    made = make_cache(3, 5, 2, size, format)
    for array in (made.keys, made.values):
        assert array.ctypes.data % LARGE_PAGE == 0 and array.shape[:3] == (3, 5, 2)
        assert array.flags.c_contiguous and array.flags.writeable and not np.any(array)
