"""Errors of flow as a table, beside those that papers print."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from trianflow.data.datasets.kitti_flow import KITTI_2015
from trianflow.evaluation.flow import GROUPS, GroupError, Protocol, over_images
from trianflow.evaluation.flow_files import FlowScores
from trianflow.evaluation.flow_truth import TrueFlows
from trianflow.evaluation.published import Choice, published_rows
from trianflow.evaluation.table import Column, Row, Table, median_row

PUBLISHED_IMAGES = 200  # of KITTI 2015
_ORDER = ("noc", "occ", "all", "moving", "static")  # as the papers
_PROTOCOL_WORDS: dict[Protocol, str] = {"images": "mean over the images", "pixels": "over all pixels"}
_DISPARITY = {  # keys of flow, and what they are called for disparities
    "fl_noc": Column("d1_noc", "D1 noc %", 2),
    "fl_static": Column("d1_bg", "D1 bg %", 2),
    "fl_moving": Column("d1_fg", "D1 fg %", 2),
    "fl_all": Column("d1_all", "D1 all %", 2),
    "epe_all": Column("error_all", "mean error px"),
}


def flow_figures(errors: Mapping[str, GroupError]) -> dict[str, float | None]:
    """The figures of `group_errors` or `over_images` by the keys of the table; None where there is none.

    Returns:
        `epe_all` in pixels, `fl_all` in percent, and so on for each group; `density`, the share of the pixels with
        truth that have an estimate, in percent: of those alone is the EPE.
    """
    figures: dict[str, float | None] = {}
    for name in GROUPS:
        group = errors.get(name)
        figures[f"epe_{name}"] = None if group is None or math.isnan(group.epe) else group.epe
        figures[f"fl_{name}"] = None if group is None or math.isnan(group.outliers) else 100 * group.outliers
    whole = errors.get("all")
    figures["density"] = 100 * whole.estimated / whole.pixels if whole is not None and whole.pixels else None
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

    Returns:
        Its label names the protocol; with the density where a set does not cover all pixels.
    """
    figures = {name: flow_figures(over_images(list(s.errors.values()), protocol)) for name, s in scores.items()}
    columns = [Column("images", "images", 0)]
    if not all(_is_dense(score) for score in scores.values()):
        columns.append(Column("density", "density %", 2))
    if disparity:
        figures = {
            name: {"density": values["density"]} | {c.key: values[key] for key, c in _DISPARITY.items()}
            for name, values in figures.items()
        }
        columns += [c for c in _DISPARITY.values() if any(values[c.key] is not None for values in figures.values())]
    else:
        known = [name for name in _ORDER if any(values[f"epe_{name}"] is not None for values in figures.values())]
        columns += [Column(f"epe_{name}", f"EPE {name} px") for name in known]
        columns += [Column(f"fl_{name}", f"Fl {name} %", 2) for name in known]
    rows = [Row(name, values | {"images": len(scores[name].errors)}) for name, values in figures.items()]
    if median:
        rows.append(median_row(f"median of {len(rows)}", list(figures.values())))
    return Table(f"prediction, {_PROTOCOL_WORDS[protocol]}", columns, [*rows, *published])


def comparable_rows(
    truth: TrueFlows, scores: Sequence[FlowScores], protocol: Protocol, choice: Choice = "few"
) -> list[Row]:
    """The published figures that were computed in the same way, as far as is stated; none where a score was not.

    Args:
        truth: published figures are of all 200 images of KITTI 2015.
        scores: published figures are of an estimate for each pixel.
        protocol: published EPE and Fl are means over the images. How published D1 is averaged is not stated, as its
            source says: it stands beside `pixels`, which is KITTI's definition.
        choice: see `published_rows`.
    """
    if truth.kitti is None or truth.kitti.edition != KITTI_2015:
        return []
    if not all(len(score.errors) == PUBLISHED_IMAGES and _is_dense(score) for score in scores):
        return []
    table, customary = ("kitti2015_disparity", "pixels") if truth.disparity else ("kitti2015_flow", "images")
    return published_rows(table, choice) if protocol == customary else []


def _is_dense(score: FlowScores) -> bool:
    return all(image["all"].estimated == image["all"].pixels for image in score.errors.values())
