"""`trianflow eval flow`: score files of optical flow against the truth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from trianflow.cli.common import network_words, warn
from trianflow.cli.eval_output import add_shared_arguments, counted, paths_by_row, show
from trianflow.cli.progress import Progress
from trianflow.errors import TrianflowError, UsageError

if TYPE_CHECKING:
    from trianflow.evaluation.flow_files import FlowScores
    from trianflow.evaluation.flow_truth import TrueFlows

_DESCRIPTION = """\
Score files of optical flow: end-point error (EPE) and share of outliers (Fl, wrong by more than 3 pixels and more
than 5 %), over all pixels, those seen in both images (noc), occluded ones, moving objects and the rest, as far as the
truth tells them apart. GT is the folder of KITTI 2012 or 2015 as unpacked, Sintel's or Middlebury's flow, a folder of
.flo or 16-bit .png files, or one file. PRED is a folder with files of the same names (KITTI: 000000_10.png), or one
file; other sizes are enlarged. Files that are missing or damaged are named and the rest is scored: exit code 1."""
_EPILOG = """\
examples:
  trianflow eval flow data_scene_flow out/dis --predict data_scene_flow/training/image_2
  trianflow eval flow data_scene_flow seed*/flow --median --csv flow.csv --latex flow.tex --plot flow.png
  trianflow eval flow RubberWhale/flow10.flo out/flow.flo"""
_SHOWN = 10  # problems on stderr
_PROTOCOLS = {
    "images": "mean over the images, each with equal weight, as papers print EPE and Fl",
    "pixels": "over all pixels of all images, as KITTI 2015's server",
}


def add_parser(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `flow` to what `eval` can score."""
    parser = kinds.add_parser(
        "flow",
        help="optical flow: EPE and Fl, all, noc, occ, moving, static",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_shared_arguments(
        parser,
        "true flow: dataset, folder or file",
        "predictions, folder or file",
        "the flow between the images of this folder that GT is of (KITTI's image_2, Sintel's clean, Middlebury's"
        " other-data), by PWC-Net with --weights, else by OpenCV's DIS (preset medium)",
    )
    parser.add_argument("--plot", metavar="FILE", help="also draw the distribution of the errors, and two error maps")
    protocol = parser.add_argument_group("protocol")
    protocol.add_argument(
        "--protocol",
        choices=list(_PROTOCOLS),
        default="images",
        help="images: mean over the images, as papers print EPE and Fl (default); pixels: over all pixels, as KITTI"
        " 2015's server",
    )
    protocol.add_argument(
        "--disparity",
        action="store_true",
        help="score disparities (16-bit .png, pixels times 256) instead: D1, by the rule of Fl",
    )
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
    from trianflow.evaluation.flow_table import comparable_rows, flow_table
    from trianflow.evaluation.flow_truth import open_true_flows

    paths = paths_by_row(args)
    if args.disparity and args.predict is not None:
        raise UsageError("--predict writes flow: leave it out with --disparity")
    truth = open_true_flows(args.gt, args.disparity)
    if args.predict is not None:
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
    published = comparable_rows(truth, list(scores.values()), args.protocol, args.published)
    table = flow_table(scores, args.protocol, args.median, published, args.disparity)
    notes = [f"{name}: {note}" for name, score in scores.items() for note in score.notes]
    if truth.kitti is not None and not (published or args.published == "none"):
        how = "of" if args.disparity else "means over"
        note = f"figures of papers are {how} the 200 images of KITTI 2015, with an estimate for every pixel"
        beside = "; averaging not stated, they stand beside --protocol pixels, as KITTI's server has it"
        notes.append(f"{note}{beside if args.disparity else ''}")
    if len({frozenset(score.errors) for score in scores.values()}) > 1:
        notes.append("the rows are of different images, so they do not compare: see the warnings")
    head = [
        f"ground truth  {truth.label}, {counted(len(truth.images), 'image')}",
        f"protocol      {args.protocol}: {_PROTOCOLS[args.protocol]}",
        f"{'D1' if args.disparity else 'Fl'}            wrong by more than 3 pixels and more than 5 %",
    ]
    facts = {"protocol": args.protocol, "predictions": _figures_by_image(scores)}
    show(args, table, "\n".join([*head, "", table.text()]), notes, facts)
    if args.plot:
        _plot(args, truth, scores)
    return 1 if problems else 0


def _figures_by_image(scores: dict[str, FlowScores]) -> dict[str, object]:
    from trianflow.evaluation.flow_table import flow_figures

    return {
        name: {
            "images": {image: flow_figures(errors) for image, errors in score.errors.items()},
            "problems": score.problems,
        }
        for name, score in scores.items()
    }


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
        mean, share = ("mean error", "D1") if truth.disparity else ("EPE", "Fl")
        error = f"{mean} {group.epe:.2f} px" if group.estimated else "no estimate"
        title = f"{name}, {rank} {image}: {error}, {share} {100 * group.outliers:.2f} %"
        pictures.append(ErrorPicture(title, error_maps_of(truth, image, score.path)))
    plot_flow_errors(args.plot, {n: s.histogram for n, s in scores.items()}, pictures, truth.label)


def _predict(args: argparse.Namespace, truth: TrueFlows) -> None:
    """Write the flow of every image of the truth, in files of its name and kind."""
    from trianflow.cli.eval_predict import prediction_folder
    from trianflow.config import OdometryConfig, load_settings
    from trianflow.data.flow_files import write_flow
    from trianflow.evaluation.flow_images import read_frame_pair
    from trianflow.odometry.estimators import Estimators
    from trianflow.odometry.run import prepare_output

    images = Path(args.predict).expanduser()
    if not images.is_dir():
        raise UsageError(f"{images}: no such folder of images")
    names = {image.name: f"{image.name}{image.file.suffix}" for image in truth.images}
    out = prediction_folder(args, lambda folder: _files_in(folder) <= set(names.values()))
    method = "dis" if args.weights is None else "pwc"
    words = [f"flow={method}", "flow_preset=medium", *network_words(args)]
    estimator = Estimators.of(load_settings(OdometryConfig(), None, words)).flow
    prepare_output(out)
    for file in names.values():  # those of an earlier run must not stand in for what fails now
        (out / file).unlink(missing_ok=True)
    with Progress(len(names), args.quiet) as progress:
        for name, file in names.items():
            try:
                a, b = read_frame_pair(images, name)
            except TrianflowError as error:
                progress.say(f"trianflow: warning: no prediction of {name}: {error}")
                progress.advance("skipped")
                continue
            flow = estimator.flow(estimator.encode(a), estimator.encode(b)).flow_ab[0].permute(1, 2, 0).numpy()
            prepare_output((out / file).parent)
            write_flow(out / file, flow)
            progress.advance("done")


def _files_in(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
