"""Points that many views have seen: against truth, OpenCV, least squares of the reprojection error and sampling."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from trianflow.data.synthetic.matches import KITTI_CAMERA
from trianflow.geometry.camera import invert_pose, project, transform
from trianflow.geometry.multiview import triangulate_views

K = KITTI_CAMERA.K()
VIEWS = 5


def scene(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pixels `(N, L, 2)`, T_cw `(N, L, 4, 4)` and the points `(N, 3)` of a car that drives and turns."""
    rng = np.random.default_rng(seed)
    T_wc = np.tile(np.eye(4), (VIEWS, 1, 1))
    T_wc[:, :3, :3] = Rotation.from_rotvec(rng.normal(0, 0.02, (VIEWS, 3))).as_matrix()
    T_wc[:, :3, 3] = np.array([0.1, 0, 1]) * np.arange(VIEWS)[:, None] + rng.normal(0, 0.05, (VIEWS, 3))
    T_cw = invert_pose(torch.from_numpy(T_wc)).expand(count, VIEWS, 4, 4)
    X = torch.from_numpy(rng.uniform([-10, -3, 12], [10, 3, 40], (count, 3)))
    p = project(transform(T_cw, X[:, None, None]), K)[:, :, 0]
    return p, T_cw, X


SEEN = torch.ones(40, VIEWS, dtype=torch.bool)


def test_exact_views_give_the_points() -> None:
    p, T_cw, X = scene(40)
    found = triangulate_views(p, SEEN, T_cw, K)
    torch.testing.assert_close(found.X_w, X, rtol=1e-6, atol=1e-6)
    assert float(found.error.max()) < 1e-6


def test_two_views_as_opencv_does() -> None:
    p, T_cw, _ = scene(40)
    generator = torch.Generator().manual_seed(0)
    p = p + 0.2 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    seen = SEEN.clone()
    seen[:, 1:4] = False
    found = triangulate_views(p, seen, T_cw, K)
    P_a, P_b = ((K @ T_cw[0, i, :3]).numpy() for i in (0, 4))
    X = cv2.triangulatePoints(P_a, P_b, p[:, 0].T.numpy(), p[:, 4].T.numpy())
    np.testing.assert_allclose(found.X_w.numpy(), (X[:3] / X[3]).T, rtol=0.02, atol=0.05)


def test_noise_costs_hardly_more_than_the_least_reprojection_error() -> None:
    p, T_cw, _ = scene(40)
    generator = torch.Generator().manual_seed(1)
    p = p + 0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    found = triangulate_views(p, SEEN, T_cw, K)
    for i in range(40):

        def residuals(X: np.ndarray, i: int = i) -> np.ndarray:
            return (project(transform(T_cw[i], torch.from_numpy(X)[None, None]), K)[:, 0] - p[i]).numpy().ravel()

        best = least_squares(residuals, found.X_w[i].numpy(), xtol=1e-12)
        assert np.linalg.norm(residuals(found.X_w[i].numpy())) < 1.05 * np.linalg.norm(best.fun)
        worst = np.linalg.norm(residuals(found.X_w[i].numpy()).reshape(-1, 2), axis=1).max()
        assert float(found.error[i]) == pytest.approx(worst, rel=1e-9)


def test_sigma_is_what_sampling_shows() -> None:
    p, T_cw, X = scene(1, seed=3)
    count, noise = 4000, 0.2
    generator = torch.Generator().manual_seed(2)
    p = p + noise * torch.randn(count, VIEWS, 2, generator=generator, dtype=p.dtype)
    T_cw = T_cw.expand(count, VIEWS, 4, 4)
    found = triangulate_views(p, torch.ones(count, VIEWS, dtype=torch.bool), T_cw, K)
    largest = np.sqrt(np.linalg.eigvalsh(np.cov(found.X_w.numpy().T))[-1])
    distance = float((X[0] - invert_pose(T_cw[0, 0])[:3, 3]).norm())
    assert noise * float(found.sigma.median()) == pytest.approx(largest / distance, rel=0.1)


def test_pixels_of_views_that_have_not_seen_a_point_do_not_matter() -> None:
    p, T_cw, X = scene(40)
    seen = SEEN.clone()
    seen[:, 3] = False
    p[:, 3] = torch.nan
    p[:, 2] += 30.0
    seen[::2, 2] = False
    found = triangulate_views(p, seen, T_cw, K)
    torch.testing.assert_close(found.X_w[::2], X[::2], rtol=1e-6, atol=1e-6)
    assert float(found.error[::2].max()) < 1e-6
    assert float(found.error[1::2].min()) > 5


def test_degenerate_points_are_known_by_their_sigma_and_spoil_no_other() -> None:
    p, T_cw, X = scene(40)
    T_cw = T_cw.clone()
    T_cw[0] = T_cw[0, :1]  # all views from one place
    p[0] = p[0, :1]
    seen = SEEN.clone()
    seen[1, 1:] = False  # a single view
    seen[2] = False  # none
    found = triangulate_views(p, seen, T_cw, K)
    assert found.sigma[:3].tolist() == [np.inf] * 3
    assert all(bool(x.isfinite().all()) for x in (found.X_w, found.sigma[3:]))
    torch.testing.assert_close(found.X_w[3:], X[3:], rtol=1e-6, atol=1e-6)


def test_a_point_behind_a_view_is_an_error() -> None:
    p, T_cw, _ = scene(1)
    behind = torch.tensor([[2.0, 1.0, -15.0]], dtype=torch.float64)
    p = project(transform(T_cw, behind[:, None, None]), K)[:, :, 0]
    assert float(triangulate_views(p, SEEN[:1], T_cw, K).error) == np.inf


def test_no_points() -> None:
    p, T_cw, _ = scene(3)
    found = triangulate_views(p[:0], SEEN[:0], T_cw[:0], K)
    assert found.X_w.shape == (0, 3)


def test_gradient() -> None:
    p, T_cw, _ = scene(3)
    p = (p + 0.3).requires_grad_()
    assert torch.autograd.gradcheck(lambda q: triangulate_views(q, SEEN[:3], T_cw, K).X_w, p, atol=1e-5)
