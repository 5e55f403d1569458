"""What the tests of `trianflow vo` share: its results read back."""

from __future__ import annotations

import json
from pathlib import Path

from trianflow.trajectory import Trajectory

FRAMES = 8
FILES = {"trajectory.tum", "trajectory.kitti", "report.json", "trajectory.png"}


def report_of(out: Path) -> dict:
    return json.loads((out / "report.json").read_text())


def statuses(out: Path) -> list[str]:
    """One word a frame, after a check that every file has one row a frame."""
    rows = report_of(out)["frames"]
    assert len(Trajectory.load(out / "trajectory.tum")) == len(rows)
    assert len(Trajectory.load(out / "trajectory.kitti")) == len(rows)
    return [row["status"] for row in rows]
