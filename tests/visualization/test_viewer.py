"""Scenes as Open3D draws them without a display, and what is said where it cannot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from trianflow.data.ply import write_ply
from trianflow.errors import TrianflowError
from trianflow.visualization import viewer
from trianflow.visualization.viewer import (
    Scene,
    bars,
    draw,
    frustum_lines,
    look_at,
    path_lines,
    read_ply,
    save_screenshot,
)


def drive(number: int = 20) -> np.ndarray:
    """Poses of a camera that goes ahead."""
    T_wc = np.tile(np.eye(4), (number, 1, 1))
    T_wc[:, 2, 3] = np.arange(number)
    return T_wc


def ball(colour: tuple[float, float, float]) -> Scene:
    """Points of a ball to the right of the drive, and the drive."""
    direction = np.random.default_rng(0).normal(size=(20_000, 3))
    points = 4 * direction / np.linalg.norm(direction, axis=1, keepdims=True) + [8, 0, 10]
    return Scene(drive(), points, np.tile(colour, (len(points), 1)))


def projected(points: np.ndarray, T_cw: np.ndarray, aspect: float) -> np.ndarray:
    """Where points lie in a picture that goes from -1 to 1 on both axes."""
    X = points @ T_cw[:3, :3].T + T_cw[:3, 3]
    assert (X[:, 2] > 0).all()
    return X[:, :2] / X[:, 2:] / np.tan(np.radians(25)) / [aspect, 1]


def test_the_view_is_from_behind_and_above_and_shows_all() -> None:
    scene = ball((1, 0, 0))
    T_cw = look_at(scene, 1.6)
    assert np.linalg.det(T_cw[:3, :3]) == pytest.approx(1)
    eye = np.linalg.inv(T_cw)[:3, 3]
    assert eye[1] < -4  # y is down
    assert eye[2] < 0
    p = projected(scene.T_wc[:, :3, 3], T_cw, 1.6)
    assert np.abs(p).max() <= 1
    assert (np.diff(p[:, 1]) < 0).all()  # what is ahead is above
    assert np.median(projected(scene.points, T_cw, 1.6)[:, 0]) > p[:, 0].max()  # right stays right


@pytest.mark.parametrize(
    "scene",
    [
        Scene(),
        Scene(np.eye(4)[None]),
        Scene(np.tile(np.eye(4), (5, 1, 1))),
        Scene(points=np.zeros((1, 3)), colors=np.ones((1, 3))),
    ],
)
def test_the_view_of_next_to_nothing_shows_it(scene: Scene) -> None:
    T_cw = look_at(scene, 1.6)
    assert np.isfinite(T_cw).all()
    shown = np.concatenate([scene.points, frustum_lines(scene).reshape(-1, 3)])
    assert not (np.abs(projected(shown, T_cw, 1.6)) > 1).any()


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_view_knows_no_unit(scale: float) -> None:
    scaled = drive()
    scaled[:, :3, 3] *= scale
    T_cw = look_at(Scene(scaled), 1.6)
    T_cw[:3, 3] /= scale
    np.testing.assert_allclose(T_cw, look_at(Scene(drive()), 1.6), atol=1e-9)


def test_where_directions_cancel_out_the_view_is_the_first_camera_s() -> None:
    angle = np.radians([30, 120, 210, 300])
    around = np.tile(np.eye(4), (4, 1, 1))
    around[:, :3, :3] = Rotation.from_euler("y", angle[:, None]).as_matrix()
    rolling = np.tile(np.eye(4), (2, 1, 1))
    rolling[1, :3, :3] = np.diag([-1, -1, 1])
    rising = np.tile(np.eye(4), (5, 1, 1))
    rising[:, 1, 3] = -np.arange(5)
    for T_wc in (around, rolling, rising):
        first = T_wc[0, :3, :3]
        expected = first @ [0, 0.66, 0.75] / np.hypot(0.66, 0.75)  # ahead, and down
        np.testing.assert_allclose(look_at(Scene(T_wc), 1.6)[2, :3], expected, atol=1e-12)


def test_lines() -> None:
    T_wc = drive(3)
    np.testing.assert_array_equal(path_lines(T_wc)[:, :, 2], [[0, 1], [1, 2]])
    lines = frustum_lines(Scene(T_wc))
    assert lines.shape == (24, 2, 3)
    np.testing.assert_array_equal(lines[8, 0], [0, 0, 1])  # the second camera's centre
    assert (lines[:4, 1, 2] > 0).all()  # it looks ahead
    assert len(frustum_lines(Scene(drive(1000)))) == 8 * 20  # every other of 40, so that they stand apart
    assert len(frustum_lines(Scene(np.tile(np.eye(4), (9, 1, 1))))) == 8  # all alike
    turning = np.tile(np.eye(4), (3, 1, 1))
    turning[1, :3, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]
    assert len(frustum_lines(Scene(turning))) == 8 * 3
    assert len(frustum_lines(Scene())) == len(path_lines(np.zeros((0, 4, 4)))) == 0


def test_bars_are_around_their_lines() -> None:
    lines = np.array([[[0, 0, 0], [0, 0, 2.0]], [[1, 1, 1], [4, 5, 1.0]], [[1, 1, 1], [1, 1, 1.0]]])
    vertices, faces = bars(lines, 0.2)
    assert (len(vertices), len(faces), faces.min(), faces.max()) == (24, 24, 0, 23)
    for i, (a, b) in enumerate(lines[:2]):
        own = vertices[8 * i : 8 * i + 8]
        np.testing.assert_allclose(own[:4].mean(0), a, atol=1e-12)
        np.testing.assert_allclose(own[4:].mean(0), b, atol=1e-12)
        along = (b - a) / np.linalg.norm(b - a)
        np.testing.assert_allclose(np.linalg.norm(np.cross(own - a, along), axis=1), 0.1 * np.sqrt(2))
        triangles = vertices[faces[8 * i : 8 * i + 8]]
        doubled = np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1)
        assert doubled.sum() / 2 == pytest.approx(4 * 0.2 * np.linalg.norm(b - a))  # four sides
    assert np.isfinite(vertices).all()


def test_a_clean_room_is_in_view_whole_and_strays_are_not() -> None:
    room = np.random.default_rng(0).uniform(-1, 1, (5000, 3)) * [3, 1, 2]
    scene = Scene(points=np.concatenate([room, [[0, 0, 500.0]] * 20]))
    p = projected(room, look_at(scene, 1.6), 1.6)
    low, high = p.min(0), p.max(0)
    assert np.abs(p).max() == pytest.approx(1 / 1.05, abs=0.05)  # it fills the picture
    np.testing.assert_allclose(low + high, 0, atol=0.1)  # and is in its middle


def test_a_picture_without_a_display(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("open3d")
    monkeypatch.delenv("DISPLAY", raising=False)
    picture = draw(ball((0.0, 0.6, 0.0)), (320, 200))
    assert picture.shape == (200, 320, 3)
    green = (picture[..., 1] > 120) & (picture[..., 0] < 60)
    assert green.mean() > 0.02
    assert np.nonzero(green)[1].mean() > 160  # to the right
    blue = (picture[..., 2].astype(int) - picture[..., 0]) > 60
    assert blue.any()  # the cameras
    save_screenshot(tmp_path / "a.png", ball((0.0, 0.6, 0.0)), (320, 200))
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png"))[..., ::-1], picture)
    with pytest.raises(TrianflowError, match=r"a\.txt: not the name of a picture"):
        save_screenshot(tmp_path / "a.txt", Scene(drive()), (64, 64))
    with pytest.raises(TrianflowError, match="cannot write the picture"):
        save_screenshot(tmp_path / "nowhere" / "a.png", Scene(drive()), (64, 64))


def test_ply_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    o3d = pytest.importorskip("open3d")
    write_ply(tmp_path / "cloud.ply", np.eye(3), np.full((3, 3), 51, np.uint8))
    cloud = read_ply(tmp_path / "cloud.ply")
    np.testing.assert_allclose(cloud.points, np.eye(3))
    np.testing.assert_allclose(cloud.colors, 0.2)
    assert not len(cloud.faces)
    box = o3d.geometry.TriangleMesh.create_box()
    o3d.io.write_triangle_mesh(str(tmp_path / "box.ply"), box)
    mesh = read_ply(tmp_path / "box.ply")
    assert (len(mesh.vertices), len(mesh.faces), len(mesh.vertex_colors), len(mesh.points)) == (8, 12, 8, 0)
    (tmp_path / "junk.ply").write_text("junk")
    (tmp_path / "zero.ply").write_text("")
    (tmp_path / "cut.ply").write_bytes((tmp_path / "cloud.ply").read_bytes()[:-20])
    (tmp_path / "cut_box.ply").write_bytes((tmp_path / "box.ply").read_bytes()[:-20])
    write_ply(tmp_path / "empty.ply", np.zeros((0, 3)), np.zeros((0, 3), np.uint8))
    damaged = "no PLY file, or a damaged one: "
    for name, said in (
        ("nowhere.ply", "no such file"),
        ("empty.ply", "not a point in it"),
        ("junk.ply", f"{damaged}Wrong magic number"),
        ("zero.ply", damaged),
        ("cut.ply", f"{damaged}Error reading"),
        ("cut_box.ply", f"{damaged}Error reading"),
    ):
        with pytest.raises(TrianflowError, match=rf"{name}: {said}"):
            read_ply(tmp_path / name)
    assert capfd.readouterr().err == ""


_PLY = """ply
format ascii 1.0
element vertex 3
property float x
property float y
property float z
{}
end_header
0 0 0
1 0 0
{}
{}
"""
_FACES = "element face 1\nproperty list uchar int vertex_indices"


@pytest.mark.parametrize(
    ("last", "face", "said"),
    [
        ("0 1 0", "3 0 1 99999999", "a face names a vertex that is not there"),
        ("0 1 0", "3 0 1 3", "a face names a vertex that is not there"),
        ("0 1 0", "3 0 1 -1", "a face names a vertex that is not there"),
        ("nan 1 0", "3 0 1 2", "a vertex of the mesh is not finite"),
    ],
)
def test_meshes_that_open3d_cannot_draw_are_refused(tmp_path: Path, last: str, face: str, said: str) -> None:
    pytest.importorskip("open3d")
    (tmp_path / "bad.ply").write_text(_PLY.format(_FACES, last, face))
    with pytest.raises(TrianflowError, match=f"bad.ply: damaged: {said}"):
        read_ply(tmp_path / "bad.ply")


def test_points_that_are_nowhere_are_left_out(tmp_path: Path) -> None:
    pytest.importorskip("open3d")
    (tmp_path / "cloud.ply").write_text(_PLY.format("comment a cloud", "nan 1 0", ""))
    scene = read_ply(tmp_path / "cloud.ply")
    np.testing.assert_array_equal(scene.points, [[0, 0, 0], [1, 0, 0]])
    assert scene.colors.shape == (2, 3)


@pytest.mark.parametrize(("visible", "remedy"), [(True, "--screenshot FILE"), (False, "apt install libegl1")])
def test_a_driver_that_ends_the_process_is_one_line(
    monkeypatch: pytest.MonkeyPatch, visible: bool, remedy: str
) -> None:
    pytest.importorskip("open3d")
    monkeypatch.setattr(viewer, "CONNECTS", "")
    monkeypatch.setattr(viewer, "OPENS", "import os; os.abort()  # {}")
    monkeypatch.setenv("DISPLAY", ":99")
    with pytest.raises(TrianflowError, match=remedy):
        viewer.show(Scene(drive())) if visible else draw(Scene(drive()), (64, 64))


def test_no_display_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("open3d")
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(TrianflowError, match="no window opens here"):
        viewer.show(Scene(drive()))


def test_a_display_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("open3d")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":7777")
    with pytest.raises(TrianflowError, match="no window opens here"):
        viewer.show(Scene(drive()))


def test_without_open3d_the_remedy_is_told_and_nothing_else_needs_it() -> None:
    code = (
        "import sys; sys.modules['open3d'] = None\n"
        "import trianflow.odometry.cloud, trianflow.odometry.colmap, trianflow.odometry.mesh, trianflow.cli.view\n"
        "from trianflow.visualization.viewer import import_open3d\n"
        "try: import_open3d()\n"
        "except Exception as e: print(type(e).__name__, e)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "TrianflowError this needs Open3D: pip install 'trianflow[view]'\n"
