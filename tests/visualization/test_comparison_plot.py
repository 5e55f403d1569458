"""Pictures of a comparison are drawn with what there is, and refused where they cannot be written."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import pytest

from trianflow.errors import TrianflowError
from trianflow.visualization import comparison_plot
from trianflow.visualization.comparison_plot import _by_ratio, plot_learning, plot_poses
from trianflow.visualization.style import new_figure

CURVES = {"posenet": [(1.0, 0.5), (2.0, 0.4)], "trianflow": [(1.5, 0.45), (2.0, 0.3)]}


def test_learning_with_and_without_a_scale(tmp_path: Path) -> None:
    for number, scales in enumerate(({"posenet": [(1.0, 5.0), (2.0, 0.05)], "trianflow": []}, {})):
        path = tmp_path / f"{number}.png"
        plot_learning(path, CURVES, scales)
        picture = cv2.imread(str(path))
        assert picture.shape[1] > 1000
        assert (picture < 128).mean() > 0.005, "something is drawn"


def test_the_highest_points_are_drawn_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(comparison_plot, "save_figure", lambda figure, path: figures.append(figure))
    plot_learning("a.png", {"a": [(1.0, 0.50), (2.0, 0.49), (3.0, math.nan)]}, {})
    plot_poses("b.png", {"a": {1: (0.80, 0.4), 2: (0.79, 0.4)}, "b": {1: (0.81, 0.41)}})
    plot_poses("c.png", {"a": {1: (0.0, 0.1)}})
    tops = [axes.get_ylim() for figure in figures for axes in figure.axes]
    assert tops == [(0, pytest.approx(top)) for top in (0.525, 0.8505, 0.4305, 1.0, 0.105)]


def test_scales_have_plain_numbers() -> None:
    for values in ([4.15, 4.3], [0.02, 5.0]):
        figure = new_figure(4, 3)
        axes = figure.subplots()
        _by_ratio(axes, values)
        figure.canvas.draw()
        low, high = axes.get_ylim()
        assert low <= min(values)
        assert max(values) <= high
        labels = [x.get_text() for x in (*axes.get_yticklabels(), *axes.get_yticklabels(minor=True)) if x.get_text()]
        assert sum(low <= float(label) <= high for label in labels) >= 1


def test_poses(tmp_path: Path) -> None:
    plot_poses(tmp_path / "poses.png", {"posenet": {1: (0.2, 0.1), 3: (0.8, 0.6)}, "trianflow": {1: (0.1, 0.1)}})
    assert (cv2.imread(str(tmp_path / "poses.png")) < 128).mean() > 0.005
    with pytest.raises(TrianflowError, match="cannot write the picture"):
        plot_poses(tmp_path / "no" / "poses.png", {"posenet": {1: (0.2, 0.1)}})
