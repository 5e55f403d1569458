"""Mid-point triangulation against truth, a least-squares solution of the two lines, and OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from trianflow.data.synthetic.matches import KITTI_CAMERA, random_match_scene
from trianflow.geometry.camera import homogeneous, normalize_pixels, project, transform
from trianflow.geometry.triangulation import inverse_depths, midpoint, midpoint_depths, ray_angle_cosine, triangulate

DTYPES = [torch.float32, torch.float64]
K = KITTI_CAMERA.K()


def random_lines(seed: int, count: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, count, 3, dtype=torch.float64, generator=generator).unbind(0)


def scene(seed: int, noise: float = 0.0) -> tuple[torch.Tensor, ...]:
    s = random_match_scene(seed, 200, 0.0, noise)
    return tuple(torch.from_numpy(x) for x in (s.p_a, s.p_b, s.T_ba, s.depth_a))


def parallax(p_a: torch.Tensor, p_b: torch.Tensor, T_ba: torch.Tensor) -> torch.Tensor:
    """Pixels between the second point and where it would be at infinity."""
    far = homogeneous(normalize_pixels(p_a.double(), K)) @ T_ba[..., :3, :3].double().mT
    return (project(far, K) - p_b.double()).norm(dim=-1)


def test_midpoint_known_value() -> None:
    """The x axis, and a line along y one unit above it."""
    X = midpoint(*(torch.tensor(v) for v in ([0.0, 0, 0], [2.0, 0, 0], [3.0, 5, 1], [0.0, 1, 0])))
    torch.testing.assert_close(X, torch.tensor([3.0, 0, 0.5]))


def test_midpoint_is_the_middle_of_the_shortest_segment() -> None:
    c_a, r_a, c_b, r_b = random_lines(0, 50)
    X = midpoint(c_a, r_a, c_b, r_b)
    for i in range(50):
        lines = torch.stack([r_a[i], -r_b[i]], 1).numpy()
        s = np.linalg.lstsq(lines, (c_b - c_a)[i].numpy(), rcond=None)[0]
        expected = (c_a[i] + s[0] * r_a[i] + c_b[i] + s[1] * r_b[i]) / 2
        torch.testing.assert_close(X[i], expected, rtol=1e-8, atol=1e-8)


def test_midpoint_does_not_depend_on_order_or_length() -> None:
    c_a, r_a, c_b, r_b = random_lines(1, 50)
    X = midpoint(c_a, r_a, c_b, r_b)
    torch.testing.assert_close(midpoint(c_b, r_b, c_a, r_a), X, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(midpoint(c_a, 3 * r_a, c_b, -0.5 * r_b), X, rtol=1e-7, atol=1e-7)


def test_midpoint_of_parallel_lines_is_finite_and_so_is_its_gradient() -> None:
    c_a, r_a, c_b, r_b = (x.requires_grad_() for x in random_lines(2, 3))
    alone = midpoint(c_a, r_a, c_b, r_b).detach()
    r_b = torch.stack([r_b[0], r_a[1].detach() * 2, torch.full((3,), torch.nan)])
    X = midpoint(c_a, r_a, c_b, r_b)
    assert torch.equal(X[0], alone[0])
    assert X[1].isfinite().all()
    X[:2].sum().backward()
    assert c_a.grad[:2].isfinite().all()
    assert r_a.grad[:2].isfinite().all()


def test_gradients() -> None:
    lines = [x.requires_grad_() for x in random_lines(3, 4)]
    assert torch.autograd.gradcheck(midpoint, lines)
    p_a, p_b, T_ba, _ = scene(0, 0.5)
    inputs = tuple(x.requires_grad_() for x in (p_a[:4].clone(), p_b[:4].clone(), T_ba, K.clone()))
    assert torch.autograd.gradcheck(triangulate, inputs, atol=1e-4)
    rays = [x[None].detach().requires_grad_() for x in random_lines(4, 5)[:2]]
    R, t = T_ba.detach()[:3, :3].requires_grad_(), T_ba.detach()[:3, 3].requires_grad_()
    assert torch.autograd.gradcheck(midpoint_depths, (*rays, R, t))
    assert torch.autograd.gradcheck(ray_angle_cosine, (*rays, t))


@pytest.mark.parametrize("dtype", DTYPES)
def test_triangulate_without_noise(dtype: torch.dtype) -> None:
    stacked = [torch.stack(x) for x in zip(*(scene(seed) for seed in range(4)))]
    p_a, p_b, T_ba, depth = (x.to(dtype) for x in stacked)
    X_a, X_b = triangulate(p_a, p_b, T_ba, K.to(dtype))
    assert X_a.dtype == dtype
    # Distant points and those near the epipole have hardly any parallax: float32 pixels lose them.
    seen = parallax(p_a, p_b, T_ba) > (5 if dtype == torch.float32 else 1)
    assert seen.float().mean() > 0.7
    rtol = 2e-3 if dtype == torch.float32 else 1e-6
    torch.testing.assert_close(X_a[..., 2][seen], depth[seen], rtol=rtol, atol=0)
    torch.testing.assert_close(X_b, transform(T_ba, X_a), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(project(X_b, K.to(dtype))[seen], p_b[seen], rtol=0, atol=0.02)


def test_triangulate_against_opencv() -> None:
    """Linear triangulation is another estimate; with small noise and good parallax the two are close."""
    p_a, p_b, T_ba, _ = scene(3, 0.2)
    good = parallax(p_a, p_b, T_ba) > 15
    X_a, _ = triangulate(p_a, p_b, T_ba, K)
    P_a, P_b = K @ torch.eye(3, 4, dtype=torch.float64), K @ T_ba[:3]
    X = cv2.triangulatePoints(P_a.numpy(), P_b.numpy(), p_a.T.numpy().copy(), p_b.T.numpy().copy())
    expected = torch.from_numpy((X[:3] / X[3]).T)
    assert good.sum() > 20
    torch.testing.assert_close(X_a[good], expected[good], rtol=0.02, atol=0.02)


def test_triangulate_behind_the_camera_has_negative_depth() -> None:
    p_a, p_b, T_ba, depth = scene(4)
    T_ba[:3, 3] *= -1
    X_a, X_b = triangulate(p_a, p_b, T_ba, K)
    seen = parallax(p_a, p_b, T_ba) > 1
    torch.testing.assert_close(X_a[seen, 2], -depth[seen], rtol=1e-6, atol=0)
    assert (X_b[seen, 2] < 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_midpoint_depths_are_the_feet_on_both_rays(dtype: torch.dtype) -> None:
    p_a, p_b, T_ba, _ = scene(5, 0.5)
    r_a, r_b = homogeneous(normalize_pixels(p_a, K)), homogeneous(normalize_pixels(p_b, K))
    R, t = T_ba[:3, :3], T_ba[:3, 3]
    s_a, s_b = midpoint_depths(r_a.to(dtype), r_b.to(dtype), R.to(dtype), t.to(dtype))
    assert s_a.dtype == dtype
    # In the frame of b: two lines from t along R r_a, and from 0 along r_b.
    seen = parallax(p_a, p_b, T_ba) > (10 if dtype == torch.float32 else 1)
    for i in seen.nonzero()[:50, 0]:
        lines = torch.stack([R @ r_a[i], -r_b[i]], 1).numpy()
        expected = np.linalg.lstsq(lines, -t.numpy(), rcond=None)[0]
        rtol = 1e-2 if dtype == torch.float32 else 1e-7
        np.testing.assert_allclose([s_a[i], s_b[i]], expected, rtol=rtol)


def test_midpoint_depths_of_parallel_rays_are_finite() -> None:
    ray = torch.tensor([[[0.0, 0, 1]]])
    s_a, s_b = midpoint_depths(ray, ray, torch.eye(3)[None], torch.tensor([[1.0, 0, 0]]))
    assert s_a.isfinite().all()
    assert s_b.isfinite().all()


def test_ray_angle_cosine() -> None:
    """Against the sine of the parallax angle, of which it is the value where ray b meets ray a."""
    X = torch.tensor([[0.0, 0, 10], [3, 0, 10], [0, 4, 20], [0, 0, -10], [50, 0, 1e9]], dtype=torch.float64)
    c_b = torch.tensor([1.0, 0, 0], dtype=torch.float64)
    r_b = X - c_b
    cosine = ray_angle_cosine(X * 2, r_b * 0.1, c_b)
    parallax = torch.linalg.cross(X, r_b).norm(dim=-1) / (X.norm(dim=-1) * r_b.norm(dim=-1))
    torch.testing.assert_close(cosine[[0, 1, 2, 3]], parallax[[0, 1, 2, 3]], rtol=1e-9, atol=0)
    assert cosine[4].abs() < 1e-7, "parallel rays"
    x, z = torch.eye(3)[0], torch.eye(3)[2]
    diverging = ray_angle_cosine((5 * z - x)[None], (5 * z + x)[None], x)
    assert diverging.item() < 0, "the rays meet behind the cameras"
    assert ray_angle_cosine(z[None], z[None], z).item() == 0, "at the epipole the perpendicular vanishes"


def test_inverse_depths_without_noise_and_behind_the_camera() -> None:
    p_a, p_b, T_ba, depth = scene(6)
    x_a, x_b = normalize_pixels(p_a, K), normalize_pixels(p_b, K)
    found, reach = inverse_depths(x_a, x_b, T_ba)
    seen = parallax(p_a, p_b, T_ba) > 1
    torch.testing.assert_close(found[seen], 1 / depth[seen], rtol=1e-6, atol=0)
    # The reach is how far the point moves in b as its inverse depth grows by one.
    h = homogeneous(x_a) @ T_ba[:3, :3].mT + (1 / depth + 1e-7)[:, None] * T_ba[:3, 3]
    moved = (h[:, :2] / h[:, 2:] - x_b).norm(dim=-1) / 1e-7
    torch.testing.assert_close(reach[seen], moved[seen], rtol=1e-4, atol=0)
    T_ba[:3, 3] *= -1
    behind, _ = inverse_depths(x_a, x_b, T_ba)
    torch.testing.assert_close(behind[seen], -1 / depth[seen], rtol=1e-6, atol=0)


def test_inverse_depths_are_unbiased_and_scatter_as_their_reach_says() -> None:
    """Also where the noise is as large as the parallax, which depths do not survive."""
    p_a, p_b, T_ba, depth = scene(7)
    noise, draws = 0.5, 2000
    x_a, x_b = normalize_pixels(p_a, K), normalize_pixels(p_b, K)
    _, reach = inverse_depths(x_a, x_b, T_ba)
    apart = parallax(p_a, p_b, T_ba)
    good = (apart > noise) & (reach * K[0, 0] > 25)  # the latter: some 20 pixels from the epipole
    assert good.sum() > 100
    assert (apart[good] < 3 * noise).sum() > 1
    generator = torch.Generator().manual_seed(0)
    shaken = x_b + noise / K[0, 0] * torch.randn(draws, *x_b.shape, dtype=torch.float64, generator=generator)
    found, _ = inverse_depths(x_a.expand(draws, -1, -1), shaken, T_ba.expand(draws, 4, 4))
    z = ((found - 1 / depth) * reach * K[0, 0] / noise)[:, good]
    assert z.mean(0).abs().max() < 0.15
    assert z.std(0).min() > 0.85
    assert z.std(0).max() < 1.15
