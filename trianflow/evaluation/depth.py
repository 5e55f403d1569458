"""Errors of depth, on arrays of an image (numpy) and on batches up to scale (torch)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from trianflow.geometry.scale import masked_median

_Array = TypeVar("_Array", np.ndarray, Tensor)


@dataclass(frozen=True)
class DepthErrors:
    """The customary figures of one image (Eigen et al., NeurIPS 2014, section 4.2), d predicted and t true.

    Attributes:
        abs_rel: mean |d - t| / t.
        sq_rel: mean (d - t)² / t, metres.
        rmse: root of the mean (d - t)², metres.
        rmse_log: root of the mean (ln d - ln t)².
        log10: mean |log10 d - log10 t|.
        d1, d2, d3: share of pixels where max(d / t, t / d) is below 1.25, 1.25², 1.25³.
    """

    abs_rel: float
    sq_rel: float
    rmse: float
    rmse_log: float
    log10: float
    d1: float
    d2: float
    d3: float


def relative_error(depth: _Array, truth: _Array) -> _Array:
    """The error of each pixel as a share of the true depth, |d - t| / t; its mean is AbsRel."""
    return abs(depth - truth) / truth


def depth_errors(depth: np.ndarray, truth: np.ndarray) -> DepthErrors:
    """The errors of the pixels of one image, as they are: nothing is scaled, clamped or left out.

    Args:
        depth, truth: `(N,)` positive metres; computed in float64.

    Raises:
        ValueError: no pixel, other shapes, or a depth that is not positive and finite.
    """
    if depth.shape != truth.shape or depth.ndim != 1 or not len(depth):
        raise ValueError(f"depths of shape {depth.shape} and {truth.shape}; both must be (N,), N > 0")
    depth, truth = depth.astype(np.float64), truth.astype(np.float64)
    if not all((np.isfinite(values) & (values > 0)).all() for values in (depth, truth)):
        raise ValueError("depth must be positive and finite")
    difference, logarithm = depth - truth, np.log(depth) - np.log(truth)
    ratio = np.maximum(depth / truth, truth / depth)
    return DepthErrors(
        abs_rel=float(relative_error(depth, truth).mean()),
        sq_rel=float((difference**2 / truth).mean()),
        rmse=float(np.sqrt((difference**2).mean())),
        rmse_log=float(np.sqrt((logarithm**2).mean())),
        log10=float(np.abs(logarithm).mean() / np.log(10)),
        d1=float((ratio < 1.25).mean()),
        d2=float((ratio < 1.25**2).mean()),
        d3=float((ratio < 1.25**3).mean()),
    )


def scaled_by_median(depth: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Predicted depth times the ratio of the medians, the customary alignment of monocular depth.

    Args:
        depth, truth: `(B, N)` positive.
        valid: `(B, N)` bool.

    Returns:
        `(B, N)`.
    """
    ratio = masked_median(truth, valid) / masked_median(depth, valid).clamp_min(1e-12)
    return depth * ratio[:, None]


def absolute_relative(depth: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """AbsRel: mean of |depth - truth| / truth where valid; `(B, N)` to `(B,)`, NaN for an item without truth."""
    error = torch.where(valid, relative_error(depth, torch.where(valid, truth, 1.0)), 0.0)
    return error.sum(-1) / valid.sum(-1)
