"""The live view: what it is given to show, and one line where there is nothing to show it on."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.odometry.test_run import CAMERA, FAST, frames
from trianflow.errors import TrianflowError
from trianflow.odometry import live as module
from trianflow.odometry.live import Live, open_live
from trianflow.odometry.live_views import RerunView, Scene, from_behind, frustum
from trianflow.odometry.run import run_odometry
from trianflow.odometry.step import Step, StepStatus


class Shown:
    """A view that remembers; the user closes it after `closes` scenes."""

    def __init__(self, closes: int = 1000) -> None:
        self.scenes: list[Scene] = []
        self.closed, self._closes = 0, closes

    def show(self, scene: Scene) -> bool:
        self.scenes.append(scene)
        return len(self.scenes) < self._closes

    def close(self) -> None:
        self.closed += 1


def test_every_frame_is_shown(tmp_path: Path) -> None:
    view = Shown()
    run = run_odometry(frames(6), CAMERA, FAST, tmp_path, observers=[Live(view)])
    assert run.problems == []
    assert [scene.step.index for scene in view.scenes] == list(range(6))
    assert [len(scene.path) for scene in view.scenes] == list(range(1, 7))
    assert view.closed == 1
    last = view.scenes[-1]
    assert last.path[-1] == pytest.approx(last.step.T_wc[:3, 3])
    assert last.image is not None
    assert last.K[0, 0] == 150
    assert len(last.points) > 20
    assert np.isfinite(last.points).all()
    assert last.points[:, 2].mean() > 0, "in front of the camera"
    assert np.ptp(last.points[:, 2]) < 0.5 * last.points[:, 2].mean(), "a wall"


def test_closing_the_window_does_not_end_the_run(tmp_path: Path) -> None:
    view = Shown(closes=2)
    run = run_odometry(frames(5), CAMERA, FAST, tmp_path, observers=[Live(view)])
    assert (len(view.scenes), view.closed, len(run.trajectory)) == (2, 1, 5)


def test_points_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEY_FRAMES", 1)
    view = Shown()
    config = FAST.model_copy(update={"scale": "unit"})  # each frame a key frame
    run_odometry(frames(6), CAMERA, config, tmp_path, observers=[Live(view)])
    assert max(len(scene.points) for scene in view.scenes) <= config.points


def test_one_line_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.setattr(module, "find_spec", lambda name: object() if name == "open3d" else None)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(TrianflowError, match=r"^--live: there is no display .*--overlay out.mp4.*$"):
        open_live()
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(TrianflowError, match=r"pip install 'trianflow\[rerun\]'"):
        open_live()


FAILURES = ["import os; os.abort()", "raise SystemExit(3)", "import time; time.sleep(60)"]


@pytest.mark.parametrize("code", FAILURES)
@pytest.mark.parametrize(
    ("viewer", "said"),
    [("open3d", "Open3D cannot open a window on this display; "), ("rerun", "the display cannot be reached; ")],
)
def test_a_window_that_cannot_be_opened_is_found_out_beside_this_process(
    code: str, viewer: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: object() if name == viewer else None)
    monkeypatch.setenv("DISPLAY", ":77")
    monkeypatch.setattr(module, "CONNECTS", code)
    monkeypatch.setattr("trianflow.visualization.viewer._PROBE_SECONDS", 2)
    with pytest.raises(TrianflowError, match=f"^--live: {said}.*--overlay out.mp4"):
        open_live()


@pytest.mark.parametrize("opens", [False, True])
def test_the_probes_themselves(opens: bool) -> None:
    """On a display that is none they answer with a code, or are killed, which is an answer too."""
    if opens:
        pytest.importorskip("open3d")
    environment = {"PATH": "/usr/bin:/bin", "DISPLAY": ":77"}
    code = module.CONNECTS + (module.OPENS.format(True) if opens else "")
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=120, check=False)
    assert done.returncode != 0


class Rerun(ModuleType):
    """A stand-in that keeps what is logged."""

    def __init__(self) -> None:
        super().__init__("rerun")
        self.logged: list[tuple[str, Any]] = []
        self.times: list[int] = []
        self.started: dict[str, Any] = {}
        self.broken = False
        self.ViewCoordinates = SimpleNamespace(RDF="RDF")
        self.Image = lambda image: SimpleNamespace(compress=lambda jpeg_quality: ("Image", (image,), {}))

    def init(self, name: str) -> None:
        self.started["name"] = name

    def spawn(self, executable_path: str | None) -> None:
        if self.broken:
            raise RuntimeError("no viewer")
        self.started["viewer"] = executable_path

    def set_time(self, timeline: str, *, sequence: int) -> None:
        self.times.append(sequence)

    def log(self, path: str, thing: Any, static: bool = False) -> None:
        self.logged.append((path, thing))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args, **kwargs: (name, args, kwargs)


def test_rerun_gets_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rerun = Rerun()
    monkeypatch.setitem(sys.modules, "rerun", rerun)
    monkeypatch.setattr(module, "find_spec", lambda name: object() if name == "rerun" else None)
    monkeypatch.setattr(module, "CONNECTS", "")
    monkeypatch.setenv("DISPLAY", ":77")
    rerun.broken = True
    with pytest.raises(TrianflowError, match=r"^--live: the viewer of rerun cannot be started: no viewer$"):
        open_live()
    rerun.broken = False
    live = open_live()
    assert rerun.started["name"] == "trianflow"
    run = run_odometry(frames(3), CAMERA, FAST, tmp_path, observers=[live])
    assert rerun.times == [0, 1, 2]
    logged = {path: thing for path, thing in rerun.logged if path != "world/camera"}
    assert set(logged) == {"world", "world/path", "world/points", "inliers", "status"}
    kind, (strips,), _ = logged["world/path"]
    assert (kind, strips[0].shape) == ("LineStrips3D", (3, 3))
    cameras = [thing for path, thing in rerun.logged if path == "world/camera"]
    assert [thing[0] for thing in cameras[-3:]] == ["Transform3D", "Pinhole", "Image"]
    assert cameras[-3][2]["translation"] == pytest.approx(run.trajectory.positions[-1], abs=1e-6)
    assert {key: cameras[-2][2][key] for key in ("width", "height")} == {"width": 160, "height": 96}
    assert cameras[-2][2]["image_plane_distance"] > 0
    kind, (points,), more = logged["world/points"]
    assert kind == "Points3D"
    assert len(points) == len(more["colors"]) > 0
    RerunView().close()


_RECORDS = """
import os
import sys
import rerun
from tests.odometry.test_run import CAMERA, FAST, frames
from trianflow.odometry.live import Live
from trianflow.odometry.live_views import RerunView
from trianflow.odometry.run import run_odometry

file, out = sys.argv[1:]
init = rerun.init

def into_a_file(executable_path):
    assert executable_path is None or os.access(executable_path, os.X_OK)
    rerun.save(file)

rerun.init = lambda name: init(name, strict=True)  # wrong use raises
rerun.spawn = into_a_file
run_odometry(frames(5), CAMERA, FAST, out, observers=[Live(RerunView())])
rerun.disconnect()
"""


def test_real_rerun_takes_all_of_it(tmp_path: Path) -> None:
    """Into a file instead of its viewer; in a process of its own, as a recording is one of the whole process."""
    pytest.importorskip("rerun")
    file = tmp_path / "live.rrd"
    words = [sys.executable, "-c", _RECORDS, str(file), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    words = [sys.executable, "-m", "rerun", "rrd", "print", str(file)]
    told = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout
    rows: Counter[tuple[str, str]] = Counter()
    for number, entity, kind in re.findall(r"with (\d+) rows .* - (/\S+) - data columns: \[(\w+):", told):
        rows[entity, kind] += int(number)
    camera = [("/world/camera", kind) for kind in ("Transform3D", "Pinhole", "EncodedImage")]
    others = [("/world/path", "LineStrips3D"), ("/world/points", "Points3D"), ("/inliers", "Scalars")]
    assert all(rows[key] == 5 for key in [*camera, *others, ("/status", "TextLog")]), rows
    assert rows["/world", "ViewCoordinates"] == 1


def test_the_camera_is_a_pyramid() -> None:
    T_wc = np.eye(4)
    T_wc[:3, 3] = [1, 2, 3]
    K = np.array([[50, 0, 50], [0, 50, 25], [0, 0, 1.0]])
    points = np.array([[1, 2, 8], [1, 2, 8], [1, 2, 8], [1, 2, 300.0]])  # the camera is a fifth as long as they are far
    step = Step(0, 0.0, T_wc, StepStatus.OK)
    for image in (np.zeros((50, 100), np.uint8), None):
        corners, edges = frustum(Scene(step, image, K, np.zeros((1, 3)), points, np.zeros((4, 3), np.uint8)))
        assert corners[0] == pytest.approx([1, 2, 3])
        assert corners[1:] - corners[0] == pytest.approx(
            np.array([[-1, -0.5, 1], [1, -0.5, 1], [1, 0.5, 1], [-1, 0.5, 1]])
        )
        assert edges.shape == (8, 2)


def test_without_points_the_path_tells_how_far_away_things_are() -> None:
    none, path = np.zeros((0, 3)), np.array([[0, 0, 0], [3, 0, 4.0]])
    step = Step(0, 0.0, np.eye(4), StepStatus.OK)
    assert Scene(step, None, np.eye(3), path, none, none).reach == pytest.approx(4)
    assert Scene(step, None, np.eye(3), path[:1], none, none).reach > 0


def test_watched_from_behind() -> None:
    T_wc = np.eye(4)
    T_wc[:3, :3] = Rotation.from_euler("yxz", [0.7, -0.2, 0.1]).as_matrix()
    T_wc[:3, 3] = [4, -1, 7]
    T_vw = from_behind(T_wc, 3.0)
    assert T_vw[:3, :3] @ T_vw[:3, :3].T == pytest.approx(np.eye(3))
    assert np.linalg.det(T_vw[:3, :3]) == pytest.approx(1)
    T_cv = np.linalg.inv(T_wc) @ np.linalg.inv(T_vw)
    assert T_cv[:3, 3] == pytest.approx([0, -1.5, -3]), "behind and above; y is down"
    assert (T_cv @ [0, 0, np.hypot(1.5, 6), 1])[:3] == pytest.approx([0, 0, 3]), "looks at a point before it"
    assert T_cv[:3, 0] == pytest.approx([1, 0, 0]), "level with it"


def test_points_have_the_colors_of_the_image(tmp_path: Path) -> None:
    view = Shown()
    run_odometry(frames(4), CAMERA, FAST, tmp_path, observers=[Live(view)])
    scene = view.scenes[-1]
    assert scene.colors.shape == scene.points.shape
    assert scene.colors.dtype == np.uint8
    assert scene.image is not None
    newest = scene.points[-200:] - scene.step.T_wc[:3, 3]
    p = newest @ scene.step.T_wc[:3, :3] @ scene.K.T
    column, row = (p[:, :2] / p[:, 2:]).round().astype(int).T
    inside = (column >= 0) & (column < 160) & (row >= 0) & (row < 96)
    assert inside.mean() > 0.8
    assert np.median(np.abs(scene.image[row, column][inside].astype(int) - scene.colors[-200:, 0][inside])) <= 2


_DRAWS = """
import numpy as np
from trianflow.errors import TrianflowError
from trianflow.odometry.live_views import Open3DView, Scene
from trianflow.odometry.step import Step, StepStatus

try:
    view = Open3DView()
except TrianflowError:
    raise SystemExit("no window")
K = np.array([[50, 0, 50], [0, 50, 25], [0, 0, 1.0]])
points = np.random.default_rng(0).uniform(-5, 5, (500, 3)) + [0, 0, 10]
for i in range(1, 4):
    path = np.array([[0.0, 0, j] for j in range(i)])
    T_wc = np.eye(4)
    T_wc[:3, 3] = path[-1]
    colors = np.full((500, 3), (20, 160, 60), np.uint8)
    assert view.show(Scene(Step(i, 0.1 * i, T_wc, StepStatus.OK), None, K, path, points, colors))
    assert view._follows
picture = np.asarray(view._window.capture_screen_float_buffer(True))
colors = np.unique((255 * picture).astype(int).reshape(-1, 3), axis=0)
drawn = (25, 102, 217), (217, 77, 13), (20, 160, 60)
found = [bool((np.abs(colors - color).max(1) < 12).any()) for color in drawn]
view._window.get_view_control().rotate(200.0, 0.0)
view.show(Scene(Step(4, 0.4, T_wc, StepStatus.OK), None, K, path, points, np.zeros((500, 3), np.uint8)))
print(*found, not view._follows)
view.close()
"""


def test_open3d_draws_path_camera_and_points() -> None:
    """In a process of its own; without a display Open3D draws for nobody."""
    pytest.importorskip("open3d")
    done = subprocess.run([sys.executable, "-c", _DRAWS], capture_output=True, text=True, timeout=120, check=False)
    if "no window" in done.stderr:
        pytest.skip("Open3D has no graphics here")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("True True True True\n"), done.stdout
