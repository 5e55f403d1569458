"""Trajectories to test with, and the definition of KITTI's segments one after another."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
from scipy.spatial.transform import Rotation

from trianflow.trajectory import Trajectory


def from_steps(steps: np.ndarray) -> Trajectory:
    """A trajectory from its camera-to-camera motions `(N, 4, 4)`."""
    T_wc = [np.eye(4)]
    for step in steps:
        T_wc.append(T_wc[-1] @ step)
    return Trajectory(np.arange(len(T_wc)), np.array(T_wc), times_are_indices=True)


def drive(n: int = 400, yaw: float = 0.0, step: float = 1.0, seed: int | None = None) -> Trajectory:
    """n motions forward along z with a turn in degrees about y; a seed makes it wander in all directions."""
    steps = np.tile(np.eye(4), (n, 1, 1))
    angles = np.zeros((n, 3))
    angles[:, 1] = yaw
    if seed is not None:
        angles += np.cumsum(np.random.default_rng(seed).normal(0, 0.15, (n, 3)), axis=0)
    steps[:, :3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    steps[:, 2, 3] = step
    return from_steps(steps)


def transformed(trajectory: Trajectory, scale: float = 1.0, seed: int = 0) -> Trajectory:
    """The same motion in another world, with another unit."""
    T = np.eye(4)
    T[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    T[:3, 3] = [10, -20, 30]
    out = T @ trajectory.T_wc
    out[:, :3, 3] *= scale
    return replace(trajectory, T_wc=out)


def noisy(trajectory: Trajectory, seed: int = 0, degrees: float = 0.1, metres: float = 0.02) -> Trajectory:
    """The same motion with noise in every step."""
    rng = np.random.default_rng(seed)
    steps = np.linalg.inv(trajectory.T_wc[:-1]) @ trajectory.T_wc[1:]
    steps[:, :3, :3] @= Rotation.from_rotvec(np.deg2rad(rng.normal(0, degrees, (len(steps), 3)))).as_matrix()
    steps[:, :3, 3] += rng.normal(0, metres, (len(steps), 3))
    return replace(trajectory, T_wc=from_steps(steps).T_wc)


def naive_segments(gt: np.ndarray, est: np.ndarray, lengths: list[float], step: int) -> list[tuple]:
    """The definition, one segment after another."""
    out = []
    distance = [0.0]
    for a, b in pairwise(gt):
        distance.append(distance[-1] + math.dist(a[:3, 3], b[:3, 3]))
    for first in range(0, len(gt), step):
        for length in lengths:
            last = next((i for i, d in enumerate(distance) if d > distance[first] + length), None)
            if last is None:
                continue
            true = np.linalg.inv(gt[first]) @ gt[last]
            found = np.linalg.inv(est[first]) @ est[last]
            error = np.linalg.inv(found) @ true
            angle = Rotation.from_matrix(error[:3, :3]).magnitude()
            out.append((first, last, length, np.linalg.norm(error[:3, 3]) / length, angle / length))
    return out
