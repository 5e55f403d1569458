"""`trianflow eval depth`: score depth files against the truth."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trianflow.cli.common import warn
from trianflow.cli.eval_output import add_shared_arguments, counted, first_few, paths_by_row, show
from trianflow.cli.progress import Progress
from trianflow.errors import TrianflowError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trianflow.evaluation.depth_files import DepthImages, DepthPairs
    from trianflow.evaluation.depth_protocols import DepthProtocol, ImagePair
    from trianflow.evaluation.depth_scores import DepthScore

_DESCRIPTION = """\
Score depth predictions against the truth. GT and PRED are folders of 16-bit PNG or .npy files, folders of such
sequences (SEQUENCE/truth, SEQUENCE/depth), or one .npy or .npz stack (N, H, W). Files are paired by name, else in
order where there are as many.

  protocol  crop    truth         figures
  eigen     Garg    0.001 - 80 m  AbsRel SqRel RMSE RMSElog and the three δ
  eigen50   Garg    0.001 - 50 m  the same
  nyuv2     NYUv2   0.001 - 80 m  AbsRel log10 RMSE and the three δ; 80 m as in TrianFlow's test
  make3d    central 0.001 - 70 m  AbsRel SqRel RMSE log10; error C1: nothing beyond 70 m counts
  plain     none    above 0.001 m all

A prediction covers what its truth covers. It is resized to it as disparity (1 / depth, bilinearly, and inverted
afterwards, whether PRED is depth or disparity: so do the tests of TrianFlow and Monodepth2, while that of SfMLearner
enlarges depth), scaled, clamped to the caps of the protocol and measured; the figures are means over the images. Pixels
with truth but without a prediction count as the least depth. nyuv2 and make3d take GT of whole images, or cut to their
crop already (561x427 pixels; 1704x852, or 305x21 of the laser), so that predictions of the crop alone can be scored, as
the papers make them: `trianflow prepare --crop --truth` cuts images and truth alike.
Exit code 1 where an image could not be scored."""
_EPILOG = """\
examples:
  trianflow eval depth work/eigen out/ours --predict work/eigen --weights ours.safetensors
  trianflow eval depth gt_depths.npz disps_eigen_split.npy --disparity
  trianflow eval depth truth seed*/depth --median --csv eigen.csv --latex eigen.tex --plot eigen.png"""
_CARD = "depth.json"  # that `trianflow depth` writes beside its files


def add_parser(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `depth` to what `eval` can score."""
    parser = kinds.add_parser(
        "depth",
        help="depth maps: AbsRel, SqRel, RMSE, RMSE log, log10, δ",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_shared_arguments(
        parser,
        "true depth",
        "predictions",
        "the depth of these images (video, folder, what `trianflow prepare` wrote) by `trianflow depth`",
    )
    parser.add_argument("--plot", metavar="FILE", help="also draw AbsRel by image and by distance into this picture")
    files = parser.add_argument_group("files")
    files.add_argument(
        "--gt-scale",
        type=float,
        metavar="S",
        help="stored units of GT per metre: KITTI 256, TUM 5000, millimetres 1000 (default: depth_scale of calib.yaml)",
    )
    files.add_argument(
        "--scale",
        type=float,
        metavar="S",
        help=f"stored units of PRED per metre (default: of the {_CARD} that trianflow depth writes)",
    )
    files.add_argument("--disparity", action="store_true", help="PRED is inverse depth")
    files.add_argument(
        "--order",
        metavar="FILE",
        help="for a stack in PRED and folders in GT: list of its images, one a line; eigen_test: Eigen's 697 frames",
    )
    protocol = parser.add_argument_group("protocol")
    # the names stand in evaluation.depth_protocols and depth_scores, which take long to import
    protocol.add_argument(
        "--protocol",
        choices=["eigen", "eigen50", "nyuv2", "make3d", "plain"],
        default="eigen",
        help="see above (eigen)",
    )
    protocol.add_argument(
        "--crop",
        choices=["none", "garg", "eigen", "nyuv2", "make3d"],
        help="another crop than that of the protocol",
    )
    protocol.add_argument("--max-depth", type=float, metavar="M", help="another cap than that of the protocol")
    protocol.add_argument(
        "--scaling",
        choices=["median", "none"],
        default="median",
        help="of each image, by the ratio of medians (median)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `trianflow eval depth`.

    Returns:
        0, or 1 where an image could not be scored, or most could not be predicted.

    Raises:
        TrianflowError: a file that cannot be read, scored or written.
        UsageError: an option that cannot be right.
    """
    from trianflow.evaluation.depth_files import open_depths, stored_scale
    from trianflow.evaluation.depth_table import comparable_rows, depth_table

    paths = paths_by_row(args)
    protocol = _protocol(args)
    gt_scale = stored_scale(args.gt, truth=True) if args.gt_scale is None else args.gt_scale
    if args.disparity and args.predict is not None:
        raise UsageError("--predict writes depth: leave it out with --disparity")
    if args.order is not None and not any(Path(path).expanduser().is_file() for path in paths.values()):
        raise UsageError("--order names the images of a stack (.npy, .npz), and no PRED is one: leave it out")
    truth = open_depths(args.gt, gt_scale, truth=True)
    code = _predict(args) if args.predict is not None else 0
    scores: dict[str, DepthScore] = {}
    problems: dict[str, dict[str, str]] = {}
    notes: list[str] = []
    for name, path in paths.items():
        found = _score(args, path, truth, protocol)
        problems[name] = found.problems
        if found.score is not None:
            scores[name] = found.score
            notes += [f"{name}: {note}" for note in found.notes]
    if not scores:
        raise TrianflowError("nothing could be scored; the warnings above say why")
    if truth.reduced:
        notes.append(
            "the truth has the size of the small pictures, not that of the original frames:"
            " figures as papers have them need `trianflow prepare --truth`"
        )
    published = [] if truth.reduced else comparable_rows(list(scores.values()), args.published)
    scored = {len(score.images) for score in scores.values()}
    if protocol.published and args.published != "none" and scored != {protocol.images}:
        notes.append(f"figures of papers are of a test set of {protocol.images} images, these of {min(scored)}")
    table = depth_table(scores, args.median, published)
    text = "\n".join([*_head(args, truth, protocol), "", replace(table, label=protocol.name).text()])
    own = {name: score.to_dict() for name, score in scores.items()}
    show(args, table, text, notes, {"predictions": own, "problems": problems})
    if args.plot:
        from trianflow.visualization.depth_error_plot import plot_depth_errors

        plot_depth_errors(args.plot, scores)
    return 1 if any(problems.values()) else code


def _predict(args: argparse.Namespace) -> int:
    """Write the depth of the images; what an earlier run left must not stand in for what fails now."""
    from trianflow.cli.eval_predict import prediction_folder, run_command

    out = prediction_folder(args, lambda folder: next(folder.rglob(_CARD), None) is not None)
    before = {file: file.stat().st_mtime_ns for file in out.rglob("depth/*")}
    code = run_command(args, "depth", [args.predict, "--out", str(out)])
    left = [file for file, time in before.items() if file.stat().st_mtime_ns == time]
    if left:
        raise TrianflowError(f"{left[0]} is an earlier prediction that was not made again: name a new folder")
    return code


def _protocol(args: argparse.Namespace) -> DepthProtocol:
    from trianflow.evaluation.depth_protocols import PROTOCOLS

    protocol = PROTOCOLS[args.protocol]
    if args.max_depth is not None:
        if not args.max_depth > protocol.least:
            raise UsageError(f"--max-depth must be above {protocol.least:g} m, not {args.max_depth:g}")
        protocol = replace(protocol, largest=args.max_depth)
    return replace(protocol, crop=args.crop or protocol.crop)


@dataclass(frozen=True)
class _Scored:
    """What became of one PRED: no score where nothing could be scored, and what is wrong by the name of the image."""

    score: DepthScore | None
    problems: dict[str, str]
    notes: tuple[str, ...] = ()


def _score(args: argparse.Namespace, path: str, truth: DepthImages, protocol: DepthProtocol) -> _Scored:
    from trianflow.evaluation.depth_files import DepthPairs, open_depths, stored_scale
    from trianflow.evaluation.depth_order import name_stack, read_order
    from trianflow.evaluation.depth_scores import score_images

    scale = stored_scale(path) if args.scale is None else args.scale
    if scale is None and args.scaling != "none":
        scale = 1.0  # any unit will do
    pairs: DepthPairs | None = None
    try:
        images = open_depths(path, scale)
        if args.order is not None and not images.named:
            images = name_stack(images, read_order(args.order), truth)
        pairs = DepthPairs(truth, images, protocol, disparity=args.disparity)
        with Progress(len(truth), args.quiet) as progress:
            score = score_images(_watched(pairs, progress), protocol, args.scaling)
    except UsageError:
        raise
    except TrianflowError as error:
        text = str(error) if path in str(error) else f"{path}: {error}"
        if pairs is not None and pairs.problems:
            text += f"; the first: {' '.join(next(iter(pairs.problems.items())))}"
        if len(args.pred) == 1:
            raise TrianflowError(text) from error
        warn(f"{text}; it has no row")
        return _Scored(None, {path: text})
    _warn_about(path, score, pairs)
    return _Scored(score, dict(pairs.problems), tuple(_notes(score, pairs)))


def _watched(pairs: DepthPairs, progress: Progress) -> Iterator[ImagePair]:
    for pair in pairs:
        yield pair
        progress.advance("scored")


def _warn_about(path: str, score: DepthScore, pairs: DepthPairs) -> None:
    if pairs.problems:
        told = first_few([f"{name} ({problem})" for name, problem in pairs.problems.items()])
        warn(
            f"{path}: {len(pairs.problems)} of {len(pairs)} images NOT SCORED, the figures are of the other"
            f" {len(score.images)}: {told}"
        )
    if score.unknown:
        least = score.protocol.least
        warn(f"{path}: {score.unknown} of {score.pixels} pixels have no prediction and count as {least:g} m")


def _notes(score: DepthScore, pairs: DepthPairs) -> list[str]:
    """What a reader must know beside the figures of one PRED."""
    notes = []
    truth, prediction = pairs.truth, pairs.prediction
    if not pairs.by_name and truth.named:
        first, last = (f"{truth.names[i]} with {prediction.names[i]}" for i in (0, -1))
        notes.append(f"paired in order: {first}, ..., {last}")
    if pairs.left_over:
        notes.append(f"{counted(pairs.left_over, 'prediction')} without truth, left out")
    if score.empty:
        empty = f"{counted(len(score.empty), 'image')} without truth that counts, left out"
        notes.append(f"{empty}: {first_few(score.empty)}")
    return notes


def _head(args: argparse.Namespace, truth: DepthImages, protocol: DepthProtocol) -> list[str]:
    """What was compared, and how."""
    from trianflow.evaluation.depth_table import SCALING_WORDS

    return [
        f"ground truth  {args.gt}, {counted(len(truth), 'image')}",
        f"protocol      {protocol.name}: {protocol.label}",
        f"scaling       {SCALING_WORDS[args.scaling]}, then clamped to the caps",
        "figures       means over the images; scale: truth over prediction, median over the images and deviation in %",
    ]
