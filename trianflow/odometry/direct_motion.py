"""The motion between two frames of which the first has depth, by direct alignment of their images."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from trianflow.odometry.pair import Motion
from trianflow.odometry.preparation import Prepared
from trianflow.odometry.step import StepStatus
from trianflow.pose.direct import align

# Height in pixels above which images are halved: finer detail costs time and tells a pose nothing more.
_HEIGHT = 300


def direct_motion(
    key: Prepared, current: Prepared, K: Tensor, start_T_ck: Tensor, source: str, unit: float = 1.0
) -> Motion | None:
    """The motion since the key frame by direct alignment.

    Args:
        key, current: frames of one size; the key frame has depth.
        K: `(3, 3)` of both.
        start_T_ck: `(4, 4)` a guess, key frame to current camera, in units of the trajectory.
        source: of the depth, `depth` or `network`.
        unit: of the depth, in units of the trajectory.

    Returns:
        `Motion` with the share of the depth in view as inlier ratio; None where the key frame has no depth, or neither
        the guess nor the identity leads to a pose.
    """
    if key.depth is None:
        return None
    a, b, depth = _grey(key.image), _grey(current.image), unit * torch.from_numpy(key.depth)[None, None]
    K = K.to(torch.float32)
    while a.shape[-2] > _HEIGHT and not (a.shape[-2] % 2 or a.shape[-1] % 2):
        a, b = torch.nn.functional.avg_pool2d(a, 2), torch.nn.functional.avg_pool2d(b, 2)
        # Not averaged, which would invent depths between things and fill in holes.
        depth = torch.nn.functional.pixel_unshuffle(depth, 2).amax(1, keepdim=True)
        K = K.new_tensor([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]]) @ K
    starts = torch.stack([start_T_ck.to(torch.float32), torch.eye(4)])
    a, b, depth = (x.expand(2, *x.shape[1:]) for x in (a, b, depth))
    found = align(a, b, depth, K, starts)
    if not bool(found.found.any()):
        return None
    best = int(torch.where(found.found, found.error, torch.inf).argmin())
    return Motion(found.T_ba[best].double(), StepStatus.OK, source, float(found.share[best]), measured=True)


def _grey(image: np.ndarray) -> Tensor:
    """`(1, 1, H, W)` float32 in [0, 1] of an image `(H, W)` or `(H, W, 3)` uint8 RGB."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    return torch.from_numpy(grey)[None, None].float() / 255
