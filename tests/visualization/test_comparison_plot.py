"""Pictures of a comparison are drawn with what there is, and refused where they cannot be written."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from trianflow.errors import TrianflowError
from trianflow.visualization.comparison_plot import plot_learning, plot_poses

CURVES = {"posenet": [(1.0, 0.5), (2.0, 0.4)], "trianflow": [(1.5, 0.45), (2.0, 0.3)]}


def test_learning_with_and_without_a_scale(tmp_path: Path) -> None:
    for number, scales in enumerate(({"posenet": [(1.0, 5.0), (2.0, 0.05)], "trianflow": []}, {})):
        path = tmp_path / f"{number}.png"
        plot_learning(path, CURVES, scales)
        picture = cv2.imread(str(path))
        assert picture.shape[1] > 1000
        assert (picture < 128).mean() > 0.005, "something is drawn"


def test_poses(tmp_path: Path) -> None:
    plot_poses(tmp_path / "poses.png", {"posenet": {1: (0.2, 0.1), 3: (0.8, 0.6)}, "trianflow": {1: (0.1, 0.1)}})
    assert (cv2.imread(str(tmp_path / "poses.png")) < 128).mean() > 0.005
    with pytest.raises(TrianflowError, match="cannot write the picture"):
        plot_poses(tmp_path / "no" / "poses.png", {"posenet": {1: (0.2, 0.1)}})
