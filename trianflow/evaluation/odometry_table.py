"""The odometry metrics as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trianflow.evaluation.odometry import OdometryMetrics
from trianflow.evaluation.odometry_protocol import nth
from trianflow.evaluation.segments import fitting_lengths
from trianflow.evaluation.table import Column, Row, Table, median_row

_COLUMNS = (
    Column("poses", "poses", 0),
    Column("t_err", "t_err %", 3),
    Column("r_err", "r_err °/100m", 4),
    Column("ate", "ATE m", 3),
    Column("rpe_translation", "RPE m", 4),
    Column("rpe_rotation", "RPE °", 4),
    Column("pair_rotation", "pair rot °", 4),
    Column("pair_direction", "pair dir °", 3),
    Column("scale", "scale", 4),
)
_SAME_TIME = 0.05  # seconds: half a frame of KITTI
_NOT_ERRORS = ("poses", "scale")
_LENGTH_COLUMNS = (Column("t_err", "t_err %", 3), Column("r_err", "r_err °/100m", 4), Column("segments", "segments", 0))


def odometry_table(
    results: Mapping[str, OdometryMetrics], median: bool = False, published: Sequence[Row] = ()
) -> Table:
    """One row an estimate.

    Args:
        results: name of the estimate to its metrics; all of one truth and one alignment.
        median: a row with the medians of the errors of all estimates, where there are several, and their spread.
        published: rows of papers, to stand below.
    """
    values = {name: _values(m) for name, m in results.items()}
    rows = [Row(name, v) for name, v in values.items()]
    if median and len(rows) > 1:
        errors = [{key: v for key, v in run.items() if key not in _NOT_ERRORS} for run in values.values()]
        rows.append(median_row(f"median of {len(rows)}", errors))
    return Table("estimate", _COLUMNS, [*rows, *published])


def length_table(metrics: OdometryMetrics) -> Table:
    """The KITTI errors of one estimate, one row a segment length."""
    rows = [
        Row(f"{e.length:g} m", {"t_err": e.t_err, "r_err": e.r_err, "segments": e.segments}) for e in metrics.per_length
    ]
    return Table("segments of", _LENGTH_COLUMNS, rows)


def odometry_notes(metrics: OdometryMetrics) -> list[str]:
    """What a reader must know beside the numbers of one estimate."""
    m, notes = metrics, []
    if m.t_err is None:
        shortest = min(e.length for e in m.per_length)
        fitting = fitting_lengths(m.path_length)
        remedy = ": --lengths " + " ".join(f"{x:g}" for x in fitting) if fitting else ""
        notes.append(f"no segment of {shortest:g} m in {m.path_length:.1f} m, so no t_err and r_err{remedy}")
    if not (m.compared == m.gt_poses == m.est_poses):
        notes.append(f"{m.compared} poses compared by {m.association}, of {m.gt_poses} true, {m.est_poses} estimated")
    notes += time_note(m.time_gap)
    if m.association == "frame index" and m.compared == m.est_poses < m.gt_poses:
        strides = [n for n in range(2, 11) if -(-m.gt_poses // n) == m.est_poses]
        notes += [f"as many poses as every {nth(n)} frame has: if it is of those, --stride {n}" for n in strides]
    why = {
        "static": "all positions of one side lie at one place, so no rotation or scale was fitted",
        "collinear": "the positions lie on a line, so the turn about it is not determined",
        "opposed": "the estimate runs against the truth, so no scale was fitted",
    }.get(m.alignment_status)
    return notes + ([f"alignment: {why}"] if why else [])


def time_note(gap: float) -> list[str]:
    """What to say of poses that were put together with time stamps `gap` seconds apart."""
    return [f"compared row by row, though the time stamps are up to {gap:.2f} s apart"] if gap > _SAME_TIME else []


def _values(m: OdometryMetrics) -> dict[str, float | None]:
    return {
        "poses": m.compared,
        "t_err": m.t_err,
        "r_err": m.r_err,
        "ate": m.ate.rmse if m.ate else None,
        "rpe_translation": m.rpe.translation.rmse if m.rpe else None,
        "rpe_rotation": m.rpe.rotation.rmse if m.rpe else None,
        "pair_rotation": m.pair_rotation_median,
        "pair_direction": m.pair_direction_median,
        "scale": m.scale,
    }
