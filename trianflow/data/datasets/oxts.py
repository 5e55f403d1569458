"""OXTS, the GPS and inertial unit of KITTI raw: a file of 30 numbers for each frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np

OXTS_FIELDS = 30
_FORWARD, _LEFTWARD = 8, 9  # columns of the two speeds over ground


def read_oxts(folder: Path) -> dict[int, np.ndarray]:
    """Read what the unit measured.

    Args:
        folder: `oxts/data` of a drive, with `0000000000.txt` and so on; may be missing.

    Returns:
        `(30,)` float64 by the number of the frame, in the units of KITTI's `dataformat.txt`; NaN throughout where a
        file does not hold 30 finite numbers.
    """
    rows = {}
    for path in folder.glob("*.txt"):
        if path.stem.isdecimal():
            try:
                row = np.array([float(value) for value in path.read_text(encoding="utf-8").split()])
            except (OSError, ValueError):
                row = np.zeros(0)
            valid = len(row) == OXTS_FIELDS and np.isfinite(row).all()
            rows[int(path.stem)] = row if valid else np.full(OXTS_FIELDS, np.nan)
    return rows


def speed_over_ground(rows: np.ndarray) -> np.ndarray:
    """`(...)` metres a second of rows `(..., 30)`, NaN where they are; sideways too, as the unit moves in turns."""
    return np.hypot(rows[..., _FORWARD], rows[..., _LEFTWARD])
