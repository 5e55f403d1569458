"""`trianflow eval depth`: score depth files against the truth."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trianflow.cli.common import warn
from trianflow.cli.eval_output import add_table_arguments, short_names, write_tables
from trianflow.cli.progress import Progress
from trianflow.errors import TrianflowError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trianflow.evaluation.depth_files import DepthImages, DepthPairs
    from trianflow.evaluation.depth_protocols import DepthProtocol, ImagePair
    from trianflow.evaluation.depth_scores import DepthScore
    from trianflow.evaluation.table import Table

_NAMED = 5  # problems that a warning spells out

_DESCRIPTION = """\
Score depth predictions against the truth. GT and PRED are folders of 16-bit PNG or .npy files, folders of such
sequences (SEQUENCE/truth, SEQUENCE/depth), or one .npy or .npz stack (N, H, W). Files are paired by name, else in
order where there are as many.

  protocol  crop    truth         figures
  eigen     Garg    0.001 - 80 m  AbsRel SqRel RMSE RMSElog and the three δ
  eigen50   Garg    0.001 - 50 m  the same
  nyuv2     NYUv2   0.001 - 10 m  AbsRel log10 RMSE and the three δ
  make3d    central 0.001 - 70 m  AbsRel SqRel RMSE log10; error C1: nothing beyond 70 m counts
  plain     none    above 0.001 m all

A prediction is resized to the truth, scaled, clamped to the caps of the protocol and measured; the figures are
means over the images. Pixels with truth but without a prediction count as the least depth.
Exit code 1 where an image could not be scored."""
_EPILOG = """\
examples:
  trianflow depth frames --out out/ours && trianflow eval depth truth out/ours --gt-scale 256
  trianflow eval depth gt_depths.npz disps_eigen_split.npy --disparity
  trianflow eval depth truth seed*/depth --median --csv eigen.csv --latex eigen.tex --plot eigen.png"""


def add_parser(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `depth` to what `eval` can score."""
    from trianflow.evaluation.depth_protocols import CROPS, PROTOCOLS
    from trianflow.evaluation.depth_scores import SCALINGS

    parser = kinds.add_parser(
        "depth",
        help="depth maps: AbsRel, SqRel, RMSE, RMSE log, log10, δ",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("gt", metavar="GT", help="true depth")
    parser.add_argument("pred", metavar="PRED", nargs="+", help="predictions, one row each")
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
        help="stored units of PRED per metre (default: of the depth.json that trianflow depth writes)",
    )
    files.add_argument("--disparity", action="store_true", help="PRED is inverse depth")
    files.add_argument("--cropped", action="store_true", help="PRED covers the crop alone, not the whole image")
    files.add_argument(
        "--order",
        metavar="FILE",
        help="for a stack in PRED and folders in GT: list of its images, one a line; eigen_test: Eigen's 697 frames",
    )
    protocol = parser.add_argument_group("protocol")
    protocol.add_argument("--protocol", choices=list(PROTOCOLS), default="eigen", help="see above (eigen)")
    protocol.add_argument("--crop", choices=CROPS, help="another crop than that of the protocol")
    protocol.add_argument("--max-depth", type=float, metavar="M", help="another cap than that of the protocol")
    protocol.add_argument(
        "--scaling",
        choices=SCALINGS,
        default="median",
        help="by the ratio of medians of each image; common: all images by the median of those; none (median)",
    )
    protocol.add_argument(
        "--published", choices=["all", "none"], default="all", help="figures of papers below the table (all)"
    )
    protocol.add_argument("--median", action="store_true", help="PRED are runs of one method: add their median")
    add_table_arguments(parser)
    parser.add_argument("--plot", metavar="FILE", help="also draw AbsRel by image and by distance into this picture")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `trianflow eval depth`.

    Returns:
        0, or 1 where an image could not be scored.

    Raises:
        TrianflowError: a file that cannot be read, scored or written.
        UsageError: an option that cannot be right.
    """
    from trianflow.evaluation.depth_files import open_depths, stored_scale
    from trianflow.evaluation.depth_table import depth_table

    paths = short_names(args.pred)
    if args.median and len(paths) < 2:
        raise UsageError("--median is of several PRED, and there is one")
    protocol = _protocol(args)
    gt_scale = stored_scale(args.gt, truth=True) if args.gt_scale is None else args.gt_scale
    truth = open_depths(args.gt, gt_scale, truth=True)
    scores: dict[str, DepthScore] = {}
    problems: dict[str, dict[str, str]] = {}
    notes: list[str] = []
    for name, path in paths.items():
        scored = _score(args, path, truth, protocol)
        problems[name] = scored.problems
        if scored.score is not None:
            scores[name] = scored.score
            notes += [f"{name}: {note}" for note in scored.notes]
    if not scores:
        raise TrianflowError("nothing could be scored; the warnings above say why")
    table = depth_table(scores, args.median, args.published == "all")
    write_tables(table, args)
    if args.plot:
        from trianflow.visualization.depth_error_plot import plot_depth_errors

        plot_depth_errors(args.plot, scores)
    notes += _notes(args, table, scores)
    if args.json:
        own = {name: score.to_dict() for name, score in scores.items()}
        out = {"ground_truth": args.gt, "predictions": own, "problems": problems, "notes": notes}
        out["table"] = table.to_dict()
        print(json.dumps(out, indent=2, allow_nan=False))
    else:
        print("\n".join(_head(args, truth, protocol)), end="\n\n")
        print(replace(table, label=protocol.name).text())
        if notes:
            print("\n".join(["", *notes]))
    return int(any(problems.values()))


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
    from trianflow.evaluation.depth_scores import common_factor, score_images

    scale = stored_scale(path) if args.scale is None else args.scale
    if scale is None and args.scaling != "none":
        scale = 1.0  # any unit will do
    pairs: DepthPairs | None = None
    try:
        images = open_depths(path, scale)
        if args.order is not None and not images.named:
            images = name_stack(images, read_order(args.order), truth)
        pairs = DepthPairs(truth, images, protocol, disparity=args.disparity, cropped=args.cropped)
        factor = common_factor(pairs) if args.scaling == "common" else 1.0
        with Progress(len(truth), args.quiet) as progress:
            score = score_images(_watched(pairs, progress), protocol, args.scaling, factor)
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
    notes = []
    if not pairs.by_name and truth.named:
        first, last = (f"{truth.names[i]} with {images.names[i]}" for i in (0, -1))
        notes.append(f"paired in order: {first}, ..., {last}")
    if pairs.left_over:
        notes.append(f"{pairs.left_over} predictions without truth, left out")
    return _Scored(score, dict(pairs.problems), tuple(notes))


def _watched(pairs: DepthPairs, progress: Progress) -> Iterator[ImagePair]:
    for pair in pairs:
        yield pair
        progress.advance("scored")


def _warn_about(path: str, score: DepthScore, pairs: DepthPairs) -> None:
    if pairs.problems:
        told = [f"{name} ({problem})" for name, problem in list(pairs.problems.items())[:_NAMED]]
        more = f" and {len(pairs.problems) - _NAMED} more" if len(pairs.problems) > _NAMED else ""
        warn(
            f"{path}: {len(pairs.problems)} of {len(pairs)} images NOT SCORED, the figures are of the other"
            f" {len(score.images)}: {', '.join(told)}{more}"
        )
    if score.unknown:
        least = score.protocol.least
        warn(f"{path}: {score.unknown} of {score.pixels} pixels have no prediction and count as {least:g} m")


def _head(args: argparse.Namespace, truth: DepthImages, protocol: DepthProtocol) -> list[str]:
    """What was compared, and how."""
    from trianflow.evaluation.depth_table import SCALING_WORDS

    return [
        f"ground truth  {args.gt}, {len(truth)} images",
        f"protocol      {protocol.name}: {protocol.label}",
        f"scaling       {SCALING_WORDS[args.scaling]}, then clamped to the caps",
        "figures       means over the images; scale: truth over prediction, median over the images and deviation in %",
    ]


def _notes(args: argparse.Namespace, table: Table, scores: dict[str, DepthScore]) -> list[str]:
    notes = [
        f"{name}: {len(score.empty)} images without truth that counts, left out: {', '.join(score.empty[:_NAMED])}"
        + (" ..." if len(score.empty) > _NAMED else "")
        for name, score in scores.items()
        if score.empty
    ]
    if args.median:
        notes.append(f"median of {len(scores)}: ± is half the range from the least to the largest")
    first = next(iter(scores.values()))
    if any(row.source for row in table.rows) and len(first.images) != first.protocol.images:
        notes.append(
            f"the papers' figures are of the test set of {first.protocol.images} images, these of {len(first.images)}"
        )
    return notes
