"""Our loss terms against arrays made by the published implementation (see the README beside them)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from trianflow.flow.interface import FlowPair
from trianflow.geometry.camera import pose_matrix
from trianflow.geometry.warping import inverse_warp, sample
from trianflow.losses.flow import flow_losses
from trianflow.losses.geometry import (
    align_scale,
    depth_consistency_loss,
    epipolar_band_loss,
    epipolar_distance_map,
    inlier_score,
    reproject,
    rigid_flow_loss,
    triangulation_loss,
)
from trianflow.losses.masking import masked_mean
from trianflow.losses.photometric import photometric_losses, ssim
from trianflow.losses.smoothness import disparity_smoothness, flow_smoothness

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


def same_gradient(ours: Tensor, theirs: Tensor) -> None:
    """Gradients to a thousandth of their length, and nowhere off by a hundredth of the largest."""
    assert (ours - theirs).norm() < 1e-3 * theirs.norm()
    assert (ours - theirs).abs().max() < 1e-2 * theirs.abs().max()


def test_08_terms_of_one_level(oracle: Oracle) -> None:
    """The stored mask is that of a: visible and consistent."""
    o = oracle("08_flow_losses")
    image_a, image_b = o["img1_u8"] / 255, o["img2_u8"] / 255
    for level in (1, 2):
        close(avg_pool2d(image_a, 2**level), o[f"img1_pyr_s{level}"], atol=1e-6)
    for level in (0, 2):
        mask, flow = o[f"valid1_s{level}"], o[f"fwd_s{level}"]
        a, b = avg_pool2d(image_a, 2**level), avg_pool2d(image_b, 2**level)
        warped = inverse_warp(b, flow)[0]
        pixel, similarity = photometric_losses(a, warped, mask)
        close(pixel, o[f"pixel_fwd_s{level}"], rtol=1e-5)
        close(masked_mean((a - warped).abs(), mask), o[f"pixel_fwd_s{level}"], rtol=1e-5)
        close(similarity, o[f"ssim_fwd_s{level}"], rtol=2e-5)
        close(flow_smoothness(flow, a), o[f"smooth_fwd_s{level}"], rtol=1e-5)
    mask, warped = o["valid1_s0"], o["img1_warped_s0"]
    close(inverse_warp(image_b, o["fwd_s0"])[0], warped, atol=2e-5)
    # Where a neighbourhood is flat the variances cancel: float32 leaves three digits, on either side.
    close(ssim(image_a * mask, warped * mask), o["ssim_map_s0"], atol=1e-3)


def test_08_every_level_and_direction(oracle: Oracle) -> None:
    """By single levels, and the backward direction as the forward one of the swapped pair."""
    o = oracle("08_flow_losses")
    for level in range(3):
        image_a, image_b = (avg_pool2d(o[name] / 255, 2**level) for name in ("img1_u8", "img2_u8"))
        pair = FlowPair(o[f"fwd_s{level}"], o[f"bwd_s{level}"])
        losses = flow_losses(image_a, image_b, [pair])
        for ours, theirs in (("pixel", "pixel"), ("ssim", "ssim"), ("smooth", "smooth"), ("consistency", "consis")):
            expected = o[f"{theirs}_fwd_s{level}"] + o[f"{theirs}_bwd_s{level}"]
            close(getattr(losses, ours), expected, rtol=5e-5)


def test_08_sums_and_gradient(oracle: Oracle) -> None:
    o = oracle("08_flow_losses")
    flows = {f"{way}_s{level}": o[f"{way}_s{level}"].requires_grad_() for way in ("fwd", "bwd") for level in range(3)}
    pairs = [FlowPair(flows[f"fwd_s{level}"], flows[f"bwd_s{level}"]) for level in range(3)]
    losses = flow_losses(o["img1_u8"] / 255, o["img2_u8"] / 255, pairs)
    close(losses.pixel, o["loss_pixel"], rtol=1e-5)
    close(losses.ssim, o["loss_ssim"], rtol=2e-5)
    close(losses.smooth, o["loss_flow_smooth"], rtol=1e-5)
    close(losses.consistency, o["loss_flow_consis_as_written"], rtol=2e-5)
    total = (0.15 * losses.pixel + 0.85 * losses.ssim + 10 * losses.smooth).mean()
    close(total, o["total"], rtol=1e-5)
    total.backward()
    for name, flow in flows.items():
        same_gradient(flow.grad, o[f"grad_{name}"])


def test_09_epipolar_terms(oracle: Oracle) -> None:
    """Every match is an image of one pixel, with the origin moved to where the match starts."""
    o = oracle("09_epipolar")
    match = o["match"].requires_grad_()
    B, _, N = match.shape
    start, end = match[:, :2].mT.reshape(B * N, 2, 1), match[:, 2:].mT.reshape(B * N, 2, 1, 1)
    move = torch.eye(3)[None] + torch.cat(
        [torch.zeros(B * N, 3, 2), torch.cat([start, torch.zeros(B * N, 1, 1)], 1)], 2
    )
    distance = epipolar_distance_map(end, o["F"].repeat_interleave(N, 0) @ move).reshape(B, 1, N, 1)
    close(distance[:, 0], o["dist"], rtol=1e-4, atol=1e-5)
    close(inlier_score(distance, 0.5)[:, 0], o["rigid_score"], atol=1e-5)
    close(masked_mean(distance, o["mask"].mT[:, None]), o["epi_loss"], rtol=1e-5)
    loss = epipolar_band_loss(distance)
    close(loss, o["geo_loss"], rtol=1e-5)
    loss.sum().backward()
    same_gradient(match.grad, o["grad_match_of_geo_sum"])


def test_13_triangulation_loss(oracle: Oracle) -> None:
    """Padded with invalid nonsense. The peer holds the scale, we do not: at its minimum that is the same gradient."""
    o = oracle("13_scale_alignment")
    depth, triangulated = o["depth_pred"].requires_grad_(), o["depth_tri"][..., 0]
    at = torch.nn.functional.pad(sample(depth, o["coord"], "reflection")[:, 0], (2, 3), value=-7.0)
    triangulated = torch.nn.functional.pad(triangulated, (2, 3), value=torch.nan)
    valid = triangulated.isfinite()
    scale = align_scale(at, triangulated, valid)
    close(scale[:, None], o["scale_direct"], rtol=1e-5)
    loss = triangulation_loss(scale[:, None] * at, triangulated, valid)
    close(loss, o["tri_loss"], rtol=1e-4)
    loss.sum().backward()
    same_gradient(depth.grad, o["grad_depth_pred_of_sum"])


def test_14_reprojection_losses(oracle: Oracle) -> None:
    o = oracle("14_reprojection_losses")
    depth_a, depth_b, flow = (o[name].requires_grad_() for name in ("depth1", "depth2", "flow"))
    reprojection = reproject(depth_a, pose_matrix(o["R"], o["t"]), o["K"])
    loss = depth_consistency_loss(reprojection, depth_b, o["rigid_mask"] * o["valid_mask"])
    close(loss, o["pj_loss"], rtol=1e-5)
    loss.sum().backward(retain_graph=True)
    same_gradient(depth_a.grad, o["grad_depth1_of_pj"])
    same_gradient(depth_b.grad, o["grad_depth2_of_pj"])
    depth_a.grad = None
    # The published gradient stops at the target.
    held = dataclasses.replace(reprojection, points=reprojection.points.detach())
    error = rigid_flow_loss(flow, held, o["rigid_mask"])
    close(error, o["flow_error"], rtol=1e-5)
    error.sum().backward()
    same_gradient(flow.grad, o["grad_flow_of_flow_error"])
    assert depth_a.grad is None


def test_15_disparity_smoothness(oracle: Oracle) -> None:
    o = oracle("15_depth_smooth")
    disparity = o["disp"].requires_grad_()
    loss = disparity_smoothness(disparity, o["img_u8"] / 255)
    close(loss, o["loss"], rtol=1e-5)
    loss.sum().backward()
    same_gradient(disparity.grad, o["grad_disp_of_sum"])
