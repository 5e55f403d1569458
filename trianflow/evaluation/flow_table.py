"""Errors of flow as a table, beside those that papers print."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from trianflow.evaluation.flow import GROUPS, GroupError, Protocol, over_images
from trianflow.evaluation.flow_files import FlowScores
from trianflow.evaluation.table import Column, Row, Table, median_row

_ORDER = ("noc", "occ", "all", "moving", "static")  # as the papers
_DISPARITY = (
    Column("d1_noc", "D1 noc %", 2),
    Column("d1_bg", "D1 bg %", 2),
    Column("d1_fg", "D1 fg %", 2),
    Column("d1_all", "D1 all %", 2),
    Column("error_all", "mean error px"),
)
_DISPARITY_KEYS = {"fl_noc": "d1_noc", "fl_static": "d1_bg", "fl_moving": "d1_fg", "fl_all": "d1_all"}


def flow_figures(errors: Mapping[str, GroupError]) -> dict[str, float | None]:
    """The figures of `over_images` by the keys of the table: `epe_all` in pixels, `fl_all` in percent, ...; None where
    there is none."""
    figures: dict[str, float | None] = {}
    for name in GROUPS:
        group = errors.get(name)
        figures[f"epe_{name}"] = None if group is None or math.isnan(group.epe) else group.epe
        figures[f"fl_{name}"] = None if group is None or math.isnan(group.outliers) else 100 * group.outliers
    return figures


def flow_table(
    scores: Mapping[str, FlowScores],
    protocol: Protocol,
    median: bool = False,
    published: Sequence[Row] = (),
    disparity: bool = False,
) -> Table:
    """A row for each set of predictions, with the groups that the truth tells apart.

    Args:
        scores: by name, of `score_flows`.
        protocol: of `over_images`.
        median: whether the sets are runs of one method, whose median and spread are a row of their own.
        published: rows of papers to stand below.
        disparity: whether the files are disparities: D1 of the background, objects, all.
    """
    figures = {name: flow_figures(over_images(list(s.errors.values()), protocol)) for name, s in scores.items()}
    rows = [Row(name, values | {"images": len(scores[name].errors)}) for name, values in figures.items()]
    if median:
        rows.append(median_row(f"median of {len(rows)}", list(figures.values())))
    if disparity:
        columns = [Column("images", "images", 0), *_DISPARITY]
        renamed = [Row(r.name, _renamed(r.values), _renamed(r.spread)) for r in rows]
        columns = [c for c in columns if any(row.values.get(c.key) is not None for row in renamed)]
        return Table("prediction", columns, [*renamed, *published])
    known = [name for name in _ORDER if any(values[f"epe_{name}"] is not None for values in figures.values())]
    columns = [Column("images", "images", 0)]
    columns += [Column(f"epe_{name}", f"EPE {name} px") for name in known]
    columns += [Column(f"fl_{name}", f"Fl {name} %", 2) for name in known]
    return Table("prediction", columns, [*rows, *published])


def _renamed(values: Mapping[str, float | None]) -> dict[str, Any]:
    """Figures of flow as those of disparities."""
    keys = _DISPARITY_KEYS | {"epe_all": "error_all", "images": "images"}
    return {keys[key]: value for key, value in values.items() if key in keys}
