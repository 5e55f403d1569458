"""`trianflow prepare`: a dataset as downloaded becomes small pictures that everything else can read."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from trianflow.cli.common import warn
from trianflow.data.datasets.registry import DATASETS, open_dataset_folder
from trianflow.errors import UsageError

if TYPE_CHECKING:
    from trianflow.data.prepared import PreparedSequence

_SHOWN = 20  # problems that are printed; all of them stand in the files

_DESCRIPTION = """\
Make small pictures of the frames of a dataset, without distortion, in a folder for each sequence:
  DST/SEQUENCE/images/*.png  calib.yaml  times.txt  and, where known, poses.tum  depth/*.png (metres x 256)
Several processes; the same command goes on where it was stopped or killed. SRC is never changed. Train on it by
data.root=DST 'data.train=[{path: SEQUENCE}]', where SEQUENCE may hold * to name many. Exit code 1 where a sequence
could not be used."""


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
    parser.add_argument("--split", default=None, help="only its frames, all of them: eigen_train, eigen_test, ...")
    parser.add_argument("--size", type=int, nargs=2, default=(832, 256), metavar=("W", "H"), help="(832 256)")
    parser.add_argument("--fit", choices=["stretch", "crop"], default="stretch", help="crop keeps the aspect ratio")
    parser.add_argument(
        "--min-motion",
        type=float,
        default=None,
        metavar="SHARE",
        help="frames that moved less since the last one kept are left out: median flow, a share of the width"
        " (0.002; with --split 0, which keeps all)",
    )
    parser.add_argument("--truth", action="store_true", help="also the true depth in full size, for `eval depth`")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (all cores)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `trianflow prepare`; 1 where a sequence could not be used.

    Raises:
        UsageError: an argument that cannot be right.
        TrianflowError: a source that is not this dataset, a destination that cannot be written.
    """
    from trianflow.data.datasets.splits import take_split
    from trianflow.data.prepared import PrepareSettings, prepare_sequences

    source, out = Path(args.source).expanduser(), Path(args.out).expanduser()
    if min(args.size) < 32 or args.workers < 1 or not 0 <= (args.min_motion or 0) < 1:
        raise UsageError("--size must be at least 32x32, --workers at least 1, --min-motion from 0 to below 1")
    if out.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{out} lies in {source}: the dataset is not to be changed, name another folder")
    content = open_dataset_folder(args.dataset, source)
    problems = list(content.problems)
    chosen: dict[str, list[int]] | None = None
    if args.split is not None:
        split = take_split(args.split, content)
        chosen = {}
        for name, index in split.frames:
            chosen.setdefault(name, []).append(index)
        chosen = {name: sorted(set(frames)) for name, frames in chosen.items()}
        problems += [f"not there: {line}" for line in split.missing]
        if not chosen:
            raise UsageError(f"{source}: holds nothing of the split {args.split}: {split.missing[0]}, ...")
    min_motion = args.min_motion if args.min_motion is not None else 0.0 if args.split else 0.002
    settings = PrepareSettings(tuple(args.size), args.fit, min_motion, args.truth)
    total = sum(len(s) for s in content.sequences) if chosen is None else sum(map(len, chosen.values()))
    quiet = getattr(args, "quiet", False)
    with tqdm(total=total, unit=" frames", disable=quiet or None) as bar:
        results = prepare_sequences(content.sequences, out, settings, chosen, args.workers, bar.update)
    problems += [f"{result.name}: {problem}" for result in results for problem in result.problems]
    unusable = [result for result in results if not result.kept]
    if args.json:
        print(json.dumps({"problems": problems, "sequences": [asdict(result) for result in results]}, indent=2))
    else:
        for problem in problems[:_SHOWN]:
            warn(problem)
        if len(problems) > _SHOWN:
            warn(f"and {len(problems) - _SHOWN} more: prepared.json in the folder of each sequence has them")
        if not quiet:
            print(_summary(results, out))
    return 1 if unusable or content.problems else 0


def _summary(results: list[PreparedSequence], out: Path) -> str:
    kept, static = (sum(getattr(result, key) for result in results) for key in ("kept", "static"))
    return f"{out}: {len(results)} sequences, {kept} frames written, {static} left out because nothing moved"
