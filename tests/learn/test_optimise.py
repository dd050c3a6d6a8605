"""The optimisers, against torch's own where it has them."""

import pytest

torch = pytest.importorskip("torch")

from soban.learn import optimise  # noqa: E402


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


def test_adamw_moves_as_torchs_does() -> None:
    generator = torch.Generator().manual_seed(0)
    ours = torch.randn(5, 7, generator=generator).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    judge = torch.optim.AdamW([theirs], lr=0.01, betas=optimise.BETAS, eps=optimise.EPSILON, weight_decay=0)
    weights = {"model.embed_tokens.weight": ours}
    state = optimise.initial_state(weights)
    for step in range(1, 6):
        gradient = torch.randn(5, 7, generator=generator)
        gradient /= 2 * gradient.norm()  # short enough not to be clipped
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        optimise.update(weights, state, step, 0.01)
        judge.step()
    torch.testing.assert_close(ours, theirs)


def test_muon_moves_as_torchs_does() -> None:
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon to compare with")
    generator = torch.Generator().manual_seed(0)
    ours = torch.randn(16, 24, generator=generator).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    judge = torch.optim.Muon(
        [theirs], lr=0.01, weight_decay=optimise.WEIGHT_DECAY, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    weights = {"model.layers.0.mlp.up_proj.weight": ours}
    state = optimise.initial_state(weights)
    before = ours.detach().clone()
    for step in range(1, 6):
        gradient = torch.randn(16, 24, generator=generator)
        gradient /= 2 * gradient.norm()
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        optimise.update(weights, state, step, 0.01)
        judge.step()
    # torch's rounds are in bfloat16 (8 bits): the moves agree to a few per cent
    moved = (theirs - before).norm()
    assert (ours - theirs).norm() < 0.05 * moved
