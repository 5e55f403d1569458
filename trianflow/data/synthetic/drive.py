"""Long drives through a town: where they go, the streets, the traffic, and the camera's poses."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from trianflow.data.synthetic.paths import look, wave
from trianflow.data.synthetic.roadside import LANE, car
from trianflow.data.synthetic.route import Turn, rounded, travelled
from trianflow.data.synthetic.scene import Curve, Dice, Light, Mover, Scene, SceneBuilder
from trianflow.data.synthetic.textures import make_textures
from trianflow.data.synthetic.town import Crossings, build_town

DriveKind = Literal["open", "loop"]
Walk = list[tuple[int, int]]  # crossings of a grid, column and row, in the order in which they are passed

_BLOCK = 118.0  # metres between the crossings of an open drive, more or less
_SHORTEST_BLOCK = 98.0  # of a loop: the streets need 88 m between crossings, which are 8 % nearer in places
_START = 30.0  # metres from the first crossing to where a drive begins
_AGAIN = 60.0  # metres of a loop that are driven twice
_MEAN = 7.4  # m/s over a whole drive, nearly
_LAPS = 3  # of a loop's curve, for the cars that come to meet the camera
_LOOP = [(0, 1), (0, 2), (0, 3), (1, 3), (2, 3), (2, 2), (3, 2), (3, 1), (3, 0), (2, 0), (1, 0), (1, 1)]
_SHORT_LOOP = [(0, 0), (0, 1), (1, 1), (1, 0)]


def make_drive(kind: DriveKind, seed: int, frames: int, fps: float, movers: int) -> tuple[Scene, Tensor]:
    """A town and a drive through it; see `SyntheticSequence.drive`.

    Returns:
        The scene, whose route goes on beyond the drive, and `(frames, 4, 4)` float64 camera to world.

    Raises:
        ValueError: for an unknown kind, fewer than two frames, or too few to go round a block in a loop.
    """
    if kind not in ("open", "loop"):
        raise ValueError(f"no drive {kind!r} among open, loop")
    if frames < 2 or fps <= 0:
        raise ValueError(f"a drive needs frames and a frame rate, not {frames} at {fps:g} fps")
    dice = Dice(seed)
    curve, s, crossings = _way(kind, dice, frames, fps)
    builder = SceneBuilder(make_textures())
    build_town(builder, dice, crossings)
    _traffic(builder, dice, curve, s, fps, movers)
    turn = dice.uniform(-math.pi, math.pi)
    light = Light(sun=(math.cos(turn), -dice.uniform(0.7, 1.1), math.sin(turn)), haze=150.0)
    scene = builder.finish("street", light, curve, 0.5 * LANE, 1.65)
    return replace(scene, reach=130.0), _poses(scene, torch.from_numpy(s), seed)


def _way(kind: DriveKind, dice: Dice, frames: int, fps: float) -> tuple[Curve, np.ndarray, Crossings]:
    """The curve of a drive, the metres of it that are behind the car at every frame, and the crossings passed."""
    seconds = frames / fps
    if kind == "open":
        walk = passed = _open_walk(dice, seconds)
        laps, block = 1, _BLOCK
    else:
        walk = _loop_walk(dice, _MEAN * seconds - _AGAIN)
        laps, block = _LAPS, _MEAN * seconds / len(walk)
        passed = walk * laps + walk[:2]
    bends = [i for i in range(1, len(passed) - 1) if _step(passed, i - 1) != _step(passed, i)]
    corners = len(bends) // laps
    turns = [Turn(dice.uniform(8.5, 13), dice.uniform(4, 5), dice.uniform(9, 10)) for _ in range(corners)] * laps
    xs, zs = (np.cumsum([dice.uniform(0.92, 1.08) for _ in range(2 * len(walk) + 1)]) for _ in range(2))
    grid = np.array([(xs[column + len(walk)], zs[row]) for column, row in passed])
    grid -= grid[0]
    for _ in range(12):  # how long a loop is changes how far the car comes, a little
        if block < _SHORTEST_BLOCK:
            raise ValueError(f"a loop takes some 75 s at least, not {seconds:.0f}: ask for more frames")
        at = grid * block
        start = at[0] + _START * (at[1] - at[0]) / np.linalg.norm(at[1] - at[0])
        curve, extents = rounded(np.concatenate([start[None], at[bends], at[-1:]]), turns)
        half_way = np.abs(extents[:, 0] - _MEAN * seconds / 2).argmin()
        s = travelled(curve.length, extents, turns, extents[half_way, 0] - 4, frames, fps)
        if kind == "open":
            break
        lap = extents[corners, 0] - extents[0, 0]
        if abs(s[-1] - lap - _AGAIN) < 1:
            break
        block *= float(s[-1] - _AGAIN) / lap
    return curve, s, {crossing: (x, z) for crossing, (x, z) in zip(passed, at.tolist())}


def _step(walk: Walk, i: int) -> tuple[int, int]:
    (column, row), (next_column, next_row) = walk[i : i + 2]
    return next_column - column, next_row - row


def _open_walk(dice: Dice, seconds: float) -> Walk:
    """Up and, in between, to either side: it never comes back."""
    walk = [(0, 0)]
    sideways = False
    while (len(walk) - 2) * 0.92 * _BLOCK < 8.5 * seconds + 250:
        across = 1 - 2 * dice.choice(2) if sideways else 0
        for _ in range(1 + dice.choice(2)):
            walk.append((walk[-1][0] + across, walk[-1][1] + (not sideways)))
        sideways = not sideways
    return walk


def _loop_walk(dice: Dice, length: float) -> Walk:
    """A closed way from any of its crossings: with turns to both sides, or round one block where it must be short."""
    walk = _LOOP if length > 1.15 * len(_LOOP) * _SHORTEST_BLOCK else _SHORT_LOOP
    first = dice.choice(len(walk))
    walk = walk[first:] + walk[:first]
    return [(row, column) for column, row in walk] if dice.choice(2) else walk


def _traffic(builder: SceneBuilder, dice: Dice, curve: Curve, s: np.ndarray, fps: float, count: int) -> None:
    """A car ahead for a while in the lane to the right, and others that come to meet the camera, one as it stands."""
    seconds = (len(s) - 1) / fps

    def camera(t: float) -> float:
        return float(np.interp(t * fps, np.arange(len(s)), s))

    middle, around = 0.2 * seconds, min(8.0, 0.2 * seconds)
    speed = (camera(middle + around) - camera(middle - around)) / (2 * around)
    ahead = Mover(curve, camera(middle) + 14 - speed * middle, speed, LANE)
    speed = dice.uniform(6, 9)
    meetings = (np.arange(count - 1) + 0.5) / (count - 1) * seconds
    standing = np.flatnonzero(np.diff(s) == 0)
    if standing.size and meetings.size:
        meetings[np.abs(meetings - standing.mean() / fps).argmin()] = standing.mean() / fps
    oncoming = [Mover(curve, camera(t) + 12 + speed * t, speed, -LANE, True) for t in meetings.tolist()]
    for k, mover in enumerate([ahead, *oncoming][:count]):
        builder.movers.append(mover)
        car(builder, dice, 0.0, 0.0, 0.0, k + 1)


def _poses(scene: Scene, s: Tensor, seed: int) -> Tensor:
    """Camera to world at `s` metres of the route; the sway goes with the way, so that a car at rest stands still."""
    g = torch.Generator().manual_seed(seed)
    t = s / 9
    position, heading = scene.route.at(s, 0.4 * wave(g, t, 0.02) + 0.1 * wave(g, t, 0.35))
    height = scene.eye_height + 0.015 * wave(g, t, 0.7)
    yaw, pitch, roll = (size * wave(g, t, 0.35) for size in (0.012, 0.006, 0.005))
    return look(position, height, heading + yaw, pitch, roll)
