"""Tables of results: aligned text, CSV, LaTeX, plain values for JSON; rows of papers beside one's own."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Column:
    """A metric.

    Attributes:
        key: of its values in a row.
        title: what stands above it, with the unit.
        digits: after the point.
    """

    key: str
    title: str
    digits: int = 3


@dataclass(frozen=True)
class Row:
    """A method, or a file, and its figures.

    Attributes:
        name: what stands in front.
        values: by the key of the column; what is missing or None shows as a dash.
        spread: half the range from the least to the largest value, for the median of several runs.
        source: where published figures come from; empty for one's own.
    """

    name: str
    values: Mapping[str, float | None]
    spread: Mapping[str, float] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under columns.

    Attributes:
        label: what stands above the names.
        columns: in their order.
        rows: those of papers (with a source) stand below a line of their own in text and LaTeX, with the digits
            that their source prints.
    """

    label: str
    columns: Sequence[Column]
    rows: Sequence[Row]

    def text(self) -> str:
        """Aligned columns; sources as notes below."""
        own, published = self._cells()
        lines = [[self.label, *(column.title for column in self.columns)], *own, *published]
        shown = columns_of_text(lines).splitlines()
        if own and published:
            shown.insert(2 + len(own), shown[1])
        sources: dict[str, list[str]] = {}
        for row in self.rows:
            if row.source:
                sources.setdefault(row.source, []).append(row.name)
        notes = [f"{', '.join(names)}: {source}" for source, names in sources.items()]
        return "\n".join([*shown, *([""] if notes else []), *notes])

    def csv(self) -> str:
        """Comma-separated values with all their digits; spreads in columns of their own where there are some."""
        spreads = [column for column in self.columns if any(column.key in row.spread for row in self.rows)]
        head = [self.label, *(column.key for column in self.columns), *(f"{c.key}_spread" for c in spreads), "source"]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(head)
        for row in self.rows:
            values = [_exact(row.values.get(column.key), column) for column in self.columns]
            values += [_exact(row.spread.get(column.key), column) for column in spreads]
            writer.writerow([row.name, *values, row.source])
        return out.getvalue()

    def latex(self) -> str:
        """A tabular with the rules of the package booktabs."""
        own, published = self._cells()
        titles = [self.label, *(column.title for column in self.columns)]
        lines = [rf"\begin{{tabular}}{{l{'r' * len(self.columns)}}}", r"\toprule", _latex_row(titles), r"\midrule"]
        lines += [_latex_row(cells) for cells in own]
        lines += [r"\midrule"] if own and published else []
        lines += [_latex_row(cells) for cells in published]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"

    def to_dict(self) -> list[dict[str, Any]]:
        """Rows as plain values."""
        keys = [column.key for column in self.columns]
        rows = []
        for row in self.rows:
            entry: dict[str, Any] = {"name": row.name, **{key: row.values.get(key) for key in keys}}
            entry |= {"spread": {key: row.spread[key] for key in keys if key in row.spread}} if row.spread else {}
            rows.append(entry | ({"source": row.source} if row.source else {}))
        return rows

    def _cells(self) -> tuple[list[list[str]], list[list[str]]]:
        """What stands in the rows: own ones, and those of papers."""
        digits: dict[tuple[str, str], int] = {}
        for row in self.rows:
            for column in self.columns:
                if row.source and (value := row.values.get(column.key)) is not None:
                    written = len(repr(float(value)).partition(".")[2])
                    digits[row.source, column.key] = max(digits.get((row.source, column.key), 0), written)
        cells = [
            [row.name, *(_cell(row, c, min(c.digits, digits.get((row.source, c.key), c.digits))) for c in self.columns)]
            for row in self.rows
        ]
        split = [bool(row.source) for row in self.rows]
        return [c for c, p in zip(cells, split) if not p], [c for c, p in zip(cells, split) if p]


def _exact(value: float | None, column: Column) -> str:
    if value is None:
        return ""
    whole = column.digits == 0 and float(value).is_integer()  # a count
    return str(int(value)) if whole else repr(float(value))


def _cell(row: Row, column: Column, digits: int) -> str:
    value, spread = row.values.get(column.key), row.spread.get(column.key)
    if value is None:
        return "-"
    return f"{value:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def median_row(name: str, runs: Sequence[Mapping[str, float | None]]) -> Row:
    """Several runs or seeds of one method as one row: the median and the spread of each figure that all of them have.

    Raises:
        ValueError: no run.
    """
    if not runs:
        raise ValueError("the median of no run")
    values: dict[str, float | None] = {}
    spread: dict[str, float] = {}
    for key in runs[0]:
        found = [value for run in runs if (value := run.get(key)) is not None]
        if len(found) < len(runs):
            values[key] = None
            continue
        values[key] = statistics.median(found)
        if len(found) > 1:
            spread[key] = (max(found) - min(found)) / 2
    return Row(name, values, spread)


def columns_of_text(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns of text, the first to the left; a rule under the first row."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join([r[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(r[1:], widths[1:]))]) for r in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


_LATEX = {c: rf"\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "°": r"$^\circ$",
    "δ": r"$\delta$",
    "<": r"$<$",
}


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join("".join(_LATEX.get(c, c) for c in cell) for cell in cells) + r" \\"
