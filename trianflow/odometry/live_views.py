"""Where `--live` is seen: a window of Open3D, or the viewer of rerun."""

from __future__ import annotations

import shutil
import sysconfig
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from trianflow.errors import TrianflowError
from trianflow.odometry.step import Step

REMEDY = "work without --live and write a video (--overlay out.mp4), or start it on a desktop, by ssh -X or xvfb-run"
NO_WINDOW = f"--live: Open3D cannot open a window on this display; {REMEDY}"
_PATH, _CAMERA = (25, 102, 217), (217, 77, 13)  # RGB
_LENGTH = 0.2  # of the camera as it is drawn, share of `Scene.reach`
_JPEG = 80  # quality of the images that rerun keeps


@dataclass(frozen=True)
class Scene:
    """What is shown after a frame.

    Attributes:
        step: of the frame, its pose included.
        image: `(H, W)` or `(H, W, 3)` uint8 RGB; None without.
        K: `(3, 3)` its intrinsics.
        path: `(N, 3)` positions so far, N >= 1.
        points: `(M, 3)` in the world, of the latest key frames.
        colors: `(M, 3)` uint8 RGB of them.
    """

    step: Step
    image: np.ndarray | None
    K: np.ndarray
    path: np.ndarray
    points: np.ndarray
    colors: np.ndarray

    @property
    def reach(self) -> float:
        """How far away is what is near: a quarter of the points is closer; of the path's extent where there is none."""
        if not len(self.points):
            return max(float(np.ptp(self.path, axis=0).max()), 1e-3)
        return max(float(np.quantile(np.linalg.norm(self.points - self.step.T_wc[:3, 3], axis=1), 0.25)), 1e-3)


class View(Protocol):
    """Shows one scene after another."""

    def show(self, scene: Scene) -> bool:
        """Draw; False where the user has closed the window."""

    def close(self) -> None:
        """The run has ended."""


class Open3DView:
    """A window of Open3D's legacy visualiser: the path, the camera as a pyramid, the points.

    It follows the camera until the user turns, moves or zooms.

    Raises:
        TrianflowError: no window can be opened.
    """

    def __init__(self) -> None:
        import open3d

        self._o3d: Any = open3d
        self._window: Any = open3d.visualization.Visualizer()
        if not self._window.create_window("trianflow", 1024, 768):
            raise TrianflowError(NO_WINDOW)
        self._path, self._camera = open3d.geometry.LineSet(), open3d.geometry.LineSet()
        self._points = open3d.geometry.PointCloud()
        self._window.get_render_option().point_size = 2.0
        self._is_shown, self._follows = False, True
        self._T_vw: np.ndarray | None = None  # where it was looked from

    def show(self, scene: Scene) -> bool:
        """Draw; False where the window was closed."""
        vector, pairs = self._o3d.utility.Vector3dVector, self._o3d.utility.Vector2iVector
        n = len(scene.path)
        self._path.points = vector(scene.path)
        self._path.lines = pairs(np.stack([np.arange(n - 1), np.arange(1, n)], 1).astype(np.int32))
        self._path.paint_uniform_color([c / 255 for c in _PATH])
        corners, edges = frustum(scene)
        self._camera.points, self._camera.lines = vector(corners), pairs(edges)
        self._camera.paint_uniform_color([c / 255 for c in _CAMERA])
        self._points.points = vector(scene.points)
        self._points.colors = vector(scene.colors / 255)
        shapes = (self._path, self._camera, self._points)
        if not self._is_shown and n > 1:
            for shape in shapes:
                self._window.add_geometry(shape)
            self._is_shown = True
        for shape in shapes:
            self._window.update_geometry(shape)
        if self._is_shown:
            self._follow(scene)
        is_open = bool(self._window.poll_events())
        self._window.update_renderer()
        return is_open

    def _follow(self, scene: Scene) -> None:
        control = self._window.get_view_control()
        pinhole = control.convert_to_pinhole_camera_parameters()
        if self._T_vw is not None and not np.allclose(pinhole.extrinsic, self._T_vw, rtol=1e-3, atol=1e-3):
            self._follows = False
        control.set_constant_z_near(0.01 * scene.reach)
        control.set_constant_z_far(1000 * scene.reach)
        if self._follows:
            pinhole.extrinsic = from_behind(scene.step.T_wc, scene.reach)
            control.convert_from_pinhole_camera_parameters(pinhole, allow_arbitrary=True)
            self._T_vw = np.array(control.convert_to_pinhole_camera_parameters().extrinsic)

    def close(self) -> None:
        """Close the window."""
        self._window.destroy_window()


class RerunView:
    """The viewer of rerun: the same, with the image in its camera and the inliers as a curve.

    Path and points are those of now at any place of the time line, so that they do not pile up in its memory.

    Raises:
        TrianflowError: the viewer cannot be started.
    """

    def __init__(self) -> None:
        import rerun

        self._rr: Any = rerun
        beside = shutil.which("rerun", path=sysconfig.get_path("scripts"))  # also where .venv is not activated
        rerun.init("trianflow")
        try:
            rerun.spawn(executable_path=beside)
        except RuntimeError as error:
            raise TrianflowError(f"--live: the viewer of rerun cannot be started: {error}") from error
        rerun.log("world", rerun.ViewCoordinates.RDF, static=True)

    def show(self, scene: Scene) -> bool:
        """Log; closing the viewer does not disturb."""
        rr, step = self._rr, scene.step
        rr.set_time("frame", sequence=step.index)
        rr.log("world/path", rr.LineStrips3D([scene.path], colors=[_PATH]), static=True)
        rr.log("world/points", rr.Points3D(scene.points, colors=scene.colors), static=True)
        rr.log("world/camera", rr.Transform3D(translation=step.T_wc[:3, 3], mat3x3=step.T_wc[:3, :3]))
        if scene.image is not None:
            height, width = scene.image.shape[:2]
            size = {"width": width, "height": height, "image_plane_distance": _LENGTH * scene.reach}
            rr.log("world/camera", rr.Pinhole(image_from_camera=scene.K, **size))
            rr.log("world/camera", rr.Image(scene.image).compress(jpeg_quality=_JPEG))
        rr.log("inliers", rr.Scalars(step.inlier_ratio))
        rr.log("status", rr.TextLog(f"{step.status}: {step.note}" if step.note else str(step.status)))
        return True

    def close(self) -> None:
        """The viewer is a program of its own and stays."""


def from_behind(T_wc: np.ndarray, reach: float) -> np.ndarray:
    """A place to watch a camera from: as far behind it as `reach`, and half as far above, looking before it.

    Args:
        T_wc: `(4, 4)` of the camera that is watched.
        reach: in the unit of T_wc.

    Returns:
        `(4, 4)`, world to watching camera.
    """
    at, (_, down, forward) = T_wc[:3, 3], T_wc[:3, :3].T
    T_wv = np.eye(4)
    T_wv[:3, 3] = at - reach * forward - 0.5 * reach * down
    z = at + reach * forward - T_wv[:3, 3]
    z /= np.linalg.norm(z)
    x = np.cross(down, z)
    x /= np.linalg.norm(x)
    T_wv[:3, :3] = np.stack([x, np.cross(z, x), z], 1)
    return np.linalg.inv(T_wv)


def frustum(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """The camera as a pyramid, a fifth of `reach` long: `(5, 3)` corners and `(8, 2)` edges."""
    height, width = (2 * scene.K[1, 2], 2 * scene.K[0, 2]) if scene.image is None else scene.image.shape[:2]
    size = _LENGTH * scene.reach
    pixels = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], float)
    X_c = np.concatenate([np.zeros((1, 3)), size * pixels @ np.linalg.inv(scene.K).T])
    edges = np.array([[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [2, 3], [3, 4], [4, 1]], np.int32)
    return X_c @ scene.step.T_wc[:3, :3].T + scene.step.T_wc[:3, 3], edges
