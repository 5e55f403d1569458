"""What parts of the odometry cost by themselves: the window over a drive without end, the figures of a trajectory."""

from __future__ import annotations

import itertools
import math
import resource
import time

import numpy as np
import torch
from odometry_claims import Claim
from torch import Tensor

import trianflow
from trianflow.config import OdometryConfig
from trianflow.evaluation.odometry import evaluate_odometry
from trianflow.flow.dis import DISFlow
from trianflow.flow.interface import FlowPair
from trianflow.flow.refinement import Refiner, smoothed
from trianflow.geometry.camera import homogeneous, invert_pose, normalize_pixels, pixel_grid
from trianflow.odometry.motion import MotionSolver
from trianflow.odometry.pair import Pair
from trianflow.odometry.preparation import Preparation
from trianflow.odometry.run import set_threads
from trianflow.odometry.structure import Structure
from trianflow.odometry.window import SlidingWindow
from trianflow.trajectory import Trajectory

CAMERA = trianflow.Camera(360.0, 360.0, 309.5, 93.5, 620, 188)
KEY_FRAMES = 10_000
# A passage that repeats itself: metres of a period, and key frames in it.
PERIOD, STEPS = 40.0, 48
# What the flow is wrong by: alike over so many pixels, and by itself; pixels.
REACH, ALIKE, ALONE = 16, 0.1, 0.05
# Waves that the walls are painted with: how many, and their lengths in metres.
WAVES, LENGTHS = 60, (0.05, 2.0)


def rays_of(T_wc: Tensor) -> Tensor:
    """Rays `(H, W, 3)` of the pixels in the world, of depth one."""
    x = normalize_pixels(pixel_grid(CAMERA.height, CAMERA.width, torch.float64).permute(1, 2, 0), CAMERA.K())
    return homogeneous(x) @ T_wc[:3, :3].T


def depths(T_wc: Tensor) -> Tensor:
    """Depths `(H, W)` in a passage along z: floor, ceiling, and walls that stand back in bays of ten metres."""
    rays, origin = rays_of(T_wc), T_wc[:3, 3]
    depth = torch.full_like(rays[..., 0], 200.0)
    for axis, low, high in ((0, -6.0, 7.0), (1, -5.0, 1.65)):
        hit = (torch.where(rays[..., axis] > 0, high, low) - origin[axis]) / rays[..., axis]
        depth = torch.where(hit > 0, depth.minimum(hit), depth)
    bay = ((origin[2] + rays[..., 2] * depth) / 10).floor() % 2 == 1
    return torch.where(bay, 1.3 * depth, depth)


def picture(T_wc: Tensor) -> np.ndarray:
    """What is seen there, `(H, W)` uint8: walls painted with waves, without those that are too fine for a pixel."""
    rng, depth = np.random.default_rng(0), depths(T_wc)
    X, grey = T_wc[:3, 3] + rays_of(T_wc) * depth[..., None], torch.full_like(depth, 128.0)
    for length in np.geomspace(*LENGTHS, WAVES):
        wave = rng.normal(size=3)
        wave *= 2 * math.pi / length / np.linalg.norm(wave)
        wave[2] = 2 * math.pi / PERIOD * round(wave[2] * PERIOD / (2 * math.pi))
        seen = (-0.5 * (6 * depth / CAMERA.fx / length).square()).exp()
        grey += 12 * seen * (X @ torch.from_numpy(wave) + rng.uniform(0, 2 * math.pi)).sin()
    return grey.clamp(0, 255).round().to(torch.uint8).numpy()


def flow_between(T_wa: Tensor, T_wb: Tensor) -> Tensor:
    """Flow `(1, 2, H, W)` from a to b, as it is."""
    p = pixel_grid(CAMERA.height, CAMERA.width, torch.float64).permute(1, 2, 0)
    X = homogeneous(normalize_pixels(p, CAMERA.K())) * depths(T_wa)[..., None]
    T_ba = invert_pose(T_wb) @ T_wa
    X = X @ T_ba[:3, :3].T + T_ba[:3, 3]
    q = X[..., :2] / X[..., 2:].clamp_min(1e-3) * CAMERA.K().diagonal()[:2] + CAMERA.K()[:2, 2]
    return (q - p).permute(2, 0, 1)[None].float()


def errors(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """What the flow is wrong by there and back, `(1, 2, H, W)` each: the way back confirms most of it."""
    size = CAMERA.height, CAMERA.width
    coarse = torch.randn(1, 2, size[0] // REACH, size[1] // REACH, generator=generator)
    alike = ALIKE * torch.nn.functional.interpolate(coarse, size, mode="bicubic", align_corners=False)
    alone = ALONE * torch.randn(2, 2, *size, generator=generator)
    return alone[:1] + alike, alone[1:] - alike


def period() -> list[tuple[Tensor, Pair]]:
    """The key frames of one period: the motion from the one before, `(4, 4)`, and the pair."""
    phase = 2 * math.pi * torch.arange(STEPS + 1, dtype=torch.float64) / STEPS
    T_wc = torch.eye(4, dtype=torch.float64).repeat(STEPS + 1, 1, 1)
    yaw = 0.05 * phase.sin()
    T_wc[:, 0, 0] = T_wc[:, 2, 2] = yaw.cos()
    T_wc[:, 0, 2], T_wc[:, 2, 0] = yaw.sin(), -yaw.sin()
    T_wc[:, 0, 3], T_wc[:, 2, 3] = 0.3 * (1 - phase.cos()), torch.linspace(0, PERIOD, STEPS + 1, dtype=torch.float64)
    config, generator = OdometryConfig(), torch.Generator().manual_seed(0)
    preparation = Preparation(CAMERA, config, DISFlow(config.flow_preset), None)
    solver = MotionSolver(CAMERA.K(), config, preparation)
    found = []
    smooth = [smoothed(picture(T)) for T in T_wc]
    for (T_wa, a), (T_wb, b) in itertools.pairwise(zip(T_wc, smooth)):
        there, back = errors(generator)
        flow = FlowPair(flow_between(T_wa, T_wb) + there, flow_between(T_wb, T_wa) + back)
        refiner = Refiner(a, b, flow.flow_ab)
        found.append((invert_pose(T_wb) @ T_wa, solver.compare(flow, Structure.empty(), refiner)))
    return found


def cost_of_window(key_frames: int = KEY_FRAMES) -> tuple[str, list[Claim]]:
    """Milliseconds of a key frame in the window by itself, at the beginning and at the end of a long drive."""
    set_threads()
    config, pairs = OdometryConfig().window, period()
    window = SlidingWindow(CAMERA.K(), config)
    milliseconds, points, memory = np.zeros(key_frames), np.zeros(key_frames), 0
    idle = 0
    part = min(1000, key_frames // 2)
    for i in range(key_frames):
        T_ck, pair = pairs[i % len(pairs)]
        begin = time.perf_counter()
        step = window.add(i + 1, T_ck, pair)
        milliseconds[i], points[i] = 1e3 * (time.perf_counter() - begin), step.points
        idle += bool(step.note)
        if i == part:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    first, last = float(np.median(milliseconds[:part])), float(np.median(milliseconds[-part:]))
    text = (
        f"window of {config.frames} key frames, {np.median(points):.0f} points tracked, {key_frames} key frames in"
        f" {milliseconds.sum() / 1e3:.0f} s: {first:.1f} ms a key frame in the first {part},"
        f" {last:.1f} in the last {part}, 95 of 100 within {np.quantile(milliseconds, 0.95):.1f};"
        f" {idle} not adjusted; {grown:.0f} MB more memory at the end than after the first {part}"
    )
    return text, [
        Claim("window, ms a key frame", float(np.median(milliseconds)), 25.0),
        Claim(f"window, last {part} key frames by the first {part}", last / first, 1.1),
    ]


def cost_of_metrics(poses: int = 4541, repeats: int = 7) -> str:
    """How long the figures of a trajectory take, of as many poses as KITTI 00 has."""
    rng = np.random.default_rng(0)
    heading = np.cumsum(rng.normal(0, 0.02, poses))
    T_wc = np.tile(np.eye(4), (poses, 1, 1))
    T_wc[:, 0, 0] = T_wc[:, 2, 2] = np.cos(heading)
    T_wc[:, 0, 2], T_wc[:, 2, 0] = np.sin(heading), -np.sin(heading)
    T_wc[1:, :3, 3] = np.cumsum(0.82 * T_wc[:-1, :3, 2], axis=0)
    truth = Trajectory(np.arange(poses), T_wc, times_are_indices=True)
    T_wc = T_wc.copy()
    T_wc[:, :3, 3] += np.cumsum(rng.normal(0, 0.02, (poses, 3)), axis=0)
    estimate = Trajectory(truth.times, T_wc, times_are_indices=True)
    medians = []
    for with_evo in (False, True):
        seconds = []
        for _ in range(repeats):
            begin = time.perf_counter()
            m = evaluate_odometry(truth, estimate, "sim3", with_evo=with_evo)
            seconds.append(time.perf_counter() - begin)
        medians.append(float(np.median(seconds)))
    return (
        f"metrics of {poses} poses, {truth.path_length:.0f} m: t_err and r_err of {m.segments} segments, with alignment"
        f" and pair errors, {medians[0]:.3f} s; ATE and RPE by evo {medians[1] - medians[0]:.3f} s more"
        f" (medians of {repeats})"
    )
