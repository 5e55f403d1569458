"""`trianflow eval odometry`: score trajectories against the truth."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from trianflow.cli.eval_output import add_shared_arguments, paths_by_row, score_each, show, title_of
from trianflow.cli.eval_predict import predict_trajectory

if TYPE_CHECKING:
    from trianflow.evaluation.odometry import OdometryMetrics
    from trianflow.trajectory import Trajectory

_DESCRIPTION = """\
Score estimated trajectories against the truth: KITTI's t_err and r_err, ATE, RPE and the median error of
frame pairs. Files are TUM, KITTI (12 numbers a row, or 13 with the frame index first) or COLMAP images.txt; PRED also
a folder that trianflow vo wrote.
Trajectories of one length are compared row by row, others by frame index or time stamp.
ATE and RPE are computed by evo: pip install 'trianflow[eval]'."""
_EPILOG = """\
examples:
  trianflow eval odometry poses/09.txt out/09 --predict sequences/09
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
    add_shared_arguments(
        parser,
        "true trajectory",
        "estimated trajectories",
        "the trajectory of these images (video, folder, sequence) by `trianflow vo` with the same --stride; with"
        " --weights by their networks",
    )
    parser.add_argument("--plot", metavar="FILE", help="also draw the trajectories into this picture")
    parser.add_argument("--curves", metavar="FILE", help="also draw t_err and r_err over the segment length")
    protocol = parser.add_argument_group("protocol")
    protocol.add_argument(
        "--alignment",
        choices=["none", "scale", "se3", "sim3"],
        default="sim3",
        help="how an estimate is laid over the truth: first poses agree (none), and one scale (scale); or best over all"
        " poses by 6-DoF (se3: for estimates in metres) or 7-DoF (sim3, the default: for monocular ones)",
    )
    protocol.add_argument(
        "--lengths", type=float, nargs="+", metavar="M", help="segment lengths in metres (default 100 200 ... 800)"
    )
    protocol.add_argument(
        "--step", type=int, default=10, metavar="N", help="frames between the starts of segments (default 10)"
    )
    protocol.add_argument(
        "--stride",
        type=int,
        default=1,
        metavar="N",
        help="compare only every N-th frame of the truth, GT being of all frames, PRED of all frames or of those",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `trianflow eval odometry`.

    Returns:
        0, or 1 where a PRED could not be scored, or most predicted poses are guesses.

    Raises:
        TrianflowError: the truth cannot be read, no PRED be scored, or a file not be written.
        UsageError: an option that cannot be right.
    """
    from trianflow.evaluation.odometry import evaluate_odometry
    from trianflow.evaluation.odometry_protocol import StridedPair, comparable_rows, kitti_sequence, take_every
    from trianflow.evaluation.odometry_table import length_table, odometry_table
    from trianflow.evaluation.segments import KITTI_LENGTHS
    from trianflow.evaluation.trajectory_files import load_estimate
    from trianflow.trajectory import Trajectory

    lengths = args.lengths or KITTI_LENGTHS
    whole = Trajectory.load(args.gt)
    paths = paths_by_row(args)
    code = predict_trajectory(args, args.stride) if args.predict is not None else 0
    compared: dict[str, StridedPair] = {}

    def score(name: str, path: str) -> OdometryMetrics:
        est = load_estimate(path, not whole.times_are_indices)
        pair = take_every(whole, est, args.stride) if args.stride != 1 else StridedPair(whole, est, False)
        metrics = evaluate_odometry(pair.gt, pair.est, args.alignment, lengths, args.step)
        compared[name] = pair
        return metrics

    results = score_each(paths, score)
    gt = next(iter(compared.values())).gt
    thinned = {name: pair.resampled for name, pair in compared.items()} if args.stride != 1 else {}
    published = comparable_rows(kitti_sequence(whole), list(results.values()), args.stride, args.published)
    table = odometry_table(results, args.median, published)
    title = title_of(args.gt) + (f", stride {args.stride}" if args.stride != 1 else "")
    text = [*_head(args, whole, gt, results), "", table.text()]
    first = next(iter(results.values()))
    if len(results) == 1 and first.segments:
        text += ["", length_table(first).text()]
    own = {name: m.to_dict() for name, m in results.items()}
    for name, resampled in thinned.items():
        own[name]["resampled"] = resampled
    show(args, table, "\n".join(text), _notes(results, thinned), {"stride": args.stride, "estimates": own})
    if args.plot:
        from trianflow.visualization.trajectory_plot import plot_trajectory

        estimates = {name: pair.est for name, pair in compared.items()}
        plot_trajectory(args.plot, estimates, gt, title=title, alignment=args.alignment)
    if args.curves:
        from trianflow.visualization.odometry_plots import plot_length_errors

        plot_length_errors(args.curves, results, title=title)
    return code if len(results) == len(paths) else 1


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


def _notes(results: dict[str, OdometryMetrics], thinned: dict[str, bool]) -> list[str]:
    from trianflow.evaluation.odometry_table import odometry_notes

    notes = [f"{name}: {note}" for name, m in results.items() for note in odometry_notes(m)]
    return notes + [
        f"{name}: {'of all frames, re-sampled like the truth' if resampled else 'one pose for each kept frame'}"
        for name, resampled in thinned.items()
    ]
