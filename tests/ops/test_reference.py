"""The reference ops against torch and transformers."""

import functools

import numpy as np
import pytest

from soban import ops
from soban.ops import LayerGeometry, make_batch, make_cache, schema
from soban.ops.formats import BLOCK, FORMATS, Matrix, decode, encode, matrix, quantise, turn

torch = pytest.importorskip("torch")
functional = torch.nn.functional


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_rms_norm_is_torchs() -> None:
    x, weight = normal(0, 5, 96), normal(1, 96)
    want = functional.rms_norm(torch.tensor(x), (96,), torch.tensor(weight + 1), 1e-5).numpy()
    np.testing.assert_allclose(ops.rms_norm(x, weight, 1e-5, 1.0), want, rtol=1e-5, atol=1e-6)


ACTIVATIONS = {
    "silu": functional.silu, "gelu": functional.gelu, "relu": functional.relu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"), "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "sigmoid": torch.sigmoid, "identity": lambda x: x,
}  # fmt: skip


@pytest.mark.parametrize("name", schema.ACTIVATIONS)
def test_activations_are_torchs_alone_and_as_gates(name: str) -> None:
    x = normal(2, 4, 64) * 5
    bound = 8 * np.finfo(np.float32).eps * np.abs(x)  # 1 + tanh cancels far below 0
    bound = np.maximum(bound, 8 * np.finfo(np.float32).eps * (name == "sigmoid"))
    wanted = ACTIVATIONS[name](torch.tensor(x).double()).numpy()
    assert (np.abs(ops.activation(x, name) - wanted) <= bound).all()
    gated = wanted[:, :32] * x[:, 32:].astype(np.float64)
    assert (np.abs(ops.glu(x, name) - gated) <= bound[:, :32] * np.abs(x[:, 32:])).all()


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm_is_torchs(bias: bool) -> None:
    x, weight, shift = normal(0, 5, 96) * 3 + 7, normal(1, 96), normal(2, 96) if bias else None
    want = functional.layer_norm(
        torch.tensor(x), (96,), torch.tensor(weight), None if shift is None else torch.tensor(shift), 1e-5
    )  # fmt: skip
    np.testing.assert_allclose(ops.layer_norm(x, weight, shift, 1e-5), want.numpy(), rtol=1e-5, atol=1e-5)


def test_head_norm_is_torchs_over_each_head() -> None:
    x, weight = normal(0, 5, 96), normal(1, 24)
    want = functional.rms_norm(torch.tensor(x.reshape(5, 4, 24)), (24,), torch.tensor(weight + 1), 1e-5)
    np.testing.assert_allclose(ops.head_norm(x, weight, 1e-5, 1.0), want.reshape(5, 96), rtol=1e-5, atol=1e-6)


def test_scale_multiplies_by_a_number_and_by_a_vector() -> None:
    x, vector = normal(0, 3, 8), normal(1, 8)
    np.testing.assert_array_equal(ops.scale(x, 0.5), x * 0.5)
    np.testing.assert_array_equal(ops.scale(x, 2.0, vector), x * 2 * vector)


@pytest.mark.parametrize("window", [None, 1, 5, 300])
def test_attention_is_torchs_over_more_than_one_span(window: int | None) -> None:
    length, heads, groups, size = 600, 4, 2, 16
    q, k, v = normal(3, length, heads * size), normal(4, length, groups * size), normal(5, length, groups * size)
    cache = make_cache(32, [LayerGeometry(groups, size)], "f32")
    table = list(np.random.default_rng(6).permutation(32))
    batch = make_batch([[0] * length], [0], [table], [])
    got = ops.attention(q, k, v, batch, cache[0], 0.3, None, window)
    t = np.arange(length)
    seen = (t[None] <= t[:, None]) & (t[None] > t[:, None] - (window or length))
    shaped = [torch.tensor(a.reshape(length, -1, size)).transpose(0, 1)[None].double() for a in (q, k, v)]
    want = functional.scaled_dot_product_attention(
        *shaped, attn_mask=torch.tensor(seen), scale=0.3, enable_gqa=True
    )  # fmt: skip
    np.testing.assert_allclose(got, want[0].transpose(0, 1).reshape(length, -1).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window", [None, 1, 5, 300])
def test_attention_to_both_sides_is_torchs_with_as_many_after_as_before(window: int | None) -> None:
    length, heads, groups, size = 300, 4, 2, 16
    q, k, v = normal(3, length, heads * size), normal(4, length, groups * size), normal(5, length, groups * size)
    batch = make_batch([[0] * length], [0], [list(range(10))], [])
    cache = make_cache(10, [LayerGeometry(groups, size)], "f32")[0]
    got = ops.attention(q, k, v, batch, cache, 0.3, None, window, causal=False)
    t = np.arange(length)
    seen = np.abs(t[None] - t[:, None]) < (window or length)
    shaped = [torch.tensor(a.reshape(length, -1, size)).transpose(0, 1)[None].double() for a in (q, k, v)]
    want = functional.scaled_dot_product_attention(*shaped, attn_mask=torch.tensor(seen), scale=0.3, enable_gqa=True)
    np.testing.assert_allclose(got, want[0].transpose(0, 1).reshape(length, -1).numpy(), rtol=1e-4, atol=1e-5)


def test_alibi_takes_a_slope_off_for_each_position_between() -> None:
    q, k, v, slopes = (
        normal(7, 300, 24),
        normal(8, 300, 24),
        normal(9, 300, 24),
        np.array([0.25, 0.5, 0.01], np.float32),
    )
    batch = make_batch([[0] * 300], [0], [list(range(10))], [])
    got = ops.attention(q, k, v, batch, make_cache(10, [LayerGeometry(3, 8)], "f32")[0], 0.5, slopes=slopes)
    t = torch.arange(300)
    mask = torch.where(t[None] <= t[:, None], torch.tensor(slopes)[:, None, None] * t, -torch.inf)
    shaped = [torch.tensor(a.reshape(300, 3, 8)).transpose(0, 1) for a in (q, k, v)]
    want = functional.scaled_dot_product_attention(*shaped, attn_mask=mask, scale=0.5).transpose(0, 1).reshape(300, 24)
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-4)


def test_the_soft_cap_comes_before_the_softmax() -> None:
    q, k, v = normal(7, 9, 8) * 9, normal(8, 9, 8) * 9, normal(9, 9, 8)
    batch = make_batch([[0] * 9], [0], [[0]], [])
    got = ops.attention(q, k, v, batch, make_cache(1, [LayerGeometry(1, 8)], "f32")[0], 0.5, 5.0, None)
    scores = 5 * torch.tanh(torch.tensor(q) @ torch.tensor(k).T * 0.5 / 5)
    scores = scores.masked_fill(~torch.ones(9, 9).tril().bool(), -torch.inf)
    np.testing.assert_allclose(got, (scores.softmax(-1) @ torch.tensor(v)).numpy(), rtol=1e-4, atol=1e-6)


def test_what_turns_grows_with_every_period_of_positions() -> None:
    positions, frequencies = np.array([0, 7, 8, 15, 16, 100], np.int32), np.array([[1.0, 0.3]], np.float32)
    plain, grown = (ops.rotary(positions, 0, frequencies, 1.5, *growth) for growth in ((), (0.4, 8.0)))
    wanted = 1 + 0.4 * np.log([1, 1, 2, 2, 3, 13])
    np.testing.assert_allclose(grown, plain * wanted[:, None], rtol=1e-6)


def test_rope_turns_as_transformers_does_and_interleaved_is_a_permutation_of_it() -> None:
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    frequencies = (10000.0 ** (-np.arange(0, 16, 2) / 16)).astype(np.float32)
    positions = np.array([0, 1, 77, 4096], np.int32)
    angles = ops.rotary(positions, 0, frequencies[None])
    x = normal(10, 4, 48)
    cosine, sine = (torch.tensor(np.tile(a, 2))[None] for a in np.split(angles, 2, axis=1))
    heads = torch.tensor(x.reshape(1, 4, 3, 16)).transpose(1, 2)
    want, _ = llama.apply_rotary_pos_emb(heads, heads, cosine, sine)
    np.testing.assert_allclose(ops.rope(x, angles), want[0].transpose(0, 1).reshape(4, 48), rtol=1e-6, atol=1e-6)
    order = np.arange(48).reshape(3, 2, 8).transpose(0, 2, 1).reshape(-1)  # halves side by side -> pairs
    np.testing.assert_array_equal(ops.rope(x[:, order], angles, True), ops.rope(x, angles)[:, order])


def test_rope_of_a_part_turns_the_first_columns_of_each_head_as_transformers_does() -> None:
    neox = pytest.importorskip("transformers.models.gpt_neox.modeling_gpt_neox")
    angles = ops.rotary(np.array([0, 5, 99], np.int32), 0, np.array([[1.0, 0.3, 0.02]], np.float32))  # 6 of 16 columns
    x = normal(10, 3, 4 * 16)
    cosine, sine = (torch.tensor(np.tile(a, 2))[None] for a in np.split(angles, 2, axis=1))
    heads = torch.tensor(x.reshape(1, 3, 4, 16)).transpose(1, 2)
    want, _ = neox.apply_rotary_pos_emb(heads, heads, cosine, sine)
    got = ops.rope(x, angles, size=16)
    np.testing.assert_allclose(got, want[0].transpose(0, 1).reshape(3, 64), rtol=1e-6, atol=1e-6)
    order = np.arange(64).reshape(4, 16)  # halves side by side -> pairs
    order[:, :6] = order[:, :6].reshape(4, 2, 3).transpose(0, 2, 1).reshape(4, 6)
    order = order.reshape(-1)
    np.testing.assert_array_equal(ops.rope(x[:, order], angles, True, 16), got[:, order])


def hadamard(size: int) -> np.ndarray:
    """Sylvester's construction."""
    return functools.reduce(np.kron, [np.array([[1.0, 1.0], [1.0, -1.0]])] * (size.bit_length() - 1))


@pytest.mark.parametrize(("columns", "sizes"), [(64, [64]), (100, [128]), (192, [128, 64]), (600, [256, 256, 128])])
def test_turning_multiplies_blocks_by_hadamards_matrix(columns: int, sizes: list[int]) -> None:
    x, start = normal(15, 3, columns), 0
    got, filled = turn(x), np.pad(x, ((0, 0), (0, sum(sizes) - columns)))
    for size in sizes:
        mine = slice(start, start + size)
        np.testing.assert_allclose(got[:, mine], filled[:, mine] @ hadamard(size), atol=2e-5)
        start += size
    np.testing.assert_allclose(turn(got, inverse=True), filled, atol=1e-6)


@pytest.mark.parametrize("format", ["q8", "q4"])
def test_quantised_linear_is_the_product_of_what_is_stored_and_rounded_activations(format: str) -> None:
    x, w = normal(11, 3, 130), normal(12, 20, 130)
    part = encode(w, format)
    q, scale = quantise(turn(x), BLOCK)
    turned = (q * scale[..., None].astype(np.float64)).reshape(3, -1)[:, :192]
    halves = [turned[:, start:end] @ hadamard(end - start) / (end - start) for start, end in ((0, 128), (128, 192))]
    rounded = np.concatenate(halves, axis=1)[:, :130]
    stored = decode(part).astype(np.float64)
    bound = 64 * np.finfo(np.float32).eps * (np.abs(turned).sum(axis=1)[:, None] * np.abs(stored).sum(axis=1))
    assert (np.abs(ops.linear(x, Matrix((part,))) - rounded @ stored.T) <= bound).all()
    assert np.abs(rounded - x).max() <= 0.51 * scale.max()


def test_embed_finds_its_rows_in_every_part() -> None:
    first, second = normal(13, 7, 64), normal(14, 5, 64)
    table = Matrix((matrix(first).parts[0], matrix(second, "q8").parts[0]))
    got = ops.embed(np.array([11, 0, 7, 6], np.int32), table, 2.0)
    want = np.concatenate([first, decode(table.parts[1])])[[11, 0, 7, 6]] * 2
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("format", FORMATS)
def test_linear_takes_no_rows_at_all(format: str) -> None:
    weights = matrix(np.ones((5, 70), np.float32), format)
    assert ops.linear(np.zeros((0, 70), np.float32), weights).shape == (0, 5)


def test_refining_reads_the_rest_of_the_panels_with_the_largest_scores() -> None:
    scores, x, rest = normal(2, 2, 2000), normal(3, 2, 16), matrix(normal(4, 2000, 16))
    scores[:, 500:504] = 3.5, 9.0, 2.0, 9.0  # all within the margin
    got = ops.refine(x, scores, rest, 64, 10.0)
    whole = scores + x @ decode(rest.parts[0]).T
    for t in range(2):
        largest = scores[t].reshape(-1, 16).max(axis=1)
        for p in range(125):
            above = (largest > largest[p]).sum()
            wanted = whole if above < 64 else scores  # at least 64 panels, of 125
            np.testing.assert_allclose(got[t, 16 * p : 16 * p + 16], wanted[t, 16 * p : 16 * p + 16], atol=1e-5)


def test_refining_leaves_panels_alone_that_are_far_below_the_largest_and_takes_the_first_of_equals() -> None:
    x, rest = np.ones((1, 16), np.float32), matrix(np.ones((2000, 16), np.float32))
    scores = np.zeros((1, 2000), np.float32)
    equal = ops.refine(x, scores, rest, 64, 10.0)
    assert (equal[0, : 64 * 16] == 16).all() and (equal[0, 64 * 16 :] == 0).all()
    scores[0, 1000] = 10.5
    far = ops.refine(x, scores, rest, 64, 10.0)
    assert np.flatnonzero(far != scores).tolist() == list(range(992, 1008))


@pytest.mark.parametrize("taps", [1, 3, 4])
@pytest.mark.parametrize("chunks", [[20], [1] * 20, [2, 1, 17]])
def test_convolution_is_torchs_however_a_text_is_cut(taps: int, chunks: list[int]) -> None:
    x, weight, bias = normal(1, 20, 12), normal(2, taps, 12), normal(3, 12)
    padded = torch.tensor(np.pad(x.T, ((0, 0), (taps - 1, 0))))
    wanted = functional.conv1d(padded[None], torch.tensor(weight.T[:, None]), torch.tensor(bias), groups=12)[0].T
    cache, got = make_cache(1, [LayerGeometry(0, 0, state=3 + (taps - 1) * 12)], "f32"), []
    for start, size in zip(np.cumsum([0, *chunks]), chunks, strict=False):
        batch = make_batch([[0] * size], [int(start)], [[0]], [])
        got.append(ops.convolution(x[start : start + size], weight.reshape(-1), bias, batch, cache[0], 3))
    np.testing.assert_allclose(np.concatenate(got), wanted.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("chunks", [[40], [1] * 40, [7, 1, 32]])
def test_the_delta_rule_is_transformers_however_a_text_is_cut(chunks: list[int], tiled: bool) -> None:
    qwen = pytest.importorskip("transformers.models.qwen3_next.modeling_qwen3_next")
    tokens, key_heads, heads, size, width = 40, 2, 6, 8, 5
    keys, values = normal(1, tokens, 2, key_heads, size), normal(2, tokens, heads, width)
    gates, decay, bias = normal(3, tokens, 2 * heads), -np.exp(normal(4, heads)), normal(5, heads)
    both = np.tile(keys, (1, 1, heads // key_heads, 1)) if tiled else keys  # one key for each value
    torched = [torch.tensor(part.astype(np.float64))[None] for part in (both[:, 0], both[:, 1], values)]
    wanted, forgotten = torch.tensor(gates[:, :heads]).double(), torch.tensor(gates[:, heads:]).double()
    g = torch.tensor(decay).double() * functional.softplus(forgotten + torch.tensor(bias))
    expected, _ = qwen.torch_recurrent_gated_delta_rule(
        *torched, g[None], torch.sigmoid(wanted)[None], use_qk_l2norm_in_kernel=True
    )
    normed = ops.head_norm(keys.reshape(tokens, -1), np.full(size, size**-0.5, np.float32), 1e-6 / size)
    cache, got = make_cache(2, [LayerGeometry(0, 0, state=4 + heads * size * width)], "f32"), []
    for start, count in zip(np.cumsum([0, *chunks]), chunks, strict=False):
        mine, batch = slice(start, start + count), make_batch([[0] * count], [int(start)], [[0, 1]], [])
        flat = values[mine].reshape(count, -1)
        about = decay, bias, key_heads, 4, size**-0.5, tiled
        got.append(ops.delta_rule(normed[mine], flat, gates[mine], batch, cache[0], *about))
    np.testing.assert_allclose(np.concatenate(got), expected[0].reshape(tokens, -1).numpy(), rtol=1e-4, atol=1e-5)
