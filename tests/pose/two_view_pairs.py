"""What the tests of the two-view solver share: pairs of matches, and what every result promises."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest
import torch

from trianflow.data.synthetic.matches import KITTI_CAMERA, MatchScene
from trianflow.pose.two_view import TwoView, TwoViewStatus

K = KITTI_CAMERA.K()
FAILED = (TwoViewStatus.TOO_FEW_MATCHES, TwoViewStatus.NO_CONSENSUS)


def tensors(scene: MatchScene, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """p_a, p_b `(1, N, 2)`."""
    return tuple(torch.from_numpy(p)[None].to(dtype) for p in (scene.p_a, scene.p_b))


def stacked(scenes: list[MatchScene]) -> tuple[torch.Tensor, torch.Tensor]:
    """p_a, p_b `(B, N, 2)`."""
    return tuple(torch.stack([torch.from_numpy(getattr(s, k)) for s in scenes]) for k in ("p_a", "p_b"))


def angle_errors(T_ba: torch.Tensor, truth: np.ndarray) -> tuple[float, float]:
    """Of rotation and direction, degrees."""
    T = T_ba.double().numpy()
    chord = np.linalg.norm(T[:3, :3] - truth[:3, :3]) / np.sqrt(8)
    t, t_true = T[:3, 3], truth[:3, 3]
    direction = np.arctan2(np.linalg.norm(np.cross(t, t_true)), t @ t_true)
    return float(np.degrees(2 * np.arcsin(min(chord, 1)))), float(np.degrees(direction))


def check_promises(view: TwoView, p_a: torch.Tensor, p_b: torch.Tensor) -> None:
    """What `TwoView` says of itself holds for every item, whatever its status."""
    B, N = p_a.shape[:2]
    assert view.T_ba.shape == (B, 4, 4)
    assert view.F_ba.shape == (B, 3, 3)
    assert view.inlier.shape == (B, N)
    assert view.inlier.dtype == torch.bool
    for field in fields(view):
        value = getattr(view, field.name)
        assert value.isfinite().all(), field.name
        if value.is_floating_point():
            assert value.dtype == p_a.dtype, field.name
    eye = torch.eye(3, dtype=torch.float64).expand(B, 3, 3)
    R, t = view.T_ba[:, :3, :3].double(), view.T_ba[:, :3, 3].double()
    tolerance = 1e-5 if p_a.dtype == torch.float32 else 1e-9
    torch.testing.assert_close(R @ R.mT, eye, rtol=0, atol=tolerance)
    assert (torch.linalg.det(R) > 0).all()
    assert (view.T_ba[:, 3] == torch.tensor([0, 0, 0, 1])).all()
    usable = p_a.isfinite().all(-1) & p_b.isfinite().all(-1)
    assert not (view.inlier & ~usable).any()
    for i in range(B):
        status = TwoViewStatus(int(view.status[i]))
        if status in (TwoViewStatus.OK, TwoViewStatus.PLANAR):
            assert t[i].norm() == pytest.approx(1, abs=tolerance)
            assert view.F_ba[i].norm() == pytest.approx(1, abs=tolerance)
            assert 0 <= view.direction_sigma[i] <= math.pi + 1e-6
        else:
            assert (t[i] == 0).all()
            assert (view.F_ba[i] == 0).all()
            assert view.direction_sigma[i] == pytest.approx(math.pi)
        if status in FAILED:
            assert torch.equal(R[i], eye[i])
            assert not view.inlier[i].any()
            assert view.noise[i] == view.parallax[i] == view.motion[i] == 0
        if status == TwoViewStatus.STATIC:
            assert torch.equal(R[i], eye[i])
