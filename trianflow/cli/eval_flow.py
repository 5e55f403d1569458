"""`trianflow eval flow`: score files of optical flow against the truth."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from trianflow.cli.common import add_network_arguments, network_words, warn
from trianflow.cli.eval_output import add_table_arguments, short_names, write_tables
from trianflow.cli.progress import Progress
from trianflow.errors import TrianflowError, UsageError

if TYPE_CHECKING:
    from trianflow.evaluation.flow_files import FlowScores
    from trianflow.evaluation.flow_truth import TrueFlows
    from trianflow.evaluation.table import Row

_DESCRIPTION = """\
Score files of optical flow: end-point error (EPE) and share of outliers (Fl, wrong by more than 3 pixels and more
than 5 %), over all pixels, those seen in both images (noc), occluded ones, moving objects and the rest, as far as the
truth tells them apart. GT is the folder of KITTI 2012 or 2015 as unpacked, Sintel's or Middlebury's flow, a folder of
.flo or 16-bit .png files, or one file. PRED is a folder with files of the same names (KITTI: 000000_10.png), or one
file; other sizes are enlarged. Files that are missing or damaged are named and the rest is scored: exit code 1."""
_EPILOG = """\
examples:
  trianflow eval flow data_scene_flow out/kitti2015 --predict pwc
  trianflow eval flow data_scene_flow seed*/flow --median --csv flow.csv --latex flow.tex --plot flow.png
  trianflow eval flow RubberWhale/flow10.flo out/flow.flo"""
_SHOWN = 10  # problems on stderr
_PROTOCOLS = {
    "images": "mean over the images, each with equal weight",
    "pixels": "over all pixels of all images, as KITTI 2015's server",
}
_OF_PAPERS = {"images": ", as the papers print", "pixels": "; those of the papers are means over the images"}


def add_parser(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `flow` to what `eval` can score."""
    parser = kinds.add_parser(
        "flow",
        help="optical flow: EPE and Fl, all, noc, occ, moving, static",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("gt", metavar="GT", help="true flow: dataset, folder or file")
    parser.add_argument("pred", metavar="PRED", nargs="+", help="predictions, one row each: folder or file")
    parser.add_argument(
        "--protocol",
        choices=list(_PROTOCOLS),
        default="images",
        help="mean over images, as the papers print (default), or over all pixels, as KITTI 2015's server",
    )
    parser.add_argument("--median", action="store_true", help="PRED are runs of one method: add their median")
    parser.add_argument(
        "--disparity",
        action="store_true",
        help="score disparities (16-bit .png, pixels times 256) instead: D1, by the rule of Fl",
    )
    predict = parser.add_argument_group("predictions")
    predict.add_argument(
        "--predict",
        choices=["pwc", "dis"],
        help="first write PRED, by the network or OpenCV's DIS (preset medium); GT is KITTI with its images",
    )
    add_network_arguments(predict)
    add_table_arguments(parser)
    parser.add_argument("--plot", metavar="FILE", help="also draw the distribution of the errors, and two error maps")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `trianflow eval flow`.

    Returns:
        0, or 1 where a file could not be scored.

    Raises:
        TrianflowError: nothing could be scored, or a file cannot be written.
        UsageError: an argument that cannot be right.
    """
    from trianflow.evaluation.flow_files import score_flows
    from trianflow.evaluation.flow_table import flow_table
    from trianflow.evaluation.flow_truth import open_true_flows

    paths = short_names(args.pred)
    if args.median and len(paths) < 2:
        raise UsageError("--median is of several PRED, and there is one")
    if args.disparity and args.predict:
        raise UsageError("--predict writes flow: leave it out with --disparity")
    truth = open_true_flows(args.gt, args.disparity)
    if args.predict:
        _predict(args, truth)
    with Progress(len(truth.images), args.quiet) as progress:
        scores = score_flows(truth, paths, lambda name: progress.advance("scored"))
    problems = list(dict.fromkeys(problem for score in scores.values() for problem in score.problems))
    if not any(score.errors for score in scores.values()):
        raise TrianflowError(f"nothing could be scored: {problems[0]}")
    for problem in problems[:_SHOWN]:
        warn(problem)
    if len(problems) > _SHOWN:
        warn(f"{len(problems) - _SHOWN} more like these; --json lists them all")
    table = flow_table(scores, args.protocol, args.median, _published(truth), args.disparity)
    write_tables(table, args)
    if args.plot:
        _plot(args, truth, scores)
    if args.json:
        print(json.dumps(_facts(args, truth, scores, table.to_dict()), indent=2, allow_nan=False))
    else:
        print(f"ground truth  {truth.label}, {len(truth.images)} images")
        papers = "" if args.disparity else _OF_PAPERS[args.protocol]
        print(f"protocol      {args.protocol}: {_PROTOCOLS[args.protocol]}{papers}")
        print(f"{'D1' if args.disparity else 'Fl'}            wrong by more than 3 pixels and more than 5 %\n")
        print(table.text())
        notes = [f"{name}: {note}" for name, score in scores.items() for note in score.notes]
        if len({frozenset(score.errors) for score in scores.values()}) > 1:
            notes.append("the rows are of different images, so they do not compare: see the warnings")
        if args.median:
            notes.append(f"median of {len(scores)}: ± is half the range from the least to the largest")
        print("\n".join(["", *notes, ""] if notes else []), end="")
    return 1 if problems else 0


def _published(truth: TrueFlows) -> list[Row]:
    """The rows of papers for this truth: they are of all 200 images of KITTI 2015."""
    from trianflow.data.datasets.kitti_flow import KITTI_2015
    from trianflow.evaluation.published import published_rows

    complete = truth.kitti is not None and truth.kitti.edition == KITTI_2015 and len(truth.images) == 200
    return published_rows("kitti2015_disparity" if truth.disparity else "kitti2015_flow") if complete else []


def _facts(
    args: argparse.Namespace, truth: TrueFlows, scores: dict[str, FlowScores], table: list[dict[str, object]]
) -> dict[str, object]:
    from trianflow.evaluation.flow_table import flow_figures

    predictions = {
        name: {
            "images": {image: flow_figures(errors) for image, errors in score.errors.items()},
            "problems": score.problems,
            "notes": score.notes,
        }
        for name, score in scores.items()
    }
    return {"ground_truth": truth.label, "protocol": args.protocol, "table": table, "predictions": predictions}


def _plot(args: argparse.Namespace, truth: TrueFlows, scores: dict[str, FlowScores]) -> None:
    """Draw all distributions, and the median and the worst image of the first PRED that has some."""
    from trianflow.evaluation.flow_files import error_maps_of
    from trianflow.visualization.flow_plot import ErrorPicture, plot_flow_errors

    name, score = next((name, score) for name, score in scores.items() if score.errors)
    ranked = sorted(score.errors, key=lambda image: score.errors[image]["all"].outliers)
    shown = {"median image": ranked[(len(ranked) - 1) // 2], "worst image": ranked[-1]}
    shown = {"image": ranked[0]} if len(ranked) == 1 else shown
    pictures = []
    for rank, image in shown.items():
        group = score.errors[image]["all"]
        title = f"{name}, {rank} {image}: EPE {group.epe:.2f} px, Fl {100 * group.outliers:.2f} %"
        pictures.append(ErrorPicture(title, error_maps_of(truth, image, score.path)))
    plot_flow_errors(args.plot, {n: s.histogram for n, s in scores.items()}, pictures, truth.label)


def _predict(args: argparse.Namespace, truth: TrueFlows) -> None:
    """Write the flow of all pairs that have their images as KITTI's PNG, named as the truth."""
    from trianflow.config import OdometryConfig, load_settings
    from trianflow.data.datasets.kitti_flow import open_kitti_flow
    from trianflow.data.flow_files import write_flow
    from trianflow.odometry.estimators import Estimators
    from trianflow.odometry.run import prepare_output

    if truth.kitti is None or len(args.pred) > 1:
        raise UsageError("--predict writes one PRED for the images of KITTI 2012 or 2015; otherwise: trianflow flow")
    out = Path(args.pred[0]).expanduser()
    if out.resolve().is_relative_to(truth.kitti.path.resolve()):
        raise UsageError(f"{out}: predictions must not lie in the dataset")
    content = open_kitti_flow(truth.kitti.path)
    for problem in content.problems:
        warn(problem)
    exact = next(out.glob("*.flo"), None)
    if exact is not None:
        raise UsageError(f"{out}: holds {exact.name}, which would be scored instead of the .png: name a new folder")
    config = load_settings(OdometryConfig(), None, [f"flow={args.predict}", "flow_preset=medium", *network_words(args)])
    method = Estimators.of(config).flow
    prepare_output(out)
    for name in truth.kitti.scenes:  # those of an earlier run must not stand in for what fails now
        (out / f"{name}_10.png").unlink(missing_ok=True)
    with Progress(len(content.sequences), args.quiet) as progress:
        for scene in content.sequences:
            frames = list(scene.frames.select([0, 1]))
            bad = next((f"{f.name}: {f.problem}" for f in frames if f.image is None), None)
            if bad is not None:
                progress.say(f"trianflow: warning: no prediction, {bad}")
                progress.advance("skipped")
                continue
            images = [method.encode(frame.image) for frame in frames if frame.image is not None]
            flow = method.flow(*images).flow_ab[0].permute(1, 2, 0).numpy()
            write_flow(out / f"{scene.name}_10.png", flow)
            progress.advance("done")
