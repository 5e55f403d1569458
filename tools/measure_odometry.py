"""The odometry's figures on real sequences, in one table: accuracy, status counts and frames a second.

Needs the data folder (TRIANFLOW_DATA, or ../shared/data beside the checkout), which is licensed non-commercially.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import torch

import trianflow
from trianflow.config import OdometryConfig
from trianflow.data.calibration import read_depth_scale
from trianflow.evaluation.odometry import evaluate_odometry
from trianflow.odometry.run import set_threads
from trianflow.trajectory import Trajectory

# name: folder, stride, depth, lengths of the KITTI segments in metres
SEQUENCES = {
    "07": ("kitti_odom_07_000-159", 1, False, (20, 40, 60, 80)),
    "06": ("kitti_odom_06_000-050", 1, False, (20, 40)),
    "06/3": ("kitti_odom_06_000-050", 3, False, (20, 40)),
    "01": ("kitti_odom_01_000-050", 1, False, (20, 40)),
    "euroc": ("euroc_v101_static_12", 1, False, ()),
    "tum": ("tum_fr1_rpy_200-239", 1, False, ()),
    "tum+d": ("tum_fr1_rpy_200-239", 1, True, ()),
    "7s+d": ("sevenscenes_400-599", 1, True, ()),
}


def measure(name: str, preset: str, data: Path) -> str:
    """One row of the table."""
    folder, stride, with_depth, lengths = SEQUENCES[name]
    root = data / folder
    source = trianflow.open_frames(
        root / "images",
        stride=stride,
        depth=root / "depth" if with_depth else None,
        depth_scale=read_depth_scale(root / "calib.yaml") if with_depth else None,
    )
    odometry = trianflow.VisualOdometry(trianflow.Camera.from_file(root / "calib.yaml"), OdometryConfig.preset(preset))
    begin = time.perf_counter()
    steps = list(odometry.stream(source))
    rate = len(steps) / (time.perf_counter() - begin)
    counts = " ".join(f"{k}:{v}" for k, v in Counter(str(s.status) for s in steps).items())
    row = f"{name:6} {preset:9} {rate:5.1f}  "
    estimate = odometry.trajectory
    if (root / "poses.txt").exists():
        truth = Trajectory.load(root / "poses.txt")
        truth = Trajectory(truth.times[::stride], truth.T_wc[::stride])
        estimate = Trajectory(truth.times, estimate.T_wc)
    elif name == "euroc":
        return row + f"path length {estimate.path_length:.4f}; {counts}"
    else:
        truth = Trajectory.load(root / "groundtruth.txt")
    alignment = "se3" if with_depth else "sim3"
    m = evaluate_odometry(truth, estimate, alignment, lengths=lengths or (1,), step=10)
    dense = evaluate_odometry(truth, estimate, alignment, lengths=lengths or (1,), step=1, with_evo=False)
    ate = f"ATE {100 * m.ate.rmse:6.2f} cm ({alignment})" if m.ate else "ATE -"
    drift = ""
    if lengths:
        drift = f"t_err {m.t_err:.2f} % (every frame {dense.t_err:.2f} %) r_err {m.r_err:.2f} deg/100 m  "
    direction = "-" if m.pair_direction_median is None else f"{m.pair_direction_median:.3f}"
    travelled = f"path {estimate.path_length:.3g} (truth {truth.path_length:.3g})"
    return row + f"rot {m.pair_rotation_median:.4f} dir {direction}  {drift}{ate}  {travelled}; {counts}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sequence", nargs="*", default=list(SEQUENCES), help=f"of {', '.join(SEQUENCES)}")
    parser.add_argument("--preset", nargs="+", default=["accurate", "fast"], choices=["accurate", "fast"])
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TRIANFLOW_DATA", default)))
    args = parser.parse_args()
    if not args.data.is_dir():
        parser.error(f"no data at {args.data}; set TRIANFLOW_DATA")
    set_threads()
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}, torch"
        f" {torch.__version__} ({torch.get_num_threads()} threads), OpenCV {cv2.__version__} ({cv2.getNumThreads()})"
    )
    print(
        "median errors per frame pair in degrees; t_err over the segment lengths of SEQUENCES; frames/s with decoding"
    )
    for name in args.sequence:
        for preset in args.preset:
            print(measure(name, preset, args.data), flush=True)


if __name__ == "__main__":
    main()
