"""The odometry's figures: real sequences and synthetic drives, the front end alone and with what is built on it.

    python tools/bench_odometry.py                     # the real sequences, every variant
    python tools/bench_odometry.py 07 --seeds 5        # one of them, median and range of five seeds
    python tools/bench_odometry.py open loop           # synthetic drives of 2,000 frames: drift of scale, loops

The real sequences need the data folder (TRIANFLOW_DATA, or ../shared/data beside the checkout), which is licensed
non-commercially. Variants: `front` each pair by itself with a carried structure; `window` key frames adjusted
together, the default; `height` the same in metres by the camera's height over the road, no scale aligned; `depth`
measured depth.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

import trianflow
from trianflow.config import OdometryConfig, load_settings
from trianflow.data.calibration import read_depth_scale
from trianflow.data.frames import Frame
from trianflow.data.synthetic import SyntheticSequence
from trianflow.evaluation.alignment import fit_similarity
from trianflow.evaluation.odometry import evaluate_odometry
from trianflow.odometry.run import set_threads
from trianflow.trajectory import Trajectory

ALIGNMENT = {"front": "sim3", "window": "sim3", "height": "se3", "depth": "se3"}
DRIVE = trianflow.Camera(256.0, 256.0, 255.5, 127.5, 512, 256)


@dataclass(frozen=True)
class Sequence:
    """A real sequence: folder, stride, lengths of the KITTI segments in metres, and the variants that make sense."""

    folder: str
    stride: int = 1
    lengths: tuple[int, ...] = ()
    variants: tuple[str, ...] = ("front", "window")


CAR = ("front", "window", "height")
SEQUENCES = {
    "07": Sequence("kitti_odom_07_000-159", 1, (20, 40, 60, 80), CAR),
    **{f"06/{n}": Sequence("kitti_odom_06_000-050", n, (20, 40), CAR) for n in (1, 2, 3)},
    **{f"01/{n}": Sequence("kitti_odom_01_000-050", n, (20, 40), CAR) for n in (1, 2, 3)},
    "7scenes": Sequence("sevenscenes_400-599", variants=("front", "window", "depth")),
    "tum": Sequence("tum_fr1_rpy_200-239", variants=("front", "window", "depth")),
    "euroc": Sequence("euroc_v101_static_12"),
}


@dataclass
class Figures:
    """The figures of several seeds, by name."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, **values: float | None) -> None:
        for name, value in values.items():
            self.values.setdefault(name, []).append(np.nan if value is None else float(value))

    def text(self, name: str, digits: int) -> str:
        values = np.array(self.values.get(name, [np.nan]))
        if np.isnan(values).all():
            return "-"
        spread = f" ±{np.ptp(values) / 2:.{digits}f}" if len(values) > 1 else ""
        return f"{np.median(values):.{digits}f}{spread}"


COLUMNS = [("t_err %", 2), ("r_err", 2), ("ATE m", 3), ("rot °", 4), ("dir °", 3), ("ms", 0), ("radial", 4)]


def configuration(preset: str, variant: str, seed: int) -> OdometryConfig:
    """What a variant means."""
    words = {"front": ["window.frames=0"], "height": ["camera_height=1.65"]}.get(variant, [])
    return load_settings(OdometryConfig.preset(preset), None, [*words, f"seed={seed}"])


def run_real(sequence: Sequence, preset: str, variant: str, seed: int, data: Path, figures: Figures) -> None:
    """One run of one variant on one sequence."""
    root = data / sequence.folder
    with_depth = variant == "depth"
    source = trianflow.open_frames(
        root / "images",
        stride=sequence.stride,
        depth=root / "depth" if with_depth else None,
        depth_scale=read_depth_scale(root / "calib.yaml") if with_depth else None,
    )
    camera = trianflow.Camera.from_file(root / "calib.yaml")
    odometry = trianflow.VisualOdometry(camera, configuration(preset, variant, seed))
    milliseconds = [step.milliseconds for step in odometry.stream(source)]
    estimate = odometry.trajectory
    figures.add(ms=np.median(milliseconds), radial=odometry.radial, path=estimate.path_length)
    if (root / "poses.txt").exists():
        truth = Trajectory.load(root / "poses.txt")
        truth = Trajectory(truth.times[:: sequence.stride], truth.T_wc[:: sequence.stride])
        estimate = Trajectory(truth.times, estimate.T_wc)
    elif (root / "groundtruth.txt").exists():
        truth = Trajectory.load(root / "groundtruth.txt")
    else:
        return
    m = evaluate_odometry(truth, estimate, ALIGNMENT[variant], lengths=sequence.lengths or (1,), step=10)
    figures.add(**{"ATE m": m.ate.rmse if m.ate else None, "rot °": m.pair_rotation_median})
    figures.add(**{"dir °": m.pair_direction_median})
    if sequence.lengths:
        figures.add(**{"t_err %": m.t_err, "r_err": m.r_err})


def run_drive(kind: str, seed: int, frames: int, preset: str, variant: str) -> str:
    """A synthetic drive: how the scale drifts, and what closing loops makes of its end."""
    drive = SyntheticSequence.drive(kind, DRIVE, seed=seed, frames=frames)  # type: ignore[arg-type]
    config = configuration(preset, variant, 0).model_copy(update={"loops": True})
    odometry = trianflow.VisualOdometry(DRIVE, config)
    begin = time.perf_counter()
    rendering = [0.0]

    def filmed() -> Iterator[Frame]:
        frames = iter(drive.stream())
        while True:
            start = time.perf_counter()
            frame = next(frames, None)
            rendering[0] += time.perf_counter() - start
            if frame is None:
                return
            yield frame

    milliseconds = np.array([step.milliseconds for step in odometry.stream(filmed())])
    seconds = time.perf_counter() - begin - rendering[0]
    truth = drive.T_0c.numpy()
    estimate = odometry.trajectory.T_wc
    way = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=1))])
    ours = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(estimate[:, :3, 3], axis=0), axis=1))])
    first, last = int(np.searchsorted(way, 100)), int(np.searchsorted(way, way[-1] - 100))
    ratio = (ours[-1] - ours[last]) / (way[-1] - way[last]) / (ours[first] / way[first])
    fifths = [np.median(part) for part in np.array_split(milliseconds, 5)]
    closed = odometry.closed()
    ends = [end_error(truth, estimate, first)]
    if closed is not None:
        ends.append(end_error(truth, closed.T_wc, first))
    return (
        f"{kind:5} seed {seed} {variant:7} {frames} frames, {way[-1]:.0f} m: scale of the last to the first 100 m"
        f" {ratio:.4f}; end error {' -> '.join(f'{e:.2f} m' for e in ends)}, {odometry.loops} loops;"
        f" {1e3 * seconds / frames:.0f} ms a frame, by fifths of the drive {' '.join(f'{x:.0f}' for x in fifths)}"
    )


def end_error(truth: np.ndarray, estimate: np.ndarray, first: int) -> float:
    """Distance of the last pose from the truth, the first 100 m being aligned by 7-DoF."""
    s = fit_similarity(estimate[:first, :3, 3], truth[:first, :3, 3], "sim3")
    return float(np.linalg.norm(s.scale * s.R @ estimate[-1, :3, 3] + s.t - truth[-1, :3, 3]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*SEQUENCES, "open", "loop"]
    parser.add_argument("sequence", nargs="*", default=list(SEQUENCES), help=f"of {', '.join(names)}")
    parser.add_argument("--preset", default="accurate", choices=["accurate", "fast"])
    parser.add_argument("--seeds", type=int, default=1, help="runs of each: the median, and ± half their range")
    parser.add_argument("--frames", type=int, default=2000, help="of a synthetic drive")
    parser.add_argument("--variant", nargs="+", choices=list(ALIGNMENT), help="of those that make sense")
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TRIANFLOW_DATA", default)))
    args = parser.parse_args()
    if unknown := set(args.sequence) - set(names):
        parser.error(f"no sequence {', '.join(sorted(unknown))}: take of {', '.join(names)}")
    real = [name for name in args.sequence if name in SEQUENCES]
    if real and not args.data.is_dir():
        parser.error(f"no data at {args.data}; set TRIANFLOW_DATA")
    set_threads()
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}, torch"
        f" {torch.__version__} ({torch.get_num_threads()} threads), OpenCV {cv2.__version__} ({cv2.getNumThreads()})"
    )
    if real:
        print(
            f"preset {args.preset}, {args.seeds} seeds. t_err and r_err (deg/100 m) over 20, 40 (60, 80) m, a segment"
            "\nstarted every 10th frame; rot, dir: medians per pair; front and window by 7-DoF, the others by 6-DoF"
            "\nms: median of a step, the flow being computed beside it; radial: what the calibration left\n"
        )
        print(f"{'':9}{'':8}" + "".join(f"{name:>15}" for name, _ in COLUMNS) + f"{'path':>9}", flush=True)
    for name in real:
        for variant in args.variant or SEQUENCES[name].variants:
            if variant not in SEQUENCES[name].variants:
                continue
            figures = Figures()
            for seed in range(args.seeds):
                run_real(SEQUENCES[name], args.preset, variant, seed, args.data, figures)
            row = "".join(f"{figures.text(column, digits):>15}" for column, digits in COLUMNS)
            print(f"{name:9}{variant:8}{row}{figures.text('path', 2):>9}", flush=True)
    for name in args.sequence:
        if name in SEQUENCES:
            continue
        for seed in range(args.seeds):
            for variant in args.variant or ("front", "window"):
                print(run_drive(name, seed, args.frames, args.preset, variant), flush=True)


if __name__ == "__main__":
    main()
