"""The cache's memory: where it begins, that it is empty, and what layers of several geometries take."""

import numpy as np
import pytest

from soban.ops.batch import PAGE
from soban.ops.cache import CACHE_FORMATS, LARGE_PAGE, LayerGeometry, make_cache, position_bytes

MIXED = [LayerGeometry(2, 20), LayerGeometry(1, 80), LayerGeometry(2, 20, shared_with=0)]


@pytest.mark.parametrize("format", CACHE_FORMATS)
@pytest.mark.parametrize("size", [16, 100, 256])
def test_every_cache_is_zero_and_begins_on_a_large_page(format: str, size: int) -> None:
    cache = make_cache(5, [LayerGeometry(2, size)] * 3, format)
    for name in ("keys", "values"):
        arrays = [getattr(layer, name) for layer in cache.layers]
        assert arrays[0].ctypes.data % LARGE_PAGE == 0
        for array, following in zip(arrays, [*arrays[1:], None], strict=True):
            assert array.shape[:2] == (5, 2)
            assert array.flags.c_contiguous and array.flags.writeable and not np.any(array)
            assert following is None or following.ctypes.data == array.ctypes.data + array.nbytes


@pytest.mark.parametrize("format", CACHE_FORMATS)
def test_a_position_takes_what_its_layers_keep_and_nothing_for_one_that_shares(format: str) -> None:
    cache = make_cache(3, MIXED, format)
    assert cache.nbytes == position_bytes(MIXED, format) * 3 * PAGE
    assert position_bytes(MIXED, format) == position_bytes(MIXED[:2], format)
    assert cache[2].keys is cache[0].keys and cache[2].values is cache[0].values


@pytest.mark.parametrize("format", CACHE_FORMATS)
def test_a_page_is_copied_in_every_layer(format: str) -> None:
    cache = make_cache(3, MIXED, format)
    for i, layer in enumerate(cache.layers[:2]):
        layer.keys[1], layer.values[1] = i + 1, i + 3
    cache.copy_page(1, 2)
    for i, layer in enumerate(cache.layers[:2]):
        assert (layer.keys[2] == i + 1).all() and (layer.values[2] == i + 3).all() and not layer.keys[0].any()
