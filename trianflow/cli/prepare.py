"""`trianflow prepare`: a dataset as downloaded becomes small pictures that everything else can read."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from trianflow.cli.common import warn
from trianflow.data.datasets.registry import DATASETS, open_dataset_folder
from trianflow.errors import UsageError

if TYPE_CHECKING:
    from trianflow.data.prepared import PreparedSequence

_SHOWN = 20  # problems that are printed

_DESCRIPTION = """\
Make small pictures of the frames of a dataset, without distortion, in a folder for each sequence:
  DST/SEQUENCE/images/*.png  calib.yaml  times.txt
  and, where known, poses.tum  depth/*.png (metres x 256)  speeds.txt (metres a second)
Several processes; the same command goes on where it was stopped or killed, and prepares again what was damaged or
whose source has changed: size or time of an image or depth file (so also of one that was only copied or touched), the
camera, the scale of depth, the place of the laser scanner. SRC is never changed. Train on it by data.root=DST
'data.train=[{path: SEQUENCE}]', where SEQUENCE may hold * to name many. Exit code 1 where something of the dataset or
the split is missing or cannot be read: it is named, and all the rest is prepared."""

_SPLITS = """\
only its frames, all of them: eigen_train, eigen_test (KITTI raw), odometry_train, odometry_test, nyuv2_train,
nyuv2_test (labelled images), nyuv2_raw_train, nyuv2_raw_test (scenes; wants the labelled .mat and splits.mat in SRC
or beside it)"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `prepare` to the sub-commands."""
    parser = subparsers.add_parser(
        "prepare",
        help="a dataset as downloaded becomes small pictures for training",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", metavar="DATASET", choices=sorted(DATASETS), help=", ".join(sorted(DATASETS)))
    parser.add_argument("source", metavar="SRC", help="folder of the dataset, unpacked as downloaded")
    parser.add_argument("out", metavar="DST", help="folder to write to")

    frames = parser.add_argument_group("which frames")
    frames.add_argument("--split", default=None, help=_SPLITS)
    frames.add_argument("--stride", type=int, default=1, metavar="N", help="those whose number is a multiple of N (1)")
    frames.add_argument(
        "--min-motion",
        type=float,
        default=None,
        metavar="SHARE",
        help="frames that moved less since the last one kept are left out: median flow, a share of the width"
        " (0.002; with --split 0, which keeps all)",
    )
    frames.add_argument(
        "--cameras",
        type=int,
        nargs="+",
        choices=range(4),
        default=None,
        metavar="N",
        help="KITTI: 0 left and 1 right grey, 2 left and 3 right colour (kitti_raw 2 3; kitti_odometry one of them: 2,"
        " or 0 where there is no colour)",
    )

    made = parser.add_argument_group("what is made of them")
    made.add_argument("--size", type=int, nargs=2, default=(832, 256), metavar=("W", "H"), help="(832 256)")
    made.add_argument("--fit", choices=["stretch", "crop"], default="stretch", help="crop keeps the aspect ratio")
    made.add_argument(
        "--crop",
        action="store_true",
        help="first cut off what the protocols leave out: NYUv2's border without depth, Cityscapes' car bonnet,"
        " Make3D's upper and lower rows",
    )
    made.add_argument(
        "--depth-scale",
        type=float,
        default=None,
        metavar="S",
        help="folder: stored units per metre of its depth (default: depth_scale of the calibration file)",
    )
    made.add_argument("--truth", action="store_true", help="also the true depth in full size, for `eval depth`")

    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (all cores)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `trianflow prepare`; 1 where something is missing or cannot be read.

    Raises:
        UsageError: an argument that cannot be right.
        TrianflowError: a source that is not this dataset, a destination that cannot be written.
    """
    from trianflow.data.datasets.splits import choose_frames
    from trianflow.data.prepared import PrepareSettings, prepare_sequences

    source, out = Path(args.source).expanduser(), Path(args.out).expanduser()
    _check(args)
    if out.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{out} lies in {source}: the dataset is not to be changed, name another folder")
    options = _reader_options(args)
    content = open_dataset_folder(args.dataset, source, **options)
    split = choose_frames(content, args.split, args.stride)
    if not split.frames:
        what = f"the split {args.split}" if args.split else "this stride"
        raise UsageError(f"{source}: holds nothing of {what}{f': {split.missing[0]}' if split.missing else ''}")
    chosen: dict[str, list[int]] = {}
    for name, index in split.frames:
        chosen.setdefault(name, []).append(index)
    chosen = {name: sorted(set(frames)) for name, frames in chosen.items()}
    min_motion = args.min_motion if args.min_motion is not None else 0.0 if args.split else 0.002
    settings = PrepareSettings(tuple(args.size), args.fit, min_motion, args.truth, options, args.split, args.stride)
    quiet = getattr(args, "quiet", False)
    lacking = [*content.problems, *(f"not there: {line}" for line in split.missing)]
    known = [f"{s.name}: {line}" for s in content.sequences if s.name in chosen for line in s.problems]
    if not args.json:
        _tell([*lacking, *known, *content.notes])
    with tqdm(total=sum(map(len, chosen.values())), unit=" frames", disable=quiet or None) as bar:
        results = prepare_sequences(content.sequences, out, settings, chosen, args.workers, bar.update)
    found = [f"{result.name}: {problem}" for result in results for problem in result.problems]
    notes = [f"{result.name}: {note}" for result in results for note in result.notes]
    if args.json:
        told = {"problems": [*lacking, *found], "notes": [*content.notes, *notes]}
        print(json.dumps({**told, "sequences": [asdict(result) for result in results]}, indent=2))
    else:
        _tell([*(line for line in found if line not in known), *notes])
        if not quiet:
            print(_summary(results, out))
    return 1 if lacking or not all(result.complete for result in results) else 0


def _check(args: argparse.Namespace) -> None:
    if min(args.size) < 32 or args.workers < 1 or args.stride < 1 or not 0 <= (args.min_motion or 0) < 1:
        raise UsageError(
            "--size must be at least 32x32, --workers and --stride at least 1, --min-motion from 0 to below 1"
        )
    if args.depth_scale is not None and not 0 < args.depth_scale < float("inf"):
        raise UsageError(f"--depth-scale must be positive, not {args.depth_scale:g}")


def _reader_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options that were given for the reader."""
    given = {"cameras": args.cameras, "crop": args.crop or None, "depth_scale": args.depth_scale}
    return {key: value for key, value in given.items() if value is not None}


def _summary(results: list[PreparedSequence], out: Path) -> str:
    kept, static, unreadable, blind = (
        sum(getattr(result, key) for result in results) for key in ("kept", "static", "unreadable", "without_depth")
    )
    parts = [f"{len(results)} sequence{'s' * (len(results) != 1)}", f"{kept} frame{'s' * (kept != 1)} written"]
    parts += [f"{static} left out because nothing moved"]
    parts += [f"{unreadable} left out because they cannot be read"] if unreadable else []
    parts += [f"{blind} without their depth, which cannot be read"] if blind else []
    return f"{out}: {', '.join(parts)}"


def _tell(problems: list[str]) -> None:
    """Warn of the first problems, and say where the others are."""
    for problem in problems[:_SHOWN]:
        warn(problem)
    if len(problems) > _SHOWN:
        warn(f"and {len(problems) - _SHOWN} more: --json lists them all")
