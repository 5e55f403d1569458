"""Trajectory, frustums, point cloud and mesh in an Open3D window, or in a picture of it without a display."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trianflow.errors import TrianflowError

_PATH, _FRUSTUM, _BACKGROUND = (0.85, 0.28, 0.06), (0.11, 0.37, 0.82), (1.0, 1.0, 1.0)
# Frustums that are drawn at most, and their depth as a share of the scene.
_FRUSTUMS, _FRUSTUM_SIZE = 40, 0.02
# Share of the points on either side that do not count for what the view must show, and its vertical angle, degrees.
_STRAY, _ANGLE = 0.05, 50.0
_INSTALL = "pip install 'trianflow[view]'"
_LIBRARIES = "apt install libegl1 libgl1 libgl1-mesa-dri libx11-6 libusb-1.0-0 libudev1 libidn2-0"
_PROBE = "import open3d as o; v = o.visualization.Visualizer(); raise SystemExit(not v.create_window('', 64, 64, {}))"


@dataclass(frozen=True)
class Scene:
    """What is to be seen.

    Attributes:
        T_wc: `(N, 4, 4)` camera to world in the order of time; may be none.
        points, colors: `(M, 3)`, colours in [0, 1].
        vertices, faces, vertex_colors: of a mesh, `(V, 3)`, `(F, 3)` and `(V, 3)`.
    """

    T_wc: np.ndarray = field(default_factory=lambda: np.zeros((0, 4, 4)))
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    colors: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    vertices: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    faces: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), int))
    vertex_colors: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))


def import_open3d() -> Any:
    """Open3D.

    Raises:
        TrianflowError: it, or a library of the system that it needs, is missing; the message says how to get it.
    """
    try:
        import open3d
    except ModuleNotFoundError:
        raise TrianflowError(f"this needs Open3D: {_INSTALL}") from None
    except (ImportError, OSError) as e:
        raise TrianflowError(f"Open3D does not load ({str(e).splitlines()[0]}): {_LIBRARIES}") from None
    return open3d


def read_ply(path: str | Path) -> Scene:
    """A PLY file as a scene: a mesh where it has faces, else its points; grey where it has no colours.

    Raises:
        TrianflowError: no such file, or nothing in it; Open3D is missing.
    """
    o3d, path = import_open3d(), Path(path)
    if not path.is_file():
        raise TrianflowError(f"{path}: no such file")
    with _silent(o3d):
        mesh, cloud = o3d.io.read_triangle_mesh(str(path)), o3d.io.read_point_cloud(str(path))
    points, colors = np.asarray(cloud.points), np.asarray(cloud.colors)
    if not len(points):
        raise TrianflowError(f"{path}: not a point in it; expected a PLY point cloud or mesh")
    colors = colors if len(colors) else np.full_like(points, 0.45)
    if len(mesh.triangles):
        return Scene(vertices=np.asarray(mesh.vertices), faces=np.asarray(mesh.triangles), vertex_colors=colors)
    return Scene(points=points, colors=colors)


def save_screenshot(path: str | Path, scene: Scene, size: tuple[int, int] = (1280, 800)) -> None:
    """Write a picture of a scene; needs no display.

    Args:
        path: `.png` or `.jpg`.
        scene: what is to be seen.
        size: width and height in pixels.

    Raises:
        TrianflowError: it cannot be drawn here, with the remedy, or the file cannot be written.
    """
    import cv2

    picture = draw(scene, size)
    try:
        ok, data = cv2.imencode(Path(path).suffix, np.ascontiguousarray(picture[..., ::-1]))
    except cv2.error:
        ok = False
    if not ok:
        raise TrianflowError(f"{path}: not the name of a picture; use .png or .jpg")
    try:
        Path(path).write_bytes(data.tobytes())
    except OSError as e:
        raise TrianflowError(f"{path}: cannot write the picture: {e.strerror}") from e


def draw(scene: Scene, size: tuple[int, int] = (1280, 800)) -> np.ndarray:
    """A picture of a scene `(H, W, 3)` uint8 RGB, for a size `(W, H)`; needs no display.

    Raises:
        TrianflowError: it cannot be drawn here, with the remedy.
    """
    visualizer = _window(scene, size, visible=False)
    visualizer.poll_events()
    visualizer.update_renderer()
    picture = np.asarray(visualizer.capture_screen_float_buffer(True))
    visualizer.destroy_window()
    return (255 * picture).round().astype(np.uint8)


def show(scene: Scene) -> None:
    """Open a window and stay until it is closed.

    Raises:
        TrianflowError: there is no display or no OpenGL, with the remedy.
    """
    visualizer = _window(scene, (1280, 800), visible=True)
    visualizer.run()
    visualizer.destroy_window()


def look_at(scene: Scene, aspect: float) -> np.ndarray:
    """World to camera `(4, 4)` from behind and above, so that the scene fills a picture of an aspect (width / height).

    Above is where the cameras of the trajectory have it, on average, else where the first camera has (-y).
    """
    seen = [part for part in (scene.T_wc[:, :3, 3], _trimmed(scene.points), _trimmed(scene.vertices)) if len(part)]
    points = np.concatenate(seen) if seen else np.zeros((1, 3))
    R = scene.T_wc[:, :3, :3].mean(0) if len(scene.T_wc) else np.eye(3)
    up = -R[:, 1] / np.linalg.norm(R[:, 1])
    ahead = scene.T_wc[-1, :3, 3] - scene.T_wc[0, :3, 3] if len(scene.T_wc) else R[:, 2]
    spread = np.linalg.norm(np.ptp(points, axis=0))
    if np.linalg.norm(ahead) <= 0.5 * spread or not len(scene.T_wc):
        ahead = R[:, 2]
    ahead = ahead - up * (ahead @ up)
    ahead = ahead / max(float(np.linalg.norm(ahead)), 1e-12)
    z = 0.75 * ahead - 0.66 * up
    z /= np.linalg.norm(z)
    x = np.cross(-up, z)
    x /= np.linalg.norm(x)
    R_cw = np.stack([x, np.cross(z, x), z])
    X = points @ R_cw.T
    middle = (X.max(0) + X.min(0)) / 2
    reach = np.abs(X - middle)
    tangent = np.tan(np.radians(_ANGLE) / 2)
    back = (np.maximum(reach[:, 0] / aspect, reach[:, 1]) / tangent - (X - middle)[:, 2]).max()
    T_cw = np.eye(4)
    T_cw[:3, :3], T_cw[:3, 3] = R_cw, np.array([0, 0, max(1.05 * back, 1e-3)]) - middle
    return T_cw


def _trimmed(points: np.ndarray) -> np.ndarray:
    """The points without those that lie far out on any axis."""
    if not len(points):
        return points
    low, high = np.quantile(points, [_STRAY, 1 - _STRAY], axis=0)
    return points[((points >= low) & (points <= high)).all(1)]


def _window(scene: Scene, size: tuple[int, int], *, visible: bool) -> Any:
    """An Open3D visualiser with the scene in it."""
    o3d = import_open3d()
    _probe(visible)
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())  # EGL complains on stderr without
    visualizer = o3d.visualization.Visualizer()
    with _silent(o3d):
        if not visualizer.create_window("trianflow", *size, visible=visible):
            raise TrianflowError(_no_window(visible))
    for shape in _shapes(o3d, scene):
        visualizer.add_geometry(shape)
    options = visualizer.get_render_option()
    options.background_color, options.point_size = np.array(_BACKGROUND), 2.0
    options.mesh_show_back_face, options.light_on = True, False
    view = visualizer.get_view_control()
    parameters = view.convert_to_pinhole_camera_parameters()
    width, height = parameters.intrinsic.width, parameters.intrinsic.height
    f = height / 2 / np.tan(np.radians(_ANGLE) / 2)
    parameters.intrinsic.set_intrinsics(width, height, f, f, width / 2 - 0.5, height / 2 - 0.5)
    parameters.extrinsic = look_at(scene, width / height)
    view.convert_from_pinhole_camera_parameters(parameters, True)
    return visualizer


def _shapes(o3d: Any, scene: Scene) -> list[Any]:
    shapes: list[Any] = []
    if len(scene.points):
        cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(scene.points))
        cloud.colors = o3d.utility.Vector3dVector(scene.colors)
        shapes.append(cloud)
    if len(scene.vertices):
        vertices, faces = o3d.utility.Vector3dVector(scene.vertices), o3d.utility.Vector3iVector(scene.faces)
        mesh = o3d.geometry.TriangleMesh(vertices, faces)
        mesh.vertex_colors = o3d.utility.Vector3dVector(scene.vertex_colors)
        shapes.append(mesh)
    for lines, color in ((path_lines(scene.T_wc), _PATH), (frustum_lines(scene), _FRUSTUM)):
        if len(lines):
            ends = o3d.utility.Vector2iVector(np.arange(2 * len(lines)).reshape(-1, 2))
            drawn = o3d.geometry.LineSet(o3d.utility.Vector3dVector(lines.reshape(-1, 3)), ends)
            drawn.paint_uniform_color(color)
            shapes.append(drawn)
    return shapes


def path_lines(T_wc: np.ndarray) -> np.ndarray:
    """The segments of a trajectory, `(N - 1, 2, 3)`."""
    positions = T_wc[:, :3, 3]
    return np.stack([positions[:-1], positions[1:]], 1)


def frustum_lines(scene: Scene) -> np.ndarray:
    """The edges of pyramids that show where cameras stand and look, `(8 n, 2, 3)`; 40 cameras at most, evenly spread.

    Their size goes by that of the scene.
    """
    number = len(scene.T_wc)
    if not number:
        return np.zeros((0, 2, 3))
    chosen = scene.T_wc[np.unique(np.linspace(0, number - 1, min(number, _FRUSTUMS)).round().astype(int))]
    everything = np.concatenate([scene.T_wc[:, :3, 3], _trimmed(scene.points), _trimmed(scene.vertices)])
    size = _FRUSTUM_SIZE * float(np.linalg.norm(np.ptp(everything, axis=0))) or 1.0
    corners = size * np.array([[-0.8, -0.5, 1], [0.8, -0.5, 1], [0.8, 0.5, 1], [-0.8, 0.5, 1]])
    rays = np.stack([np.zeros_like(corners), corners], 1)
    edges = np.concatenate([rays, np.stack([corners, np.roll(corners, -1, 0)], 1)])
    return (np.einsum("nij,ekj->neki", chosen[:, :3, :3], edges) + chosen[:, None, None, :3, 3]).reshape(-1, 2, 3)


def _probe(visible: bool) -> None:
    """Try a window in a process of its own: a driver that is broken can end the process.

    Raises:
        TrianflowError: no window, with the remedy.
    """
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if visible and sys.platform.startswith("linux") and not display:
        raise TrianflowError(_no_window(visible))  # Open3D would draw into the void
    try:
        done = subprocess.run([sys.executable, "-c", _PROBE.format(visible)], capture_output=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired):
        raise TrianflowError(_no_window(visible)) from None
    if done.returncode:
        raise TrianflowError(_no_window(visible))


def _no_window(visible: bool) -> str:
    if visible:
        return "no window opens here (no display, or no OpenGL): take --screenshot FILE, which needs no display"
    return f"Open3D cannot draw here: OpenGL through EGL is missing: {_LIBRARIES}"


class _silent:
    """Open3D says nothing inside of it."""

    def __init__(self, o3d: Any) -> None:
        self._o3d = o3d

    def __enter__(self) -> None:
        self._before = self._o3d.utility.get_verbosity_level()
        self._o3d.utility.set_verbosity_level(self._o3d.utility.VerbosityLevel.Error)

    def __exit__(self, *_: object) -> None:
        self._o3d.utility.set_verbosity_level(self._before)
