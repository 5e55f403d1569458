"""`trianflow train`: train the networks as a YAML file describes."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path

from trianflow.errors import TrianflowError, UsageError

_DESCRIPTION = """\
Train flow and depth without labels, in the stages that the configuration lists. Writes into the output folder:
  config.yaml         what was asked for, complete
  metrics.csv         losses by step, with the seconds so far and the share of pairs that gave a geometry
  validation.csv      errors by step
  tensorboard/        both, and pictures of two pairs: the images, flow, what is visible in both; from the stage
                      depth on inliers, disparity and triangulated points, near ones warm
  last.ckpt           from which the same command goes on, exactly as if it had never stopped
  STAGE.safetensors   weights after each stage, or where it was stopped; STAGE_best.safetensors: the best of validation
Ctrl-C or SIGTERM saves and stops; exit code 3 then says that there is more to do."""
_EPILOG = """\
examples:
  trianflow train configs/smoke.yaml
  trianflow train configs/video.yaml 'data.train=[{path: drive.mp4, calib: calib.yaml}]' data.size='[640,384]'
  trianflow train configs/kitti_odometry.yaml --overfit 8 stages.flow.steps=500
  torchrun --nproc-per-node 4 -m trianflow train configs/kitti_odometry.yaml"""
UNFINISHED = 3


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `train` to the sub-commands."""
    parser = subparsers.add_parser(
        "train",
        help="train the networks as a YAML file describes",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", metavar="CONFIG", help="YAML file; those in configs/ are to begin with")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="single settings, as in the file")
    parser.add_argument(
        "--out", default=None, metavar="DIR", help="folder of the run (default: runs/ and the config's name)"
    )
    parser.add_argument(
        "--overfit", type=int, default=None, metavar="N", help="learn the first N pairs by heart, as a check"
    )
    parser.add_argument("--minutes", type=float, default=None, metavar="M", help="save and stop after M minutes")
    parser.add_argument("--restart", action="store_true", help="remove the run that the folder holds, and begin anew")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train."""
    if args.overfit is not None and args.overfit < 1:
        raise UsageError(f"--overfit needs at least one pair, not {args.overfit}")
    if args.minutes is not None and args.minutes <= 0:
        raise UsageError(f"--minutes must be positive, not {args.minutes:g}")
    if importlib.util.find_spec("lightning") is None:
        raise TrianflowError("training needs Lightning: pip install 'trianflow[train]'")
    from trianflow.config import load_settings
    from trianflow.training.config import TrainConfig

    config = load_settings(TrainConfig(), args.config, args.overrides)  # before torch: what is wrong is told at once
    from trianflow.training.loop import Trainer
    from trianflow.training.processes import leave
    from trianflow.training.run_folder import RunFolder

    out = Path(args.out if args.out is not None else Path("runs") / Path(args.config).stem).expanduser()
    if args.restart and int(os.environ.get("RANK", 0)) == 0:
        RunFolder(out).forget()
    quiet = getattr(args, "quiet", False)
    trainer = Trainer(config, out, args.overfit, args.minutes, quiet)
    outcome = trainer.run()
    if not quiet and trainer.fabric.is_global_zero:
        state = "done" if outcome.finished else "stopped, the same command goes on"
        skipped = f", {outcome.skipped} skipped" if outcome.skipped else ""
        print(f"{state}: {outcome.steps} steps{skipped}, results in {out}", file=sys.stderr)
    leave()
    return 0 if outcome.finished else UNFINISHED
