"""Two-view solvers of OpenCV and PoseLib behind the interface of ours: to measure against."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from trianflow.geometry.camera import homogeneous, normalize_pixels, pixel_rays, pose_matrix, project
from trianflow.geometry.epipolar import (
    essential_from_fundamental,
    fundamental_from_essential,
    pose_from_essential,
    sampson_distance,
    skew,
)
from trianflow.pose.two_view import TwoView, TwoViewStatus

# What a solver makes of one pair: rotation, unit translation and the matches it calls inliers.
Solution = tuple[Tensor, Tensor, Tensor]

_FEWEST = 8


def solve_two_view_opencv(
    p_a: Tensor,
    p_b: Tensor,
    K: Tensor,
    valid: Tensor | None = None,
    threshold: float = 1.0,
    model: Literal["essential", "fundamental"] = "essential",
    confidence: float = 0.999,
    iterations: int = 10_000,
) -> TwoView:
    """Relative pose by OpenCV's USAC with MAGSAC scoring; decomposition and cheirality are ours.

    Args:
        p_a, p_b: `(B, N, 2)` pixels. Not finite: ignored.
        K: `(B, 3, 3)` or `(3, 3)` intrinsics of both images.
        valid: `(B, N)` bool, False for matches to ignore.
        threshold: largest distance of an inlier, pixels.
        model: `essential` (five points) or `fundamental` (seven points, the intrinsics used afterwards).
        confidence: that a sample without outliers has been drawn, in (0, 1).
        iterations: samples at most.

    Returns:
        `TwoView` in the dtype of the matches, on the CPU. Its status is OK, TOO_FEW_MATCHES or NO_CONSENSUS:
        these solvers do not recognise a degenerate pair. `direction_sigma` is pi, unknown.

    Source: Barath et al., "MAGSAC++", CVPR 2020, as in OpenCV.
    """
    if model not in ("essential", "fundamental"):
        raise ValueError(f"the model is essential or fundamental, not '{model}'")

    def solve(q_a: Tensor, q_b: Tensor, K: Tensor) -> Solution | None:
        # The USAC family answers None to every call where an array is not contiguous.
        a, b, intrinsics = (np.ascontiguousarray(x.numpy()) for x in (q_a, q_b, K))
        method = cv2.USAC_MAGSAC
        try:
            if model == "essential":
                M, mask = cv2.findEssentialMat(a, b, intrinsics, method, confidence, threshold, iterations)
            else:
                M, mask = cv2.findFundamentalMat(a, b, method, threshold, confidence, iterations)
        except cv2.error:
            return None
        if M is None or M.shape != (3, 3) or not np.isfinite(M).all():
            return None
        E = torch.from_numpy(M)
        E = E if model == "essential" else essential_from_fundamental(E, K, K)
        inlier = torch.from_numpy(mask.ravel() > 0)
        R, t, _ = pose_from_essential(E, pixel_rays(q_a, K), pixel_rays(q_b, K), inlier.to(E.dtype))
        return R, t, inlier

    return _each_pair(solve, p_a, p_b, K, valid)


def solve_two_view_poselib(
    p_a: Tensor,
    p_b: Tensor,
    K: Tensor,
    valid: Tensor | None = None,
    threshold: float = 1.0,
    confidence: float = 0.999,
    iterations: int = 10_000,
    seed: int = 0,
) -> TwoView:
    """Relative pose by PoseLib: LO-RANSAC on five points, then bundle adjustment of the inliers.

    Args:
        p_a, p_b, K, valid, threshold, confidence, iterations: as in `solve_two_view_opencv`.
        seed: of the sampling.

    Returns:
        `TwoView`, as from `solve_two_view_opencv`.

    Raises:
        ImportError: PoseLib is not installed (extra `bench`).

    Source: Larsson, PoseLib, https://github.com/PoseLib/PoseLib.
    """
    import poselib

    options = {
        "max_epipolar_error": threshold,
        "success_prob": confidence,
        "max_iterations": iterations,
        "seed": seed,
    }

    def solve(q_a: Tensor, q_b: Tensor, K: Tensor) -> Solution | None:
        intrinsics = [float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])]
        camera = {"model": "PINHOLE", "width": 0, "height": 0, "params": intrinsics}
        pose, info = poselib.estimate_relative_pose(q_a.numpy(), q_b.numpy(), camera, camera, options)
        R, t = torch.from_numpy(np.array(pose.R)), torch.from_numpy(np.array(pose.t))
        if not (R.isfinite().all() and t.isfinite().all() and t.norm() > 0):
            return None
        return R, t / t.norm(), torch.tensor(info["inliers"], dtype=torch.bool)

    return _each_pair(solve, p_a, p_b, K, valid)


def _each_pair(
    solve: Callable[[Tensor, Tensor, Tensor], Solution | None],
    p_a: Tensor,
    p_b: Tensor,
    K: Tensor,
    valid: Tensor | None,
) -> TwoView:
    """Solve pair by pair on the usable matches, and measure what `TwoView` says of each."""
    if p_a.shape != p_b.shape or p_a.ndim != 3 or p_a.shape[-1] != 2:
        raise ValueError(f"matches are two (B, N, 2) tensors, got {tuple(p_a.shape)} and {tuple(p_b.shape)}")
    B = len(p_a)
    usable = p_a.isfinite().all(-1) & p_b.isfinite().all(-1)
    usable = (usable if valid is None else usable & valid).cpu()
    q_a, q_b = p_a.detach().cpu().double(), p_b.detach().cpu().double()
    K = K.detach().cpu().double().expand(B, 3, 3)
    T_ba = torch.eye(4, dtype=torch.float64).repeat(B, 1, 1)
    F_ba = torch.zeros(B, 3, 3, dtype=torch.float64)
    noise, parallax, motion = torch.zeros(3, B, dtype=torch.float64)
    inlier = torch.zeros_like(usable)
    status = torch.full((B,), int(TwoViewStatus.NO_CONSENSUS))
    for i, rows in enumerate(usable):
        if int(rows.sum()) < _FEWEST:
            status[i] = TwoViewStatus.TOO_FEW_MATCHES
            continue
        solution = solve(q_a[i, rows], q_b[i, rows], K[i])
        if solution is None or int(solution[2].sum()) < _FEWEST:
            continue
        R, t, inlier[i, rows] = solution
        status[i] = TwoViewStatus.OK
        T_ba[i] = pose_matrix(R, t)
        F_ba[i] = fundamental_from_essential(skew(t) @ R, K[i], K[i])
        a, b = q_a[i, inlier[i]], q_b[i, inlier[i]]
        # 0.6745 is the median of the absolute value of a standard normal variable.
        noise[i] = sampson_distance(F_ba[i], a, b).abs().median() / 0.6745
        parallax[i] = (b - project(homogeneous(normalize_pixels(a, K[i])) @ R.T, K[i])).norm(dim=-1).median()
        motion[i] = (b - a).norm(dim=-1).median()
    unknown = torch.full((B,), math.pi, dtype=torch.float64)
    information = torch.zeros(B, 5, 5, dtype=torch.float64)
    view = TwoView(T_ba, F_ba, inlier, status, noise, parallax, motion, unknown, information)
    return TwoView(**{k: v.to(p_a.dtype) if v.is_floating_point() else v for k, v in vars(view).items()})
