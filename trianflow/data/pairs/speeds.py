"""The speeds of a prepared sequence, one for each of its frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trianflow.errors import TrianflowError, UsageError

_NAME = "speeds.txt"


def read_frame_speeds(frames: Path, start: int, count: int) -> np.ndarray:
    """Speeds of frames as `trianflow prepare` writes them: one number a line, `nan` where unknown.

    Args:
        frames: the folder of the pictures, or the one above; the file lies in it or beside it.
        start: first frame.
        count: number of frames.

    Returns:
        `(count,)` float64 metres a second, not negative, NaN where unknown.

    Raises:
        UsageError: no such file.
        TrianflowError: it holds other things, or fewer speeds than there are frames.
    """
    path = next((folder / _NAME for folder in (frames, frames.parent) if (folder / _NAME).is_file()), None)
    if path is None:
        raise UsageError(f"no {_NAME} beside {frames}: prepare the data with its speeds, or set data.speeds to false")
    try:
        speeds = np.array([float(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()])
    except (OSError, ValueError) as error:
        reason = (error.strerror or error) if isinstance(error, OSError) else "one speed a line is expected"
        raise TrianflowError(f"{path}: cannot read the speeds: {reason}") from None
    if len(speeds) < start + count:
        raise TrianflowError(f"{path}: {len(speeds)} speeds for {start + count} frames; prepare the sequence again")
    return np.abs(speeds[start : start + count])
