"""Do all losses of a stage go down when eight real pairs are learned by heart? All three stages on KITTI 07.

    python tools/prove_overfit.py            # about ten minutes on two cores

Needs the data folder (TRIANFLOW_DATA, or ../shared/data beside the checkout), which is licensed non-commercially.
Prints each term at the beginning and at the end of its stage, both means over a tenth of it, and exits with 1 where the
weighted sum has not fallen; leaves the run, with its pictures for TensorBoard, in `--out` (default out/prove_overfit).
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from pathlib import Path
from statistics import fmean

from trianflow.config import load_settings
from trianflow.training.config import TrainConfig
from trianflow.training.log import METRICS
from trianflow.training.loop import Trainer

ROOT = Path(__file__).parent.parent
SETTINGS = [
    "data.size=[256, 96]",
    "data.val=[]",
    "data.cache=null",
    "val_every=100",
    "save_every=50",
    "log_every=1",
    "stages.flow.steps=400",
    "stages.depth.steps=200",
    "stages.depth.lr=3e-4",
    "stages.joint.steps=100",
]


def table(path: Path) -> bool:
    """Print the terms by stage; whether every stage's total fell."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    fell = True
    for stage in ("flow", "depth", "joint"):
        steps = [row for row in rows if row["stage"] == stage]
        tenth = max(1, len(steps) // 10)
        print(f"{stage}, {len(steps)} steps")
        for term in ("total", "pixel", "ssim", "flow_smooth", "epipolar", "triangulation", "depth_consistency",
                     "rigid_flow", "depth_smooth"):  # fmt: skip
            values = [float(row[term]) for row in steps if row[term]]
            if values:
                begin, end = fmean(values[:tenth]), fmean(values[-tenth:])
                print(f"  {term:18} {begin:9.4f} -> {end:9.4f}")
                fell &= term != "total" or end < begin
    return fell


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/prove_overfit"))
    args = parser.parse_args()
    data = Path(os.environ.get("TRIANFLOW_DATA", ROOT.parent / "shared" / "data")) / "kitti_odom_07_000-159"
    if not data.is_dir():
        sys.exit(f"{data}: not found; set TRIANFLOW_DATA to the folder that has the sequences")
    source = f"data.train=[{{path: {data}, start: 60, end: 100, poses: {data / 'poses.txt'}}}]"
    config = load_settings(TrainConfig(), ROOT / "configs" / "prove.yaml", [*SETTINGS, source])
    if not Trainer(config, args.out, overfit=8).run().finished:
        print("stopped; the same command goes on")
        return 3
    return 0 if table(args.out / METRICS) else 1


if __name__ == "__main__":
    sys.exit(main())
