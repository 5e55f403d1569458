"""The odometry's figures: real sequences and synthetic drives, the front end alone and with what is built on it.

    python tools/bench_odometry.py                     # the real sequences, every variant, and published systems
    python tools/bench_odometry.py 07 --seeds 5        # one of them, median and half the range of five seeds
    python tools/bench_odometry.py open loop           # synthetic drives of 2,000 frames: drift of scale, loops
    python tools/bench_odometry.py metrics             # how long `trianflow eval odometry` takes for its figures

The real sequences need the data folder (TRIANFLOW_DATA, or ../shared/data beside the checkout), which is licensed
non-commercially. Variants: `front` each pair by itself with a carried structure; `window` key frames adjusted
together, the default; `height` the same in metres by the camera's height over the road, no scale aligned; `speed` in
metres by the car's speed, which is that of the true poses; `depth` measured depth. Published systems (`published`):
their trajectories of whole KITTI sequences, cut into pieces as long as our longest sequence, each by our metrics.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence as Items
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

import trianflow
from trianflow.config import OdometryConfig, load_settings
from trianflow.data.calibration import read_depth_scale
from trianflow.data.synthetic import SyntheticSequence
from trianflow.evaluation.odometry import evaluate_odometry
from trianflow.evaluation.table import Column, Row, Table, median_row
from trianflow.odometry.run import set_threads
from trianflow.trajectory import Trajectory

ALIGNMENT = {"front": "sim3", "window": "sim3", "height": "se3", "speed": "se3", "depth": "se3"}
DRIVE = trianflow.Camera(256.0, 256.0, 255.5, 127.5, 512, 256)


@dataclass(frozen=True)
class Sequence:
    """A real sequence: folder, stride, lengths of the KITTI segments in metres, and the variants that make sense."""

    folder: str
    stride: int = 1
    lengths: tuple[int, ...] = ()
    variants: tuple[str, ...] = ("front", "window")


CAR = ("front", "window", "height", "speed")
SEQUENCES = {
    "07": Sequence("kitti_odom_07_000-159", 1, (20, 40, 60, 80), CAR),
    **{f"06/{n}": Sequence("kitti_odom_06_000-050", n, (20, 40), CAR) for n in (1, 2, 3)},
    **{f"01/{n}": Sequence("kitti_odom_01_000-050", n, (20, 40), CAR) for n in (1, 2, 3)},
    "7scenes": Sequence("sevenscenes_400-599", variants=("front", "window", "depth")),
    "tum": Sequence("tum_fr1_rpy_200-239", variants=("front", "window", "depth")),
    "euroc": Sequence("euroc_v101_static_12"),
}
# Estimates of whole KITTI sequences: file, number of the sequence. S-PTAM and this ORB-SLAM used two cameras.
PUBLISHED = {
    "ORB-SLAM stereo, 00": ("evo_kitti00/KITTI_00_ORB.txt", "00"),
    "S-PTAM stereo, 00": ("evo_kitti00/KITTI_00_SPTAM.txt", "00"),
    **{
        f"kitti-odom-eval example {n}, {k}": (f"kitti_odom_eval_example_{n}/{k}.txt", k)
        for n in (0, 1)
        for k in ("09", "10")
    },
}
PIECE = 160  # frames, as 07 has
COLUMNS = [
    Column("t_err", "t_err %", 2),
    Column("r_err", "r_err °/100 m", 2),
    Column("ate", "ATE m", 3),
    Column("rot", "rot °", 4),
    Column("dir", "dir °", 3),
    Column("path", "path", 2),
    Column("radial", "radial", 4),
    Column("ms", "ms", 0),
]
DRIVE_COLUMNS = [
    Column("ratio", "last/first 100 m", 4),
    Column("end", "end error m", 2),
    Column("closed_ratio", "closed: last/first", 4),
    Column("closed_end", "end error m", 2),
    Column("loops", "loops", 0),
    Column("kept", "kept", 0),
    Column("false", "false", 0),
    Column("ms", "ms", 0),
    Column("ms_first", "first fifth", 0),
    Column("ms_last", "last fifth", 0),
]

Figures = dict[str, float | None]


def configuration(preset: str, variant: str, seed: int, speed: Path | None = None) -> OdometryConfig:
    """What a variant means."""
    words = {"front": ["window.frames=0"], "height": ["camera_height=1.65"], "speed": [f"speed={speed}"]}
    return load_settings(OdometryConfig.preset(preset), None, [*words.get(variant, []), f"seed={seed}"])


def true_trajectory(root: Path) -> Trajectory | None:
    """The truth of a sequence, where it has one."""
    for name in ("poses.txt", "groundtruth.txt"):
        if (root / name).exists():
            return Trajectory.load(root / name)
    return None


def write_speeds(root: Path, path: Path) -> None:
    """A car's speeds by the true poses of its sequence: they stand in for its own sensors."""
    truth = Trajectory.load(root / "poses.txt")
    times = np.arange(len(truth)) / 10
    if (root / "times.txt").exists():
        times = np.loadtxt(root / "times.txt")[: len(truth)]
    np.savetxt(path, np.stack([times, np.gradient(truth.distances, times)], 1))


def run_real(sequence: Sequence, preset: str, variant: str, seed: int, root: Path, speed: Path) -> Figures:
    """One run of one variant on one sequence."""
    with_depth = variant == "depth"
    source = trianflow.open_frames(
        root / "images",
        stride=sequence.stride,
        depth=root / "depth" if with_depth else None,
        depth_scale=read_depth_scale(root / "calib.yaml") if with_depth else None,
    )
    camera = trianflow.Camera.from_file(root / "calib.yaml")
    odometry = trianflow.VisualOdometry(camera, configuration(preset, variant, seed, speed))
    milliseconds = [step.milliseconds for step in odometry.stream(source)]
    estimate, truth = odometry.trajectory, true_trajectory(root)
    figures: Figures = {
        "ms": float(np.median(milliseconds)),
        "radial": odometry.radial,
        "path": estimate.path_length,
    }
    if truth is None:
        return figures
    if truth.times_are_indices:
        truth = Trajectory(truth.times[:: sequence.stride], truth.T_wc[:: sequence.stride])
        estimate = Trajectory(truth.times, estimate.T_wc)
    return figures | errors(truth, estimate, ALIGNMENT[variant], sequence.lengths)


def errors(truth: Trajectory, estimate: Trajectory, alignment: str, lengths: Items[int]) -> Figures:
    """The figures of an estimate; t_err and r_err over `lengths`, where there are some."""
    m = evaluate_odometry(truth, estimate, alignment, lengths=lengths or (1,), step=10)
    found: Figures = {"ate": m.ate.rmse if m.ate else None, "rot": m.pair_rotation_median}
    found["dir"] = m.pair_direction_median
    return found | ({"t_err": m.t_err, "r_err": m.r_err} if lengths else {})


def published_row(name: str, folder: Path) -> Row:
    """A published trajectory, piece by piece."""
    file, number = PUBLISHED[name]
    truth, estimate = Trajectory.load(folder / "gt" / f"{number}.txt"), Trajectory.load(folder / file)
    found = []
    for start in range(0, len(truth) - PIECE + 1, PIECE):
        parts = []
        for whole in (truth, estimate):
            here = (whole.times >= start) & (whole.times < start + PIECE)
            parts.append(Trajectory(whole.times[here], whole.T_wc[here], times_are_indices=True))
        found.append(errors(parts[0], parts[1], "sim3", SEQUENCES["07"].lengths))
    return median_row(f"{name}, {len(found)} pieces", found)


def run_drive(kind: str, seed: int, frames: int, preset: str, variants: Items[str]) -> list[Row]:
    """A synthetic drive, every frame of which all variants are given: how the scale drifts, what loops make of it."""
    drive = SyntheticSequence.drive(kind, DRIVE, seed=seed, frames=frames)  # type: ignore[arg-type]
    odometries: list[trianflow.VisualOdometry] = []
    milliseconds = np.zeros((len(variants), frames))
    for variant in variants:
        config = configuration(preset, variant, 0).model_copy(update={"loops": variant != "front"})
        odometries.append(trianflow.VisualOdometry(DRIVE, config))
    begin = time.perf_counter()
    for frame in drive.stream():
        for i, odometry in enumerate(odometries):
            milliseconds[i, frame.index] = odometry.track(frame).milliseconds
        if (frame.index + 1) % 100 == 0:
            tell(f"{kind} {seed}: {frame.index + 1} of {frames} frames, {time.perf_counter() - begin:.0f} s")
    truth = Trajectory(np.arange(frames), drive.T_0c.numpy())
    rows = []
    for variant, odometry, ms in zip(variants, odometries, milliseconds):
        fifths = [float(np.median(part)) for part in np.array_split(ms, 5)]
        values: Figures = {"ms": float(np.median(ms)), "ms_first": fifths[0], "ms_last": fifths[-1]}
        values["ratio"], values["end"] = drift(truth, odometry.trajectory)
        if odometry.config.loops:
            closed = odometry.closed()
            values |= {"loops": 0, "kept": 0, "false": 0}
            if closed is not None:
                values["closed_ratio"], values["closed_end"] = drift(truth, closed.trajectory)
                wrong = [far_apart(truth.T_wc[a], truth.T_wc[b]) for a, b in closed.rows]
                values |= {"loops": len(wrong), "kept": int(closed.kept.sum()), "false": sum(wrong)}
        rows.append(Row(variant, values))
    return rows


def drift(truth: Trajectory, estimate: Trajectory) -> tuple[float, float]:
    """Scale of the last 100 m by that of the first 100 m, and metres that the last pose is off.

    Both begin with the same pose; the first 100 m give the estimate its metres. NaN for less than 200 m.
    """
    way, ours = truth.distances, estimate.distances
    if way[-1] < 200:
        return float("nan"), float("nan")
    first, last = np.searchsorted(way, [100, way[-1] - 100])
    scale = way[first] / ours[first]
    ratio = scale * (ours[-1] - ours[last]) / (way[-1] - way[last])
    end = scale * estimate.relative_to_first().positions[-1] - truth.positions[-1]
    return float(ratio), float(np.linalg.norm(end))


def far_apart(T_wa: np.ndarray, T_wb: np.ndarray) -> bool:
    """Whether two poses, `(4, 4)` in metres, cannot be a loop: over 15 m or 20 degrees apart."""
    T_ba = np.linalg.inv(T_wb) @ T_wa
    cosine = (np.trace(T_ba[:3, :3]) - 1) / 2
    return bool(np.linalg.norm(T_ba[:3, 3]) > 15 or cosine < np.cos(np.radians(20)))


def run_metrics(poses: int = 4541, repeats: int = 7) -> str:
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


def tell(text: str) -> None:
    """Progress, beside the results."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*SEQUENCES, "published", "open", "loop", "metrics"]
    default = [*SEQUENCES, "published"]
    parser.add_argument("sequence", nargs="*", default=default, help=f"of {', '.join(names)}")
    parser.add_argument("--preset", default="accurate", choices=["accurate", "fast"])
    parser.add_argument("--seeds", type=int, default=1, help="runs of each: the median, ± half their range; or drives")
    parser.add_argument("--frames", type=int, default=2000, help="of a synthetic drive")
    parser.add_argument("--variant", nargs="+", choices=list(ALIGNMENT), help="of those that make sense")
    data = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TRIANFLOW_DATA", data)))
    args = parser.parse_args()
    if unknown := set(args.sequence) - set(names):
        parser.error(f"no sequence {', '.join(sorted(unknown))}: take of {', '.join(names)}")
    if set(args.sequence) & set(default) and not args.data.is_dir():
        parser.error(f"no data at {args.data}; set TRIANFLOW_DATA")
    set_threads()
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}, torch"
        f" {torch.__version__} ({torch.get_num_threads()} threads), OpenCV {cv2.__version__} ({cv2.getNumThreads()});"
        f" preset {args.preset}, {args.seeds} seeds"
        "\nt_err, r_err over 20, 40 (60, 80) m, a segment started every 10th frame; rot, dir: medians per pair; front,"
        "\nwindow and published systems by 7-DoF, the others by 6-DoF; path in units of the trajectory; radial: what"
        "\nthe calibration left; ms: median of a step, the flow computed beside it (in drives: within it)"
    )
    for name in args.sequence:
        if name == "metrics":
            print(run_metrics())
        elif name == "published":
            folder = args.data / "reference_trajectories"
            show(name, COLUMNS[:5], [published_row(system, folder) for system in PUBLISHED])
        elif name in SEQUENCES:
            show(name, COLUMNS, run_sequence(name, args))
        else:
            for seed in range(args.seeds):
                variants = [v for v in args.variant or ("front", "window") if v not in ("speed", "depth")]
                rows = run_drive(name, seed, args.frames, args.preset, variants)
                show(f"{name} {seed}, {args.frames} frames", DRIVE_COLUMNS, rows)


def run_sequence(name: str, args: argparse.Namespace) -> list[Row]:
    """The rows of a real sequence: its variants, each with all seeds."""
    sequence = SEQUENCES[name]
    rows: list[Row] = []
    root = args.data / sequence.folder
    with tempfile.TemporaryDirectory() as folder:
        speed = Path(folder) / "speed.txt"
        if "speed" in sequence.variants:
            write_speeds(root, speed)
        for variant in args.variant or sequence.variants:
            if variant not in sequence.variants:
                continue
            found = []
            for seed in range(args.seeds):
                found.append(run_real(sequence, args.preset, variant, seed, root, speed))
                tell(f"{name} {variant} seed {seed}: {found[-1].get('ms'):.0f} ms a step")
            rows.append(median_row(variant, found))
    return rows


def show(label: str, columns: list[Column], rows: list[Row]) -> None:
    """Print a table of those columns that hold something."""
    used = [column for column in columns if any(row.values.get(column.key) is not None for row in rows)]
    print("\n" + Table(label, used, rows).text(), flush=True)


if __name__ == "__main__":
    main()
