"""The live view: what it is given to show, and one line where there is nothing to show it on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.odometry.test_run import CAMERA, FAST, frames
from trianflow.errors import TrianflowError
from trianflow.odometry import live as module
from trianflow.odometry.live import Live, RerunView, Scene, frustum, open_live
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


@pytest.mark.parametrize("code", ["import os; os.abort()", "raise SystemExit(3)", "import time; time.sleep(60)"])
def test_a_window_that_cannot_be_opened_is_found_out_beside_this_process(
    code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: object() if name == "open3d" else None)
    monkeypatch.setenv("DISPLAY", ":77")
    monkeypatch.setattr(module, "_PROBE", code)
    monkeypatch.setattr(module, "_PROBE_SECONDS", 2)
    with pytest.raises(TrianflowError, match=r"^--live: Open3D cannot open a window on this display; "):
        open_live()


def test_the_probe_of_open3d_itself() -> None:
    """On a display that is none it answers with a code, or is killed, which is an answer too."""
    pytest.importorskip("open3d")
    environment = {"PATH": "/usr/bin:/bin", "DISPLAY": ":77"}
    done = subprocess.run(
        [sys.executable, "-c", module._PROBE], env=environment, capture_output=True, timeout=120, check=False
    )
    assert done.returncode != 0


class Rerun(ModuleType):
    """A stand-in that keeps what is logged."""

    def __init__(self) -> None:
        super().__init__("rerun")
        self.logged: list[tuple[str, Any]] = []
        self.times: list[int] = []
        self.started: dict[str, Any] = {}
        self.ViewCoordinates = SimpleNamespace(RDF="RDF")

    def init(self, name: str, spawn: bool) -> None:
        self.started = {"name": name, "spawn": spawn}

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
    monkeypatch.setenv("DISPLAY", ":77")
    live = open_live()
    assert rerun.started == {"name": "trianflow", "spawn": True}
    run = run_odometry(frames(3), CAMERA, FAST, tmp_path, observers=[live])
    assert rerun.times == [0, 1, 2]
    logged = {path: thing for path, thing in rerun.logged if path != "world/camera"}
    assert set(logged) == {"world", "world/path", "world/points", "inliers", "status"}
    kind, (strips,), _ = logged["world/path"]
    assert (kind, strips[0].shape) == ("LineStrips3D", (3, 3))
    cameras = [thing for path, thing in rerun.logged if path == "world/camera"]
    assert [thing[0] for thing in cameras[-3:]] == ["Transform3D", "Pinhole", "Image"]
    assert cameras[-3][2]["translation"] == pytest.approx(run.trajectory.positions[-1], abs=1e-6)
    assert cameras[-2][2] | {"image_from_camera": None} == {"image_from_camera": None, "width": 160, "height": 96}
    RerunView().close()


def test_the_camera_is_a_pyramid() -> None:
    T_wc = np.eye(4)
    T_wc[:3, 3] = [1, 2, 3]
    K = np.array([[50, 0, 50], [0, 50, 25], [0, 0, 1.0]])
    path = np.array([[0, 0, 0], [0, 0, 20.0]])
    step = Step(0, 0.0, T_wc, StepStatus.OK)
    for image in (np.zeros((50, 100), np.uint8), None):
        corners, edges = frustum(Scene(step, image, K, path, path))
        assert corners[0] == pytest.approx([1, 2, 3])
        assert corners[1:] - corners[0] == pytest.approx(
            np.array([[-1, -0.5, 1], [1, -0.5, 1], [1, 0.5, 1], [-1, 0.5, 1]])
        )
        assert edges.shape == (8, 2)


_DRAWS = """
import numpy as np
from trianflow.errors import TrianflowError
from trianflow.odometry.live import Open3DView, Scene
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
    assert view.show(Scene(Step(i, 0.1 * i, T_wc, StepStatus.OK), None, K, path, points))
picture = np.asarray(view._window.capture_screen_float_buffer(True))
colors = np.unique((255 * picture).astype(int).reshape(-1, 3), axis=0)
drawn = (25, 102, 217), (217, 77, 13), (89, 102, 115)
print(*(bool((np.abs(colors - color).max(1) < 12).any()) for color in drawn))
view.close()
"""


def test_open3d_draws_path_camera_and_points() -> None:
    """In a process of its own; without a display Open3D draws for nobody."""
    pytest.importorskip("open3d")
    done = subprocess.run([sys.executable, "-c", _DRAWS], capture_output=True, text=True, timeout=120, check=False)
    if "no window" in done.stderr or done.returncode < 0:
        pytest.skip("Open3D has no graphics here")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("True True True\n"), done.stdout
