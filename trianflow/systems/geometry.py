"""Two-view geometry inside a training step: flow of both directions to pose, inlier score and triangulated points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trianflow.flow.interface import FlowPair
from trianflow.flow.matches import select_matches
from trianflow.flow.occlusion import flow_quality
from trianflow.geometry.camera import homogeneous, normalize_pixels, project
from trianflow.geometry.triangulation import ray_angle_cosine, triangulate
from trianflow.losses.geometry import epipolar_distance_map, inlier_score
from trianflow.pose.two_view import TwoView, TwoViewStatus, solve_two_view
from trianflow.systems.config import GeometryConfig

_NEAREST = 0.01  # baselines: depth below which a triangulated point is an error (published)


@dataclass(frozen=True)
class PairGeometry:
    """The geometry that a flow implies. Pose and scores carry no gradient; distance and points carry that of the flow.

    Attributes:
        view: pose with unit translation and its status.
        usable: `(B,)` bool: a pair with a pose from a scene in depth, parallax and enough points. The others teach
            nothing: standing still, pure rotation, no consensus, and a planar scene, whose pose is ambiguous.
        score: `(B, 1, H, W)` trust in the flow, from 0 to 10.
        distance: `(B, 1, H, W)` of the flow's target to its epipolar line, pixels.
        inlier: `(B, 1, H, W)` inlier score in [0, 1].
        p_a, p_b: `(B, N, 2)` pixels where the triangulated points are seen.
        depth_a, depth_b: `(B, N)` their depths, in units of the baseline.
        valid: `(B, N)` bool.
    """

    view: TwoView
    usable: Tensor
    score: Tensor
    distance: Tensor
    inlier: Tensor
    p_a: Tensor
    p_b: Tensor
    depth_a: Tensor
    depth_b: Tensor
    valid: Tensor


def solve_geometry(flow: FlowPair, K: Tensor, config: GeometryConfig, seed: int) -> PairGeometry:
    """Pose and structure of a batch of pairs from their flow.

    Args:
        flow: `(B, 2, H, W)` float32 pixels.
        K: `(B, 3, 3)` in the dtype of the flow.
        config: thresholds.
        seed: of the draws.

    Returns:
        `PairGeometry`; all finite, whatever the flow, but for a distance of infinity where the flow is not.
    """
    still = FlowPair(flow.flow_ab.detach(), flow.flow_ba.detach())
    with torch.no_grad():
        score = flow_quality(still).score
        first = select_matches(still.flow_ab, score, config.matches, config.ratio, seed=seed)
        view = solve_two_view(first.p_a, first.p_b, K, first.valid, config.two_view, seed)
    distance = epipolar_distance_map(flow.flow_ab, view.F_ba)
    moving = view.status == TwoViewStatus.OK
    with torch.no_grad():
        inlier = inlier_score(distance.detach(), config.rigid) * moving[:, None, None, None]
        second = select_matches(still.flow_ab, score * inlier, config.matches, config.ratio, seed=seed + 1)
    p_a, valid = second.p_a, second.valid
    p_b = torch.where(valid[..., None], _gather(flow.flow_ab, p_a), 0.0) + p_a
    X_a, X_b = triangulate(p_a, p_b, view.T_ba, K)
    with torch.no_grad():
        valid = valid & _is_sound(p_a, p_b, X_a, X_b, view.T_ba, K, flow.flow_ab.shape[-2:], config.parallax)
        usable = moving & (valid.sum(-1) >= config.min_points)
        valid = valid & usable[:, None]
    seen_a, seen_b = (torch.where(valid[..., None], project(X.detach(), K), torch.zeros_like(p_a)) for X in (X_a, X_b))
    return PairGeometry(view, usable, score, distance, inlier, seen_a, seen_b, X_a[..., 2], X_b[..., 2], valid)


def _gather(flow: Tensor, p: Tensor) -> Tensor:
    """Values of a map `(B, C, H, W)` at whole pixels `(B, N, 2)`: `(B, N, C)`."""
    index = (p[..., 1] * flow.shape[-1] + p[..., 0]).long()
    return flow.flatten(2).gather(2, index[:, None].expand(-1, flow.shape[1], -1)).mT


def _is_sound(
    p_a: Tensor, p_b: Tensor, X_a: Tensor, X_b: Tensor, T_ba: Tensor, K: Tensor, size: torch.Size, parallax: float
) -> Tensor:
    """Points in front of both cameras, seen inside both images, whose rays are not almost parallel."""
    R = T_ba[:, :3, :3]
    centre_b = -(T_ba[:, None, :3, 3] @ R)[:, 0]
    r_a, r_b = homogeneous(normalize_pixels(p_a, K)), homogeneous(normalize_pixels(p_b, K)) @ R
    sound = (ray_angle_cosine(r_a, r_b, centre_b) > parallax) & (X_a[..., 2] > _NEAREST) & (X_b[..., 2] > _NEAREST)
    limit = p_a.new_tensor([size[1] - 1, size[0] - 1])
    for X in (X_a, X_b):
        p = project(X, K)
        sound &= ((p > 0) & (p < limit)).all(-1) & X.isfinite().all(-1)
    return sound
