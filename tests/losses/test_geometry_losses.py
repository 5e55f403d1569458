"""Geometric loss terms against the functions for points, plain loops, known values, and nonsense beside a mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from trianflow.geometry.camera import Camera, pixel_grid, pose_matrix
from trianflow.geometry.epipolar import epipolar_distance, skew
from trianflow.geometry.scale import closed_form_scale
from trianflow.geometry.warping import flow_targets, rigid_flow
from trianflow.losses.geometry import (
    Reprojection,
    align_scale,
    depth_consistency_loss,
    epipolar_band_loss,
    epipolar_distance_map,
    inlier_score,
    reproject,
    rigid_flow_loss,
    triangulation_loss,
)

DTYPES = [torch.float32, torch.float64]
H, W = 7, 9
K = Camera(8.0, 7.5, 4.1, 2.8, W, H).K()


def rotation(*angles: float) -> Tensor:
    return torch.linalg.matrix_exp(skew(torch.tensor(angles, dtype=torch.float64)))


def poses() -> Tensor:
    R = torch.stack([rotation(0.02, -0.03, 0.01), rotation(-0.01, 0.02, 0.03)])
    return pose_matrix(R, torch.tensor([[0.3, 0.1, -0.2], [-0.2, 0.15, 0.3]], dtype=torch.float64))


def draw(*shape: int, seed: int = 0, low: float = 0.0, high: float = 1.0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(low, high, shape))


def fundamental(T_ba: Tensor) -> Tensor:
    K_inv = torch.linalg.inv(K)
    F = K_inv.T @ skew(T_ba[:, :3, 3]) @ T_ba[:, :3, :3] @ K_inv
    return F / torch.linalg.matrix_norm(F, keepdim=True)


# --- epipolar ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_distance_map_is_the_distance_of_points(dtype: torch.dtype) -> None:
    flow, F = draw(2, 2, H, W, low=-3, high=3).to(dtype), fundamental(poses()).to(dtype)
    ours = epipolar_distance_map(flow, F)
    assert ours.dtype == dtype
    p_a = pixel_grid(H, W, dtype).flatten(1).T.expand(2, -1, 2)
    expected = epipolar_distance(F, p_a, flow_targets(flow).flatten(1, 2)).reshape(2, 1, H, W)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(epipolar_distance_map(flow[1:], F[1:]), ours[1:])


def test_distance_of_a_rigid_scene_is_zero() -> None:
    flow = rigid_flow(draw(2, 1, H, W, low=3, high=9), poses(), K)
    assert epipolar_distance_map(flow, fundamental(poses())).max() < 1e-6
    # Sideways motion: the lines are rows, the distance is that to the row.
    F = skew(torch.tensor([[1.0, 0, 0]], dtype=torch.float64))
    aside = torch.tensor([5.0, -2.5]).double()[None, :, None, None].expand(1, 2, H, W)
    torch.testing.assert_close(
        epipolar_distance_map(aside, F), torch.full((1, 1, H, W), 2.5).double(), rtol=1e-5, atol=0
    )


def test_distance_map_gradient() -> None:
    flow, F = draw(2, 2, 3, 4, low=-3, high=3), fundamental(poses())
    assert torch.autograd.gradcheck(epipolar_distance_map, (flow.requires_grad_(), F.requires_grad_()))


def test_distance_map_of_nothing_and_of_nonsense() -> None:
    """A static pair lies on its lines; what is not finite is infinitely far, and contributes no gradient."""
    flow, F = draw(4, 2, H, W, low=-3, high=3), fundamental(poses()).repeat(2, 1, 1)
    alone = epipolar_distance_map(flow[:1], F[:1])
    flow[1], F[1] = 0, 0
    F[2, 1, 1] = torch.nan
    flow[3, 0, 2, 2], flow[3, 1, 3, 3] = torch.nan, torch.inf
    flow.requires_grad_(), F.requires_grad_()
    distance = epipolar_distance_map(flow, F)
    torch.testing.assert_close(distance[:1], alone)
    assert (distance[1] == 0).all()
    assert (distance[2] == torch.inf).all()
    assert (distance[3, 0, (2, 3), (2, 3)] == torch.inf).all()
    assert distance[3].isfinite().sum() == H * W - 2
    score, loss = inlier_score(distance, 1.0), epipolar_band_loss(distance, 0.1, 1.0)
    assert (score[1] == 1).all()
    assert (score[2] == 0).all()
    assert loss[1:3].tolist() == [0.0, 0.0]
    (loss.sum() + score.sum()).backward()
    assert flow.grad.isfinite().all()
    assert F.grad.isfinite().all()
    assert (flow.grad[1:3] == 0).all()
    assert (flow.grad[3, :, (2, 3), (2, 3)] == 0).all()
    assert (flow.grad[3] != 0).any()


def test_inlier_score_known_values() -> None:
    distance = torch.tensor([0.0, 0.25, 0.5, 2.0, torch.nan, torch.inf]).reshape(1, 1, 1, 6).requires_grad_()
    score = inlier_score(distance, 0.5)
    torch.testing.assert_close(score.flatten(), torch.tensor([1.0, 0.8, 0, 0, 0, 0]))
    score.sum().backward()
    torch.testing.assert_close(distance.grad.flatten(), torch.tensor([-1.0, -0.64, 0, 0, 0, 0]))
    assert inlier_score(distance, 1.0).flatten()[2].item() == pytest.approx(2 / 3)


def test_band_loss_known_values() -> None:
    rows = [[0.05, 0.1, 0.3, 0.49], [0.5, 0.6, torch.nan, torch.inf], [0.0, 0.0, 0.0, 0.0], [0.09, 0.2, torch.nan, 7.0]]
    distance = torch.tensor(rows, dtype=torch.float64).reshape(4, 1, 2, 2).requires_grad_()
    loss = epipolar_band_loss(distance)
    torch.testing.assert_close(loss, torch.tensor([0.89 / 3, 0, 0, 0.2], dtype=torch.float64))
    loss.sum().backward()
    expected = torch.tensor([[0, 1 / 3, 1 / 3, 1 / 3], [0] * 4, [0] * 4, [0, 1, 0, 0]]).double()
    torch.testing.assert_close(distance.grad.reshape(4, 4), expected)
    assert epipolar_band_loss(distance, inlier=0.55, rigid=1.0)[1].item() == pytest.approx(0.6)


# --- triangulated depth -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e6])
def test_align_scale_minimises_whatever_the_unit(dtype: torch.dtype, unit: float) -> None:
    triangulated = draw(3, 40, low=2, high=30)
    depth = triangulated * draw(3, 40, seed=1, low=0.3, high=0.5)
    valid = draw(3, 40, seed=2) > 0.3
    expected = [closed_form_scale(depth[i][valid[i]], triangulated[i][valid[i]]).item() for i in range(3)]
    depth[~valid], triangulated[~valid] = torch.nan, 0
    ours = align_scale((unit * depth).to(dtype), triangulated.to(dtype), valid)
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours * unit, expected, rtol=1e-5)
    torch.testing.assert_close(
        align_scale((unit * depth[1:2]).to(dtype), triangulated[1:2].to(dtype), valid[1:2]), ours[1:2]
    )


def test_aligned_depth_has_no_gradient_along_its_unit() -> None:
    """Whatever is computed from it: a network cannot lower a loss by making everything larger."""
    depth, triangulated = draw(2, 9, low=1, high=3).requires_grad_(), draw(2, 9, seed=1, low=5, high=9).requires_grad_()
    valid = draw(2, 9, seed=2) > 0.3
    assert torch.autograd.gradcheck(lambda d: align_scale(d, triangulated.detach(), valid), depth)
    aligned = align_scale(depth, triangulated, valid)[:, None] * depth
    (gradient,) = torch.autograd.grad((aligned * draw(2, 9, seed=3)).sum(), depth)
    torch.testing.assert_close((gradient * depth).sum(1), torch.zeros(2, dtype=torch.float64))
    scale = align_scale(depth, triangulated, valid).sum()
    assert torch.autograd.grad(scale, triangulated, allow_unused=True) == (None,)


def test_align_scale_of_nothing_is_one_and_has_no_gradient() -> None:
    depth = torch.full((2, 5), 2.0).requires_grad_()
    triangulated = torch.full((2, 5), 5.0)
    valid = torch.tensor([[False] * 5, [True, False, True, True, False]])
    scale = align_scale(depth, triangulated, valid)
    torch.testing.assert_close(scale, torch.tensor([1.0, 2.5]))
    (gradient,) = torch.autograd.grad(scale[0], depth)
    assert not gradient.any()
    assert align_scale(depth[:, :0], triangulated[:, :0], valid[:, :0]).tolist() == [1.0, 1.0]


def test_triangulation_loss_known_values_and_gradient() -> None:
    triangulated = torch.tensor([[2.0, 4, 5], [1, 1, 1]], dtype=torch.float64)
    depth = torch.tensor([[1.0, 5, 5], [9, 9, 9]], dtype=torch.float64)
    valid = torch.tensor([[True, True, False], [False, False, False]])
    assert triangulation_loss(depth, triangulated, valid).tolist() == [(0.25 + 0.0625) / 2, 0.0]
    inputs = (depth.requires_grad_(), triangulated.requires_grad_())
    assert torch.autograd.gradcheck(lambda d, t: triangulation_loss(d, t, valid), inputs)


@pytest.mark.parametrize("nonsense", [torch.nan, torch.inf, 0.0])
def test_triangulation_loss_beside_nonsense(nonsense: float) -> None:
    depth, triangulated, valid = draw(3, 8, low=1, high=2), draw(3, 8, seed=1, low=1, high=2), draw(3, 8, seed=2) > 0.4
    valid[1] = False
    expected = triangulation_loss(depth, triangulated, valid)
    depth, triangulated = (torch.where(valid, x, nonsense).requires_grad_() for x in (depth, triangulated))
    loss = triangulation_loss(depth, triangulated, valid)
    assert torch.equal(loss, expected)
    loss.sum().backward()
    for x in (depth, triangulated):
        assert ((x.grad != 0) == valid).all()
        assert x.grad.isfinite().all()
    torch.testing.assert_close(triangulation_loss(depth[2:], triangulated[2:], valid[2:]), loss[2:])


# --- reprojection -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shared_K", [True, False])
def test_reproject_against_a_loop(dtype: torch.dtype, shared_K: bool) -> None:
    depth = draw(2, 1, H, W, low=0.1, high=6)
    intrinsics = K if shared_K else torch.stack([K, Camera(9.0, 9.5, 4.0, 3.0, W, H).K()])
    ours = reproject(depth.to(dtype), poses().to(dtype), intrinsics.to(dtype))
    assert ours.points.dtype == ours.depth.dtype == dtype
    assert 0.1 < ours.inside.double().mean() < 0.95
    for b, v, u in np.ndindex(2, H, W):
        k = K if shared_K else intrinsics[b]
        X = float(depth[b, 0, v, u]) * torch.linalg.inv(k) @ torch.tensor([u, v, 1.0], dtype=torch.float64)
        X = poses()[b, :3, :3] @ X + poses()[b, :3, 3]
        x, y = ((k @ X)[:2] / X[2]).tolist()
        tolerance = 1e-3 if dtype == torch.float32 else 1e-9
        assert ours.depth[b, 0, v, u].item() == pytest.approx(X[2].item(), rel=tolerance, abs=tolerance)
        assert ours.points[b, v, u].tolist() == pytest.approx([x, y], rel=tolerance, abs=tolerance)
        assert ours.inside[b, 0, v, u].item() == (0 < x < W - 1 and 0 < y < H - 1 and X[2].item() > 0)


def test_reproject_is_the_rigid_flow() -> None:
    depth = draw(2, 1, H, W, low=2, high=6)
    points = reproject(depth, poses(), K).points
    torch.testing.assert_close(points, flow_targets(rigid_flow(depth, poses(), K)))
    still = reproject(depth, torch.eye(4, dtype=torch.float64).expand(2, 4, 4), K)
    torch.testing.assert_close(still.depth, depth)
    # The camera did not move: all but the pixels of the border are strictly inside.
    assert still.inside[..., 1:-1, 1:-1].all()


def test_reproject_gradient() -> None:
    depth, T_ba = draw(2, 1, 3, 4, low=2, high=6).requires_grad_(), poses().requires_grad_()

    def outputs(depth: Tensor, T_ba: Tensor) -> tuple[Tensor, Tensor]:
        reprojection = reproject(depth, T_ba, K)
        return reprojection.points, reprojection.depth

    assert torch.autograd.gradcheck(outputs, (depth, T_ba))


def losses(depth_a: Tensor, depth_b: Tensor, flow: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    reprojection = reproject(depth_a, poses()[: depth_a.shape[0]].to(depth_a), K.to(depth_a))
    return (
        depth_consistency_loss(reprojection, depth_b, weight),
        rigid_flow_loss(flow, reprojection, weight),
    )


def case() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    weight = draw(2, 1, H, W, seed=3)
    return (
        draw(2, 1, H, W, low=2, high=6),
        draw(2, 1, H, W, seed=1, low=2, high=6),
        draw(2, 2, H, W, seed=2, low=-3, high=3),
        torch.where(weight > 0.4, weight, 0.0),
    )


def test_reprojection_losses_against_a_loop() -> None:
    depth_a, depth_b, flow, weight = case()
    consistency, rigid = losses(depth_a, depth_b, flow, weight)
    reprojection = reproject(depth_a, poses(), K)
    for b in range(2):
        top = bottom = flow_top = flow_bottom = 0.0
        for v, u in np.ndindex(H, W):
            x, y = reprojection.points[b, v, u].tolist()
            w = weight[b, 0, v, u].item()
            error = abs(flow[b, 0, v, u].item() + u - x) + abs(flow[b, 1, v, u].item() + v - y)
            flow_top, flow_bottom = flow_top + w * error / 2, flow_bottom + w
            if reprojection.inside[b, 0, v, u]:
                x0, y0 = int(x), int(y)
                corners = depth_b[b, 0, y0 : y0 + 2, x0 : x0 + 2]
                along_y = torch.tensor([1 - (y - y0), y - y0], dtype=torch.float64)
                along_x = torch.tensor([1 - (x - x0), x - x0], dtype=torch.float64)
                seen = (along_y @ corners @ along_x).item()
                top, bottom = top + w * abs(1 - reprojection.depth[b, 0, v, u].item() / seen), bottom + w
        assert consistency[b].item() == pytest.approx(top / bottom, rel=1e-9)
        assert rigid[b].item() == pytest.approx(flow_top / flow_bottom, rel=1e-9)


def test_reprojection_losses_gradient_and_independence() -> None:
    depth_a, depth_b, flow, weight = case()
    inputs = tuple(x.requires_grad_() for x in (depth_a, depth_b, flow))
    assert torch.autograd.gradcheck(lambda *x: losses(*x, weight), inputs)
    for all_items, alone in zip(losses(*inputs, weight), losses(*(x[:1] for x in (*inputs, weight)))):
        torch.testing.assert_close(all_items[:1], alone)


def test_a_static_scene_of_one_plane_costs_nothing() -> None:
    """A wall at depth five, and the camera moves ahead by one: depth four in b, and the flow of the wall."""
    T_ba = torch.eye(4, dtype=torch.float64)[None].clone()
    T_ba[:, 2, 3] = -1
    wall = torch.full((1, 1, H, W), 5.0, dtype=torch.float64)
    reprojection, weight = reproject(wall, T_ba, K), torch.ones_like(wall)
    assert depth_consistency_loss(reprojection, wall - 1, weight).item() == pytest.approx(0, abs=1e-12)
    assert depth_consistency_loss(reprojection, wall, weight).item() == pytest.approx(0.2)
    flow = rigid_flow(wall, T_ba, K)
    assert rigid_flow_loss(flow, reprojection, weight).item() == pytest.approx(0, abs=1e-12)
    flow = flow + torch.tensor([1.0, -3.0])[None, :, None, None]
    assert rigid_flow_loss(flow, reprojection, weight).item() == pytest.approx(2)


@pytest.mark.parametrize("nonsense", [torch.nan, torch.inf, 0.0])
def test_reprojection_losses_beside_nonsense(nonsense: float) -> None:
    depth_a, depth_b, flow, weight = case()
    weight[1] = 0
    expected = losses(depth_a, depth_b, flow, weight)
    depth_a = torch.where(weight > 0, depth_a, nonsense).requires_grad_()
    flow = torch.where(weight > 0, flow, nonsense).requires_grad_()
    depth_b.requires_grad_()
    ours = losses(depth_a, depth_b, flow, weight)
    for mine, other in zip(ours, expected):
        assert torch.equal(mine, other)
        assert mine[1].item() == 0
        assert mine[0].item() > 0
    sum(ours).sum().backward()
    for x in (depth_a, depth_b, flow):
        assert x.grad.isfinite().all()
        assert (x.grad[1] == 0).all()
    assert (depth_a.grad[weight == 0] == 0).all()


def test_what_is_behind_the_camera_is_not_asked() -> None:
    """b stands two units ahead of a: nearer points are behind it, and a point in its plane is infinitely far out."""
    T_ba = torch.eye(4, dtype=torch.float64)[None].clone()
    T_ba[:, 2, 3] = -2
    depth = torch.full((1, 1, H, W), 4.0, dtype=torch.float64)
    depth[..., :3], depth[..., 3] = 1.0, 2.0
    depth.requires_grad_()
    reprojection, weight = reproject(depth, T_ba, K), torch.ones(1, 1, H, W, dtype=torch.float64)
    assert isinstance(reprojection, Reprojection)
    assert reprojection.points.isfinite().all()
    assert not reprojection.inside[..., :4].any()
    flow = rigid_flow(torch.full_like(depth, 4.0), T_ba, K)
    loss = rigid_flow_loss(flow, reprojection, weight)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    (loss + depth_consistency_loss(reprojection, torch.ones_like(weight), weight)).sum().backward()
    assert depth.grad.isfinite().all()
    assert (depth.grad[..., :4] == 0).all()


@pytest.mark.parametrize("pixel", [(1, 7), (3, 4)])
def test_a_point_close_to_the_plane_of_b_does_not_dominate(pixel: tuple[int, int]) -> None:
    """At a side of the image, whose target is far away; and beside the axis, whose target is not, but its gradient."""
    T_ba = torch.eye(4, dtype=torch.float64)[None].clone()
    T_ba[:, 2, 3] = -1
    depth, weight = torch.full((1, 1, H, W), 4.0, dtype=torch.float64), torch.ones(1, 1, H, W, dtype=torch.float64)
    flow = rigid_flow(depth, T_ba, K) + 1
    depth[0, 0, pixel[0], pixel[1]] = 1 + 1e-4
    depth.requires_grad_()
    reprojection = reproject(depth, T_ba, K)
    assert reprojection.depth.min() > 0
    loss = rigid_flow_loss(flow, reprojection, weight)
    assert loss.item() == pytest.approx(1)
    loss.backward()
    assert depth.grad[0, 0, pixel[0], pixel[1]] == 0
    assert depth.grad.count_nonzero() == H * W - 1


def test_rigid_flow_outside_of_the_image_still_counts() -> None:
    """To the length of a side, as the published loss has no limit."""
    T_ba = torch.eye(4, dtype=torch.float64)[None].clone()
    depth, weight = torch.full((1, 1, H, W), 4.0, dtype=torch.float64), torch.ones(1, 1, H, W, dtype=torch.float64)
    for move, counts in ((W - 1, True), (W + 3, True), (2 * W + 1, False)):
        T_ba[:, 0, 3] = move * 4.0 / K[0, 0]
        loss = rigid_flow_loss(torch.zeros(1, 2, H, W, dtype=torch.float64), reproject(depth, T_ba, K), weight)
        assert loss.item() == pytest.approx(move / 2 if counts else 0)


def test_rigid_flow_loss_teaches_flow_depth_and_pose() -> None:
    depth_a, _, flow, weight = (x.requires_grad_() for x in case())
    T_ba = poses().requires_grad_()
    loss = rigid_flow_loss(flow, reproject(depth_a, T_ba, K), weight).sum()
    assert all((grad != 0).any() for grad in torch.autograd.grad(loss, (flow, depth_a, T_ba)))
