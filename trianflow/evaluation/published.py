"""Figures that papers print, beside which one's own stand."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, Literal

import yaml

from trianflow.evaluation.table import Row

Choice = Literal["few", "all", "none"]


def published_rows(table: str, choice: Choice = "all") -> list[Row]:
    """The rows of a table of the literature, each with its source.

    Args:
        table: `depth_eigen`, `depth_eigen50` (abs_rel, sq_rel, rmse, rmse_log, d1, d2, d3), `depth_nyuv2` (abs_rel,
            log10, rmse, d1, d2, d3), `depth_make3d` (abs_rel, sq_rel, rmse), `kitti2015_flow` (epe_noc, epe_all,
            fl_all in percent), `kitti2015_disparity` (d1_bg, d1_fg, d1_all in percent), `kitti_odometry_09`,
            `kitti_odometry_10`, `kitti_odometry_stride3_09`, `kitti_odometry_stride3_10` (t_err in percent, r_err in
            degrees per 100 m), `snippet_ate_3`, `snippet_ate_5` (ate_09, ate_09_std, ate_10, ate_10_std in metres).
        choice: `few` for the methods of this package and those that are most often compared with, `all`, or `none`.

    Returns:
        In the order of the papers' relevance; a figure that a paper does not print is None.

    Raises:
        ValueError: no such table.
    """
    tables = _tables()
    if table not in tables:
        raise ValueError(f"no published table is called {table!r}; there are {', '.join(tables)}")
    if choice == "none":
        return []
    return [
        Row(name, dict(zip(part["columns"], values)), source=part["source"])
        for part in tables[table]
        for name, values in part["rows"].items()
        if choice == "all" or name in part.get("few", part["rows"])
    ]


@cache
def _tables() -> dict[str, list[dict[str, Any]]]:
    text = resources.files("trianflow.evaluation").joinpath("published.yaml").read_text(encoding="utf-8")
    tables: dict[str, list[dict[str, Any]]] = yaml.safe_load(text)
    return tables
