"""What computes: the same bytes whoever encodes."""

import numpy as np
import pytest

from soban import ops
from soban.base.errors import UserError
from soban.ops.formats import FORMATS, bf16_bits, bf16_values


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("source", ["f32", "f16", "bf16"])
def test_weights_of_any_plain_format_are_written_in_any_format(backend: str, source: str, format: str) -> None:
    values = np.random.default_rng(2).normal(0, 1, (37, 72)).astype(np.float32)
    rows = {"f32": values, "f16": values.astype(np.float16), "bf16": bf16_bits(values)}[source]
    exact = bf16_values(rows) if source == "bf16" else rows.astype(np.float32)
    data = ops.encode(rows, source, format, "x")
    as_plain = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16}
    if format in as_plain:
        told = data.view(as_plain[format]).reshape(rows.shape)
        found = bf16_values(told) if format == "bf16" else told.astype(np.float32)
        # half a unit in the last place of 24, 11 or 8 bits; float16's least numbers are 2^-24 apart
        limit = np.abs(exact) * {"f32": 0, "f16": 2**-11, "bf16": 2**-8}[format] + (2**-25 if format == "f16" else 0)
        assert (np.abs(found - exact) <= limit).all()
    rows = rows.copy()
    rows[20, 3] = 0x7FC0 if source == "bf16" else np.nan
    with pytest.raises(UserError, match="near row"):
        ops.encode(rows, source, format, "x")
