"""Smooth camera trajectories through a scene."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from trianflow.data.synthetic.scene import Scene
from trianflow.geometry.camera import pose_matrix

PathKind = Literal["driving", "handheld", "rotation", "standing", "fast"]

# speed in m/s (street, room); sway in metres (sideways, up); turning in radians (yaw, pitch, roll), Hz
_MANNERS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float, float], float]] = {
    "driving": ((8.0, 0.45), (0.10, 0.015), (0.012, 0.006, 0.005), 0.35),
    "handheld": ((1.3, 0.35), (0.10, 0.05), (0.16, 0.06, 0.04), 0.45),
    "rotation": ((0.0, 0.0), (0.0, 0.0), (0.60, 0.10, 0.05), 0.12),
    "standing": ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0, 0.0), 0.1),
    "fast": ((15.0, 0.9), (0.20, 0.06), (0.10, 0.04, 0.03), 0.5),
}

# share and frequency, in units of the nominal one, of the sinusoids of a wave
_WAVES = ((0.55, 0.6), (0.3, 1.0), (0.15, 1.7))
WAVE_DEVIATION = math.sqrt(sum(share**2 for share, _ in _WAVES) / 2)  # the standard deviation of `wave`


def camera_path(kind: PathKind, scene: Scene, frames: int, fps: float = 10.0, seed: int = 0) -> Tensor:
    """A smooth, collision-free trajectory.

    `driving` follows the scene's route at about 8 m/s (0.45 in a room), `fast` at about 15 m/s (0.9) with
    livelier turning, `handheld` walks and sways, `rotation` turns about the camera's centre, `standing`
    repeats one pose. Where the scene has a `gaze`, each camera looks so far around and down from there as is drawn.

    Args:
        kind: manner of moving.
        scene: where; the start on its route depends on `seed`.
        frames: number of poses N, positive.
        fps: frames a second.
        seed: of start, speed and sway.

    Returns:
        `(N, 4, 4)` float64 camera to world, metres.

    Raises:
        ValueError: for an unknown kind, or where the road is too short for the drive.
    """
    if kind not in _MANNERS:
        raise ValueError(f"no camera path {kind!r} among {', '.join(_MANNERS)}")
    if frames < 1 or fps <= 0:
        raise ValueError(f"a path needs frames and a frame rate, not {frames} at {fps:g} fps")
    speeds, sway, turning, rate = _MANNERS[kind]
    g = torch.Generator().manual_seed(seed)
    room = scene.kind in ("room", "office")
    speed = speeds[room] * (0.85 + 0.3 * float(torch.rand((), generator=g)))
    t = torch.arange(frames, dtype=torch.float64) / fps
    # the speed itself swells by a fifth: s' = speed (1 + 0.2 sin)
    phase = 2 * math.pi * float(torch.rand((), generator=g))
    swell = 2 * math.pi * 0.08
    travelled = speed * (t + 0.2 * (math.cos(phase) - torch.cos(swell * t + phase)) / swell)
    needed, usable = float(travelled[-1]), scene.route.length
    if not room and needed > usable:
        raise ValueError(
            f"the road is {usable:.0f} m long, {frames} frames take {needed:.0f} m:"
            " ask make_scene for a greater length="
        )
    spare = usable if room else usable - needed
    start = spare * float(torch.rand((), generator=g)) * (1.0 if room else 0.5)
    s = start + travelled
    size = 0.5 if room else 1.0
    position, heading = scene.route.at(s % usable if room else s, wave(g, t, rate) * sway[0] * size)
    if room:
        turn = scene.route.headings[-1] - scene.route.headings[0]
        heading = heading + torch.div(s, usable, rounding_mode="floor") * turn
    height = scene.eye_height + wave(g, t, rate * 2) * sway[1] * size
    yaw, pitch = heading + turning[0] * wave(g, t, rate), turning[1] * wave(g, t, rate)
    roll = turning[2] * wave(g, t, rate)
    if scene.gaze:
        around, down = torch.rand(2, generator=g).tolist()
        yaw, pitch = yaw + 2 * math.pi * around, pitch - scene.gaze * down
    return look(position, height, yaw, pitch, roll)


def wave(g: torch.Generator, t: Tensor, rate: float) -> Tensor:
    """A smooth random signal in [-1, 1] at times `t`, three sinusoids about `rate` Hz."""
    total = torch.zeros_like(t)
    for share, factor in _WAVES:
        jitter, phase = torch.rand(2, generator=g).tolist()
        total += share * torch.sin(2 * math.pi * (rate * factor * (0.8 + 0.4 * jitter) * t + phase))
    return total


def look(position: Tensor, height: Tensor, yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """Camera poses from ground position, height above it, heading (0 is +z, to +x), pitch (up) and roll."""

    def turn(axis: int, angle: Tensor) -> Tensor:
        R = torch.eye(3, dtype=torch.float64).repeat(len(angle), 1, 1)
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        R[:, i, i] = R[:, j, j] = angle.cos()
        R[:, j, i], R[:, i, j] = angle.sin(), -angle.sin()
        return R

    R_wc = turn(1, yaw) @ turn(0, pitch) @ turn(2, roll)
    return pose_matrix(R_wc, torch.stack([position[:, 0], -height, position[:, 1]], -1))
