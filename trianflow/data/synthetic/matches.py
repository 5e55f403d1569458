"""Matches of random scenes with exact two-view truth: for the tests and the benchmark of the two-view solver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.spatial.transform import Rotation

from trianflow.geometry.camera import Camera

KITTI_CAMERA = Camera(707.0912, 707.0912, 601.8873, 183.1104, 1226, 370)

SceneKind = Literal["general", "planar", "rotation", "static", "random"]


@dataclass(frozen=True)
class MatchScene:
    """Matches with their truth.

    Attributes:
        p_a, p_b: `(N, 2)` float64 pixels, noise and outliers included.
        T_ba: `(4, 4)` float64 true pose.
        inlier: `(N,)` bool.
        depth_a: `(N,)` float64 along z in camera a; NaN for outliers.
        camera: of both images.
    """

    p_a: np.ndarray
    p_b: np.ndarray
    T_ba: np.ndarray
    inlier: np.ndarray
    depth_a: np.ndarray
    camera: Camera


def random_match_scene(
    seed: int,
    count: int = 8000,
    outliers: float = 0.3,
    noise: float = 0.5,
    kind: SceneKind = "general",
    camera: Camera = KITTI_CAMERA,
) -> MatchScene:
    """A random scene seen twice from a moving camera.

    Args:
        seed: of everything random.
        count: matches N.
        outliers: share of matches whose second point is anywhere in the image, in [0, 1].
        noise: standard deviation in pixels on every coordinate of both images.
        kind: `general` (depths 10 to 60, about 1.1 forward with some sideways motion, up to 3 degrees of rotation),
            `planar` (all points on one tilted plane), `rotation` (no translation), `static` (no motion at all) or
            `random` (no scene: every match is an outlier).
        camera: of both images.
    """
    rng = np.random.default_rng(seed)
    R = np.eye(3) if kind == "static" else Rotation.from_rotvec(np.radians(rng.uniform(-3, 3, 3))).as_matrix()
    t = np.zeros(3)
    if kind in ("general", "planar", "random"):
        t = np.array([rng.normal(0, 0.2), rng.normal(0, 0.05), rng.uniform(0.8, 1.3)])
    p_a, p_b, depth = np.empty((0, 2)), np.empty((0, 2)), np.empty(0)
    focal, centre = np.array([camera.fx, camera.fy]), np.array([camera.cx, camera.cy])
    size = np.array([camera.width - 1, camera.height - 1])
    normal = Rotation.from_rotvec(np.radians([rng.uniform(-30, 30), rng.uniform(-30, 30), 0])).as_matrix()[:, 2]
    while len(depth) < count:
        p = rng.uniform(0, size, (4 * count, 2))
        ray = np.concatenate([(p - centre) / focal, np.ones((len(p), 1))], 1)
        z = 12 / (ray @ normal) if kind == "planar" else rng.uniform(10, 60, len(p))
        X = (ray * z[:, None]) @ R.T + t
        q = X[:, :2] / X[:, 2:] * focal + centre
        ok = (z > 1) & (X[:, 2] > 1) & (q >= 0).all(1) & (q <= size).all(1)
        p_a, p_b = np.concatenate([p_a, p[ok]]), np.concatenate([p_b, q[ok]])
        depth = np.concatenate([depth, z[ok]])
    p_a, p_b, depth = p_a[:count], p_b[:count], depth[:count]
    inlier = rng.uniform(size=count) >= (1.0 if kind == "random" else outliers)
    p_a = p_a + rng.normal(0, noise, p_a.shape)
    p_b = np.where(inlier[:, None], p_b + rng.normal(0, noise, p_b.shape), rng.uniform(0, size, p_b.shape))
    T_ba = np.eye(4)
    T_ba[:3, :3], T_ba[:3, 3] = R, t
    return MatchScene(p_a, p_b, T_ba, inlier, np.where(inlier, depth, np.nan), camera)
