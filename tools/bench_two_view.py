"""Our two-view solver beside OpenCV's and PoseLib's, on random scenes with exact truth, on one thread.

    python tools/bench_two_view.py [--scenes 8] [--matches 8000] [--outliers 0.3] [--noise 0.5]

Each scene is solved by all methods in turn, so that a busy machine slows all of them alike. A failed pair
counts as an error of 180 degrees. Precision and recall are those of the matches that a method calls inliers.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from trianflow.config import OdometryConfig
from trianflow.data.synthetic.matches import MatchScene, random_match_scene
from trianflow.pose.reference import solve_two_view_opencv, solve_two_view_poselib
from trianflow.pose.two_view import TwoView, TwoViewStatus, solve_two_view

Solver = Callable[[Tensor, Tensor, Tensor], TwoView]

CONFIGS = {
    "trianflow": OdometryConfig.preset("accurate").two_view,
    "trianflow, fast": OdometryConfig.preset("fast").two_view,
}


@dataclass
class Record:
    """What one method has done on all scenes."""

    rotation: list[float] = field(default_factory=list)
    direction: list[float] = field(default_factory=list)
    precision: list[float] = field(default_factory=list)
    recall: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    failed: int = 0


def solvers(threshold: float) -> dict[str, Solver]:
    """Name to solver; ours with its own configurations, PoseLib where it is installed."""
    opencv = partial(solve_two_view_opencv, threshold=threshold)
    methods: dict[str, Solver] = {
        **{name: partial(solve_two_view, config=config) for name, config in CONFIGS.items()},
        "OpenCV MAGSAC E": opencv,
        "OpenCV MAGSAC F": partial(opencv, model="fundamental"),
    }
    if importlib.util.find_spec("poselib"):
        methods["PoseLib"] = partial(solve_two_view_poselib, threshold=threshold)
    return methods


def measure(solver: Solver, scene: MatchScene, record: Record) -> None:
    """Solve one scene and add time and errors to the record."""
    p_a, p_b = (torch.from_numpy(p)[None] for p in (scene.p_a, scene.p_b))
    start = time.perf_counter()
    view = solver(p_a, p_b, scene.camera.K())
    record.ms.append((time.perf_counter() - start) * 1e3)
    if view.status[0] not in (TwoViewStatus.OK, TwoViewStatus.PLANAR):
        record.failed += 1
        record.rotation.append(180.0)
        record.direction.append(180.0)
        record.precision.append(0.0)
        record.recall.append(0.0)
        return
    T_ba, inlier = view.T_ba[0].numpy(), view.inlier[0].numpy()
    # By the chord: the arc cosine loses half of the digits near zero.
    chord = np.linalg.norm(T_ba[:3, :3] - scene.T_ba[:3, :3]) / np.sqrt(8)
    record.rotation.append(float(np.degrees(2 * np.arcsin(min(chord, 1.0)))))
    t, truth = T_ba[:3, 3], scene.T_ba[:3, 3]
    record.direction.append(float(np.degrees(np.arctan2(np.linalg.norm(np.cross(t, truth)), t @ truth))))
    hits = (inlier & scene.inlier).sum()
    record.precision.append(float(hits / max(inlier.sum(), 1)))
    record.recall.append(float(hits / max(scene.inlier.sum(), 1)))


def processor() -> str:
    """The processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def table(records: dict[str, Record]) -> str:
    """The records side by side."""
    head = f"{'':<16} {'rotation, deg':>17} {'direction, deg':>17} {'inliers':>17} {'time, ms':>17}"
    head += f"\n{'':<16} " + 2 * f"{'median':>8} {'max':>8} " + f"{'prec.':>8} {'recall':>8} "
    head += f"{'median':>8} {'max':>8} {'failed':>6}"
    lines = [head]
    for name, r in records.items():
        rotation, direction = (f"{np.median(x):8.4f} {max(x):8.4f}" for x in (r.rotation, r.direction))
        inliers = f"{np.median(r.precision):8.3f} {np.median(r.recall):8.3f}"
        ms = f"{np.median(r.ms):8.1f} {max(r.ms):8.1f}"
        lines.append(f"{name:<16} {rotation} {direction} {inliers} {ms} {r.failed:6d}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--matches", type=int, default=8000)
    parser.add_argument("--outliers", type=float, default=0.3, help="share of the matches, 0 to 1")
    parser.add_argument("--noise", type=float, default=0.5, help="on every coordinate, pixels")
    parser.add_argument(
        "--threshold", type=float, default=1.0, help="of OpenCV and PoseLib, pixels; ours has its own"
    )
    parser.add_argument("--repeat", type=int, default=3, help="timed runs of every scene")
    args = parser.parse_args()

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    methods = solvers(args.threshold)
    packages = ["torch", "numpy", "opencv-python-headless", *(["poselib"] if "PoseLib" in methods else [])]
    print(f"{processor()}, one thread; " + ", ".join(f"{name} {version(name)}" for name in packages))
    ours = " and ".join(f"{config.threshold:g}" for config in CONFIGS.values())
    print(
        f"{args.scenes} scenes of {args.matches} matches, {args.outliers:.0%} outliers, noise {args.noise:g} "
        f"px, {args.repeat} runs; inlier threshold {args.threshold:g} px (trianflow: {ours})\n"
    )
    seeds = range(args.scenes)
    scenes = [random_match_scene(seed, args.matches, args.outliers, args.noise) for seed in seeds]
    for solver in methods.values():
        measure(solver, scenes[0], Record())
    records = {name: Record() for name in methods}
    for _ in range(args.repeat):
        for scene in scenes:
            for name, solver in methods.items():
                measure(solver, scene, records[name])
    print(table(records))


if __name__ == "__main__":
    main()
