"""What the kinds of `trianflow eval` share: their arguments, and how a result is shown."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from trianflow.cli.common import add_network_arguments, warn
from trianflow.errors import TrianflowError, UsageError
from trianflow.evaluation.table import Table
from trianflow.files import replacing

_Score = TypeVar("_Score")


def add_shared_arguments(parser: argparse.ArgumentParser, gt: str, pred: str, predict: str) -> None:
    """Add what all kinds take.

    Args:
        parser: of the kind.
        gt, pred: what the truth is, and what the predictions are.
        predict: how `--predict IMAGES` makes them.
    """
    parser.add_argument("gt", metavar="GT", help=gt)
    parser.add_argument("pred", metavar="PRED", nargs="+", help=f"{pred}; a row each")
    group = parser.add_argument_group("predictions")
    group.add_argument("--predict", metavar="IMAGES", help=f"first write PRED, a folder: {predict}")
    add_network_arguments(group)
    group = parser.add_argument_group("table")
    group.add_argument("--median", action="store_true", help="PRED are runs of one method: add their median")
    group.add_argument(
        "--published",
        choices=["few", "all", "none"],
        default="few",
        help="figures of papers below the table, where they were computed in the same way on the same truth (few)",
    )
    group.add_argument("--json", action="store_true", help="print JSON instead of the table")
    group.add_argument("--csv", metavar="FILE", help="also write the table as comma-separated values, all digits")
    group.add_argument("--latex", metavar="FILE", help="also write the table as a LaTeX tabular (booktabs)")


def paths_by_row(args: argparse.Namespace) -> dict[str, str]:
    """The PRED by the names of their rows.

    Raises:
        UsageError: `--median` of one, `--predict` of several, or a network where nothing is predicted.
    """
    paths = short_names(args.pred)
    if args.median and len(paths) < 2:
        raise UsageError("--median is of several PRED, and there is one")
    if args.predict is None:
        for name in ("weights", "device", "network_size"):
            if getattr(args, name) is not None:
                option = name.replace("_", "-")
                raise UsageError(f"--{option} is for --predict IMAGES; without it, PRED are scored as they are")
        return paths
    if len(paths) > 1:
        raise UsageError(f"--predict writes one PRED, and there are {len(paths)}")
    return {Path(args.pred[0]).absolute().name: args.pred[0]}  # a folder, there or not


def score_each(paths: Mapping[str, str], score: Callable[[str, str], _Score]) -> dict[str, _Score]:
    """Score every PRED; one that cannot be is named and has no row, as long as another has one.

    Args:
        paths: of `paths_by_row`.
        score: from the name of a row and its path to the score.

    Raises:
        TrianflowError: of the first PRED, where none could be scored.
        UsageError: as `score`.
    """
    scores: dict[str, _Score] = {}
    problems: list[TrianflowError] = []
    for name, path in paths.items():
        try:
            scores[name] = score(name, path)
        except UsageError:
            raise
        except TrianflowError as error:
            problems.append(error if path in str(error) else TrianflowError(f"{path}: {error}"))
    if not scores:
        raise problems[0]
    for problem in problems:
        warn(f"{problem}; it has no row")
    return scores


def show(args: argparse.Namespace, table: Table, text: str, notes: Sequence[str], facts: Mapping[str, Any]) -> None:
    """Write the table to the files that were asked for, and print the result.

    Args:
        args: of the kind.
        table: all rows.
        text: what is printed for people, above the notes.
        notes: what a reader of the figures must know.
        facts: what `--json` prints beside the truth, the notes and the table.

    Raises:
        TrianflowError: a file cannot be written.
    """
    for name, write in ((args.csv, table.csv), (args.latex, table.latex)):
        if name is not None:
            _write(Path(name).expanduser(), write())
    if args.median:
        notes = [*notes, "median: ± is half the range from the least to the largest"]
    if args.json:
        result = {"ground_truth": args.gt, **facts, "notes": list(notes), "table": table.to_dict()}
        print(json.dumps(result, indent=2, allow_nan=False))
    else:
        print("\n".join([text, *(["", *notes] if notes else [])]))


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """A short name for each file or folder that tells it from the others, and its path as given.

    The name is the file's stem, or the folder's name, with the folders above it where needed.
    """
    unique = list(dict.fromkeys(paths))
    whole = [Path(p).absolute() for p in unique]
    parts = [(p if p.is_dir() else p.with_suffix("")).parts for p in whole]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-depth:]) for p in parts]
        if len(set(names)) == len(names):
            return dict(zip(names, unique))
    return dict(zip(unique, unique))


def title_of(path: str) -> str:
    """The last two parts of a path: every sequence has its `poses.txt`."""
    return "/".join(Path(path).absolute().parts[-2:])


def counted(count: int, thing: str) -> str:
    """`1 image`, `2 images`."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def first_few(items: Sequence[str], shown: int = 5) -> str:
    """The first ones of a list, and how many more there are."""
    return ", ".join(items[:shown]) + (f" and {len(items) - shown} more" if len(items) > shown else "")


def _write(path: Path, text: str) -> None:
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise TrianflowError(f"{path}: cannot write the table: {error.strerror}") from error
