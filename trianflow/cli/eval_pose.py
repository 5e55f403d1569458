"""`trianflow eval pose`: the snippet ATE of the SfMLearner family."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from trianflow.cli.eval_output import add_shared_arguments, paths_by_row, score_each, show, title_of
from trianflow.cli.eval_predict import predict_trajectory

if TYPE_CHECKING:
    from trianflow.evaluation.snippets import SnippetScore

_DESCRIPTION = """\
Score relative poses over snippets of 5 or 3 consecutive frames, as SfMLearner, GeoNet, CC and Insta-DM do: each
snippet is put into the frame of its first camera and multiplied by one scale of its own; ATE is the mean over all
snippets, std its standard deviation. GT and PRED are trajectories (TUM, KITTI, COLMAP; PRED also a folder that
trianflow vo wrote), which are cut into all their snippets, or folders with a TUM file for each snippet, named by its
first frame (000000.txt, ...)."""
_EPILOG = """\
examples:
  trianflow eval pose poses/09.txt out/09 --predict sequences/09
  trianflow eval pose snippets_true/ snippets_predicted/
  trianflow eval pose poses/09.txt method_a/ method_b/ --length 3 --csv snippets.csv --plot snippets.png"""


def add_parser(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `pose` to what `eval` can score."""
    parser = kinds.add_parser(
        "pose",
        help="snippets of 5 or 3 frames: the ATE of the SfMLearner family",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_shared_arguments(
        parser,
        "true trajectory, or folder of true snippets",
        "predicted trajectories, or folders of snippets",
        "the trajectory of these images (video, folder, sequence) by `trianflow vo`; with --weights by their networks",
    )
    parser.add_argument("--plot", metavar="FILE", help="also draw the ATE of the snippets along the sequence")
    parser.add_argument("--length", type=int, choices=[3, 5], default=5, help="frames in a snippet (default 5)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `trianflow eval pose`.

    Returns:
        0, or 1 where a PRED could not be scored, or most predicted poses are guesses.

    Raises:
        TrianflowError: the truth cannot be read, no PRED be scored, or a file not be written.
        UsageError: an option that cannot be right.
    """
    from trianflow.evaluation.odometry_protocol import kitti_sequence
    from trianflow.evaluation.snippet_table import comparable_rows, snippet_notes, snippet_table
    from trianflow.evaluation.snippets import score_snippets
    from trianflow.evaluation.trajectory_files import load_snippets
    from trianflow.trajectory import Trajectory

    paths = paths_by_row(args)
    gt = load_snippets(args.gt)
    stamped = isinstance(gt, Trajectory) and not gt.times_are_indices
    code = predict_trajectory(args) if args.predict is not None else 0

    def score(name: str, path: str) -> SnippetScore:
        return score_snippets(gt, load_snippets(path, stamped), args.length)

    scores = score_each(paths, score)
    published = comparable_rows(kitti_sequence(gt), list(scores.values()), args.published)
    table = snippet_table(scores, args.median, published)
    head = [
        f"ground truth  {args.gt}, {next(iter(scores.values())).true} snippets of {args.length} frames",
        "alignment     first poses agree, one scale for each snippet",
        f"ATE, std      mean and deviation over the snippets of the root of the summed squares over {args.length}",
        f"RMSE          mean of the true root-mean-square, ATE times the root of {args.length}",
    ]
    notes = [f"{name}: {note}" for name, score in scores.items() for note in snippet_notes(score)]
    show(args, table, "\n".join([*head, "", table.text()]), notes, {"length": args.length})
    if args.plot:
        from trianflow.visualization.odometry_plots import plot_snippet_errors

        plot_snippet_errors(args.plot, scores, title_of(args.gt))
    return code if len(scores) == len(paths) else 1
