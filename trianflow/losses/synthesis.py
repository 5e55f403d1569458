"""Photometric error of a view that is put together from other views: per pixel, and one value of all views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from trianflow.geometry.warping import sample
from trianflow.losses.geometry import reproject
from trianflow.losses.masking import item_mean
from trianflow.losses.photometric import ssim

Reduction = Literal["average", "minimum"]


@dataclass(frozen=True)
class Synthesis:
    """The target as another view shows it.

    Attributes:
        image: `(B, C, H, W)`; where the pixel is not seen, the nearest of the border.
        seen: `(B, 1, H, W)` bool: the pixel lies in front of the other camera and inside its image.
    """

    image: Tensor
    seen: Tensor


def synthesize(source: Tensor, depth: Tensor, T_st: Tensor, K: Tensor) -> Synthesis:
    """Sample another view where depth and pose say that the pixels of the target are.

    Args:
        source: `(B, C, H, W)`.
        depth: `(B, 1, H, W)` of the target along z, positive.
        T_st: `(B, 4, 4)` target to source, in the unit of the depth.
        K: `(B, 3, 3)` of both images.

    Returns:
        `Synthesis`; the image is differentiable in depth and pose.

    Source: SfMLearner (Zhou et al., CVPR 2017), equation 2.
    """
    moved = reproject(depth, T_st, K)
    return Synthesis(sample(source, moved.points, "border"), moved.inside)


def appearance_error(image: Tensor, other: Tensor, ssim_share: float) -> Tensor:
    """How much two images differ at each pixel: share (1 - SSIM) / 2 + (1 - share) |difference|, channels averaged.

    Args:
        image, other: `(B, C, H, W)` in [0, 1].
        ssim_share: in [0, 1]; 0 leaves the structural part out (published: 0.85, SfMLearner 0).

    Returns:
        `(B, 1, H, W)` in [0, 1].
    """
    error = (1 - ssim_share) * (image - other).abs()
    if ssim_share > 0:
        error = error + ssim_share * ((1 - ssim(image, other)) / 2).clamp(0, 1)
    return error.mean(1, keepdim=True)


def reduce_views(errors: Sequence[Tensor], seen: Sequence[Tensor], reduction: Reduction) -> Tensor:
    """One error of the errors that several views make at a pixel.

    Args:
        errors: of each view `(B, 1, H, W)`, finite.
        seen: of each view `(B, 1, H, W)` bool; a view that does not see the pixel has no say.
        reduction: the mean, or the smallest, which forgives a view in which the pixel is hidden.

    Returns:
        `(B, 1, H, W)`; 0, without gradient, where no view sees the pixel.

    Source: Monodepth2 (Godard et al., ICCV 2019), equation 4.
    """
    E, M = torch.cat(list(errors), 1), torch.cat(list(seen), 1)
    if reduction == "average":
        return torch.where(M, E, 0.0).sum(1, keepdim=True) / M.sum(1, keepdim=True).clamp_min(1)
    smallest = torch.where(M, E, torch.inf).min(1, keepdim=True).values
    return torch.where(M.any(1, keepdim=True), smallest, 0.0)


def masked_share(error: Tensor, seen: Tensor, kept: Tensor | None) -> Tensor:
    """Mean error over the pixels that are seen, those that are not kept counting as zero.

    Args:
        error: `(B, 1, H, W)` finite.
        seen: `(B, 1, H, W)` bool.
        kept: the same; None keeps all.

    Returns:
        `(B,)`: a view that keeps next to nothing teaches next to nothing. Pixels out of sight have no say, so the mean
        falls where bad ones leave the view; 0 where nothing is seen.
    """
    used = seen if kept is None else seen & kept
    share = item_mean(seen.to(error.dtype))
    return item_mean(torch.where(used, error, 0.0)) / torch.where(share > 0, share, 1.0)


def explanation_cost(mask: Tensor) -> Tensor:
    """Cross-entropy of a predicted mask `(B, 1, H, W)` in (0, 1] with ones, `(B,)`: 0 where all is explained.

    Source: SfMLearner (Zhou et al., CVPR 2017), section 3.3.
    """
    return item_mean(-mask.clamp_min(1e-7).log())


def velocity_error(T_st: Tensor, length: Tensor) -> Tensor:
    """| |t| - way |, the translation against the way that the camera is known to have come.

    Args:
        T_st: `(B, 4, 4)`.
        length: `(B,)` metres, NaN where unknown.

    Returns:
        `(B,)` metres; 0 with zero gradient where the way is unknown.

    Source: PackNet-SfM (Guizilini et al., CVPR 2020), section 3.3.
    """
    known = length.isfinite()
    # kept from zero, where the root has no derivative
    t = T_st[:, :3, 3].square().sum(-1).clamp_min(1e-16).sqrt()
    return torch.where(known, (t - torch.where(known, length, 0.0)).abs(), 0.0)
