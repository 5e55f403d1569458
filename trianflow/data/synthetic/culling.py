"""What of a scene too large to be cast whole a camera may see."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from trianflow.data.synthetic.scene import Scene
from trianflow.geometry.camera import invert_pose


def within_sight(scene: Scene, T_wc: Tensor, times: Tensor, K: Tensor, height: int, width: int) -> Scene:
    """The scene without what is outside the image of, or beyond `scene.reach` for, every one of the cameras.

    Cameras that are compared with each other must be given together: they see the same primitives then.

    Args:
        scene: returned as it is where its reach is infinite.
        T_wc: `(F, 4, 4)` float64 camera to world.
        times: `(F,)` seconds.
        K: `(3, 3)` intrinsics of all cameras.
        height, width: image size in pixels.
    """
    if math.isinf(scene.reach):
        return scene
    T_co = invert_pose(T_wc.double())[:, None] @ scene.object_poses(times)
    T_cp = T_co[:, scene.instance, :3]
    centre = (T_cp[..., :3] * scene.T_ol[:, None, :3, 3]).sum(-1) + T_cp[..., 3]
    radius = scene.half.double().norm(dim=1)
    (fx, _, cx), (_, fy, cy), _ = K.tolist()
    # the image's borders, a pixel further out, as planes through the camera with normals to the inside
    borders = [[fx, 0, cx + 1], [-fx, 0, width - cx], [0, fy, cy + 1], [0, -fy, height - cy]]
    inward = torch.nn.functional.normalize(torch.tensor(borders, dtype=torch.float64), dim=1)
    inside = (centre @ inward.T > -radius[:, None]).all(-1)
    near = centre.norm(dim=-1) - radius < scene.reach * radius.sqrt()
    kept = (inside & near).any(0).nonzero()[:, 0]
    tables = ("shape", "half", "T_ol", "instance", "texture", "period", "offset", "tint")
    return replace(scene, **{name: getattr(scene, name)[kept] for name in tables})
