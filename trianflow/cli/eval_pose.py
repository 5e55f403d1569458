"""`trianflow eval pose`: the snippet ATE of the SfMLearner family."""

from __future__ import annotations

import argparse
import json

from trianflow.cli.eval_output import add_table_arguments, short_names, write_tables
from trianflow.errors import TrianflowError, UsageError

_DESCRIPTION = """\
Score relative poses over snippets of 5 or 3 consecutive frames, as SfMLearner, GeoNet, CC and Insta-DM do: each
snippet is put into the frame of its first camera and multiplied by one scale of its own; ATE is the mean and the
standard deviation over all snippets. GT and PRED are trajectories (TUM, KITTI, COLMAP), which are cut into all their
snippets, or folders with a TUM file for each snippet, named by its first frame (000000.txt, ...)."""
_EPILOG = """\
examples:
  trianflow eval pose poses/09.txt out/09/trajectory.kitti
  trianflow eval pose snippets_true/ snippets_predicted/ --published 10
  trianflow eval pose poses/09.txt method_a/ method_b/ --length 3 --csv snippets.csv"""


def add_parser(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `pose` to what `eval` can score."""
    parser = kinds.add_parser(
        "pose",
        help="snippets of 5 or 3 frames: the ATE of the SfMLearner family",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("gt", metavar="GT", help="true trajectory, or folder of true snippets")
    parser.add_argument("pred", metavar="PRED", nargs="+", help="predicted trajectories, or folders of snippets")
    parser.add_argument("--length", type=int, choices=[3, 5], default=5, help="frames in a snippet (default 5)")
    parser.add_argument(
        "--published",
        choices=["09", "10", "none"],
        help="figures of papers for this KITTI sequence (default: by the poses and the length of a true trajectory)",
    )
    parser.add_argument("--median", action="store_true", help="PRED are runs of one method: add their median")
    add_table_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `trianflow eval pose`.

    Returns:
        0; every failure is an exception.

    Raises:
        TrianflowError: a file that cannot be read, scored or written.
        UsageError: an option that cannot be right.
    """
    from trianflow.evaluation.odometry_protocol import kitti_sequence
    from trianflow.evaluation.snippet_files import load_snippets
    from trianflow.evaluation.snippet_table import published_snippet_rows, snippet_notes, snippet_table
    from trianflow.evaluation.snippets import score_snippets
    from trianflow.trajectory import Trajectory

    paths = short_names(args.pred)
    if args.median and len(paths) < 2:
        raise UsageError("--median is of several PRED, and there is one")
    gt = load_snippets(args.gt)
    scores = {}
    for name, path in paths.items():
        pred = load_snippets(path)
        try:
            scores[name] = score_snippets(gt, pred, args.length)
        except TrianflowError as e:
            raise TrianflowError(f"{path}: {e}") from e
    sequence = args.published or (kitti_sequence(gt) if isinstance(gt, Trajectory) else None)
    published = published_snippet_rows(sequence, args.length) if sequence in ("09", "10") else []
    table = snippet_table(scores, args.median, published)
    write_tables(table, args)
    if args.json:
        out = {"ground_truth": str(args.gt), "length": args.length, "table": table.to_dict()}
        print(json.dumps(out, indent=2, allow_nan=False))
        return 0
    print(f"ground truth  {args.gt}, {next(iter(scores.values())).true} snippets of {args.length} frames")
    print("alignment     first poses agree, one scale for each snippet")
    print(f"ATE           mean ± standard deviation; root of the summed squares over {args.length}, as in the papers")
    print(f"RMSE          mean of the true root-mean-square, ATE times the root of {args.length}\n")
    print(table.text())
    notes = [f"{name}: {note}" for name, score in scores.items() for note in snippet_notes(score)]
    if args.median:
        notes.append(f"median of {len(scores)}: ± is half the range from the least to the largest")
    if notes:
        print("\n".join(["", *notes]))
    return 0
