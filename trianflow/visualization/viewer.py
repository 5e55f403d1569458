"""Trajectory, frustums, point cloud and mesh in an Open3D window, or in a picture of it without a display."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trianflow.errors import TrianflowError

_PATH, _FRUSTUM, _BACKGROUND = (0.85, 0.28, 0.06), (0.11, 0.37, 0.82), (1.0, 1.0, 1.0)
# Frustums that are drawn at most, their depth and the thickness of the path as shares of the scene.
_FRUSTUMS, _FRUSTUM_SIZE, _THICK = 40, 0.02, 0.002
# Share of the points on either side of each axis that may lie far out, how far out (of the span of the others) a point
# still counts for what the view must show, its vertical angle, degrees, and how much larger than that it is.
_STRAY, _BEYOND, _ANGLE, _MARGIN = 0.05, 0.2, 50.0, 1.05
_CANCELLED = 1e-3  # the mean of unit vectors that is as short as this tells no direction
_INSTALL = "pip install 'trianflow[view]'"
_LIBRARIES = "apt install libegl1 libgl1 libgl1-mesa-dri libx11-6 libusb-1.0-0 libudev1 libidn2-0"
_PROBE_SECONDS = 120
# Probes run in a process of their own, as graphics drivers can end the one that they fail in: of a window, visible or
# not; and of the display: where X cannot be reached, Open3D "opens" a window that nobody sees.
OPENS = """
import open3d, os
os._exit(not open3d.visualization.Visualizer().create_window("", 64, 64, visible={}))
"""
CONNECTS = """
import ctypes, os, sys
if sys.platform.startswith("linux") and not os.environ.get("WAYLAND_DISPLAY"):
    connect = ctypes.CDLL("libX11.so.6").XOpenDisplay
    connect.restype = ctypes.c_void_p
    if not connect(None):
        os._exit(3)
"""


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

    Points of a cloud that are not finite are left out.

    Raises:
        TrianflowError: no such file, a damaged one, or nothing in it; Open3D is missing.
    """
    o3d, path = import_open3d(), Path(path)
    if not path.is_file():
        raise TrianflowError(f"{path}: no such file")
    with _silent(o3d), _complaints() as said:
        mesh, cloud = o3d.io.read_triangle_mesh(str(path)), o3d.io.read_point_cloud(str(path))
    if said:
        raise TrianflowError(f"{path}: no PLY file, or a damaged one: {said[0]}")
    points, colors, faces = np.asarray(cloud.points), np.asarray(cloud.colors), np.asarray(mesh.triangles)
    colors = colors if len(colors) else np.full_like(points, 0.45)
    finite = np.isfinite(points).all(1)
    if len(faces):
        if not ((faces >= 0) & (faces < len(points))).all():  # Open3D would read memory that is not its own
            raise TrianflowError(f"{path}: damaged: a face names a vertex that is not there")
        if not finite.all():
            raise TrianflowError(f"{path}: damaged: a vertex of the mesh is not finite")
        return Scene(vertices=points, faces=faces, vertex_colors=colors)
    if not finite.any():
        raise TrianflowError(f"{path}: not a point in it; expected a PLY point cloud or mesh")
    return Scene(points=points[finite], colors=colors[finite])


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
    frustums = frustum_lines(scene).reshape(-1, 3)
    points = np.concatenate([scene.T_wc[:, :3, 3], frustums, _trimmed(scene.points), _trimmed(scene.vertices)])
    points = points if len(points) else np.zeros((1, 3))
    R = _mean_rotation(scene.T_wc)
    up, ahead = -R[:, 1], R[:, 2]
    extent = _extent(scene)
    if len(scene.T_wc):
        way = scene.T_wc[-1, :3, 3] - scene.T_wc[0, :3, 3]
        way -= up * (way @ up)
        if np.linalg.norm(way) > 0.5 * extent:
            ahead = way / np.linalg.norm(way)
    z = 0.75 * ahead - 0.66 * up
    z /= np.linalg.norm(z)
    x = np.cross(-up, z)
    x /= np.linalg.norm(x)
    R_cw = np.stack([x, np.cross(z, x), z])
    X = points @ R_cw.T
    # |x - eye_x| <= slope (z - eye_z) for all points, and the same for y: the foremost eye for which both hold
    slope = np.array([aspect, 1]) * np.tan(np.radians(_ANGLE) / 2) / _MARGIN
    low, high = (X[:, :2] - slope * X[:, 2:]).max(0), (X[:, :2] + slope * X[:, 2:]).min(0)
    nearest = X[:, 2].min() - 0.01 * extent
    eye = np.array([*(low + high) / 2, min(((high - low) / (2 * slope)).min(), nearest)])
    T_cw = np.eye(4)
    T_cw[:3, :3], T_cw[:3, 3] = R_cw, -eye
    return T_cw


def _mean_rotation(T_wc: np.ndarray) -> np.ndarray:
    """The rotation `(3, 3)` closest to the mean of all; the first where they cancel out, none where there are none."""
    if not len(T_wc):
        return np.eye(3)
    U, size, V = np.linalg.svd(T_wc[:, :3, :3].mean(0))
    if size[1] < _CANCELLED:
        return np.asarray(T_wc[0, :3, :3])
    U[:, 2] *= np.linalg.det(U @ V)
    return np.asarray(U @ V)


def _trimmed(points: np.ndarray) -> np.ndarray:
    """The points without those that lie far out on any axis."""
    if not len(points):
        return points
    low, high = np.quantile(points, [_STRAY, 1 - _STRAY], axis=0)
    reach = _BEYOND * (high - low)
    return points[((points >= low - reach) & (points <= high + reach)).all(1)]


def _extent(scene: Scene) -> float:
    """Diagonal of what is in view; 1 for a single place, or none."""
    everything = np.concatenate([scene.T_wc[:, :3, 3], _trimmed(scene.points), _trimmed(scene.vertices)])
    return float(np.linalg.norm(np.ptp(everything, axis=0)) if len(everything) else 0.0) or 1.0


def _window(scene: Scene, size: tuple[int, int], *, visible: bool) -> Any:
    """An Open3D visualiser with the scene in it."""
    o3d = import_open3d()
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if visible and sys.platform.startswith("linux") and not display:
        raise TrianflowError(_no_window(visible))
    probe((CONNECTS if visible else "") + OPENS.format(visible), _no_window(visible))
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
    path = path_lines(scene.T_wc)
    if len(path):
        vertices, faces = bars(path, _THICK * _extent(scene))
        bar = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(vertices), o3d.utility.Vector3iVector(faces))
        bar.paint_uniform_color(_PATH)
        shapes.append(bar)
    lines = frustum_lines(scene)
    if len(lines):
        ends = o3d.utility.Vector2iVector(np.arange(2 * len(lines)).reshape(-1, 2))
        drawn = o3d.geometry.LineSet(o3d.utility.Vector3dVector(lines.reshape(-1, 3)), ends)
        drawn.paint_uniform_color(_FRUSTUM)
        shapes.append(drawn)
    return shapes


def path_lines(T_wc: np.ndarray) -> np.ndarray:
    """The segments of a trajectory, `(N - 1, 2, 3)`."""
    positions = T_wc[:, :3, 3]
    return np.stack([positions[:-1], positions[1:]], 1)


def bars(lines: np.ndarray, thickness: float) -> tuple[np.ndarray, np.ndarray]:
    """Square bars in the place of lines, which are drawn one pixel thin: vertices `(8 N, 3)` and faces `(8 N, 3)`.

    Args:
        lines: `(N, 2, 3)` ends; where both are one, nothing is seen.
        thickness: of the bars.
    """
    along = np.diff(lines, axis=1)[:, 0]
    across = np.cross(along, np.eye(3)[np.abs(along).argmin(1)])
    sides = np.stack([across, np.cross(along, across)], 1)
    sides *= thickness / 2 / np.maximum(np.linalg.norm(sides, axis=2, keepdims=True), 1e-300)
    rim = np.einsum("cs,nsi->nci", np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]), sides)
    vertices = (lines[:, :, None] + rim[:, None]).reshape(-1, 3)
    here, after = np.arange(4), (np.arange(4) + 1) % 4
    faces = np.concatenate([np.stack([here, after, here + 4], 1), np.stack([after, after + 4, here + 4], 1)])
    return vertices, (faces + 8 * np.arange(len(lines))[:, None, None]).reshape(-1, 3)


def frustum_lines(scene: Scene) -> np.ndarray:
    """The edges of pyramids that show where cameras stand and look, `(8 n, 2, 3)`; 40 cameras at most, evenly spread.

    Their size goes by that of the scene. Those that would lie over the one before are left out.
    """
    number = len(scene.T_wc)
    if not number:
        return np.zeros((0, 2, 3))
    chosen = scene.T_wc[np.unique(np.linspace(0, number - 1, min(number, _FRUSTUMS)).round().astype(int))]
    size = _FRUSTUM_SIZE * _extent(scene)
    corners = size * np.array([[-0.8, -0.5, 1], [0.8, -0.5, 1], [0.8, 0.5, 1], [-0.8, 0.5, 1]])
    rays = np.stack([np.zeros_like(corners), corners], 1)
    edges = np.concatenate([rays, np.stack([corners, np.roll(corners, -1, 0)], 1)])
    frustums = np.einsum("nij,ekj->neki", chosen[:, :3, :3], edges) + chosen[:, None, None, :3, 3]
    shown = [frustums[0]]
    for frustum in frustums[1:]:
        if np.linalg.norm(frustum - shown[-1], axis=-1).max() > 1.5 * size:
            shown.append(frustum)
    return np.concatenate(shown)


def probe(code: str, message: str) -> None:
    """Run Python code, such as `CONNECTS` or `OPENS`, in another process.

    Raises:
        TrianflowError: with the message, where it fails or does not end.
    """
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=_PROBE_SECONDS, check=False)
        failed = done.returncode != 0
    except (OSError, subprocess.TimeoutExpired):
        failed = True
    if failed:
        raise TrianflowError(message)


def _no_window(visible: bool) -> str:
    if visible:
        return "no window opens here (no display, or no OpenGL): take --screenshot FILE, which needs no display"
    return f"Open3D cannot draw here: OpenGL through EGL is missing: {_LIBRARIES}"


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """What Open3D's reader of PLY files tells on stderr alone, while it returns as much as it has read."""
    said: list[str] = []
    with tempfile.TemporaryFile() as file:
        stderr = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        file.seek(0)
        lines = file.read().decode("utf-8", "replace").splitlines()
        said += [line.removeprefix("RPly: ") for line in lines if line.startswith("RPly: ")]


class _silent:
    """Open3D says nothing inside of it."""

    def __init__(self, o3d: Any) -> None:
        self._o3d = o3d

    def __enter__(self) -> None:
        self._before = self._o3d.utility.get_verbosity_level()
        self._o3d.utility.set_verbosity_level(self._o3d.utility.VerbosityLevel.Error)

    def __exit__(self, *_: object) -> None:
        self._o3d.utility.set_verbosity_level(self._before)
