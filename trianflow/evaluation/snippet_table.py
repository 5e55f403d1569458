"""The snippet ATE as a table, beside the papers' figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trianflow.evaluation.odometry_protocol import WHOLE
from trianflow.evaluation.odometry_table import time_note
from trianflow.evaluation.published import Choice, published_rows
from trianflow.evaluation.snippets import SnippetScore
from trianflow.evaluation.table import Column, Row, Table, median_row

_COLUMNS = (
    Column("snippets", "snippets", 0),
    Column("ate", "ATE m"),
    Column("ate_std", "std m"),
    Column("rmse", "RMSE m"),
)


def snippet_table(scores: Mapping[str, SnippetScore], median: bool = False, published: Sequence[Row] = ()) -> Table:
    """One row a prediction: the mean of the ATE over the snippets, its standard deviation over them, the mean RMSE.

    Args:
        scores: name of the prediction to its score; all of one truth and one length.
        median: they are runs of one method; a row with their medians and spreads is added.
        published: rows of papers, to stand below.
    """
    errors: dict[str, dict[str, float | None]] = {
        name: {"ate": s.errors.mean, "ate_std": s.errors.std, "rmse": s.errors.rmse} for name, s in scores.items()
    }
    rows = [Row(name, {"snippets": len(scores[name].errors.errors), **values}) for name, values in errors.items()]
    if median:
        rows.append(median_row(f"median of {len(rows)}", list(errors.values())))
    return Table("prediction", _COLUMNS, [*rows, *published])


def comparable_rows(sequence: str | None, scores: Sequence[SnippetScore], choice: Choice = "few") -> list[Row]:
    """The papers' figures of a KITTI sequence for snippets of this length; none where a score is not of all of them.

    Args:
        sequence: `09`, `10`, or None for any other.
        scores: at least one, all of one length.
        choice: see `published_rows`.
    """
    if sequence is None or any(len(score.errors.errors) < WHOLE * score.true for score in scores):
        return []
    rows = published_rows(f"snippet_ate_{scores[0].errors.length}", choice)
    keys = {"ate": f"ate_{sequence}", "ate_std": f"ate_{sequence}_std"}
    return [Row(row.name, {key: row.values[own] for key, own in keys.items()}, source=row.source) for row in rows]


def snippet_notes(score: SnippetScore) -> list[str]:
    """What a reader must know beside the numbers of one prediction."""
    count = len(score.errors.errors)
    notes = [f"{count} of {score.true} snippets have a prediction"] if count != score.true else []
    notes += time_note(score.time_gap)
    backwards = int(np.sum(score.errors.scales < 0))
    return notes + ([f"snippets that run against the truth (negative scale): {backwards}"] if backwards else [])
