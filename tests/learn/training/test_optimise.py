"""The optimisers, against torch's own where it has them."""

import pytest

torch = pytest.importorskip("torch")

from soban.learn.training import optimise  # noqa: E402
from soban.learn.training.presets import PRESETS  # noqa: E402
from soban.learn.training.settings import Settings  # noqa: E402

RATE = 0.01


def settings(**changes: object) -> Settings:
    values = {"batch_size": 1, "steps": 100, "learning_rate": RATE, "schedule": "constant", "grad_clip": 1.0, **changes}
    return Settings("llama", PRESETS["260k"], 512, **values)  # type: ignore[arg-type]


def test_newton_schulz_rounds_move_singular_values_and_leave_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    first, third, fifth = optimise.NEWTON_SCHULZ
    for rows, columns in ((32, 32), (16, 48), (48, 16)):
        matrices = torch.randn(3, rows, columns, generator=generator)
        for matrix, near in zip(matrices, optimise.orthogonal(matrices), strict=True):
            u, values, v = torch.linalg.svd(matrix, full_matrices=False)
            values = values / values.norm()
            for _ in range(optimise.ROUNDS):
                values = first * values + third * values**3 + fifth * values**5
            torch.testing.assert_close(near, u * values @ v, rtol=0, atol=1e-4)
            assert 0.6 < values.median() < 1.2


@pytest.mark.parametrize(("optimizer", "decay"), [("muon", 0.0), ("adamw", 0.1)])
def test_adamw_moves_as_torchs_does(optimizer: str, decay: float) -> None:
    generator = torch.Generator().manual_seed(0)
    ours = torch.randn(5, 7, generator=generator)
    theirs = ours.clone().requires_grad_()
    judge = torch.optim.AdamW([theirs], lr=RATE, betas=(0.9, 0.95), eps=optimise.EPSILON, weight_decay=decay)
    known = settings(optimizer=optimizer)
    weights = {"model.embed_tokens.weight": ours}
    state = optimise.initial_state(weights, known)
    for step in range(5):
        gradient = torch.randn(5, 7, generator=generator)
        theirs.grad = gradient.clone()
        torch.nn.utils.clip_grad_norm_([theirs], known.grad_clip)
        length = optimise.update(weights, {"model.embed_tokens.weight": gradient.clone()}, state, step, known)
        assert length == pytest.approx(gradient.norm().item())
        judge.step()
    torch.testing.assert_close(ours, theirs)


def test_norms_are_not_drawn_to_zero() -> None:
    weights = {"model.norm.weight": torch.ones(4)}
    state = optimise.initial_state(weights, settings(optimizer="adamw"))
    optimise.update(weights, {"model.norm.weight": torch.zeros(4)}, state, 0, settings(optimizer="adamw"))
    assert torch.equal(weights["model.norm.weight"], torch.ones(4))


@pytest.mark.parametrize(("dtype", "near"), [("float32", 0.05), ("bfloat16", 0.08)])
def test_muon_moves_as_torchs_does(dtype: str, near: float) -> None:
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon to compare with")
    generator = torch.Generator().manual_seed(0)
    ours = torch.randn(16, 24, generator=generator)
    theirs = ours.clone().requires_grad_()
    judge = torch.optim.Muon([theirs], lr=RATE, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    known = settings(dtype=dtype)
    name = "model.layers.0.mlp.up_proj.weight"
    state = optimise.initial_state({name: ours}, known)
    before = ours.clone()
    for step in range(5):
        gradient = torch.randn(16, 24, generator=generator)
        gradient /= 2 * gradient.norm()  # short enough not to be clipped
        theirs.grad = gradient.clone()
        optimise.update({name: ours}, {name: gradient.clone()}, state, step, known)
        judge.step()
    # torch's rounds are in bfloat16 (8 bits): the moves agree to a few per cent
    assert (ours - theirs).norm() < near * (theirs - before).norm()


def test_threads_move_weights_as_one_does() -> None:
    from concurrent.futures import ThreadPoolExecutor

    moved = []
    for each in (map, ThreadPoolExecutor(2).map):
        generator = torch.Generator().manual_seed(0)
        weights = {f"model.layers.{i}.mlp.up_proj.weight": torch.randn(8, 12, generator=generator) for i in range(6)}
        state = optimise.initial_state(weights, settings())
        gradients = {name: torch.randn(8, 12, generator=generator) for name in weights}
        optimise.update(weights, gradients, state, 0, settings(), each)  # type: ignore[arg-type]
        moved.append(weights)
    assert all(torch.equal(moved[0][name], moved[1][name]) for name in moved[0])
