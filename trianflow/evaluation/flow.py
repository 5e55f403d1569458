"""Errors of optical flow: by pixel, by image, and over a set of images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

GROUPS = ("all", "noc", "occ", "moving", "static")
Protocol = Literal["images", "pixels"]


def end_point_error(flow: Tensor, truth: Tensor) -> Tensor:
    """Length of the difference of two flows `(B, 2, H, W)`: `(B, 1, H, W)` pixels."""
    difference = flow - truth
    return torch.hypot(difference[:, :1], difference[:, 1:])


def is_outlier(error: Tensor, truth: Tensor) -> Tensor:
    """KITTI's bad pixels: wrong by more than 3 pixels and by more than 5 % of the true length.

    Args:
        error: `(B, 1, H, W)` of `end_point_error`.
        truth: `(B, 2, H, W)` pixels.

    Returns:
        `(B, 1, H, W)` bool.
    """
    return (error > 3) & (error > 0.05 * torch.hypot(truth[:, :1], truth[:, 1:]))


@dataclass(frozen=True)
class GroupError:
    """Errors over a group of pixels.

    Attributes:
        pixels: with known truth; the outliers are counted among them.
        estimated: of these, where the estimate is known as well; the mean is taken over them.
        epe: mean end-point error, pixels; NaN without one estimated pixel.
        outliers: share of `is_outlier` in [0, 1], unknown estimates among them; NaN without a pixel.
    """

    pixels: int
    estimated: int
    epe: float
    outliers: float


@dataclass(frozen=True)
class ErrorMaps:
    """Errors of one image by pixel.

    Attributes:
        error: `(H, W)` float32 end-point error in pixels; infinite where only the estimate is unknown, NaN where the
            truth is.
        outlier: `(H, W)` bool.
        length: `(H, W)` float32, of the true flow in pixels; NaN where unknown.
    """

    error: np.ndarray
    outlier: np.ndarray
    length: np.ndarray


def enlarged(flow: np.ndarray, width: int, height: int) -> np.ndarray:
    """A flow brought to another image size, bilinearly, its components by the ratios of the widths and heights.

    Args:
        flow: `(h, w, 2)` pixels of its own size.
        width, height: of the result.

    Returns:
        `(height, width, 2)` pixels of the new size; NaN where an unknown pixel takes part. The flow itself where the
        size is right already.
    """
    h, w = flow.shape[:2]
    if (w, h) == (width, height):
        return flow
    resized = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized * np.array([width / w, height / h], resized.dtype))


def error_maps(flow: np.ndarray, truth: np.ndarray) -> ErrorMaps:
    """Errors by pixel.

    Args:
        flow: `(H, W, 2)` pixels, x first; not finite where unknown.
        truth: the same.

    Raises:
        ValueError: two sizes.
    """
    if flow.shape != truth.shape:
        raise ValueError(f"flow of shape {flow.shape} for a truth of {truth.shape}")
    there, true = (torch.from_numpy(np.ascontiguousarray(x, np.float32)).permute(2, 0, 1)[None] for x in (flow, truth))
    known = np.isfinite(truth).all(-1)
    error = end_point_error(there, true)
    error = error.where(error.isfinite(), torch.inf)
    outlier = is_outlier(error, true)[0, 0].numpy() & known
    length = torch.hypot(true[0, 0], true[0, 1]).numpy()
    return ErrorMaps(np.where(known, error[0, 0].numpy(), np.nan), outlier, np.where(known, length, np.nan))


def group_errors(
    maps: ErrorMaps, visible: np.ndarray | None = None, moving: np.ndarray | None = None
) -> dict[str, GroupError]:
    """Errors of one image by group of pixels.

    Args:
        maps: of `error_maps`.
        visible: `(H, W)` bool, seen in the next image as well: `noc`, and `occ` the rest; None leaves both out.
        moving: `(H, W)` bool, on an object that moves: `moving`, and `static` the rest; None leaves both out.

    Returns:
        By the names of `GROUPS`, `all` always; none where a group has no pixel.
    """
    known = ~np.isnan(maps.error)
    groups = {"all": known}
    if visible is not None:
        groups |= {"noc": known & visible, "occ": known & ~visible}
    if moving is not None:
        groups |= {"moving": known & moving, "static": known & ~moving}
    return {name: _group(maps, mask) for name, mask in groups.items() if name == "all" or mask.any()}


def _group(maps: ErrorMaps, mask: np.ndarray) -> GroupError:
    error = maps.error[mask]
    error = error[np.isfinite(error)]
    pixels = int(mask.sum())
    epe = float(error.mean(dtype=np.float64)) if error.size else math.nan
    return GroupError(pixels, error.size, epe, float(maps.outlier[mask].mean()) if pixels else math.nan)


def over_images(images: Sequence[Mapping[str, GroupError]], protocol: Protocol = "images") -> dict[str, GroupError]:
    """Errors over a set of images.

    Args:
        images: of `group_errors`.
        protocol: `images` is the mean of the figures of the images, each with equal weight: what the papers of this
            field print for EPE and Fl (as the published code of TrianFlow computes them). `pixels` gives each
            pixel equal weight: KITTI 2015's server and development kit.

    Returns:
        By group, over the images that have it; none where no image does.
    """
    result = {}
    for name in GROUPS:
        found = [image[name] for image in images if name in image]
        if found:
            pixels, estimated = sum(g.pixels for g in found), sum(g.estimated for g in found)
            by_pixels = protocol == "pixels"
            epe = _mean([(g.epe, g.estimated if by_pixels else 1) for g in found])
            outliers = _mean([(g.outliers, g.pixels if by_pixels else 1) for g in found])
            result[name] = GroupError(pixels, estimated, epe, outliers)
    return result


def _mean(weighted: Sequence[tuple[float, int]]) -> float:
    """Weighted mean of what is a number; NaN of nothing."""
    known = [(value, weight) for value, weight in weighted if not math.isnan(value)]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else math.nan
