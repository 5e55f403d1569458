"""`--live`: the trajectory, the camera and the points in a window, while they are computed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from trianflow.data.frames import Frame
from trianflow.errors import TrianflowError
from trianflow.odometry.path_so_far import PathSoFar
from trianflow.odometry.pipeline import VisualOdometry
from trianflow.odometry.run import Observer, OdometryRun
from trianflow.odometry.step import Step

_KEY_FRAMES = 100  # whose points are shown at most
_PROBE_SECONDS = 60
_REMEDY = "work without --live and write a video (--overlay out.mp4), or start it on a desktop, by ssh -X or xvfb-run"
# In a process of its own, as graphics drivers abort the one that they fail in; and where X cannot be reached, Open3D
# "opens" a window that nobody sees.
_PROBE = """
import ctypes, os, sys
if sys.platform.startswith("linux") and not os.environ.get("WAYLAND_DISPLAY"):
    connect = ctypes.CDLL("libX11.so.6").XOpenDisplay
    connect.restype = ctypes.c_void_p
    if not connect(None):
        os._exit(3)
import open3d
os._exit(0 if open3d.visualization.Visualizer().create_window("trianflow", 64, 64) else 3)
"""


def open_live() -> Observer:
    """A live view as an observer of `run_odometry`: rerun where it is installed, else a window of Open3D.

    Raises:
        TrianflowError: neither is installed, there is no display, or no window can be opened on it.
    """
    rerun = find_spec("rerun") is not None
    if not rerun and find_spec("open3d") is None:
        raise TrianflowError("--live: needs rerun or Open3D: pip install 'trianflow[rerun]' or 'trianflow[view]'")
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise TrianflowError(f"--live: there is no display (DISPLAY is not set); {_REMEDY}")
    if rerun:
        return Live(RerunView())
    _probe_open3d()
    return Live(Open3DView())


def _probe_open3d() -> None:
    """Open a small window in another process.

    Raises:
        TrianflowError: that fails or does not end.
    """
    try:
        done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, timeout=_PROBE_SECONDS, check=False)
        failed = done.returncode != 0
    except subprocess.TimeoutExpired:
        failed = True
    if failed:
        raise TrianflowError(f"--live: Open3D cannot open a window on this display; {_REMEDY}")


@dataclass(frozen=True)
class Scene:
    """What is shown after a frame.

    Attributes:
        step: of the frame, its pose included.
        image: `(H, W)` or `(H, W, 3)` uint8 RGB; None without.
        K: `(3, 3)` its intrinsics.
        path: `(N, 3)` positions so far, N >= 1.
        points: `(M, 3)` in the world, of the latest key frames.
    """

    step: Step
    image: np.ndarray | None
    K: np.ndarray
    path: np.ndarray
    points: np.ndarray


class View(Protocol):
    """Shows one scene after another."""

    def show(self, scene: Scene) -> bool:
        """Draw; False where the user has closed the window."""

    def close(self) -> None:
        """The run has ended."""


class Live:
    """An observer that shows every frame; the run goes on where the window is closed.

    Args:
        view: where to.
    """

    def __init__(self, view: View) -> None:
        self._view: View | None = view
        self._path = PathSoFar()
        self._points: deque[np.ndarray] = deque(maxlen=_KEY_FRAMES)
        self._T_wk = np.eye(4)
        self._factor = 1.0

    def observe(self, odometry: VisualOdometry, frame: Frame, step: Step) -> None:
        """Show a frame."""
        self._path.add(odometry, step)
        seen, factor = odometry.seen, odometry.metric.factor
        if seen is not None and seen.advanced:
            if (factor == 1) != (self._factor == 1):  # metres have become known: what was shown has another unit
                self._points.clear()
            self._factor = factor
            X_k = factor * seen.structure.points(odometry.camera.K()).numpy()
            self._points.append(X_k @ step.T_wc[:3, :3].T + step.T_wc[:3, 3])
        if self._view is None:
            return
        points = np.concatenate([np.zeros((0, 3)), *self._points])
        image = frame.image if seen is None else seen.prepared.image
        if not self._view.show(Scene(step, image, odometry.camera.K().numpy(), self._path.positions, points)):
            self._view.close()
            self._view = None

    def finish(self, run: OdometryRun, odometry: VisualOdometry) -> list[str]:
        """Close the window; writes nothing."""
        if self._view is not None:
            self._view.close()
            self._view = None
        return []


class Open3DView:
    """A window of Open3D's legacy visualiser: the path, the camera as a pyramid, the points; mouse as everywhere."""

    def __init__(self) -> None:
        import open3d

        self._o3d: Any = open3d
        self._window: Any = open3d.visualization.Visualizer()
        if not self._window.create_window("trianflow", 1024, 768):
            raise TrianflowError(f"--live: Open3D cannot open a window on this display; {_REMEDY}")
        self._path, self._camera = open3d.geometry.LineSet(), open3d.geometry.LineSet()
        self._points = open3d.geometry.PointCloud()
        self._is_framed = False

    def show(self, scene: Scene) -> bool:
        """Draw; False where the window was closed."""
        vector, pairs = self._o3d.utility.Vector3dVector, self._o3d.utility.Vector2iVector
        n = len(scene.path)
        self._path.points = vector(scene.path)
        self._path.lines = pairs(np.stack([np.arange(n - 1), np.arange(1, n)], 1).astype(np.int32))
        self._path.paint_uniform_color((0.1, 0.4, 0.85))
        corners, edges = frustum(scene)
        self._camera.points, self._camera.lines = vector(corners), pairs(edges)
        self._camera.paint_uniform_color((0.85, 0.3, 0.05))
        self._points.points = vector(scene.points)
        self._points.paint_uniform_color((0.35, 0.4, 0.45))
        shapes = (self._path, self._camera, self._points)
        if not self._is_framed and n > 1:
            for shape in shapes:
                self._window.add_geometry(shape)
            control = self._window.get_view_control()
            control.set_front((0, -0.6, -0.8))  # from behind and above: y points down
            control.set_up((0, -1, 0))
            self._is_framed = True
        for shape in shapes:
            self._window.update_geometry(shape)
        is_open = bool(self._window.poll_events())
        self._window.update_renderer()
        return is_open

    def close(self) -> None:
        """Close the window."""
        self._window.destroy_window()


class RerunView:
    """The viewer of rerun: the same, with the image in its camera and the inliers as a curve."""

    def __init__(self) -> None:
        import rerun

        self._rr: Any = rerun
        rerun.init("trianflow", spawn=True)
        rerun.log("world", rerun.ViewCoordinates.RDF, static=True)

    def show(self, scene: Scene) -> bool:
        """Log; closing the viewer does not disturb."""
        rr = self._rr
        rr.set_time("frame", sequence=scene.step.index)
        rr.log("world/path", rr.LineStrips3D([scene.path]))
        rr.log("world/points", rr.Points3D(scene.points))
        rr.log("world/camera", rr.Transform3D(translation=scene.step.T_wc[:3, 3], mat3x3=scene.step.T_wc[:3, :3]))
        if scene.image is not None:
            height, width = scene.image.shape[:2]
            rr.log("world/camera", rr.Pinhole(image_from_camera=scene.K, width=width, height=height))
            rr.log("world/camera", rr.Image(scene.image))
        rr.log("inliers", rr.Scalars(scene.step.inlier_ratio))
        rr.log("status", rr.TextLog(str(scene.step.status)))
        return True

    def close(self) -> None:
        """The viewer is a program of its own and stays."""


def frustum(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """The camera as a pyramid, as long as a twentieth of the path's extent: `(5, 3)` corners and `(8, 2)` edges."""
    height, width = (2 * scene.K[1, 2], 2 * scene.K[0, 2]) if scene.image is None else scene.image.shape[:2]
    size = 0.05 * max(float(np.ptp(scene.path, axis=0).max()), 1e-3)
    pixels = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], float)
    X_c = np.concatenate([np.zeros((1, 3)), size * pixels @ np.linalg.inv(scene.K).T])
    edges = np.array([[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [2, 3], [3, 4], [4, 1]], np.int32)
    return X_c @ scene.step.T_wc[:3, :3].T + scene.step.T_wc[:3, 3], edges
