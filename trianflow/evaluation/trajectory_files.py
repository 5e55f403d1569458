"""Trajectories to score: a file, what `trianflow vo` leaves, or snippets as the evaluation of SfMLearner reads them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from trianflow.errors import TrianflowError
from trianflow.trajectory import Trajectory


def load_estimate(path: str | Path, stamped: bool) -> Trajectory:
    """Read an estimated trajectory.

    Args:
        path: a trajectory file (see `Trajectory.load`), or a folder that `trianflow vo` wrote.
        stamped: whether the truth has time stamps; of a folder then `trajectory.tum` is read, which has them too,
            else `trajectory.kitti` with the frame numbers of `report.json`.

    Raises:
        TrianflowError: nothing there, or a file that cannot be read.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        return Trajectory.load(path)
    file = path / ("trajectory.tum" if stamped else "trajectory.kitti")
    if not file.exists():
        raise TrianflowError(f"{path}: a folder without {file.name}, which `trianflow vo` writes: name the file itself")
    trajectory = Trajectory.load(file)
    numbers = [] if stamped else _frame_numbers(path / "report.json")
    if len(numbers) != len(trajectory):
        return trajectory
    return Trajectory(np.array(numbers), trajectory.T_wc, times_are_indices=True)


def load_snippets(path: str | Path, stamped: bool = False) -> Trajectory | dict[int, Trajectory]:
    """Read a whole trajectory, or a folder of snippets.

    Args:
        path: of a trajectory, see `load_estimate`; or a folder with one text file a snippet. Such a file is named
            after the number of the snippet's first frame (`000000.txt`, `000001.txt`, ...) and holds a TUM row
            `t x y z qx qy qz qw` for each frame, camera to the frame of the first camera. Other files are left alone.
        stamped: see `load_estimate`.

    Returns:
        The trajectory, or the snippets by the number of their first frame.

    Raises:
        TrianflowError: nothing there, or a file that cannot be read.
    """
    path = Path(path).expanduser()
    texts = sorted(path.glob("*.txt")) if path.is_dir() else []
    files = {int(file.stem): file for file in texts if file.stem.isascii() and file.stem.isdigit()}
    if files:
        return {number: Trajectory.load(file, "tum") for number, file in files.items()}
    if path.is_dir() and not any(path.glob("trajectory.*")):
        raise TrianflowError(
            f"{path}: no snippet in this folder; expected 000000.txt, 000001.txt, ... with TUM rows,"
            " or the trajectory that `trianflow vo` writes"
        )
    return load_estimate(path, stamped)


def _frame_numbers(report: Path) -> list[int]:
    """Which frames of its input a run of `trianflow vo` took; empty where that is not known."""
    try:
        return [int(row["index"]) for row in json.loads(report.read_text(encoding="utf-8"))["frames"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
