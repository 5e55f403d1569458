"""Two views to a relative pose: the core that training and odometry share.

Matches -> eight-point hypotheses in RANSAC -> local optimisation -> refined essential matrix -> pose by cheirality,
with a rotation, a homography and standstill fitted beside it, so that a degenerate pair is recognised and named.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from trianflow.config import TwoViewConfig
from trianflow.geometry.camera import pose_matrix
from trianflow.geometry.epipolar import fundamental_from_essential, skew
from trianflow.geometry.homography import fit_homography, fit_rotation, homography_squared
from trianflow.geometry.ransac import draw_judges, msac, take
from trianflow.geometry.sampson import MatchProducts, refine_pose
from trianflow.geometry.scale import masked_median
from trianflow.pose.models import PairProblem, epipolar_pose_of, homography_of, rotation_of
from trianflow.pose.selection import robust_noise, select_model


class TwoViewStatus(IntEnum):
    """What a pair of views allows."""

    OK = 0
    STATIC = 1
    ROTATION_ONLY = 2
    PLANAR = 3
    TOO_FEW_MATCHES = 4
    NO_CONSENSUS = 5


@dataclass(frozen=True)
class TwoView:
    """The relative pose of a batch of pairs; degenerate pairs say so in `status` and hold finite numbers.

    Attributes:
        T_ba: `(B, 4, 4)`: X_b = T_ba X_a. The translation has unit length, or is zero where status is STATIC,
            ROTATION_ONLY, TOO_FEW_MATCHES or NO_CONSENSUS (the last two with identity rotation).
        F_ba: `(B, 3, 3)` of unit norm; zero where the translation is.
        inlier: `(B, N)` bool, matches that fit the model named by status.
        status: `(B,)` int64, a `TwoViewStatus`.
        noise: `(B,)` standard deviation of the inliers' residuals, pixels.
        parallax: `(B,)` median displacement of the inliers that rotation does not explain, pixels.
        motion: `(B,)` median displacement of the inliers, pixels.
        direction_sigma: `(B,)` standard deviation of the translation's direction, radians (pi where unknown).
        information: `(B, 5, 5)` inverse covariance of the pose, the matches taken as independent: a rotation on its
            left, radians, then the two tangents (`geometry.sampson.tangent_basis`) of the direction. ROTATION_ONLY:
            of the rotation alone, with the noise floor added, as so small a translation may pass for one. Zero where
            it is not known, which includes PLANAR.
    """

    T_ba: Tensor
    F_ba: Tensor
    inlier: Tensor
    status: Tensor
    noise: Tensor
    parallax: Tensor
    motion: Tensor
    direction_sigma: Tensor
    information: Tensor


# Share of the matches off a plane that outweighs a radian more of rotation between its two poses.
_PREFER_LESS_ROTATION = 0.1


def solve_two_view(
    p_a: Tensor,
    p_b: Tensor,
    K: Tensor,
    valid: Tensor | None = None,
    config: TwoViewConfig | None = None,
    seed: int = 0,
) -> TwoView:
    """Relative pose of two calibrated views from matches with outliers.

    Args:
        p_a, p_b: `(B, N, 2)` pixels, float32 or float64. Not finite: ignored.
        K: `(B, 3, 3)` or `(3, 3)` intrinsics of both images.
        valid: `(B, N)` bool, False for matches to ignore.
        config: thresholds and effort.
        seed: of the sampling; equal input gives equal output.

    Returns:
        `TwoView` in the dtype of the matches. Nothing here is differentiable: the published gradient passes
        through matches and depth, with the pose held.
    """
    if p_a.shape != p_b.shape or p_a.ndim != 3 or p_a.shape[-1] != 2:
        raise ValueError(f"matches are two (B, N, 2) tensors, got {tuple(p_a.shape)} and {tuple(p_b.shape)}")
    config = config or TwoViewConfig()
    valid = torch.ones_like(p_a[..., 0], dtype=torch.bool) if valid is None else valid
    valid = valid & p_a.isfinite().all(-1) & p_b.isfinite().all(-1)
    missing = max(8 - p_a.shape[1], 0)
    with torch.inference_mode():
        pad = torch.nn.functional.pad
        q_a, q_b = pad(p_a.double(), (0, 0, 0, missing)), pad(p_b.double(), (0, 0, 0, missing))
        view = _solve(q_a, q_b, K.double().expand(len(p_a), 3, 3), pad(valid, (0, missing)), config, seed)
        inlier = view.inlier[:, : p_a.shape[1]]
        parts = {**vars(view), "inlier": inlier}
    # Cloned outside of inference mode, so that a loss may use them.
    return TwoView(**{k: v.to(p_a.dtype if v.is_floating_point() else v.dtype, copy=True) for k, v in parts.items()})


def _solve(p_a: Tensor, p_b: Tensor, K: Tensor, valid: Tensor, config: TwoViewConfig, seed: int) -> TwoView:
    focal = (K[:, 0, 0] + K[:, 1, 1]) / 2
    S = torch.stack([K[:, 0, 0] / focal, K[:, 1, 1] / focal, torch.ones_like(focal)], -1)
    zero = torch.zeros((), dtype=torch.float64, device=p_a.device)
    q_a = torch.where(valid[..., None], (p_a - K[:, None, :2, 2]) / focal[:, None, None], zero)
    q_b = torch.where(valid[..., None], (p_b - K[:, None, :2, 2]) / focal[:, None, None], zero)
    reach, smallest_noise = config.threshold / focal, 1e-3 / focal

    generator = torch.Generator(device=p_a.device).manual_seed(seed)
    subset = draw_judges(valid, config.subset, generator)
    problem = PairProblem(q_a, q_b, valid, S, reach, subset)
    H = homography_of(problem, config.hypotheses // 4, generator)
    R_still = rotation_of(problem, config.hypotheses // 8, generator)
    R, t = epipolar_pose_of(problem, H, config.hypotheses, config.candidates, config.local_steps, generator)

    # All matches, at the noise that they show.
    products = MatchProducts.of(q_a, q_b)
    R, t = R[:, None], t[:, None]
    for steps in config.final_steps:
        squared = products.squared_distance(problem.fundamental(R, t))
        noise = robust_noise(squared[:, 0], valid, reach, 1, smallest_noise)
        near = valid[:, None] & (squared < (4 * noise).minimum(reach)[:, None, None].square())
        plausible = problem.plausible(R, t, q_a, q_b, near)
        R, t, information = refine_pose(R, t, products, S, (near & plausible).double(), 2.385 * noise, steps)
    squared = torch.where(plausible, products.squared_distance(problem.fundamental(R, t)), torch.inf)[:, 0]
    noise = robust_noise(squared, valid, reach, 1, smallest_noise)
    R, t, information = R[:, 0], t[:, 0], information[:, 0]
    believed = noise.maximum(config.noise_floor / focal)

    # The simpler models, on all matches too, at the same noise.
    identity = torch.eye(3, dtype=torch.float64, device=p_a.device).expand_as(R)
    simple = torch.stack([identity, problem.conjugate(R_still[:, None])[:, 0], H], 1)
    cauchy = (2.385 * believed[:, None, None]).square()
    weight = valid[:, None] / (1 + homography_squared(simple, q_a, q_b) / cauchy).square()
    R_still = fit_rotation(problem.rays(q_a), problem.rays(q_b), weight[:, 1])
    H = fit_homography(q_a, q_b, weight[:, 2])
    simple = torch.stack([identity, problem.conjugate(R_still[:, None])[:, 0], H], 1)
    distances = torch.cat([squared[:, None], homography_squared(simple, q_a, q_b)], 1)
    choice = select_model(distances, q_a, q_b, valid, believed, reach, config.noise_floor / focal)
    inlier, significant = choice.inlier, choice.significant

    status = torch.tensor(
        [TwoViewStatus.OK, TwoViewStatus.STATIC, TwoViewStatus.ROTATION_ONLY, TwoViewStatus.PLANAR],
        device=p_a.device,
    )[choice.model]
    status = torch.where(significant, status, torch.full_like(status, TwoViewStatus.NO_CONSENSUS))
    enough = valid.sum(-1) >= 8
    status = torch.where(enough, status, torch.full_like(status, TwoViewStatus.TOO_FEW_MATCHES))
    moving = (status == TwoViewStatus.OK) | (status == TwoViewStatus.PLANAR)
    turning = status == TwoViewStatus.ROTATION_ONLY

    # A plane allows two poses. What does not see the plane from its front or lies off it decides, else the smaller
    # rotation; the doubt is half their angle where both are possible. What only turns (clouds) is on every plane's
    # horizon, and of its front nothing is known.
    flat = status == TwoViewStatus.PLANAR
    R_H, t_H, normal = problem.plane_poses(H)
    shifted = homography_squared(problem.conjugate(R_H), q_a, q_b) > (3 * believed)[:, None, None].square()
    hidden = (problem.rays(q_a) @ normal.mT <= 0).mT & shifted & inlier[:, None]
    behind = hidden.sum(-1) / inlier.sum(-1, keepdim=True).clamp_min(1)
    cost = behind + msac(products.squared_distance(problem.fundamental(R_H, t_H)), valid, reach.square())
    turn = (torch.diagonal(R_H, dim1=-2, dim2=-1).sum(-1) / 2 - 0.5).clamp(-1, 1).arccos()
    which = (cost + _PREFER_LESS_ROTATION * turn).argmin(1)[:, None]
    R_flat, t_flat = take(R_H.flatten(-2), which)[:, 0].unflatten(-1, (3, 3)), take(t_H, which)[:, 0]
    doubtful = flat & (behind.amax(1) < 0.05)
    doubt = torch.where(doubtful, (t_H[:, 0] * t_H[:, 1]).sum(-1).clamp(-1, 1).arccos() / 2, zero)
    R, t = torch.where(flat[:, None, None], R_flat, R), torch.where(flat[:, None], t_flat, t)

    R = torch.where(moving[:, None, None], R, torch.where(turning[:, None, None], R_still, identity))
    t = torch.where(moving[:, None], t, zero)
    solved = significant & enough
    inlier = inlier & solved[:, None]

    turned = problem.conjugate(R[:, None])[:, 0]
    warped = torch.nn.functional.pad(q_a, (0, 1), value=1.0) @ turned.mT
    apart = (q_b - warped[..., :2] / warped[..., 2:].clamp_min(1e-6)).norm(dim=-1)
    ridge = 1e-12 * torch.diagonal(information, dim1=-2, dim2=-1).amax(-1) + 1e-30
    eye = torch.eye(5, dtype=torch.float64, device=p_a.device)
    covariance = (
        torch.linalg.inv_ex(information + ridge[:, None, None] * eye)[0][:, 3:, 3:] * noise.square()[:, None, None]
    )
    direction = covariance.diagonal(dim1=-2, dim2=-1).sum(-1).clamp_min(0).sqrt().nan_to_num(math.pi).clamp_max(math.pi)
    # Each match tells two of the three angles of a turning camera.
    alone = believed.square() * 3 / (2 * inlier.sum(-1)).clamp_min(1) + (config.noise_floor / focal).square()
    turned_only = torch.zeros_like(information)
    turned_only[:, :3, :3] = eye[:3, :3] / alone[:, None, None]
    known = torch.where(turning[:, None, None], turned_only, torch.zeros_like(information))
    general = (status == TwoViewStatus.OK)[:, None, None]
    known = torch.where(general, information / noise.square()[:, None, None], known)
    F = fundamental_from_essential(skew(t) @ R, K, K)
    return TwoView(
        T_ba=pose_matrix(R, t),
        F_ba=torch.where(moving[:, None, None], F, zero),
        inlier=inlier,
        status=status,
        noise=torch.where(solved, noise * focal, zero),
        parallax=masked_median(apart, inlier) * focal,
        motion=masked_median((q_b - q_a).norm(dim=-1), inlier) * focal,
        direction_sigma=torch.where(moving, direction.maximum(doubt), math.pi),
        information=known,
    )
