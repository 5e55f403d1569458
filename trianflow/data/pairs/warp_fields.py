"""Random flows as a moving camera sees them: inverse-depth fields under a rotation and a translation, and movers."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_SMALLEST = 1 / 200  # motion, share of the largest
_STREETS = 0.5  # share of the fields that are a street; the others are rooms of planes, with a smooth relief
_DRIVES = 0.5  # share of the motions that are a car's: mostly ahead, hardly any roll
_NEAREST = 0.3  # share of its depth that a point may keep when the camera comes nearer
_LARGEST_TURN = 0.35  # radians


@dataclass(frozen=True)
class Mover:
    """A patch that moves on its own.

    Attributes:
        polygon: `(N, 2)` float32 pixels of its outline in the second image.
        A: `(2, 3)` float64: pixels of the first image to the second, homogeneous.
    """

    polygon: np.ndarray
    A: np.ndarray


def random_flow(rng: np.random.Generator, width: int, height: int, motion: float) -> np.ndarray:
    """The flow of a still world before a camera that moves.

    Args:
        rng: what it is drawn from.
        width, height: pixels.
        motion: 0.9 quantile of the flow's length at most, pixels; that of this flow is drawn between a 200th and this,
            half of all above a quarter of it: large motion is what must be learned, and a logarithm shows it seldom.

    Returns:
        `(height, width, 2)` float32 pixels.
    """
    inverse = random_inverse_depth(rng, width, height)
    f = width * rng.uniform(0.5, 1.4)
    cx, cy = (np.array([width, height]) - 1) / 2 + rng.normal(0, 0.03, 2) * width
    u = (np.arange(width, dtype=np.float32) - np.float32(cx)) / np.float32(f)
    v = (np.arange(height, dtype=np.float32) - np.float32(cy))[:, None] / np.float32(f)
    turn, shift = _random_motion(rng)
    length = motion * _SMALLEST ** rng.random() ** 2
    few = (slice(4, None, 8), slice(4, None, 8))
    size = 1e-3
    limit = min(
        _LARGEST_TURN / max(float(np.linalg.norm(turn)), 1e-6), (1 - _NEAREST) / max(float(inverse.max()), 1e-6)
    )
    for _ in range(3):
        sparse = f * image_motion(u[few[1]], v[few[0]], inverse[few], size * turn, size * shift)
        size *= length / max(float(np.quantile(np.linalg.norm(sparse, axis=-1), 0.9)), 1e-9)
        size = min(size, limit)
    return np.float32(f) * image_motion(u, v, inverse, size * turn, size * shift)


def random_inverse_depth(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Inverse depth of a random scene, `(height, width)` float32 in [0.01, 1], with sharp borders of obstacles."""
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    if rng.random() < _STREETS:
        horizon, ground, left, right = rng.uniform((-0.5, 0.3, 0.1, 0.1), (0.3, 1.0, 0.9, 0.9))
        middle = rng.uniform(-0.4, 0.4)
        inverse = np.maximum(np.float32(ground / (1 - horizon)) * (y - np.float32(horizon)), 0.02)
        walls = np.maximum(np.float32(left) * (middle - x), np.float32(right) * (x - middle)).astype(np.float32)
        inverse = np.maximum(inverse, walls - np.float32(rng.uniform(0, 0.4)))
    else:
        planes = rng.uniform((0.1, -0.4, -0.4), (0.7, 0.4, 0.4), (rng.integers(1, 4), 3)).astype(np.float32)
        inverse = np.max([d + a * x + b * y for d, a, b in planes], 0)
        relief = rng.normal(0, rng.uniform(0, 0.3), (rng.integers(2, 6), rng.integers(2, 9))).astype(np.float32)
        inverse = inverse * np.exp(cv2.resize(relief, (width, height), interpolation=cv2.INTER_CUBIC))
    inverse = np.ascontiguousarray(inverse, np.float32)
    for _ in range(rng.integers(0, 6)):
        mask = np.zeros((height, width), np.uint8)
        _fill(mask, random_polygon(rng, width, height))
        level = np.float32(rng.uniform(0.05, 1) ** 1.5)
        np.maximum(inverse, level, out=inverse, where=mask > 0)
    return inverse.clip(0.01, 1)


def random_polygon(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """The outline of a blob about a place in the image, `(N, 2)` float32 pixels."""
    corners = int(rng.integers(4, 20))
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = height * rng.uniform(0.06, 0.35) * rng.uniform(0.7, 1.3, corners)
    outline = np.stack([radius * np.cos(angle) * rng.uniform(0.4, 1.6), radius * np.sin(angle)], 1)
    return (outline + rng.uniform((0, 0), (width, height))).astype(np.float32)


def random_mover(rng: np.random.Generator, flow: np.ndarray) -> Mover:
    """A patch that moves with the surroundings or against them, by about as much as they do, and turns and grows."""
    height, width = flow.shape[:2]
    polygon = random_polygon(rng, width, height)
    centre = polygon.mean(0).astype(np.float64)
    column, row = np.clip(centre, 0, (width - 1, height - 1)).astype(int)
    usual = float(np.linalg.norm(flow[::8, ::8], axis=-1).mean())
    shift = flow[row, column] * (rng.random() < 0.5) + rng.normal(0, usual, 2)
    turn, growth = rng.normal(0, 0.05), np.exp(rng.normal(0, 0.05))
    c, s = growth * np.cos(turn), growth * np.sin(turn)
    M = np.array([[c, -s], [s, c]])
    return Mover(polygon, np.column_stack([M, centre - M @ (centre - shift)]))


def polygon_mask(polygon: np.ndarray, width: int, height: int) -> np.ndarray:
    """How much of each pixel a polygon covers, `(height, width)` uint8, 255 is all."""
    mask = np.zeros((height, width), np.uint8)
    _fill(mask, polygon, cv2.LINE_AA)
    return mask


def _fill(mask: np.ndarray, polygon: np.ndarray, line: int = cv2.LINE_8) -> None:
    cv2.fillPoly(mask, [np.round(polygon * 16).astype(np.int32)], 255, line, 4)


def _random_motion(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Turn and shift of the camera, in any unit; the shift is one of about the nearest depth where the turn is none."""
    if rng.random() < _DRIVES:
        turn = rng.normal(0, (0.05, 0.3, 0.03))
        shift = rng.normal((0, 0, -1), (0.15, 0.08, 0.3))
    else:
        turn, shift = rng.normal(0, (0.3, 0.3, 0.2)), rng.normal(0, (1.0, 1.0, 0.6))
    share = rng.random()
    return turn * share, shift * (1 - share)


def image_motion(u: np.ndarray, v: np.ndarray, inverse: np.ndarray, turn: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Motion in the image at focal length one, `(h, w, 2)` float32, of rays (u, v, 1) with inverse depths."""
    R, _ = cv2.Rodrigues(turn)
    R, t = R.astype(np.float32), shift.astype(np.float32)
    z = np.maximum(R[2, 0] * u + R[2, 1] * v + R[2, 2] + t[2] * inverse, np.float32(_NEAREST / 3))
    motion = np.empty((*inverse.shape, 2), np.float32)
    for i, start in enumerate((u, v)):
        motion[..., i] = (R[i, 0] * u + R[i, 1] * v + R[i, 2] + t[i] * inverse) / z - start
    return motion
