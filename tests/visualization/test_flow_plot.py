"""Pictures of the errors of flow."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from trianflow.errors import TrianflowError
from trianflow.evaluation.flow import error_maps
from trianflow.evaluation.flow_files import HISTOGRAM
from trianflow.visualization.flow_plot import ErrorPicture, color_error, plot_flow_errors


def test_colours_step_at_the_bound_of_an_outlier() -> None:
    truth = np.zeros((1, 7, 2), np.float32)
    truth[0, :, 0] = [10, 10, 10, 200, 200, np.nan, 10]
    flow = truth.copy()
    flow[0, :, 1] += [0.1, 2.9, 3.1, 9.9, 10.1, 0, np.nan]
    maps = error_maps(flow, truth)
    colors = color_error(maps)[0].tolist()
    assert colors[0] == [49, 54, 149]
    right, wrong = [224, 243, 248], [254, 224, 144]
    assert colors[1:5] == [right, wrong, right, wrong]
    assert maps.outlier[0, 1:5].tolist() == [False, True, False, True]
    assert colors[5] == [0, 0, 0]
    assert colors[6] == [165, 0, 38]


def test_the_picture_shows_the_curve_and_the_map(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 20, (40, 120, 2)).astype(np.float32)
    maps = error_maps(truth + 30, truth)
    counts = np.zeros(len(HISTOGRAM), np.int64)
    counts[100:150] = 7
    file = tmp_path / "errors.png"
    plot_flow_errors(file, {"a": counts, "b": counts * 2}, [ErrorPicture("worst", maps)], "title")
    rgb = cv2.imread(str(file))[..., ::-1]
    assert (np.abs(rgb.astype(int) - (215, 48, 39)).max(-1) < 3).mean() > 0.1, "42 pixels wrong"
    plot_flow_errors(tmp_path / "curve.pdf", {"a": counts * 0}, [])
    plot_flow_errors(file, {"$1_$2": counts}, [ErrorPicture("$1_$2.png", maps)], "$1_$2")
    assert (tmp_path / "curve.pdf").stat().st_size > 1000
    with pytest.raises(TrianflowError, match="cannot write the picture"):
        plot_flow_errors(tmp_path / "no" / "x.png", {"a": counts}, [])
