"""Obj-PoseNet: how rigid objects moved, from the frame as the camera's motion alone would leave it and as it is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trianflow.geometry.camera import backproject, pixel_grid, pose_matrix
from trianflow.pose.kinds import PoseEncoder
from trianflow.pose.posenet import PoseNet, image_pair


def region_masks(labels: Tensor, count: int) -> Tensor:
    """Labels `(B, H, W)` of integers to bool masks `(B, count + 1, H, W)` of the regions 0, 1, ..., count."""
    return labels[:, None] == torch.arange(count + 1, device=labels.device).view(-1, 1, 1)


def object_centres(depth: Tensor, labels: Tensor, count: int, K: Tensor) -> Tensor:
    """The mean point of what is seen of every object.

    Args:
        depth: `(B, 1, H, W)` along z; only positive and finite ones count.
        labels: `(B, H, W)` of integers; k is the k-th object.
        count: N, the number of objects.
        K: `(B, 3, 3)` in the dtype of the depth.

    Returns:
        `(B, N, 3)` in the frame of the camera and the unit of the depth; 0 for an object of which nothing is seen.
    """
    B, _, H, W = depth.shape
    known = (depth > 0) & depth.isfinite()
    masks = (region_masks(labels, count)[:, 1:] & known).flatten(2).to(depth.dtype)
    pixels = pixel_grid(H, W, depth.dtype, depth.device).flatten(1).T.expand(B, -1, 2)
    X = backproject(pixels, torch.where(known, depth, 0.0).flatten(1), K)
    return masks @ X / masks.sum(-1, keepdim=True).clamp_min(1)


def turn_about(R: Tensor, t: Tensor, centre: Tensor) -> Tensor:
    """The rigid motion that turns about a point and then shifts: X to R (X - centre) + centre + t.

    Args:
        R: `(..., 3, 3)`.
        t, centre: `(..., 3)`.

    Returns:
        `(..., 4, 4)`.
    """
    return pose_matrix(R, centre + t - (R @ centre[..., None])[..., 0])


def composite_motions(T_ba: Tensor, T_objects: Tensor) -> Tensor:
    """The motion of every region from camera a to camera b: of what stands still, then of the objects.

    Args:
        T_ba: `(B, 4, 4)` of the camera.
        T_objects: `(B, N, 4, 4)`: from where the camera's motion alone would leave an object to where it is, both in b.

    Returns:
        `(B, N + 1, 4, 4)`: T_ba, and T_object T_ba.

    Source: Insta-DM (Lee et al., 2020), section 3.
    """
    return torch.cat([T_ba[:, None], T_objects @ T_ba[:, None]], 1)


class ObjPoseNet(nn.Module):
    """The motions of objects between an intermediate frame and the target.

    The network sees one object at a time, with zeros around it, and its numbers are a turn about the object's centre
    and a shift: about the camera, a small turn of a far object would be a long way.

    Args:
        encoder: of `PoseNet`; the paper takes the same as for the camera.

    Source: Insta-DM (Lee et al., 2020), section 3; Euler angles.
    """

    def __init__(self, encoder: PoseEncoder = "plain") -> None:
        super().__init__()
        self.net = PoseNet(encoder, "euler")

    @property
    def arguments(self) -> dict[str, str]:
        """What it was made with."""
        return {"encoder": self.net.kind}

    def nothing(self) -> Tensor:
        """Zero, whose gradients are there for all parameters nevertheless, as several processes need them: zeros."""
        return 0 * torch.stack([p.sum() for p in self.parameters()]).sum()

    def forward(
        self, intermediate: Tensor, labels_i: Tensor, image_b: Tensor, labels_b: Tensor, centres: Tensor
    ) -> Tensor:
        """The motion of every object.

        The network runs in the precision of the surrounding autocast, everything else in float32.

        Args:
            intermediate: `(B, 3, H, W)`, a projected into b as if nothing moved; what it holds off the objects is
                not seen.
            labels_i, labels_b: `(B, H, W)` int64 of it and of b; k is the k-th object in both.
            image_b: `(B, 3, H, W)`.
            centres: `(B, N, 3)` of `object_centres` in the intermediate frame.

        Returns:
            `(B, N, 4, 4)` float32, as `composite_motions` takes them; the identity for objects that one of the
            frames does not show.
        """
        B, N = centres.shape[:2]
        still = torch.eye(4, device=centres.device).expand(B, N, 4, 4)
        masks = torch.stack([region_masks(labels, N)[:, 1:] for labels in (labels_i, labels_b)], 2)
        shown = masks.flatten(3).any(-1).all(-1)
        if not shown.any():
            return still + self.nothing()
        item, which = shown.nonzero().unbind(1)
        mask = masks[item, which].repeat_interleave(3, 1)
        T = self.net(torch.where(mask, image_pair(intermediate, image_b)[item], 0.0)).T_ba
        with torch.autocast(centres.device.type, enabled=False):
            T = turn_about(T[:, :3, :3], T[:, :3, 3], centres[item, which])
        return still.index_put((item, which), T)
