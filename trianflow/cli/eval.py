"""`trianflow eval`: score results against the truth."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from trianflow.errors import TrianflowError, UsageError

_ODOMETRY = """\
Score estimated trajectories against the truth: KITTI's t_err and r_err, ATE, RPE and the median error of
frame pairs. Files are TUM, KITTI (12 numbers a row, or 13 with the frame index first) or COLMAP images.txt.
Trajectories of one length are compared row by row, others by frame index or time stamp.
ATE and RPE are computed by evo: pip install 'trianflow[eval]'."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `eval` and what it can score to the sub-commands of the main program."""
    parser = subparsers.add_parser("eval", help="score results against the truth")
    kinds = parser.add_subparsers(dest="eval_command", metavar="WHAT", required=True)
    odometry = kinds.add_parser(
        "odometry",
        help="trajectories: KITTI t_err and r_err, ATE, RPE",
        description=_ODOMETRY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    odometry.add_argument("gt", metavar="GT", help="true trajectory")
    odometry.add_argument("est", metavar="EST", nargs="+", help="estimated trajectories, one row each")
    odometry.add_argument(
        "--alignment",
        choices=["none", "scale", "se3", "sim3"],
        default="sim3",
        help="how an estimate is laid over the truth (default sim3, 7-DoF: for monocular estimates)",
    )
    odometry.add_argument(
        "--lengths",
        type=float,
        nargs="+",
        metavar="M",
        help="segment lengths in metres (default 100 200 ... 800)",
    )
    odometry.add_argument(
        "--step", type=int, default=10, metavar="N", help="frames between the starts of segments (default 10)"
    )
    odometry.add_argument("--json", action="store_true", help="print JSON")
    odometry.add_argument("--plot", metavar="FILE", help="also draw the trajectories into this picture")
    odometry.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `trianflow eval`.

    Returns:
        0; every failure is an exception.

    Raises:
        TrianflowError: a file that cannot be read, scored or written.
        UsageError: an option that cannot be right.
    """
    if args.eval_command != "odometry":
        raise UsageError(f"nothing to score is called '{args.eval_command}'")
    return _odometry(args)


def _odometry(args: argparse.Namespace) -> int:
    from trianflow.evaluation.odometry import KITTI_LENGTHS, evaluate_odometry
    from trianflow.evaluation.odometry_table import odometry_table
    from trianflow.trajectory import Trajectory

    lengths = args.lengths or KITTI_LENGTHS
    gt = Trajectory.load(args.gt)
    estimates = {name: Trajectory.load(path) for name, path in _names(args.est).items()}
    results = {}
    for name, est in estimates.items():
        try:
            results[name] = evaluate_odometry(gt, est, args.alignment, lengths, args.step)
        except UsageError:
            raise
        except TrianflowError as e:
            raise TrianflowError(f"{name}: {e}") from e
    if args.plot:
        from trianflow.visualization.trajectory_plot import plot_trajectory

        plot_trajectory(args.plot, estimates, gt, title=Path(args.gt).name, alignment=args.alignment)
    if args.json:
        out = {"ground_truth": str(args.gt), "estimates": {name: m.to_dict() for name, m in results.items()}}
        print(json.dumps(out, indent=2, allow_nan=False))
        return 0
    first = next(iter(results.values()))
    print(f"ground truth  {args.gt}, {len(gt)} poses, {gt.path_length:.1f} m")
    fitted = "" if first.alignment.value == "none" else ", fitted to all compared poses"
    print(f"alignment     {first.alignment.label}{fitted}")
    print(f"segments      {', '.join(f'{x:g}' for x in lengths)} m, one from every {_nth(args.step)} frame")
    print("ATE, RPE      rmse, by evo; RPE and the pair medians between consecutive compared poses\n")
    print(odometry_table(results, lengths=len(results) == 1 and first.segments > 0))
    return 0


def _names(paths: list[str]) -> dict[str, str]:
    """A short name for each file that tells it from the others: its stem, with folders where needed."""
    unique = list(dict.fromkeys(paths))
    parts = [Path(p).with_suffix("").parts for p in unique]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-depth:]) for p in parts]
        if len(set(names)) == len(names):
            return dict(zip(names, unique))
    return dict(zip(unique, unique))


def _nth(n: int) -> str:
    """`10th`, `2nd`, and nothing for every single one."""
    if n == 1:
        return "single"
    suffix = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"
