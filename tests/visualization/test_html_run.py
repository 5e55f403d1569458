"""The data that the page's scripts read."""

from __future__ import annotations

import base64

import numpy as np

from tests.visualization.html_pages import a_row, a_view, some_thumbnails
from trianflow.visualization.html_run import Curve, RunView, run_data
from trianflow.visualization.html_thumbnails import Thumbnails


def floats(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4")


def test_poses_and_truth_come_back() -> None:
    view = a_view(30)
    data = run_data(view, some_thumbnails(30))
    np.testing.assert_allclose(floats(data["poses"]).reshape(-1, 3, 4), view.T_wc[:, :3], atol=1e-5)
    np.testing.assert_allclose(floats(data["truth"]).reshape(-1, 3), view.truth, atol=1e-5)
    np.testing.assert_allclose(floats(data["cloud"]["points"]).reshape(-1, 3), view.cloud, atol=1e-4)
    colors = np.frombuffer(base64.b64decode(data["cloud"]["colors"]), np.uint8).reshape(-1, 3)
    np.testing.assert_array_equal(colors, view.colors)
    assert len(data["errors"]) == 30


def test_statuses_are_counted_most_frequent_first() -> None:
    rows = [a_row(0, "first"), a_row(1), a_row(2), a_row(3, "rotation_only", note="turned"), a_row(4)]
    data = run_data(RunView(rows, np.tile(np.eye(4), (5, 1, 1))), Thumbnails())
    assert data["statuses"][0] == {"word": "ok", "label": "ok", "count": 3}
    words = [s["word"] for s in data["statuses"]]
    assert [words[i] for i in data["frames"]["status"]] == ["first", "ok", "ok", "rotation_only", "ok"]
    assert data["statuses"][words.index("rotation_only")]["label"] == "rotation only"
    assert data["frames"]["note"] == {"3": "turned"}
    assert data["errors"] is None
    assert data["pictures"] == {"rows": [], "layers": []}


def test_curves_have_gaps_where_nothing_is_known() -> None:
    view = RunView([a_row(0), a_row(1)], np.tile(np.eye(4), (2, 1, 1)), curves=[Curve("a", "m", [float("nan"), None])])
    assert run_data(view, Thumbnails())["curves"][0]["values"] == [None, None]


def test_layers_are_those_of_any_frame() -> None:
    pictures = run_data(a_view(10), some_thumbnails(10))["pictures"]
    assert [layer["key"] for layer in pictures["layers"]] == ["image", "flow", "depth", "occlusion", "inliers"]
    assert all(len(layer["jpeg"]) == len(pictures["rows"]) == 10 for layer in pictures["layers"])
    assert pictures["layers"][1]["jpeg"][0] is None
    assert pictures["layers"][0]["jpeg"][0] is not None
    assert len(pictures["layers"][4]["legend"]) == 2
