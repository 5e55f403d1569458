"""The table of depth: one's own predictions, runs of one method as their median, rows of papers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from trianflow.evaluation.depth_protocols import PROTOCOLS
from trianflow.evaluation.depth_scores import DepthScore
from trianflow.evaluation.published import Choice, published_rows
from trianflow.evaluation.table import Column, Row, Table, median_row

SCALING_WORDS = {"median": "each image by its medians", "none": "none"}

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


def depth_table(scores: Mapping[str, DepthScore], median: bool = False, published: Sequence[Row] = ()) -> Table:
    """The figures of several predictions under one protocol.

    Args:
        scores: by name, at least one, all of the same protocol and scaling.
        median: they are runs of one method; a row with their median and spread is added.
        published: rows of papers, to stand below.

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
    label = f"{protocol.name} ({protocol.label}; scaling: {SCALING_WORDS[first.scaling]})"
    return Table(label, columns, [*rows, *published])


def comparable_rows(scores: Sequence[DepthScore], choice: Choice = "few") -> list[Row]:
    """The published figures that were computed in the same way; none where one of the scores was not.

    Args:
        scores: at least one, all of the same protocol and scaling; published figures are of the crop and the caps of
            the protocol, of images each scaled by its medians, and of all images of the test set.
        choice: see `published_rows`.
    """
    first = scores[0]
    customary = first.protocol == PROTOCOLS.get(first.protocol.name) and first.scaling == "median"
    whole = all(len(score.images) == score.protocol.images for score in scores)
    return published_rows(first.protocol.published, choice) if customary and whole else []


def _values(score: DepthScore) -> dict[str, float | None]:
    deviation = score.scale_deviation
    return {
        **score.mean,
        "scale": score.scale,
        "scale_deviation": None if deviation is None else 100 * deviation,
        "images": len(score.images),
        "pixels": score.pixels,
    }
