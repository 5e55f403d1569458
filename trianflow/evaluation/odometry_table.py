"""The odometry metrics as a text table."""

from __future__ import annotations

from collections.abc import Mapping

from trianflow.evaluation.odometry import OdometryMetrics
from trianflow.evaluation.table import columns_of_text


def odometry_table(results: Mapping[str, OdometryMetrics], lengths: bool = False) -> str:
    """A text table, one row an estimate, with what was compared and the notes that the numbers need.

    Args:
        results: name of the estimate to its metrics; all of one truth and one alignment.
        lengths: also a table of t_err and r_err by segment length.
    """
    head = ["estimate", "poses", "t_err %", "r_err °/100m", "ATE m", "RPE m", "RPE °"]
    head += ["pair rot °", "pair dir °", "scale"]
    rows, notes = [], []
    for name, m in results.items():
        numbers = [
            (m.t_err, 3),
            (m.r_err, 4),
            (m.ate and m.ate.rmse, 3),
            (m.rpe and m.rpe.translation.rmse, 4),
            (m.rpe and m.rpe.rotation.rmse, 4),
            (m.pair_rotation_median, 4),
            (m.pair_direction_median, 3),
        ]
        cells = ["-" if v is None else f"{v:.{digits}f}" for v, digits in numbers]
        rows.append([name, f"{m.compared}/{m.gt_poses}", *cells, f"{m.scale:.4g}"])
        notes += [f"{name}: {note}" for note in _notes(m)]
    text = columns_of_text([head, *rows])
    if lengths:
        for name, m in results.items():
            head = ["length m", *(f"{e.length:g}" for e in m.per_length)]
            t = ["t_err %", *("-" if e.t_err is None else f"{e.t_err:.3f}" for e in m.per_length)]
            r = ["r_err °/100m", *("-" if e.r_err is None else f"{e.r_err:.4f}" for e in m.per_length)]
            count = ["segments", *(str(e.segments) for e in m.per_length)]
            text += f"\n\n{name}, by segment length\n" + columns_of_text([head, t, r, count])
    return "\n".join([text, *([""] if notes else []), *notes])


def _notes(m: OdometryMetrics) -> list[str]:
    """What a reader must know beside the numbers."""
    notes = []
    if m.t_err is None:
        shortest = min(e.length for e in m.per_length)
        notes.append(
            f"no segment of {shortest:g} m in {m.path_length:.1f} m: t_err and r_err need shorter lengths"
        )
    if not (m.compared == m.gt_poses == m.est_poses):
        notes.append(
            f"{m.compared} poses compared by {m.association}, of {m.gt_poses} true, {m.est_poses} estimated"
        )
    why = {
        "static": "all positions of one side lie at one place, so no rotation or scale was fitted",
        "collinear": "the positions lie on a line, so the turn about it is not determined",
        "opposed": "the estimate runs against the truth, so no scale was fitted",
    }.get(m.alignment_status)
    return notes + ([f"alignment: {why}"] if why else [])
