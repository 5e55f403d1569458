"""A street in which one car turns in front of the camera, and how it truly moved."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trianflow.data.synthetic import RenderedPair, camera_path, make_scene, render_pairs
from trianflow.data.synthetic.scene import Curve, Mover
from trianflow.geometry.camera import Camera, invert_pose


@dataclass(frozen=True)
class TurningCar:
    """A pair of views, the motion of the car from camera a to camera b, and its middle in camera a."""

    pair: RenderedPair
    T_ba: Tensor
    middle_a: Tensor


def turning_car(seed: int, radius: float, phase: float, height: int = 128, width: int = 416) -> TurningCar:
    """A car at 7 m/s, 0.1 s apart, on a circle some 11 m ahead: `radius` in metres, `phase` its heading in radians."""
    scene = make_scene("street", seed, 1, length=40.0)
    T_wc = camera_path("driving", scene, 2, 10.0, seed)
    middle = (T_wc[0, :3, 3] + 11 * T_wc[0, :3, 2])[[0, 2]] + torch.tensor([0.6 * radius, 0.0])
    heading = torch.arange(0, 4 * math.pi * radius, 0.05, dtype=torch.float64) / radius + phase
    around = middle + radius * torch.stack([-heading.cos(), heading.sin()], -1)
    scene = replace(scene, movers=(Mover(Curve(0.05, around, heading), 0.0, 7.0),))
    times = torch.tensor([0.0, 0.1], dtype=torch.float64)
    K = Camera.from_fov(width, height, 80).K()
    pair = render_pairs([scene], T_wc[None], times[None], K[None], height, width)
    before, after = scene.object_poses(times)[:, 1]
    T_cw = invert_pose(T_wc)
    seat = before @ torch.tensor([0.0, -0.7, 0.0, 1.0], dtype=torch.float64)
    return TurningCar(pair, T_cw[1] @ after @ invert_pose(before) @ T_wc[0], (T_cw[0] @ seat)[:3])
