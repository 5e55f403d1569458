"""Photometric and geometric consistency of two frames in which every region has its own rigid motion."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trianflow.geometry.camera import backproject, pixel_grid, project
from trianflow.geometry.warping import sample
from trianflow.losses.geometry import Reprojection
from trianflow.losses.synthesis import appearance_error
from trianflow.pose.objects import region_masks

_WHOLE = 0.999  # share of a depth between pixels that must come from pixels that have one


@dataclass(frozen=True)
class RegionErrors:
    """Mean errors of the regions of b: 0 is what stands still, k the k-th object.

    Attributes:
        photometric: `(B, N + 1)` in [0, 1].
        geometric: `(B, N + 1)` in [0, 1).
        present: `(B, N + 1)` bool: whether anything of the region could be compared; the errors are 0 otherwise.
        warped: `(B, 3, H, W)` image a on the pixels of b, without gradient; 0 where it is not compared.
    """

    photometric: Tensor
    geometric: Tensor
    present: Tensor
    warped: Tensor

    def total(self, errors: Tensor) -> Tensor:
        """One number an item, `(B,)`: the error of what stands still, and the mean over the objects present."""
        shown = self.present[:, 1:]
        return errors[:, 0] + errors[:, 1:].sum(1) / shown.sum(1).clamp_min(1)


def region_errors(
    image_a: Tensor,
    image_b: Tensor,
    depth_a: Tensor,
    depth_b: Tensor,
    labels_a: Tensor,
    labels_b: Tensor,
    T_ab: Tensor,
    K: Tensor,
    ssim_share: float = 0.85,
) -> RegionErrors:
    """Compare b with a seen through the depth of b and the motion of every region.

    Pixels of b that stand still are compared where they do not land on an object in a, which would hide them; those of
    objects wherever they land in the image, as a motion that takes them to something else must not be free.

    Args:
        image_a, image_b: `(B, 3, H, W)` in [0, 1].
        depth_a, depth_b: `(B, 1, H, W)` along z; pixels of b without a positive, finite depth are not compared.
        labels_a, labels_b: `(B, H, W)` int64: 0 stands still, k from 1 to N is the k-th object in both frames, any
            other number is unknown and not compared.
        T_ab: `(B, N + 1, 4, 4)` of the regions, from b to a, in the unit of the depths.
        K: `(B, 3, 3)`.
        ssim_share: structural share of the photometric error; the rest is the absolute difference.

    Returns:
        `RegionErrors`. Differentiable in the images, depths and motions.

    Source: Insta-DM (Lee et al., 2020), section 3, where the photometric error is the absolute difference alone; the
    geometric one is |z - d| / (z + d) of Bian et al., NeurIPS 2019.
    """
    count = T_ab.shape[1] - 1
    seen = reproject_regions(depth_b, labels_b, T_ab, K)
    points = torch.where(seen.inside[:, 0, ..., None], seen.points, 0.0)
    regions = region_masks(labels_b, count) & seen.inside
    with torch.no_grad():
        column, row = points.round().long().unbind(-1)
        landed = labels_a.flatten(1).gather(1, (row * labels_a.shape[-1] + column).flatten(1)).view_as(labels_a)
        regions[:, 0] &= landed == 0
        compared = regions.any(1, keepdim=True)
    warped = torch.where(compared, sample(image_a, points, "border"), image_b)
    sound = (depth_a > 0) & depth_a.isfinite()
    there = sample(torch.where(sound, depth_a, 0.0), points, "border")
    known = compared & (sample(sound.to(depth_a), points, "border") > _WHOLE)
    z, there = torch.where(known, seen.depth, 1.0), torch.where(known, there, 1.0)
    geometric = (z - there).abs() / (z + there)
    return RegionErrors(
        region_means(appearance_error(warped, image_b, ssim_share), regions),
        region_means(geometric, regions & known),
        regions.flatten(2).any(-1),
        torch.where(compared, warped, 0.0).detach(),
    )


def reproject_regions(depth_b: Tensor, labels_b: Tensor, T_ab: Tensor, K: Tensor) -> Reprojection:
    """Where the pixels of b appear in a, each moved as its region is.

    Args:
        depth_b: `(B, 1, H, W)` along z; pixels whose depth is not positive and finite are nowhere.
        labels_b: `(B, H, W)` int64; pixels of no region 0, ..., N are nowhere.
        T_ab: `(B, N + 1, 4, 4)` finite, in the unit of the depth.
        K: `(B, 3, 3)` or `(3, 3)`.

    Returns:
        `Reprojection`, with points and depth in a. Differentiable in depth and motions.
    """
    B, _, H, W = depth_b.shape
    regions = region_masks(labels_b, T_ab.shape[1] - 1)
    usable = (depth_b > 0) & depth_b.isfinite() & regions.any(1, keepdim=True)
    # Twelve numbers of motion for every pixel.
    motion = T_ab[:, :, :3].flatten(2).mT @ regions.flatten(2).to(depth_b.dtype)
    motion = motion.view(B, 3, 4, H * W)
    pixels = pixel_grid(H, W, depth_b.dtype, depth_b.device).flatten(1).T
    X_b = backproject(pixels, torch.where(usable, depth_b, 1.0).reshape(B, H * W), K).mT
    X_a = (motion[:, :, :3] * X_b[:, None]).sum(2) + motion[:, :, 3]
    points = project(X_a.mT, K).view(B, H, W, 2)
    depth = torch.where(usable, X_a[:, 2].view(B, 1, H, W), 0.0)
    x, y = points[:, None, ..., 0], points[:, None, ..., 1]
    inside = (depth > 0) & (x > 0) & (x < W - 1) & (y > 0) & (y < H - 1)
    return Reprojection(points, depth, inside)


def region_means(x: Tensor, regions: Tensor) -> Tensor:
    """Means over regions.

    Args:
        x: `(B, 1, H, W)`; outside of all regions it may hold anything.
        regions: `(B, R, H, W)` bool.

    Returns:
        `(B, R)`; 0 with zero gradient for an empty region.
    """
    masks = regions.flatten(2).to(x.dtype)
    clean = torch.where(regions.any(1, keepdim=True), x, 0.0).flatten(2)
    return (masks @ clean.mT)[..., 0] / masks.sum(-1).clamp_min(1)
