"""Where the tables of `trianflow eval` go."""

from __future__ import annotations

import argparse
from pathlib import Path

from trianflow.errors import TrianflowError
from trianflow.evaluation.table import Table
from trianflow.files import replacing


def add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options `--json`, `--csv` and `--latex`."""
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print JSON instead of the table")
    group.add_argument("--csv", metavar="FILE", help="also write the table as comma-separated values, all digits")
    group.add_argument("--latex", metavar="FILE", help="also write the table as a LaTeX tabular (booktabs)")


def write_tables(table: Table, args: argparse.Namespace) -> None:
    """Write the files that `--csv` and `--latex` name.

    Raises:
        TrianflowError: a file cannot be written.
    """
    for name, text in ((args.csv, table.csv), (args.latex, table.latex)):
        if name is None:
            continue
        path = Path(name).expanduser()
        try:
            with replacing(path) as temporary:
                temporary.write_text(text(), encoding="utf-8")
        except OSError as error:
            raise TrianflowError(f"{path}: cannot write the table: {error.strerror}") from error


def short_names(paths: list[str]) -> dict[str, str]:
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
