"""Pictures of odometry metrics: what they show, and what cannot be drawn."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import matplotlib.figure
import numpy as np
import pytest

from trianflow.errors import TrianflowError
from trianflow.evaluation.odometry import OdometryMetrics, evaluate_odometry
from trianflow.trajectory import Trajectory
from trianflow.visualization.odometry_plots import plot_length_errors


def metrics(scale: float, n: int = 351) -> OdometryMetrics:
    T_wc = np.tile(np.eye(4), (351, 1, 1))
    T_wc[:, 2, 3] = np.arange(351)
    gt = Trajectory(np.arange(351.0), T_wc)
    est = T_wc[:n].copy()
    est[:, 2, 3] *= scale
    return evaluate_odometry(gt, Trajectory(gt.times[:n], est), "none", [100, 200, 300, 400], with_evo=False)


def test_a_line_for_each_estimate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[Any] = []
    save = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda self, p: (saved.append(self), save(self, p))[1])
    results = {"near": metrics(0.98), "far": metrics(0.9, n=250), "short": metrics(1.0, n=50)}
    plot_length_errors(tmp_path / "a.png", results, title="three")
    image = cv2.imread(str(tmp_path / "a.png"))
    assert image is not None
    assert image.std() > 5
    (figure,) = saved
    left, right = figure.axes
    lines = {line.get_label(): line.get_data() for line in left.get_lines()}
    assert list(lines) == ["near", "far"], "what has no segment is not drawn"
    assert lines["near"][0] == pytest.approx([100, 200, 300, 400])
    assert lines["near"][1] == pytest.approx([2.02, 2.01, 2 * 301 / 300, np.nan], nan_ok=True)
    assert lines["far"][1] == pytest.approx([10.1, 10.05, np.nan, np.nan], nan_ok=True)
    assert left.get_ylim()[0] == right.get_ylim()[0] == 0
    assert (left.get_ylabel(), right.get_ylabel()) == ("t_err (%)", "r_err (°/100 m)")
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "alignment to the truth: none (first poses agree)"


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(TrianflowError, match="no curve to draw"):
        plot_length_errors(tmp_path / "a.png", {"a": metrics(1.0, n=50)})
    with pytest.raises(TrianflowError, match="cannot write the picture: No such file"):
        plot_length_errors(tmp_path / "no" / "a.png", {"a": metrics(0.9)})


def test_a_light_import() -> None:
    code = "import sys, trianflow.visualization.odometry_plots; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
