"""`trianflow eval reproduce`: from the archives of a dataset to a row of a published table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trianflow.errors import UsageError

if TYPE_CHECKING:
    from trianflow.evaluation.reproduce import TableRecipe
    from trianflow.evaluation.reproduce_steps import Step

_DESCRIPTION = """\
The steps to a table of the papers: prepare the data, train, predict, score. Each is shown with its command, what it
waits for or what is missing on this disk, and with the published row that it aims at; without TABLE the tables are
listed. --run does what is not done yet, in order, and stops where something is missing; a step that was interrupted
goes on. What trianflow has no system for yet is listed as missing too. DATA holds the datasets as unpacked, in these
folders (links will do):
  kitti_raw  kitti_odometry  kitti_2015  nyuv2 (the labelled set)  nyuv2_raw (a link needs the files of nyuv2 in it)"""
_EPILOG = """\
examples:
  trianflow eval reproduce odometry --data /data
  trianflow eval reproduce odometry --data /data --run
  trianflow eval reproduce depth_eigen --data /data --weights published.safetensors --run
  trianflow eval reproduce kitti2015_flow --data /data --run batch_size=4 workers=8"""


def add_parser(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `reproduce` to what `eval` can do."""
    parser = kinds.add_parser(
        "reproduce",
        help="a table of the papers: the steps to it, and what of them is done",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("table", metavar="TABLE", nargs="?", help="one of those that the command lists without it")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="single settings of the training")
    parser.add_argument("--data", default="data", metavar="DIR", help="folder of the datasets (data)")
    parser.add_argument("--work", default="work", metavar="DIR", help="folder of all that is made (work)")
    parser.add_argument(
        "--weights", default=None, metavar="NAME|FILE", help="leave out the training and use these weights"
    )
    parser.add_argument("--run", action="store_true", dest="do", help="do what is not done yet")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `trianflow eval reproduce`.

    Returns:
        0; with `--run` the exit code of the step that failed, 1 where one cannot be done.

    Raises:
        UsageError: no such table, or a setting that cannot be right.
        TrianflowError: the configurations of the trainings are not there.
    """
    from trianflow.evaluation.reproduce import TABLES, Place, run_steps, steps_of

    if args.table is None:
        if args.do:
            raise UsageError(f"--run needs a table: {', '.join(TABLES)}")
        for name, recipe in TABLES.items():
            print(f"{name}: {recipe.label}")
            print("\n".join(_aims(recipe)))
        return 0
    data, work = (Path(folder).expanduser() for folder in (args.data, args.work))
    steps = steps_of(args.table, Place(data, work, args.weights, tuple(args.overrides)))
    recipe = TABLES[args.table]
    if not args.do:
        print("\n".join([recipe.label, *_aims(recipe), *_results(recipe, steps), "", *_list(steps)]))
        return 0

    def call(words: Sequence[str]) -> int:
        from trianflow.cli import main

        sys.stdout.flush()
        return main([*words, *(["-q"] if args.quiet else []), *["-v"] * args.verbose])

    code = run_steps(steps, call, lambda text: print(f"trianflow: {text}", file=sys.stderr, flush=True))
    if code == 0 and not args.quiet:
        print("\n".join([recipe.label, *_aims(recipe), *_results(recipe, steps)]))
    return code


def _aims(recipe: TableRecipe) -> list[str]:
    """The published figures, a line a table, and their sources."""
    return [f"  published  {table}: {_figures(row.values)}; {row.name}, {row.source}" for table, row in recipe.aims()]


def _results(recipe: TableRecipe, steps: Sequence[Step]) -> list[str]:
    """The same figures of one's own, as far as they are there."""
    from trianflow.evaluation.reproduce_scores import ScoreStep
    from trianflow.evaluation.reproduce_steps import status_of

    keys = {table: row.values.keys() for table, row in recipe.aims()}
    scores = [step for step in steps if isinstance(step, ScoreStep)]
    lines = []
    for step in scores:
        if status_of(step).state == "done":
            own = step.figures()
            figures = _figures({key: own.get(key) for key in keys[step.published]})
            lines.append(f"  here       {step.published}: {figures}{f'; {step.note()}' if step.note() else ''}")
    return lines


def _figures(values: Mapping[str, float | None]) -> str:
    return ", ".join(f"{key} {'-' if value is None else format(value, '.4g')}" for key, value in values.items())


def _list(steps: Sequence[Step]) -> list[str]:
    """The steps, each with its state and command."""
    from trianflow.evaluation.reproduce import command_line
    from trianflow.evaluation.reproduce_steps import status_of

    lines = []
    said: dict[str, int] = {}
    for number, step in enumerate(steps, 1):
        status = status_of(step)
        text, link = status.text, " " if status.state == "waiting" else ": "
        if text and said.setdefault(text, number) != number:
            text = f"see {said[text]}"
        lines.append(f"{number}. {step.title}: {status.state}{link + text if text else ''}")
        lines += [f"   {command_line(step)}"] if step.words else []
    return lines
