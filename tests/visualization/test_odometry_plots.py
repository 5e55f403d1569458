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
from trianflow.evaluation.snippets import SnippetErrors, SnippetScore
from trianflow.trajectory import Trajectory
from trianflow.visualization.odometry_plots import plot_length_errors, plot_snippet_errors


def metrics(scale: float, n: int = 351) -> OdometryMetrics:
    T_wc = np.tile(np.eye(4), (351, 1, 1))
    T_wc[:, 2, 3] = np.arange(351)
    gt = Trajectory(np.arange(351.0), T_wc)
    est = T_wc[:n].copy()
    est[:, 2, 3] *= scale
    return evaluate_odometry(gt, Trajectory(gt.times[:n], est), "none", [100, 200, 300, 400], with_evo=False)


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that were written."""
    figures: list[Any] = []
    save = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda self, p: (figures.append(self), save(self, p))[1])
    return figures


def test_a_line_for_each_estimate(tmp_path: Path, saved: list[Any]) -> None:
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


def test_snippets_along_the_sequence(tmp_path: Path, saved: list[Any]) -> None:
    rng = np.random.default_rng(0)
    first = np.delete(np.arange(10, 210), [50, 51, 120])
    errors = rng.exponential(0.01, len(first))

    def score(errors: np.ndarray, first: np.ndarray) -> SnippetScore:
        return SnippetScore(SnippetErrors(3, errors, np.ones(len(errors))), first, 200)

    one = score(np.array([0.5]), np.array([7]))
    plot_snippet_errors(tmp_path / "a.png", {"ours": score(errors, first), "one": one}, "09.txt")
    assert cv2.imread(str(tmp_path / "a.png")).std() > 5
    (figure,) = saved
    assert figure.get_suptitle() == "09.txt, snippets of 3 frames"
    along, share = figure.axes
    dots, line, dot, short = (np.array(drawn.get_data()) for drawn in along.get_lines())
    assert np.array_equal(dots, [first, errors])
    assert (dot.ravel().tolist(), short.ravel().tolist()) == ([7, 0.5], [7, 0.5])
    medians = [np.median(errors[max(i - 2, 0) : i + 3]) for i in range(len(errors))]
    known = ~np.isnan(line[0])
    assert np.array_equal(line[0][known], first)
    assert line[1][known] == pytest.approx(medians)
    assert np.flatnonzero(~known).tolist() == [50, 119], "the line breaks where snippets are missing"
    x, y = share.get_lines()[0].get_data()
    for percent in (25, 80):
        expected = np.quantile(errors, percent / 100, method="inverted_cdf")
        assert y[np.searchsorted(x, percent)] == pytest.approx(expected)
    assert (along.get_ylabel(), along.get_xlabel()) == ("ATE of 3 frames (m)", "first frame of the snippet")
    assert along.get_yscale() == share.get_yscale() == "log"
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "a dot for each snippet; lines: the median of 5 of them"
    named = [text.get_text() for text in legend.get_texts()]
    assert named == [
        f"ours: mean {errors.mean():.3g} m, median {np.median(errors):.3g} m",
        "one: mean 0.5 m, median 0.5 m",
    ]


def test_a_line_through_every_dot_needs_no_words(tmp_path: Path, saved: list[Any]) -> None:
    few = SnippetScore(SnippetErrors(3, np.array([0.1, 0.2]), np.ones(2)), np.arange(2), 4)
    plot_snippet_errors(tmp_path / "a.png", {"a": few})
    assert saved[0].legends[0].get_title().get_text() == ""


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(TrianflowError, match="no curve to draw"):
        plot_length_errors(tmp_path / "a.png", {"a": metrics(1.0, n=50)})
    with pytest.raises(TrianflowError, match="cannot write the picture: No such file"):
        plot_length_errors(tmp_path / "no" / "a.png", {"a": metrics(0.9)})
    nothing = SnippetScore(SnippetErrors(5, np.zeros(1), np.ones(1)), np.zeros(1, int), 1)
    plot_snippet_errors(tmp_path / "nothing.png", {"a": nothing})
    with pytest.raises(TrianflowError, match=r"a\.word: cannot write the picture: Format 'word' is not supported"):
        plot_snippet_errors(tmp_path / "a.word", {"a": nothing})


def test_a_light_import() -> None:
    code = "import sys, trianflow.visualization.odometry_plots; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
