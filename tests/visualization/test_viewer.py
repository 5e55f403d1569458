"""Scenes as Open3D draws them without a display, and what is said where it cannot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from trianflow.data.ply import write_ply
from trianflow.errors import TrianflowError
from trianflow.visualization import viewer
from trianflow.visualization.viewer import Scene, draw, frustum_lines, look_at, path_lines, read_ply, save_screenshot


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
    "scene", [Scene(), Scene(np.eye(4)[None]), Scene(points=np.zeros((1, 3)), colors=np.ones((1, 3)))]
)
def test_the_view_of_next_to_nothing_is_finite(scene: Scene) -> None:
    assert np.isfinite(look_at(scene, 1.6)).all()


def test_lines() -> None:
    T_wc = drive(3)
    np.testing.assert_array_equal(path_lines(T_wc)[:, :, 2], [[0, 1], [1, 2]])
    lines = frustum_lines(Scene(T_wc))
    assert lines.shape == (24, 2, 3)
    np.testing.assert_array_equal(lines[8, 0], [0, 0, 1])  # the second camera's centre
    assert (lines[:4, 1, 2] > 0).all()  # it looks ahead
    assert len(frustum_lines(Scene(drive(1000)))) == 8 * 40
    assert len(frustum_lines(Scene())) == len(path_lines(np.zeros((0, 4, 4)))) == 0


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


def test_ply_files(tmp_path: Path) -> None:
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
    for name, said in (("nowhere.ply", "no such file"), ("junk.ply", "not a point in it")):
        with pytest.raises(TrianflowError, match=rf"{name}: {said}"):
            read_ply(tmp_path / name)


@pytest.mark.parametrize(("visible", "remedy"), [(True, "--screenshot FILE"), (False, "apt install libegl1")])
def test_a_driver_that_ends_the_process_is_one_line(
    monkeypatch: pytest.MonkeyPatch, visible: bool, remedy: str
) -> None:
    pytest.importorskip("open3d")
    monkeypatch.setattr(viewer, "_PROBE", "import os; os.abort()  # {}")
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
