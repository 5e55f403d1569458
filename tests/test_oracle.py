"""Our maths against arrays made by the published implementation (see the README beside them).

Where its behaviour is a documented bug, ours is right and the test says so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from trianflow.flow.interface import FlowPair
from trianflow.flow.matches import top_ratio
from trianflow.flow.occlusion import flow_quality, forward_backward_difference, visibility
from trianflow.geometry.camera import (
    Camera,
    homogeneous,
    invert_pose,
    pixel_rays,
    pose_matrix,
    project,
    transform,
)
from trianflow.geometry.epipolar import (
    epipolar_distance,
    essential_from_fundamental,
    fundamental_from_essential,
    pose_from_essential,
    skew,
)
from trianflow.geometry.scale import closed_form_scale, lower_median, robust_scale
from trianflow.geometry.triangulation import midpoint, ray_angle_cosine, triangulate
from trianflow.geometry.warping import forward_splat, inverse_warp, sample
from trianflow.odometry.structure import measure_depth
from trianflow.pose.pnp import solve_pnp
from trianflow.pose.two_view import TwoViewStatus, solve_two_view

pytestmark = pytest.mark.data

Oracle = Callable[[str], dict[str, Tensor]]


@pytest.fixture
def oracle(shared_data: Path) -> Oracle:
    """Reader of one file of arrays."""

    def read(name: str) -> dict[str, Tensor]:
        with np.load(shared_data / "oracle" / f"{name}.npz") as arrays:
            return {key: torch.from_numpy(np.array(arrays[key])) for key in arrays}

    return read


def close(ours: Tensor, theirs: Tensor, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(ours.to(theirs), theirs, rtol=rtol, atol=atol)


def points(match: Tensor) -> tuple[Tensor, Tensor]:
    """Matches `(B, 4, N)` to two `(B, N, 2)`."""
    return match[:, :2].mT, match[:, 2:].mT


def test_02_warp(oracle: Oracle) -> None:
    o = oracle("02_warp")
    x, flow = o["x"].requires_grad_(), o["flow"].requires_grad_()
    warped, inside = inverse_warp(x, flow)
    close(warped, o["out"], atol=1e-5)
    close(warped * inside, o["out_masked"], atol=1e-5)
    assert (warped - o["out_if_align_corners_false"]).abs().max() > 0.1, "what newer torch makes of the peer"
    (warped * o["upstream"]).sum().backward()
    close(x.grad, o["grad_x"], atol=2e-5)
    close(flow.grad, o["grad_flow"], atol=1e-4)


def test_06_occlusion(oracle: Oracle) -> None:
    """The peer goes through a [-1, 1] grid and back, which costs it digits."""
    o = oracle("06_occlusion")
    close(forward_splat(torch.ones_like(o["flow"][:, :1]), o["flow"]), o["splat_raw"], atol=3e-5)
    close(visibility(o["flow"]), o["mask"], atol=3e-5)
    close(visibility(o["const_flow"]), o["const_mask"], atol=3e-5)


def test_07_forward_backward_consistency(oracle: Oracle) -> None:
    o = oracle("07_fb_consistency")
    close(forward_backward_difference(o["fwd"], o["bwd"]), o["fwd_diff"], atol=1e-4)
    close(forward_backward_difference(o["bwd"], o["fwd"]), o["bwd_diff"], atol=1e-4)
    for index, flow in (("1", FlowPair(o["fwd"], o["bwd"])), ("2", FlowPair(o["bwd"], o["fwd"]))):
        quality = flow_quality(flow, alpha=3.0, beta=0.05)
        close(quality.consistent, o["consis" + index])
        close(quality.visible, o["visible" + index], atol=3e-5)
        close(quality.visible * quality.consistent, o["valid" + index], atol=3e-5)
        close(quality.score, o["score" + index], rtol=1e-4, atol=1e-4)


def test_09_epipolar_distance_and_losses(oracle: Oracle) -> None:
    o = oracle("09_epipolar")
    match = o["match"].requires_grad_()
    p_a, p_b = points(match)
    distance = epipolar_distance(o["F"], p_a, p_b)
    close(distance[..., None], o["dist"], rtol=1e-4, atol=1e-5)
    rigid, inlier = distance < 0.5, distance < 0.1
    close(rigid[..., None], o["rigid_mask"])
    close(inlier[..., None], o["inlier_mask"])
    close((rigid / (1 + distance))[..., None], o["rigid_score"], atol=1e-5)
    mask = o["mask"][:, 0]
    close((distance * mask).mean(-1) / mask.mean(-1), o["epi_loss"], rtol=1e-5)
    band = (rigid ^ inlier).float()
    loss = (distance * band).mean(-1) / band.mean(-1)
    close(loss, o["geo_loss"], rtol=1e-5)
    loss.sum().backward()
    close(match.grad, o["grad_match_of_geo_sum"], rtol=1e-3, atol=1e-8)


def test_10_top_ratio(oracle: Oracle) -> None:
    o = oracle("10_top_ratio")
    score, index = top_ratio(o["score"][:, 0], o["ratio"].item())
    close(score, o["sel_score"][:, 0])
    close(o["match"].gather(2, index[:, None].expand(-1, 4, -1)), o["sel_match"])


def test_11_triangulation(oracle: Oracle) -> None:
    """The peer adds to its denominators and keeps P2 in more digits than the file: equal to about 2e-5."""
    o = oracle("11_triangulation")
    T_ba, K = pose_matrix(o["R"], o["t"]), o["K"]
    for dtype, name in ((torch.float64, "point_f64"), (torch.float32, "point_f32")):
        p_a, p_b = points(o["match_f64"].to(dtype))
        X_a, X_b = triangulate(p_a, p_b, T_ba.to(dtype), K.to(dtype))
        expected = o[name][..., :3]
        error = (X_a - expected).norm(dim=-1) / expected.norm(dim=-1)
        # Two in a hundred points have next to no parallax, and there float32 is noise on either side.
        limits = (2e-5, 1e-4) if dtype == torch.float64 else (1e-4, 1e-2)
        assert error.quantile(0.5) < limits[0]
        assert error.quantile(0.98) < limits[1]
        if dtype == torch.float64:
            assert (X_a - expected).abs().max() < 1e-3
            depth_a, depth_b = X_a[..., 2], X_b[..., 2]
            close(depth_a, o["depth1"][..., 0], rtol=1e-3)
            close(depth_b, o["depth2"][..., 0], rtol=1e-3)
            close(project(X_a, K.double()), o["coord1"], atol=2e-3)
            close(project(X_b, K.double()), o["coord2"], atol=2e-3)


def test_11_triangulation_gradient(oracle: Oracle) -> None:
    """Rays and centres from P2 as R^T K^-1 x and -R^T t, with K^-1 P2 = [R | t]."""
    o = oracle("11_triangulation")
    match, K = o["match_f64"].requires_grad_(), o["K"].double()
    P2 = (K @ torch.cat([o["R"], o["t"][..., None]], -1).double()).requires_grad_()
    p_a, p_b = points(match)
    Rt = torch.linalg.solve(K, P2)
    R, t = Rt[..., :3], Rt[..., 3]
    r_a = homogeneous(p_a) @ torch.linalg.inv(K).mT
    r_b = homogeneous(p_b) @ torch.linalg.inv(K).mT @ R
    c_b = -(t[:, None] @ R)
    X_a = midpoint(torch.zeros_like(c_b), r_a, c_b, r_b)
    (X_a * o["upstream_f64"]).sum().backward()
    for ours, theirs in ((match.grad, o["grad_match_f64"]), (P2.grad, o["grad_P2_f64"])):
        assert (ours - theirs).norm() / theirs.norm() < 5e-5


def test_11_ray_angle(oracle: Oracle) -> None:
    o = oracle("11_triangulation")
    p_a, p_b = points(o["match_f64"])
    R, t, K = o["R"].double(), o["t"].double(), o["K"].double()
    cosine = ray_angle_cosine(pixel_rays(p_a, K), pixel_rays(p_b, K) @ R, -(t[:, None] @ R)[:, 0])
    close(cosine > 0.001, o["angle_mask"][:, 0])
    o = oracle("11b_ray_angle")
    p_a, p_b = points(o["match"])
    K = o["P1"][..., :3]
    T_ba = torch.linalg.solve(K, o["P2"])
    R, t = T_ba[..., :3], T_ba[..., 3]
    cosine = ray_angle_cosine(pixel_rays(p_a, K), pixel_rays(p_b, K) @ R, -(t[:, None] @ R)[:, 0])
    close(cosine > 0.001, o["mask"][:, 0])
    assert int((cosine > 0.001).sum()) == int(o["n_kept"]) == 228


def test_12_pose_from_fundamental(oracle: Oracle) -> None:
    """In one batch: the peer's vote mixes the items of a batch, ours does not."""
    o = oracle("12_pose_from_F")
    K = o["K"]
    p_a, p_b = points(o["match"])
    E = essential_from_fundamental(o["F"], K, K)
    R, t, share = pose_from_essential(E, pixel_rays(p_a, K), pixel_rays(p_b, K))
    close(torch.cat([R, t[..., None]], -1), o["Rt"], atol=1e-5)
    close(R, o["R_true"], atol=1e-5)
    close(t, o["t_true"] / o["t_true"].norm(dim=-1, keepdim=True), atol=1e-5)
    P2 = K @ torch.cat([R, t[..., None]], -1)
    close(P2, o["P2"], rtol=1e-5, atol=1e-2)
    close(P2, o["P2_cv_recoverPose"], rtol=1e-5, atol=1e-2)
    assert (share > 0.98).all()
    F = fundamental_from_essential(skew(t) @ R, K, K)
    close(F / F[:, 2:, 2:], o["F"] / o["F"][:, 2:, 2:], rtol=1e-2, atol=1e-5)


def test_13_scale_alignment(oracle: Oracle) -> None:
    """A median step and the closed form make the closed form alone; the scale has no gradient."""
    o = oracle("13_scale_alignment")
    depth, reference = o["depth_pred"].requires_grad_(), o["depth_tri"][..., 0]
    at = sample(depth, o["coord"], "reflection")[:, 0]
    close(at[..., None], o["depth_interp"], atol=1e-4)
    median = lower_median(at) / lower_median(reference)
    close(median[:, None], o["median_ratio"], rtol=1e-5)
    scale = closed_form_scale(at.detach(), reference)
    close(scale[:, None], o["scale_direct"], rtol=1e-5)
    two_steps = closed_form_scale(at.detach() / median.detach()[:, None], reference) / median
    close(two_steps[:, None], o["scale_direct"], rtol=1e-5)
    close(scale[:, None] * at, o["aligned_interp"][..., 0], rtol=1e-5, atol=1e-4)
    close(scale[:, None, None, None] * depth, o["aligned_pred"], rtol=1e-5)
    loss = (1 - scale[:, None] * at / reference).square().mean(-1)
    close(loss, o["tri_loss"], rtol=1e-4)
    loss.sum().backward()
    close(depth.grad, o["grad_depth_pred_of_sum"], rtol=1e-3, atol=1e-6)


def test_16_intrinsics(oracle: Oracle) -> None:
    """The peer scales the principal point without the half-pixel shift, and for NYUv2 swaps the ratios."""
    o = {key: value.double() for key, value in oracle("16_intrinsics_disp").items()}

    def camera(K: Tensor, width: int, height: int) -> Camera:
        return Camera(*(float(K[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2))), width, height)

    def same_but_for_half_a_pixel(ours: Tensor, theirs: Tensor, sx: float, sy: float) -> None:
        shift = torch.zeros(3, 3, dtype=torch.float64)
        shift[0, 2], shift[1, 2] = 0.5 * (sx - 1), 0.5 * (sy - 1)
        close(ours, theirs + shift, rtol=1e-6)

    ours = camera(o["K_orig"], 1242, 375).resized(832, 256)
    same_but_for_half_a_pixel(ours.K(), o["K_256x832"], 832 / 1242, 256 / 375)
    for level, (K, K_inv) in enumerate(zip(o["K_ms"], o["K_inv_ms"])):
        s = 0.5**level
        small = camera(o["K_256x832"], 832, 256).resized(832 >> level, 256 >> level)
        same_but_for_half_a_pixel(small.K(), K, s, s)
        close(torch.linalg.inv(K), K_inv, rtol=1e-5, atol=1e-5)
    ours = camera(o["nyu_K_orig"], 640, 480).resized(576, 448)
    same_but_for_half_a_pixel(ours.K(), o["nyu_K_correct"], 576 / 640, 448 / 480)
    assert abs(ours.fx / float(o["nyu_K_peer_BUG"][0, 0]) - 1) > 0.03


CASES = ["aniso_clean", "aniso_noisy", "square_clean", "square_noisy"]


def angles(T: Tensor, T_true: Tensor) -> tuple[float, float]:
    """Errors of rotation and direction, degrees."""
    chord = (T[:3, :3] - T_true[:3, :3]).norm() / 8**0.5
    t, truth = T[:3, 3], T_true[:3, 3]
    direction = torch.atan2(torch.linalg.cross(t, truth).norm(), t @ truth)
    return float(torch.rad2deg(2 * chord.asin())), float(torch.rad2deg(direction))


@pytest.fixture(params=CASES)
def vo(request: pytest.FixtureRequest, oracle: Oracle) -> dict[str, Tensor]:
    """One case: matches, intrinsics, depths, and the camera-to-camera truth turned to our T_ba."""
    o, case = oracle("20_vo_geometry"), request.param
    truth, flow, pnp = (o[f"{key}_{case}"].double() for key in ("T_true", "pose_flow", "pose_pnp"))
    return {
        "p_a": o[f"xy1_{case}"].double(),
        "p_b": o[f"xy2_{case}_f64"],
        "K": o[f"K_{case.split('_')[0]}"].double(),
        "z_a": o[f"z1_{case}"].double(),
        "T_true": invert_pose(truth),
        "pose_flow": invert_pose(flow),
        "pose_pnp": invert_pose(pnp),
        "scale": o[f"scale_from_pose_flow_{case}"].double(),
        # The truth is stored in float32: differences below this mean nothing.
        "digits": torch.tensor(2e-5),
    }


def test_20_pose_from_matches_is_at_least_as_good(vo: dict[str, Tensor]) -> None:
    view = solve_two_view(vo["p_a"][None], vo["p_b"][None], vo["K"])
    assert view.status[0] == TwoViewStatus.OK
    ours, theirs = angles(view.T_ba[0], vo["T_true"]), angles(vo["pose_flow"], vo["T_true"])
    for mine, other in zip(ours, theirs):
        assert mine <= other + vo["digits"]


def test_20_scale_is_at_least_as_good(vo: dict[str, Tensor]) -> None:
    """Depths by triangulation with the unit pose, against the true depths of the first view."""
    T_ba = solve_two_view(vo["p_a"][None], vo["p_b"][None], vo["K"]).T_ba[0]
    log_depth, variance = measure_depth(vo["p_a"], vo["p_b"], T_ba, vo["K"], 0.05)
    estimate = robust_scale(log_depth.exp()[None], vo["z_a"][None], variance[None])
    assert estimate.ok.all()
    scale = float(estimate.scale)
    assert abs(scale - 1.37) <= abs(float(vo["scale"]) - 1.37) + 2e-4
    assert scale == pytest.approx(1.37, rel=1e-3)


def test_20_pnp_is_at_least_as_good(vo: dict[str, Tensor]) -> None:
    rays = homogeneous((vo["p_a"] - vo["K"][:2, 2]) / vo["K"].diagonal()[:2])
    X_a = rays * vo["z_a"][:, None]
    answer = solve_pnp(X_a, vo["p_b"], vo["K"])
    assert answer.ok
    ours, theirs = angles(answer.T_ba, vo["T_true"]), angles(vo["pose_pnp"], vo["T_true"])
    for mine, other in zip(ours, theirs):
        assert mine <= other + vo["digits"]
    length, truth = answer.T_ba[:3, 3].norm(), vo["T_true"][:3, 3].norm()
    assert abs(length - truth) <= abs(vo["pose_pnp"][:3, 3].norm() - truth) + 1e-5
    error = (project(transform(answer.T_ba, X_a), vo["K"]) - vo["p_b"]).norm(dim=-1)
    reference = (project(transform(vo["pose_pnp"], X_a), vo["K"]) - vo["p_b"]).norm(dim=-1)
    assert error.square().mean() <= reference.square().mean() + 1e-6
