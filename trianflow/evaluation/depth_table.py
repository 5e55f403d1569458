"""The table of depth: one's own predictions, runs of one method as their median, rows of papers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from trianflow.evaluation.depth_protocols import PROTOCOLS
from trianflow.evaluation.depth_scores import DepthScore
from trianflow.evaluation.published import published_rows
from trianflow.evaluation.table import Column, Row, Table, median_row

SCALING_WORDS = {"median": "each image by its medians", "common": "all images by one factor", "none": "none"}

_TITLES = {
    "abs_rel": "AbsRel",
    "sq_rel": "SqRel m",
    "rmse": "RMSE m",
    "rmse_log": "RMSElog",
    "log10": "log10",
    "d1": "δ < 1.25",
    "d2": "δ < 1.25²",
    "d3": "δ < 1.25³",
}


def depth_table(scores: Mapping[str, DepthScore], median: bool = False, published: bool = True) -> Table:
    """The figures of several predictions under one protocol.

    Args:
        scores: by name, at least one, all of the same protocol and scaling.
        median: they are runs of one method; a row with their median and spread is added.
        published: rows of papers stand below, where the protocol is theirs (own crop and caps, median scaling).

    Returns:
        With the scale of the predictions (truth over prediction, its deviation over the images in percent) and the
        number of images and pixels scored.
    """
    first = next(iter(scores.values()))
    protocol = first.protocol
    columns = [Column(key, _TITLES[key]) for key in protocol.metrics]
    columns += [Column("scale", "scale", 4), Column("scale_deviation", "dev. %", 1)]
    columns += [Column("images", "images", 0), Column("pixels", "pixels", 0)]
    own = {name: _values(score) for name, score in scores.items()}
    rows = [Row(name, values) for name, values in own.items()]
    if median:
        row = median_row(f"median of {len(own)}", list(own.values()))
        rows.append(replace(row, spread={key: s for key, s in row.spread.items() if key not in ("images", "pixels")}))
    customary = protocol == PROTOCOLS.get(protocol.name) and first.scaling == "median"
    if published and customary and protocol.published:
        rows += published_rows(protocol.published)
    label = f"{protocol.name} ({protocol.label}; scaling: {SCALING_WORDS[first.scaling]})"
    return Table(label, columns, rows)


def _values(score: DepthScore) -> dict[str, float | None]:
    deviation = score.scale_deviation
    return {
        **score.mean,
        "scale": score.scale,
        "scale_deviation": None if deviation is None else 100 * deviation,
        "images": len(score.images),
        "pixels": score.pixels,
    }
