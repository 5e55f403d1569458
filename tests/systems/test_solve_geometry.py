"""Flow to pose to structure: the truth from true flow, and nothing at all from flow that teaches nothing."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import Tensor

from trianflow.data.synthetic import RenderedPair
from trianflow.flow.interface import FlowPair
from trianflow.geometry.warping import rigid_flow
from trianflow.pose.two_view import TwoViewStatus
from trianflow.systems.config import GeometryConfig
from trianflow.systems.geometry import PairGeometry, solve_geometry


def solved(ab: Tensor, ba: Tensor, K: Tensor, seed: int = 0) -> PairGeometry:
    return solve_geometry(FlowPair(ab, ba), K.float(), GeometryConfig(), seed)


def assert_finite(geometry: PairGeometry) -> None:
    for field in fields(geometry):
        value = getattr(geometry, field.name)
        parts = vars(value).values() if field.name == "view" else [value]
        for part in parts:
            if field.name == "distance":
                part = part[part != torch.inf]
            assert part.isfinite().all(), field.name


def test_true_flow_gives_the_true_pose_and_depth(drives: RenderedPair) -> None:
    found = solved(drives.flow_ab, drives.flow_ba, drives.K)
    assert found.usable.all()
    assert (found.view.status == TwoViewStatus.OK).all()
    length = drives.T_ba[:, :3, 3].norm(dim=1)
    T = found.view.T_ba.double()
    torch.testing.assert_close(T[:, :3, :3], drives.T_ba[:, :3, :3], rtol=0, atol=1e-5)
    torch.testing.assert_close(T[:, :3, 3], drives.T_ba[:, :3, 3] / length[:, None], rtol=0, atol=1e-4)
    assert_finite(found)
    for i in range(3):
        valid = found.valid[i]
        assert valid.sum() >= GeometryConfig().min_points
        for points, depths, true_depth, instance in (
            (found.p_a, found.depth_a, drives.depth_a, drives.instance_a),
            (found.p_b, found.depth_b, drives.depth_b, drives.instance_b),
        ):
            x, y = points[i][valid].round().long().unbind(-1)
            truth = true_depth[i, 0, y, x].double() / length[i]
            error = (depths[i][valid] / truth - 1).abs()
            # in b the points lie between pixels, whose depth is not quite theirs
            assert error.median() < (1e-4 if points is found.p_a else 2e-2)
            assert (instance[i, y, x] == 0).float().mean() > 0.98


def test_inliers_are_what_stands_still(drives: RenderedPair) -> None:
    found = solved(drives.flow_ab, drives.flow_ba, drives.K)
    still = (drives.instance_a == 0)[:, None] & drives.depth_a.isfinite()
    assert found.inlier[still].mean() > 0.99
    off = solved(drives.flow_ab + torch.tensor([0.0, 0.3]).view(2, 1, 1) * ~still, drives.flow_ba, drives.K)
    assert off.inlier[still].mean() > 0.99
    assert (off.distance[still] < 0.02).float().mean() > 0.99


def degenerate(pair: RenderedPair, kind: str) -> tuple[Tensor, Tensor]:
    ab, ba = pair.flow_ab[:1], pair.flow_ba[:1]
    if kind == "zero":
        return torch.zeros_like(ab), torch.zeros_like(ba)
    if kind == "rotation":
        T = torch.eye(4, dtype=torch.float64)[None].repeat(1, 1, 1)
        T[0, 0, 0] = T[0, 2, 2] = torch.tensor(0.05, dtype=torch.float64).cos()
        T[0, 0, 2] = torch.tensor(0.05, dtype=torch.float64).sin()
        T[0, 2, 0] = -T[0, 0, 2]
        depth = torch.ones_like(pair.depth_a[:1], dtype=torch.float64)
        turns = [rigid_flow(depth, pose, pair.K[:1]).float() for pose in (T, T.mT)]
        return turns[0], turns[1]
    if kind == "noise":
        g = torch.Generator().manual_seed(0)
        return torch.randn(ab.shape, generator=g) * 30, torch.randn(ab.shape, generator=g) * 30
    if kind == "outside":
        return torch.full_like(ab, 1e4), torch.full_like(ab, -1e4)
    return torch.full_like(ab, float(kind)), torch.full_like(ba, float(kind))


KINDS = ["zero", "rotation", "noise", "outside", "nan", "inf", "-inf", "3e38"]


@pytest.mark.parametrize("kind", KINDS)
def test_flow_that_teaches_nothing(drives: RenderedPair, kind: str) -> None:
    ab, ba = degenerate(drives, kind)
    ab.requires_grad_()
    found = solved(ab, ba, drives.K[:1])
    assert not found.usable.any()
    assert not found.valid.any()
    assert_finite(found)
    finite_part = torch.where(found.distance.isfinite(), found.distance, 0.0)
    (found.depth_a.sum() + found.depth_b.sum() + finite_part.sum()).backward()
    assert ab.grad is not None
    assert ab.grad.isfinite().all()


def test_a_patch_that_is_not_finite_costs_no_more_than_itself(drives: RenderedPair) -> None:
    ab = drives.flow_ab[:1].clone()
    ab[..., 40:60, 100:140] = torch.nan
    ab.requires_grad_()
    found = solved(ab, drives.flow_ba[:1], drives.K[:1])
    assert found.usable.all()
    assert (found.distance[..., 40:60, 100:140] == torch.inf).all()
    assert (found.inlier[..., 40:60, 100:140] == 0).all()
    x, y = found.p_a[found.valid].round().long().unbind(-1)
    assert not ((y >= 40) & (y < 60) & (x >= 100) & (x < 140)).any()
    found.depth_a[found.valid].sum().backward()
    assert ab.grad is not None
    assert ab.grad.isfinite().all()
    assert (ab.grad[..., 40:60, 100:140] == 0).all()


def test_items_do_not_see_each_other(drives: RenderedPair) -> None:
    bad = [degenerate(drives, kind) for kind in ("zero", "noise", "nan")]
    ab = torch.cat([bad[0][0], drives.flow_ab[1:2], bad[1][0], bad[2][0], drives.flow_ab[2:]])
    ba = torch.cat([bad[0][1], drives.flow_ba[1:2], bad[1][1], bad[2][1], drives.flow_ba[2:]])
    together = solved(ab, ba, drives.K[:1].expand(5, 3, 3), 3)
    assert together.usable.tolist() == [False, True, False, False, True]
    for i in range(5):
        alone = solved(ab[i : i + 1], ba[i : i + 1], drives.K[:1], 3)
        for field in fields(alone):
            if field.name != "view":
                a, b = getattr(together, field.name)[i : i + 1], getattr(alone, field.name)
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5, equal_nan=True)
        torch.testing.assert_close(together.view.T_ba[i : i + 1], alone.view.T_ba, rtol=0, atol=1e-6)


def test_the_seed_draws_the_points(drives: RenderedPair) -> None:
    flows = drives.flow_ab[:1], drives.flow_ba[:1], drives.K[:1]
    first, again, other = solved(*flows, 0), solved(*flows, 0), solved(*flows, 1)
    assert torch.equal(first.p_a, again.p_a)
    assert not torch.equal(first.p_a, other.p_a)


def test_depth_follows_the_flow_as_triangulation_says(drives: RenderedPair) -> None:
    """With the pose held, a longer way along the epipolar line is a nearer point."""
    ab = drives.flow_ab[:1].clone().requires_grad_()
    found = solved(ab, drives.flow_ba[:1], drives.K[:1])
    valid = found.valid[0]
    found.depth_a[0][valid].sum().backward()
    assert ab.grad is not None
    x, y = found.p_a[0][valid].round().long().unbind(-1)
    slope = ab.grad[0, :, y, x]
    F = found.view.F_ba[0]
    grid = torch.stack([x, y, torch.ones_like(x)]).float()
    line = F @ grid
    along = torch.stack([line[1], -line[0]]) / line[:2].norm(dim=0)
    # the epipole, where the motion points to, is where every line begins
    e = found.view.T_ba[0, :3, 3]
    e = (drives.K[0].float() @ e)[:2] / e[2]
    landing = grid[:2] + drives.flow_ab[0, :, y, x]
    outward = along * (along * (landing - e[:, None])).sum(0).sign()
    assert drives.T_ba[0, 2, 3] < 0, "forward"
    assert ((slope * outward).sum(0) < 0).float().mean() > 0.99
