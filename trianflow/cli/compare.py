"""`trianflow compare`: train methods for the same budget on the same data, and score them alike."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from dataclasses import asdict
from pathlib import Path

from trianflow.errors import TrianflowError, UsageError

_DESCRIPTION = """\
Train each configuration for the same budget on the same data, score all of them on the pairs that were held out, and
write into the output folder:
  table.txt, table.csv  depth errors, also on objects with instance masks (and how far off the motion of their pixels
                        is), pose errors at the frame distance of training and three times that, and the steps and
                        minutes of training
  learning.png          error and scale of depth by the minutes of training
  poses.png             pose errors by the distance of the frames
  NAME/                 of each configuration, for each of its stages a run as `trianflow train` leaves it
The stages of a configuration share its budget as their lengths in the file are. The same command goes on where it was
stopped; a method that fails does not stop the others (exit code 1 then, 3 where there is more to do)."""
_EPILOG = """\
examples:
  trianflow compare configs/compare/*.yaml --minutes 15
  trianflow compare configs/compare/posenet.yaml configs/compare/trianflow.yaml --steps 2000 --out runs/poses
  trianflow compare configs/compare/*.yaml --minutes 15 'data.train=[{drives: 600}, {path: drive.mp4}]'"""
UNFINISHED = 3


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `compare` to the sub-commands."""
    parser = subparsers.add_parser(
        "compare",
        help="train methods for the same budget on the same data, and score them alike",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("configs", nargs="+", metavar="CONFIG", help="YAML files, and key=value for all of them")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=float, metavar="M", help="of training, for each method")
    budget.add_argument("--steps", type=int, metavar="N", help="of training, for each method")
    parser.add_argument("--out", default="runs/compare", metavar="DIR", help="output folder (default runs/compare)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(run=run, overrides=[])


def run(args: argparse.Namespace) -> int:
    """Compare.

    Returns:
        0 where all methods are trained and scored, 1 where one failed, 3 where it was stopped before.

    Raises:
        UsageError: a configuration or budget that cannot be right, data that differ, a folder of another comparison.
        TrianflowError: data that cannot be read, a folder that cannot be written.
    """
    files = [word for word in args.configs if "=" not in word or Path(word).is_file()]
    overrides = [word for word in args.configs if word not in files] + args.overrides
    if not files:
        raise UsageError("nothing to compare: give YAML files")
    if (args.minutes is not None and args.minutes <= 0) or (args.steps is not None and args.steps < 1):
        raise UsageError("the budget of a comparison is positive")
    if importlib.util.find_spec("lightning") is None:
        raise TrianflowError("training needs Lightning: pip install 'trianflow[train]'")
    from trianflow.training.methods import Budget, read_methods

    out, quiet = Path(args.out).expanduser(), getattr(args, "quiet", False)
    methods = read_methods(files, out, overrides)  # before torch: what is wrong is told at once
    from trianflow.training.compare import compare, comparison_table

    outcomes = compare(methods, Budget(args.minutes, args.steps), out, quiet)
    table = comparison_table(outcomes)
    failed = {o.method.name: o.problem for o in outcomes if o.problem}
    text = "\n".join([table.text(), *(f"{name} failed: {problem}" for name, problem in failed.items())])
    try:
        (out / "table.txt").write_text(text + "\n")
        (out / "table.csv").write_text(table.csv())
    except OSError as error:
        raise TrianflowError(f"cannot write into {out}: {error.strerror or error}") from error
    _plot(outcomes, out)
    if args.json:
        scored = {o.method.name: None if o.score is None else o.score.figures() for o in outcomes}
        training = {o.method.name: None if o.spent is None else asdict(o.spent) for o in outcomes}
        print(json.dumps({"methods": scored, "training": training, "failed": failed}, indent=2))
    else:
        print(text)
    finished = len(outcomes) == len(methods) and all(o.finished for o in outcomes)
    if not quiet:
        state = "results" if finished else "stopped, the same command goes on; what there is"
        print(f"{state} in {out}", file=sys.stderr)
    return UNFINISHED if not finished else 1 if failed else 0


def _plot(outcomes: list, out: Path) -> None:
    from trianflow.training.compare import learning_curve
    from trianflow.visualization.comparison_plot import plot_learning, plot_poses

    curves = {o.method.name: learning_curve(o.method, "abs_rel") for o in outcomes}
    scales = {o.method.name: learning_curve(o.method, "inverse_depth") for o in outcomes}
    shown = {name: curve for name, curve in curves.items() if curve}
    if shown:
        plot_learning(out / "learning.png", shown, scales)
    scored = [o for o in outcomes if o.score is not None and o.score.poses]
    if scored:
        poses = {o.method.name: {s: (p.rotation, p.translation) for s, p in o.score.poses.items()} for o in scored}
        plot_poses(out / "poses.png", poses)
