"""A car's way along streets that meet at right angles: its curve, and how far the car has come at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from trianflow.data.synthetic.scene import Curve

_STEP = 0.25  # metres between samples
_ACCELERATION, _BRAKING = 1.2, 1.6  # m/s^2
_REST = 3.0  # seconds that a stop lasts


@dataclass(frozen=True)
class Turn:
    """A turn by a right angle: its smallest `radius` in metres, `speed` in m/s in it and `cruise` on the way to it."""

    radius: float
    speed: float
    cruise: float


def rounded(points: np.ndarray, turns: Sequence[Turn]) -> tuple[Curve, np.ndarray]:
    """The curve along a polyline whose right angles are rounded by turns that ease in and out.

    Args:
        points: `(n + 2, 2)` x and z of its start, n corners and end, metres; far enough apart for the turns.
        turns: n of them.

    Returns:
        The curve, and `(n, 2)` metres from its start at which each turn begins and ends.
    """
    legs = np.diff(points, axis=0)
    ahead = legs / np.linalg.norm(legs, axis=1, keepdims=True)
    s, at, heading = 0.0, points[0], math.atan2(*ahead[0])
    knots = [np.array([[s, *at, heading]])]
    extents = []
    for corner, before, after, turn in zip(points[1:-1], ahead, ahead[1:], turns):
        right = np.array([before[1], -before[0]])
        side = np.sign(right @ after)
        along, across, turned, length = _right_turn(turn.radius)
        begin = corner - along[-1] * before
        s += float(np.linalg.norm(begin - at))
        way = begin + along[:, None] * before + side * across[:, None] * right
        knots.append(np.column_stack([s + np.linspace(0, length, len(way)), way, heading + side * turned]))
        extents.append((s, s + length))
        s, at, heading = s + length, way[-1], heading + side * math.pi / 2
    s += float(np.linalg.norm(points[-1] - at))
    knots.append(np.array([[s, *points[-1], heading]]))
    where, *values = np.concatenate(knots).T
    x, z, headings = (np.interp(np.arange(0, s, _STEP), where, value) for value in values)
    curve = Curve(_STEP, torch.from_numpy(np.stack([x, z], 1)), torch.from_numpy(headings))
    return curve, np.array(extents)


def _right_turn(radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """A turn to the right sampled evenly: metres ahead, metres to the right and radians turned; and its length."""
    pieces = 240
    x = (np.arange(pieces) + 0.5) / pieces
    curvature = np.minimum(4 * np.minimum(x, 1 - x), 1)  # in units of the largest
    length = math.pi / 2 * radius / curvature.mean()
    turned = math.pi / 2 * np.append(0, curvature.cumsum()) / curvature.sum()
    middle = (turned[1:] + turned[:-1]) / 2
    step = length / pieces
    return np.append(0, np.cos(middle).cumsum()) * step, np.append(0, np.sin(middle).cumsum()) * step, turned, length


def travelled(
    length: float, extents: np.ndarray, turns: Sequence[Turn], stop: float, frames: int, fps: float
) -> np.ndarray:
    """Metres that a car has come along a curve at every frame, as far as its turns, brakes and engine allow.

    Args:
        length: of the curve, metres.
        extents, turns: as `rounded` gives and takes them.
        stop: metres from the start at which the car stops and stands for three seconds.
        frames, fps: number of frames, and frames a second.

    Returns:
        `(frames,)` float64, not decreasing; the same number while the car stands.
    """
    s = np.arange(0, length, _STEP)
    cruise = np.array([turn.cruise for turn in turns] + [turns[-1].cruise])
    limit = cruise[np.searchsorted(extents[:, 1], s)]
    for (begin, end), turn in zip(extents, turns):
        limit[(s >= begin) & (s <= end)] = turn.speed
    at_stop = round(stop / _STEP)
    limit[at_stop] = 0
    # v^2 grows by no more than 2 a a metre, and falls by no more than 2 b
    square = np.minimum.accumulate(limit**2 - 2 * _ACCELERATION * s) + 2 * _ACCELERATION * s
    square = np.minimum.accumulate((square + 2 * _BRAKING * s)[::-1])[::-1] - 2 * _BRAKING * s
    speed = np.sqrt(square.clip(min=0))
    time = np.append(0, (2 * _STEP / (speed[1:] + speed[:-1])).cumsum())
    time = np.insert(time, at_stop + 1, time[at_stop])
    time[at_stop + 1 :] += _REST
    return np.interp(np.arange(frames) / fps, time, np.insert(s, at_stop, s[at_stop]))
