"""Does every loss of a stage go down when eight real pairs are learned by heart? All three stages on KITTI 07.

    python tools/prove_overfit.py            # about ten minutes on two cores; goes on where it was stopped

Smoothness is zero for a flat prediction, and a stage that goes on from the one before begins near the best of its
terms: those could only rise. So each stage begins rough. The layers that read out the networks that it teaches get
noise, and the joint stage begins with the flow of the first and with a depth network that has learned nothing: every
term begins with something to lose.

Needs the data folder (TRIANFLOW_DATA, or ../shared/data beside the checkout), which is licensed non-commercially.
Prints each term in the first pass over the pairs and in the last ten, and exits with 1 where one has not fallen by a
tenth; leaves the runs, with their pictures for TensorBoard, in `--out` (default out/prove_overfit).
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import torch
from torch import nn

from trianflow.config import load_settings
from trianflow.systems.config import LossWeights
from trianflow.systems.trianflow import TrianFlow
from trianflow.training.config import Stages, TrainConfig
from trianflow.training.log import METRICS
from trianflow.training.loop import Trainer
from trianflow.training.run_folder import LAST

ROOT = Path(__file__).parent.parent
PAIRS = 8
_CLEARLY = 0.1  # by which share a term falls at least
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
    "stages.joint.steps=200",
    "stages.joint.lr=3e-4",
]
# Noise in units of the weights' own spread, by stage and network.
ROUGHNESS = {"flow": {"flow": 3.0}, "depth": {"depth": 10.0}, "joint": {"flow": 0.5, "depth": 10.0}}


def roughen(system: TrianFlow, shares: Mapping[str, float]) -> None:
    """Add noise to the layers from which flow and disparity are read."""
    generator = torch.Generator().manual_seed(0)
    for name, layer in system.named_modules():
        network = name.partition(".")[0]
        if network in shares and isinstance(layer, nn.Conv2d) and layer.out_channels <= 2:
            noise = torch.randn(layer.weight.shape, generator=generator)
            with torch.no_grad():
                layer.weight += shares[network] * layer.weight.std() * noise


def judge(path: Path, stage: str, weights: LossWeights, one_pass: int) -> bool:
    """Print the terms of a stage, of which so many steps see all pairs; whether all of them fell."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    print(f"{stage}, {len(rows)} steps")
    falls = True
    for term in ("total", *(name for name in LossWeights.model_fields if getattr(weights, name) > 0)):
        values = [float(row[term]) for row in rows]
        begin, end = fmean(values[:one_pass]), fmean(values[-10 * one_pass :])
        fell = end < (1 - _CLEARLY) * begin
        falls &= fell
        print(f"  {term:18} {begin:9.4f} -> {end:9.4f}{'' if fell else '  has not fallen'}")
    return falls


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/prove_overfit"))
    args = parser.parse_args()
    data = Path(os.environ.get("TRIANFLOW_DATA", ROOT.parent / "shared" / "data")) / "kitti_odom_07_000-159"
    if not data.is_dir():
        sys.exit(f"{data}: not found; set TRIANFLOW_DATA to the folder that has the sequences")
    source = f"data.train=[{{path: {data}, start: 60, end: 100, poses: {data / 'poses.txt'}}}]"
    config = load_settings(TrainConfig(), ROOT / "configs" / "prove.yaml", [*SETTINGS, source])
    init, falls = None, True
    for name, stage in config.stages.listed():
        alone = Stages(**{other: stage if other == name else None for other in Stages.model_fields})
        folder = args.out / name
        fresh = not (folder / LAST).is_file()
        trainer = Trainer(config.model_copy(update={"stages": alone, "init": init}), folder, overfit=PAIRS)
        assert isinstance(trainer.system, TrianFlow)
        if fresh:
            roughen(trainer.system, ROUGHNESS[name])
        if not trainer.run().finished:
            print("stopped; the same command goes on")
            return 3
        init = str(args.out / "flow" / "flow.safetensors")
        falls &= judge(folder / METRICS, name, stage.losses, PAIRS // config.batch_size)
    return 0 if falls else 1


if __name__ == "__main__":
    sys.exit(main())
