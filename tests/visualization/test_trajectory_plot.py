"""Trajectory pictures: what they show, and what cannot be drawn."""

import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import matplotlib.figure
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from trianflow.errors import TrianflowError
from trianflow.trajectory import Trajectory
from trianflow.visualization.comparison_plot import plot_learning
from trianflow.visualization.trajectory_plot import plot_trajectory


def arc(n: int = 80) -> Trajectory:
    angle = np.linspace(0, np.pi / 2, n)
    T_wc = np.tile(np.eye(4), (n, 1, 1))
    T_wc[:, :3, :3] = Rotation.from_euler("y", angle[:, None]).as_matrix()
    T_wc[:, :3, 3] = 30 * np.stack([1 - np.cos(angle), -0.1 * angle, np.sin(angle)], axis=1)
    return Trajectory(np.arange(n, dtype=float), T_wc)


def similar(trajectory: Trajectory, scale: float) -> Trajectory:
    T = np.eye(4)
    T[:3, :3] = Rotation.random(random_state=0).as_matrix()
    T_wc = T @ trajectory.T_wc
    T_wc[:, :3, 3] *= scale
    return Trajectory(trajectory.times, T_wc)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every figure that is saved."""
    saved: list[Any] = []
    save = matplotlib.figure.Figure.savefig

    def spy(self: Any, *args: Any, **kwargs: Any) -> None:
        saved.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", spy)
    return saved


def line(axes: Any, label: str) -> np.ndarray:
    (found,) = [x for x in axes.get_lines() if x.get_label() == label]
    return np.stack(found.get_data(), axis=1)


def texts(figure: Any) -> list[str]:
    (legend,) = figure.legends
    return [legend.get_title().get_text(), *(t.get_text() for t in legend.get_texts())]


def test_without_truth(tmp_path: Path, figures: list[Any]) -> None:
    trajectory = arc()
    plot_trajectory(tmp_path / "a.png", similar(trajectory, 1.0), title="an arc")
    image = cv2.imread(str(tmp_path / "a.png"))
    assert image is not None
    assert image.shape[0] > 1000
    assert image.std() > 5
    above, side = figures[0].axes
    assert line(above, "estimate") == pytest.approx(trajectory.positions[:, [0, 2]], abs=1e-9)
    height = np.stack([trajectory.distances, -trajectory.positions[:, 1]], axis=1)
    assert line(side, "estimate") == pytest.approx(height, abs=1e-9)
    assert line(above, "start") == pytest.approx(np.zeros((1, 2)), abs=1e-9)
    assert line(above, "end") == pytest.approx(np.array([[30, 30]]), abs=1e-9)
    assert above.get_aspect() == 1
    assert above.get_xlabel() == "x, right (arbitrary unit)"
    assert figures[0].get_suptitle() == "an arc"


@pytest.mark.parametrize(
    ("alignment", "named", "agree"), [("sim3", "Sim(3), 7-DoF", True), ("se3", "SE(3), 6-DoF", False)]
)
def test_the_estimate_is_aligned_and_the_legend_says_how(
    tmp_path: Path, figures: list[Any], alignment: str, named: str, agree: bool
) -> None:
    gt = arc()
    plot_trajectory(tmp_path / "a.png", similar(gt, 0.2), similar(gt, 1.0), alignment=alignment)
    above = figures[0].axes[0]
    assert line(above, "ground truth") == pytest.approx(gt.positions[:, [0, 2]], abs=1e-9)
    off = np.abs(line(above, "estimate") - line(above, "ground truth")).max()
    assert (off < 1e-6) == agree
    assert texts(figures[0])[0] == f"alignment to the truth: {named}"
    assert above.get_xlabel() == "x, right (m)"


def test_a_single_estimate_is_colored_by_its_error(tmp_path: Path, figures: list[Any]) -> None:
    gt = arc()
    off = Trajectory(gt.times, gt.T_wc.copy())
    off.T_wc[50:, 0, 3] += 2.0
    plot_trajectory(tmp_path / "a.png", off, gt, alignment="none")
    above = figures[0].axes[0]
    (segments,) = above.collections
    assert len(segments.get_segments()) == 79
    assert np.asarray(segments.get_array()) == pytest.approx(np.r_[np.zeros(49), 1, np.full(29, 2.0)], abs=1e-9)
    assert np.concatenate(segments.get_segments())[::2] == pytest.approx(off.positions[:-1, [0, 2]], abs=1e-9)
    assert segments.get_clim() == (0, pytest.approx(2))
    (beneath,) = [x for x in above.get_lines() if x.get_label() == "ground truth"]
    assert beneath.get_linewidth() > 2 * segments.get_linewidth()[0], "seen beside it"
    assert figures[0].axes[2].get_ylabel() == "distance from the truth (m)"
    sparse = Trajectory(off.times[::2], off.T_wc[::2])  # a truth at every other pose
    plot_trajectory(tmp_path / "a.png", off, Trajectory(gt.times[::2], gt.T_wc[::2]), alignment="none")
    (segments,) = figures[1].axes[0].collections
    assert np.asarray(segments.get_array())[[0, -1]] == pytest.approx([0, 2], abs=1e-9)
    plot_trajectory(tmp_path / "a.png", {"a": off, "b": sparse}, gt)
    assert len(figures[2].axes) == 2, "of several, each has its own colour"
    assert not figures[2].axes[0].collections


def test_a_figure_for_notebooks() -> None:
    figure = arc().plot(title="an arc", unit="m")
    assert figure.axes[0].get_xlabel() == "x, right (m)"
    assert cv2.imdecode(np.frombuffer(figure._repr_png_(), np.uint8), cv2.IMREAD_COLOR).shape[0] > 500
    assert len(arc().plot(similar(arc(), 3.0)).axes) == 3
    with pytest.raises(TrianflowError, match=r"^no pose to draw"):
        Trajectory(np.zeros(0), np.zeros((0, 4, 4))).plot()


def drawn(trajectory: Trajectory) -> np.ndarray:
    """Points of the line in the HTML of a trajectory, `(N, 2)`."""
    root = ElementTree.fromstring(trajectory._repr_html_())
    (polyline,) = root.iter("polyline")
    return np.array([[float(v) for v in point.split(",")] for point in polyline.attrib["points"].split()])


def test_html_for_notebooks() -> None:
    trajectory = arc(2000)
    points = drawn(trajectory)
    assert len(points) == 400
    assert len(trajectory._repr_html_()) < 10_000
    assert "2000 poses" in trajectory._repr_html_()
    (left, top), (right, bottom) = points.min(0), points.max(0)
    assert right - left == pytest.approx(bottom - top, abs=0.2), "one scale"
    assert points[0] == pytest.approx([left, bottom]), "z is up"
    assert points[-1] == pytest.approx([right, top])
    assert "start" in trajectory._repr_html_()
    assert "end" in trajectory._repr_html_()
    long = arc(10)
    long.T_wc[:, 0, 3] *= 0.5
    left, top, right, bottom = *drawn(long).min(0), *drawn(long).max(0)
    assert 2 * (right - left) == pytest.approx(bottom - top, abs=0.3)


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("value", [0.0, 1.0, 1e-320, 1e308, -1e308, np.nan, np.inf])
def test_html_of_whatever_there_is(n: int, value: float) -> None:
    T_wc = np.tile(np.eye(4), (n, 1, 1))
    T_wc[-1:, 0, 3] = value
    with np.errstate(all="ignore"):
        html = Trajectory(np.arange(n, dtype=float), T_wc)._repr_html_()
    assert ElementTree.fromstring(html).tag == "div"
    assert "svg" not in html or "nan" not in html


def test_bad_frames_are_marked(tmp_path: Path, figures: list[Any]) -> None:
    gt = arc(20)
    status = ["ok"] * 20
    status[3] = status[4] = "rotation_only"
    status[9] = "no_consensus"
    plot_trajectory(tmp_path / "a.png", gt, status=status)
    for axes in figures[0].axes:
        whole = line(axes, "estimate")
        assert np.array_equal(line(axes, "rotation only (2)"), whole[3:5])
        assert np.array_equal(line(axes, "no consensus (1)"), whole[9:10])
    assert not any("ok" in t for t in texts(figures[0]))
    with pytest.raises(ValueError, match="one word for each pose"):
        plot_trajectory(tmp_path / "a.png", gt, status=["ok"])


def test_several_estimates(tmp_path: Path, figures: list[Any]) -> None:
    gt = arc()
    late = similar(gt, 2.0)
    late = Trajectory(late.times[10:], late.T_wc[10:])  # begins at another frame of the truth
    plot_trajectory(tmp_path / "a.pdf", {"first": similar(gt, 3.0), "late": late}, gt)
    above, side = figures[0].axes
    assert line(above, "first") == pytest.approx(gt.positions[:, [0, 2]], abs=1e-6)
    assert line(above, "late") == pytest.approx(gt.positions[10:, [0, 2]], abs=1e-6)
    height = np.stack([gt.distances, -gt.positions[:, 1]], axis=1)
    assert line(side, "first") == pytest.approx(height, abs=1e-6)
    assert line(side, "late") == pytest.approx(height[10:], abs=1e-6), "where the truth has that length"
    assert texts(figures[0])[1:] == ["ground truth", "first", "late", "start", "end"]


def test_an_estimate_that_begins_before_the_truth(tmp_path: Path, figures: list[Any]) -> None:
    whole = arc()
    gt = Trajectory(whole.times[20:], whole.T_wc[20:])
    status = ["static"] + 79 * ["ok"]
    plot_trajectory(tmp_path / "a.png", similar(whole, 0.5), gt, status)
    side = figures[0].axes[1]
    assert line(side, "estimate")[20:] == pytest.approx(line(side, "ground truth"), abs=1e-6)
    assert line(side, "estimate")[0, 0] == pytest.approx(-whole.distances[20], abs=1e-6)
    assert line(side, "static (1)")[0] == pytest.approx(line(side, "estimate")[0])


def test_the_truth_is_drawn_as_far_as_there_are_estimates(tmp_path: Path, figures: list[Any]) -> None:
    gt = arc()
    part = similar(gt, 0.5)
    part = Trajectory(part.times[20:50], part.T_wc[20:50])
    plot_trajectory(tmp_path / "a.png", part, gt)
    for axes in figures[0].axes[:2]:
        assert line(axes, "ground truth") == pytest.approx(line(axes, "estimate"), abs=1e-6)
        assert len(line(axes, "ground truth")) == 30


def test_no_two_of_many_lines_look_alike(tmp_path: Path, figures: list[Any]) -> None:
    gt = arc()
    plot_trajectory(tmp_path / "a.png", {str(i): gt for i in range(20)}, gt)
    above, _ = figures[0].axes
    looks = {(x.get_color(), x.get_linestyle()) for x in above.get_lines() if x.get_label().isdigit()}
    assert len(looks) == 20


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_camera_that_stands(tmp_path: Path, n: int) -> None:
    still = Trajectory(np.arange(n, dtype=float), np.tile(np.eye(4), (n, 1, 1)))
    plot_trajectory(tmp_path / "a.png", still)
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_names_of_files_are_words_and_not_formulas(
    tmp_path: Path, figures: list[Any], recwarn: pytest.WarningsRecorder
) -> None:
    name = "東京 $1_$2.mp4"
    plot_trajectory(tmp_path / "a.png", {name: arc(), "b\udcff$x$": arc()}, arc(), title=f"{name}\udcff")
    assert figures[0].get_suptitle() == f"{name}?"
    assert texts(figures[0])[2:4] == [name, "b?$x$"]
    assert figures[0]._repr_png_()
    assert [str(warning.message) for warning in recwarn] == []


def test_names_may_begin_with_an_underscore(
    tmp_path: Path, figures: list[Any], recwarn: pytest.WarningsRecorder
) -> None:
    plot_trajectory(tmp_path / "a.png", {"_run": arc(), "other": arc()}, arc())
    assert texts(figures[0])[1:] == ["ground truth", "_run", "other", "start", "end"]
    plot_learning(tmp_path / "b.png", {"_run": [(0.0, 1.0), (1.0, 0.5)]}, {"_run": [(0.0, 1.0), (1.0, 2.0)]})
    assert texts(figures[1])[1:] == ["_run"]
    plot_learning(tmp_path / "c.png", {}, {})
    assert not figures[2].legends
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize(("number", "columns"), [(1, 4), (2, 5), (3, 3), (8, 4)])
def test_the_legend_s_rows_are_as_equal_as_may_be(
    tmp_path: Path, figures: list[Any], number: int, columns: int
) -> None:
    plot_trajectory(tmp_path / "a.png", {f"d{i}": arc() for i in range(number)}, arc())
    (legend,) = figures[0].legends
    figures[0].draw_without_rendering()
    places = np.array([text.get_window_extent().p0 for text in legend.get_texts()])
    assert len(np.unique(places[:, 0].round())) == columns


def test_one_line_of_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Any, path: Path) -> None:
        raise ValueError("first\nsecond")

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", fails)
    with pytest.raises(TrianflowError, match=r"a\.png: cannot write the picture: first$"):
        plot_trajectory(tmp_path / "a.png", arc())


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    empty = Trajectory(np.zeros(0), np.zeros((0, 4, 4)))
    with pytest.raises(TrianflowError, match="no pose to draw"):
        plot_trajectory(tmp_path / "a.png", empty)
    with pytest.raises(TrianflowError, match="cannot write the picture: No such file"):
        plot_trajectory(tmp_path / "no" / "a.png", arc())
    with pytest.raises(TrianflowError, match="cannot write the picture: Format 'xyz' is not supported"):
        plot_trajectory(tmp_path / "a.xyz", arc())


def test_no_global_state_and_a_light_import() -> None:
    code = (
        "import sys, trianflow.visualization.trajectory_plot as p; before = 'matplotlib' in sys.modules\n"
        "import io, numpy as np; from trianflow.trajectory import Trajectory\n"
        "p.plot_trajectory(io.BytesIO(), Trajectory(np.arange(2.0), np.tile(np.eye(4), (2, 1, 1))))\n"
        "print(before, 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False False\n"
