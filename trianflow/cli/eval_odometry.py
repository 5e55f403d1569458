"""`trianflow eval odometry`: score trajectories against the truth."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from trianflow.cli.eval_output import add_table_arguments, short_names, write_tables
from trianflow.errors import TrianflowError, UsageError

if TYPE_CHECKING:
    from trianflow.evaluation.odometry import OdometryMetrics
    from trianflow.evaluation.table import Row
    from trianflow.trajectory import Trajectory

_DESCRIPTION = """\
Score estimated trajectories against the truth: KITTI's t_err and r_err, ATE, RPE and the median error of
frame pairs. Files are TUM, KITTI (12 numbers a row, or 13 with the frame index first) or COLMAP images.txt.
Trajectories of one length are compared row by row, others by frame index or time stamp.
Where the truth is KITTI 09 or 10, figures of papers stand below.
ATE and RPE are computed by evo: pip install 'trianflow[eval]'."""
_EPILOG = """\
examples:
  trianflow eval odometry poses/09.txt out/09/trajectory.kitti
  trianflow eval odometry poses/10.txt seed*/10.txt --median --csv 10.csv --latex 10.tex --curves 10.png
  trianflow eval odometry poses/09.txt every_third_frame.txt --stride 3"""


def add_parser(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `odometry` to what `eval` can score."""
    parser = kinds.add_parser(
        "odometry",
        help="trajectories: KITTI t_err and r_err, ATE, RPE",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("gt", metavar="GT", help="true trajectory")
    parser.add_argument("est", metavar="EST", nargs="+", help="estimated trajectories, one row each")
    parser.add_argument(
        "--alignment",
        choices=["none", "scale", "se3", "sim3"],
        default="sim3",
        help="how an estimate is laid over the truth (default sim3, 7-DoF: for monocular estimates)",
    )
    parser.add_argument(
        "--lengths", type=float, nargs="+", metavar="M", help="segment lengths in metres (default 100 200 ... 800)"
    )
    parser.add_argument(
        "--step", type=int, default=10, metavar="N", help="frames between the starts of segments (default 10)"
    )
    parser.add_argument(
        "--stride",
        type=int,
        default=1,
        metavar="N",
        help="compare only every N-th frame of the truth, GT being of all frames; EST may be of all frames or of those",
    )
    parser.add_argument(
        "--published",
        choices=["09", "10", "none"],
        help="figures of papers for this KITTI sequence (default: by the poses and the length of the truth)",
    )
    parser.add_argument("--median", action="store_true", help="EST are runs of one method: add their median")
    add_table_arguments(parser)
    parser.add_argument("--plot", metavar="FILE", help="also draw the trajectories into this picture")
    parser.add_argument("--curves", metavar="FILE", help="also draw t_err and r_err over the segment length")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `trianflow eval odometry`.

    Returns:
        0; every failure is an exception.

    Raises:
        TrianflowError: a file that cannot be read, scored or written.
        UsageError: an option that cannot be right.
    """
    from trianflow.evaluation.odometry import KITTI_LENGTHS, evaluate_odometry
    from trianflow.evaluation.odometry_protocol import take_every
    from trianflow.evaluation.odometry_table import odometry_table
    from trianflow.trajectory import Trajectory

    lengths = args.lengths or KITTI_LENGTHS
    whole = gt = Trajectory.load(args.gt)
    paths = short_names(args.est)
    if args.median and len(paths) < 2:
        raise UsageError("--median is of several EST, and there is one")
    published = _published(whole, lengths, args)
    estimates: dict[str, Trajectory] = {}
    results: dict[str, OdometryMetrics] = {}
    thinned: dict[str, bool] = {}
    for name, path in paths.items():
        est = Trajectory.load(path)
        try:
            if args.stride != 1:
                pair = take_every(whole, est, args.stride)
                gt, est, thinned[name] = pair.gt, pair.est, pair.resampled
            results[name] = evaluate_odometry(gt, est, args.alignment, lengths, args.step)
        except UsageError:
            raise
        except TrianflowError as e:
            raise TrianflowError(f"{path}: {e}") from e
        estimates[name] = est
    table = odometry_table(results, args.median, published)
    write_tables(table, args)
    title = Path(args.gt).name + (f", stride {args.stride}" if args.stride != 1 else "")
    if args.plot:
        from trianflow.visualization.trajectory_plot import plot_trajectory

        plot_trajectory(args.plot, estimates, gt, title=title, alignment=args.alignment)
    if args.curves:
        from trianflow.visualization.odometry_plots import plot_length_errors

        plot_length_errors(args.curves, results, title=title)
    if args.json:
        own = {name: m.to_dict() for name, m in results.items()}
        for name, resampled in thinned.items():
            own[name]["resampled"] = resampled
        out = {"ground_truth": str(args.gt), "stride": args.stride, "estimates": own, "table": table.to_dict()}
        print(json.dumps(out, indent=2, allow_nan=False))
        return 0
    print("\n".join(_head(args, whole, gt, results)), end="\n\n")
    print(table.text())
    print("\n".join(_tail(results, thinned, args)), end="")
    return 0


def _published(gt: Trajectory, lengths: list[float] | tuple[float, ...], args: argparse.Namespace) -> list[Row]:
    """The rows of papers to stand below; asked for by name they must be comparable."""
    from trianflow.evaluation.odometry_protocol import comparable_rows, kitti_sequence

    if args.published == "none":
        return []
    sequence = args.published or kitti_sequence(gt)
    if sequence is None:
        return []
    rows = comparable_rows(sequence, args.alignment, lengths, args.step, args.stride)
    if args.published and not rows:
        raise UsageError(
            f"--published {sequence}: papers print figures of --alignment sim3, --step 10, --lengths 100 200 ... 800"
            " and --stride 1 or 3 only"
        )
    return rows


def _head(
    args: argparse.Namespace, whole: Trajectory, gt: Trajectory, results: dict[str, OdometryMetrics]
) -> list[str]:
    """What was compared, and how."""
    from trianflow.evaluation.odometry_protocol import nth

    first = next(iter(results.values()))
    lines = [f"ground truth  {args.gt}, {len(whole)} poses, {whole.path_length:.1f} m"]
    if args.stride != 1:
        kept = f"{len(gt)} poses, {gt.path_length:.1f} m"
        lines.append(f"stride        every {nth(args.stride)} frame of the truth: {kept}")
    fitted = "" if first.alignment.value == "none" else ", fitted to all compared poses"
    lengths = ", ".join(f"{e.length:g}" for e in first.per_length)
    return [
        *lines,
        f"alignment     {first.alignment.label}{fitted}",
        f"segments      {lengths} m, one from every {nth(args.step)} {'frame' if args.stride == 1 else 'kept frame'}",
        "ATE, RPE      rmse, by evo; RPE and the pair medians between consecutive compared poses",
    ]


def _tail(results: dict[str, OdometryMetrics], thinned: dict[str, bool], args: argparse.Namespace) -> list[str]:
    """The errors by length of a single estimate, and notes."""
    from trianflow.evaluation.odometry_table import length_table, odometry_notes

    lines = []
    first = next(iter(results.values()))
    if len(results) == 1 and first.segments:
        lines += ["", length_table(first).text()]
    notes = [f"{name}: {note}" for name, m in results.items() for note in odometry_notes(m)]
    notes += [
        f"{name}: {'of all frames, re-sampled like the truth' if resampled else 'one pose for each kept frame'}"
        for name, resampled in thinned.items()
    ]
    if args.median:
        notes.append(f"median of {len(results)}: ± is half the range from the least to the largest")
    return [*lines, *(["", *notes] if notes else []), ""] if lines or notes else []
