"""The snippet ATE as a table, beside the papers' figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trianflow.evaluation.published import published_rows
from trianflow.evaluation.snippets import SnippetScore
from trianflow.evaluation.table import Column, Row, Table, median_row

_COLUMNS = (Column("snippets", "snippets", 0), Column("ate", "ATE m"), Column("rmse", "RMSE m"))


def snippet_table(scores: Mapping[str, SnippetScore], median: bool = False, published: Sequence[Row] = ()) -> Table:
    """One row a prediction, with the standard deviation over the snippets as the spread of its ATE.

    Args:
        scores: name of the prediction to its score; all of one truth and one length.
        median: a row with the medians of all predictions, where there are several, and their spread.
        published: rows of papers, to stand below.
    """
    rows = [
        Row(
            name,
            {"snippets": len(s.errors.errors), "ate": s.errors.mean, "rmse": s.errors.rmse},
            spread={"ate": s.errors.std},
        )
        for name, s in scores.items()
    ]
    if median and len(rows) > 1:
        errors: list[dict[str, float | None]] = [{"ate": s.errors.mean, "rmse": s.errors.rmse} for s in scores.values()]
        rows.append(median_row(f"median of {len(rows)}", errors))
    return Table("prediction", _COLUMNS, [*rows, *published])


def published_snippet_rows(sequence: str, length: int) -> list[Row]:
    """The papers' figures for snippets of 3 or 5 frames of a KITTI sequence, `09` or `10`."""
    rows = []
    for row in published_rows(f"snippet_ate_{length}"):
        ate, std = row.values.get(f"ate_{sequence}"), row.values.get(f"ate_{sequence}_std")
        if ate is not None:
            rows.append(Row(row.name, {"ate": ate}, {} if std is None else {"ate": std}, row.source))
    return rows


def snippet_notes(score: SnippetScore) -> list[str]:
    """What a reader must know beside the numbers of one prediction."""
    count = len(score.errors.errors)
    notes = [f"{count} of {score.true} snippets have a prediction"] if count != score.true else []
    backwards = int(np.sum(score.errors.scales < 0))
    return notes + ([f"{backwards} snippets run against the truth (their scale is negative)"] if backwards else [])
