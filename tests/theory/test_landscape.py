"""The landscape in A and B: derivatives, the two starts, what is a saddle and what is not."""

import pytest
import torch

from allora_lab.theory import hessian as convex
from allora_lab.theory import landscape as th
from allora_lab.theory.hessian import Regression

N, D_IN, D_OUT, R = 8, 5, 4, 2  # all different, so that a transposed matrix cannot pass
SIZE = R * (D_IN + D_OUT)


def normal(rng, *shape):
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def problem(rng, n=N, d_in=D_IN, d_out=D_OUT):
    return Regression(normal(rng, n, d_in), normal(rng, d_out, d_in), normal(rng, n, d_out))


def loss_of_theta(task, theta, r=R):
    d_out, d_in = task.W.shape
    A, B = theta[: r * d_in].view(r, d_in), theta[r * d_in :].view(d_out, r)
    return th.joint_loss(task, A, B)


def hessian_by_autograd(task, A, B):
    theta = torch.cat([A.flatten(), B.flatten()])
    return torch.func.hessian(lambda t: loss_of_theta(task, t, len(A)))(theta)


@pytest.fixture
def task(rng):
    return problem(rng)


@pytest.fixture
def A(rng):
    return normal(rng, R, D_IN)


ZERO_A, ZERO_B = torch.zeros(R, D_IN).double(), torch.zeros(D_OUT, R).double()


def toy():
    """L(a, b) = (a b - 1)²."""
    one = torch.ones(1, 1, dtype=torch.float64)
    return Regression(one, torch.zeros_like(one), one)


def scalar(value):
    return torch.full((1, 1), value, dtype=torch.float64)


def test_the_toy_by_hand():
    # L = (ab - 1)² at (3, 2): L = 25, ∂a = 2·5·2 = 20, ∂b = 2·5·3 = 30, aa = 2b², bb = 2a², ab = 4ab - 2
    a, b = scalar(3.0), scalar(2.0)
    assert th.joint_loss(toy(), a, b) == 25
    assert [g.item() for g in th.joint_gradient(toy(), a, b)] == [20, 30]
    assert th.joint_hessian(toy(), a, b).tolist() == [[8, 22], [22, 18]]


def test_the_spectrum_of_the_toy_by_hand():
    # at (a, 0): H = [[0, -2], [-2, 2a²]], h = a² ± √(a⁴ + 4); a = 0 gives ∓2
    assert th.spectrum_at_zero_B(toy(), scalar(0.0)).tolist() == pytest.approx([-2, 2])
    a2, root = 2.25, (2.25**2 + 4) ** 0.5
    assert th.spectrum_at_zero_B(toy(), scalar(1.5)).tolist() == pytest.approx(
        [a2 - root, a2 + root]
    )


@pytest.mark.parametrize("n", [3, N])
@pytest.mark.parametrize("where", ["anywhere", "start", "zero"])
def test_gradient_and_hessian_are_those_of_autograd(rng, n, where):
    task = problem(rng, n)
    A = ZERO_A if where == "zero" else normal(rng, R, D_IN)
    B = normal(rng, D_OUT, R) if where == "anywhere" else ZERO_B
    by_autograd = torch.func.grad(lambda A, B: th.joint_loss(task, A, B), argnums=(0, 1))(A, B)
    for got, expected in zip(th.joint_gradient(task, A, B), by_autograd, strict=True):
        torch.testing.assert_close(got, expected)
    torch.testing.assert_close(th.joint_hessian(task, A, B), hessian_by_autograd(task, A, B))


def test_zero_is_a_strict_saddle(rng, task):
    assert all(not g.any() for g in th.joint_gradient(task, ZERO_A, ZERO_B))
    h = torch.linalg.eigvalsh(hessian_by_autograd(task, ZERO_A, ZERO_B))
    assert h[0] < -1
    assert h[-1] > 1


def test_at_zero_the_eigenvalues_come_in_pairs_of_the_singular_values_of_G(task):
    G = 2 * (task.X @ task.W.T - task.Y).T @ task.X
    sigma = torch.linalg.svdvals(G).repeat_interleave(R)  # each r times
    none = torch.zeros(SIZE - 2 * len(sigma), dtype=torch.float64)
    expected = torch.cat([-sigma, none, sigma]).sort().values
    by_autograd = torch.linalg.eigvalsh(hessian_by_autograd(task, ZERO_A, ZERO_B))
    torch.testing.assert_close(by_autograd, expected)
    torch.testing.assert_close(th.spectrum_at_zero_B(task, ZERO_A), expected)


def test_the_start_of_LoRA_is_not_stationary_although_A_has_no_gradient(task, A):
    along_A, along_B = th.joint_gradient(task, A, ZERO_B)
    assert not along_A.any()
    G = convex.gradient(task, torch.zeros_like(task.W))
    torch.testing.assert_close(along_B, G @ A.T)
    assert along_B.norm() > 1


def test_the_start_is_stationary_only_if_A_sees_nothing_of_the_error(rng):
    task = problem(rng, n=3)  # rows of A orthogonal to all three inputs
    A = torch.linalg.svd(task.X).Vh[3:5]
    along_A, along_B = th.joint_gradient(task, A, ZERO_B)
    assert along_A.abs().max() == 0
    assert along_B.abs().max() < 1e-12


@pytest.mark.parametrize("shape", [(8, 5, 4, 2), (8, 4, 5, 3), (2, 6, 3, 4), (9, 3, 7, 1)])
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_the_spectrum_at_the_start_is_that_of_autograd(rng, shape, scale):
    n, d_in, d_out, r = shape
    task, A = problem(rng, n, d_in, d_out), scale * normal(rng, r, d_in)
    H = hessian_by_autograd(task, A, torch.zeros(d_out, r, dtype=torch.float64))
    got, expected = th.spectrum_at_zero_B(task, A), torch.linalg.eigvalsh(H)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-11 * H.norm().item())


def test_both_starts_have_equally_many_directions_down_so_that_signs_do_not_tell_a_saddle(task, A):
    # 4 singular values, each twice; at zero as many are positive, at the start all of B's are
    assert th.count_signs(th.spectrum_at_zero_B(task, ZERO_A)) == (8, 2, 8)
    assert th.count_signs(th.spectrum_at_zero_B(task, A)) == (8, 2, 8)
    assert th.count_signs(torch.tensor([-1.0, 1e-12, 2.0, 3.0]).double()) == (1, 1, 2)


def test_a_larger_A_steepens_B_as_scale_squared_and_flattens_the_way_down_likewise(task, A):
    small, large = (th.spectrum_at_zero_B(task, s * A) for s in (100.0, 1000.0))
    assert (large[-1] / small[-1]).item() == pytest.approx(100, rel=1e-3)
    # h → -σ²/λ: the least of the pairs falls to a hundredth too
    assert (large[0] / small[0]).item() == pytest.approx(0.01, rel=1e-3)


def test_the_gradient_at_the_start_grows_as_the_scale_of_A(task, A):
    once, thrice = (th.joint_gradient(task, s * A, ZERO_B)[1] for s in (1.0, 3.0))
    torch.testing.assert_close(thrice, 3 * once)


def test_LoRA_starts_at_r_over_3d_of_the_speed_of_full_fine_tuning(rng):
    task, d = problem(rng, d_in=12), 12
    bound = 0.5 * d**-0.5  # scale 0.5
    draws = bound * (2 * torch.rand(4000, 3, d, generator=rng, dtype=torch.float64) - 1)
    ratios = torch.tensor([th.speed_ratio(task, A) for A in draws])
    error = ratios.std().item() / len(ratios) ** 0.5
    assert abs(ratios.mean().item() - 0.25 * 3 / (3 * d)) < 4 * error


def test_speed_ratio_is_the_slope_of_the_loss_in_a_small_step(task, A):
    lr = 1e-7
    along_A, along_B = th.joint_gradient(task, A, ZERO_B)
    V = -lr * convex.gradient(task, torch.zeros_like(task.W))
    start = convex.loss(task, torch.zeros_like(task.W))
    lora = start - th.joint_loss(task, A - lr * along_A, ZERO_B - lr * along_B)
    assert th.speed_ratio(task, A) == pytest.approx(
        (lora / (start - convex.loss(task, V))).item(), rel=1e-4
    )


def test_nothing_moves_where_W_is_already_best(rng, A):
    X, W = normal(rng, N, D_IN), normal(rng, D_OUT, D_IN)
    with pytest.raises(ValueError, match="W already minimises the loss"):
        th.speed_ratio(Regression(X, W, X @ W.T), A)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_extreme_directions_have_the_extreme_curvatures_and_point_downhill(task, A, scale):
    A = scale * A
    h = th.spectrum_at_zero_B(task, A)
    for direction, expected in zip(th.extreme_directions(task, A, ZERO_B), h[[0, -1]], strict=True):
        v = torch.cat([part.flatten() for part in direction])
        assert v.norm().item() == pytest.approx(1)
        along = torch.stack(
            [
                th.joint_loss(task, A + s * direction[0], ZERO_B + s * direction[1])
                for s in (-1e-3, 0.0, 1e-3)
            ]
        )
        curvature = (along[0] - 2 * along[1] + along[2]).item() / 1e-6
        assert curvature == pytest.approx(expected.item(), rel=1e-3)
        assert along[2] <= along[0] + 1e-6
        if scale == 0:
            assert v[v.abs().argmax()] > 0


def test_the_plane_holds_the_losses_where_it_says(rng, task, A):
    B, steps = normal(rng, D_OUT, R), torch.tensor([-0.5, 0.0, 2.0]).double()
    p = normal(rng, R, D_IN), normal(rng, D_OUT, R)
    q = normal(rng, R, D_IN), normal(rng, D_OUT, R)
    plane = th.losses_on_plane(task, (A, B), p, q, steps)
    assert plane.shape == (3, 3)
    assert plane[1, 1] == pytest.approx(th.joint_loss(task, A, B).item())
    at = A - 0.5 * p[0] + 2 * q[0], B - 0.5 * p[1] + 2 * q[1]
    assert plane[0, 2].item() == pytest.approx(th.joint_loss(task, *at).item())


def test_a_batch_of_points_has_the_gradients_of_each(rng, task):
    A, B = normal(rng, 3, R, D_IN), normal(rng, 3, D_OUT, R)
    along_A, along_B = th.joint_gradient(task, A, B)
    for i in range(3):
        one = th.joint_gradient(task, A[i], B[i])
        torch.testing.assert_close((along_A[i], along_B[i]), one)
