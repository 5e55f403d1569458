"""Depth maps that are worth to be taken, and what of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.odometry.corridor import CAMERA, CONFIG, Corridor, drive
from trianflow.odometry.pipeline import VisualOdometry
from trianflow.odometry.shots import Shot, ShotPicker, without_edges


def shots(world: Corridor, config=CONFIG, with_depth: bool = True) -> list[tuple[int, Shot]]:
    """The frames that were taken, by number."""
    odometry, picker, found = VisualOdometry(CAMERA, config, world), ShotPicker(), []
    for frame in world.frames(with_depth):
        shot = picker.observe(odometry, odometry.track(frame))
        if shot is not None:
            found.append((frame.index, shot))
    return found


def test_edges_of_a_step_but_none_of_a_slanted_plane() -> None:
    row, column = np.mgrid[:40, :60].astype(np.float32)
    road = 100 / (row + 1.5)  # depths that differ by half from row to row
    assert without_edges(road).all()
    step = np.where(column < 30, 2.0, 2.5).astype(np.float32)
    np.testing.assert_array_equal(without_edges(step), (column < 29) | (column > 30))
    np.testing.assert_array_equal(without_edges(step.T), without_edges(step).T)
    holes = np.where((row + column) % 7 == 0, 0, road)
    np.testing.assert_array_equal(without_edges(holes), holes > 0)
    assert not without_edges(np.zeros((1, 1), np.float32)).any()


def test_a_window_that_knows_depths_from_the_start_is_in_metres() -> None:
    found = shots(Corridor(drive(12)), CONFIG.model_copy(update={"scale": "depth"}))
    assert len(found) > 5
    assert {shot.metres for _, shot in found} == {1.0}


def test_where_shots_stand() -> None:
    """Slow frames between key frames are taken too, and moved with these."""
    world = Corridor(drive(20, speed=0.1))
    found = shots(world)
    keys = [number for number, shot in found if np.allclose(shot.T_kc, np.eye(4), atol=1e-9)]
    assert len(keys) < len(found) < 20
    for number, shot in found:
        T_kc = np.linalg.inv(world.T_wc[keys[shot.key]]) @ world.T_wc[number]
        np.testing.assert_allclose(shot.T_kc, T_kc, atol=0.01)
        assert shot.metres == 1
        assert shot.image.shape == (CAMERA.height, CAMERA.width, 3)


def test_a_standing_camera_is_taken_once() -> None:
    assert [number for number, _ in shots(Corridor(np.tile(np.eye(4), (6, 1, 1))))] == [0]


def test_no_depth_and_depth_that_is_not_used() -> None:
    world = Corridor(drive(5))
    assert shots(world, with_depth=False) == []
    assert shots(world, CONFIG.model_copy(update={"scale": "structure"})) == []


def test_the_unit_of_depth_is_told_as_soon_as_it_is_known() -> None:
    """Where height is given beside depth, both are measured first."""
    world = Corridor(drive(12))
    found = shots(world, CONFIG.model_copy(update={"scale": "depth", "camera_height": 1.6}))
    assert found[0][1].metres is None
    known = [shot for _, shot in found if shot.metres is not None]
    assert len(known) > 5
    _, last = found[-1]
    assert last.metres is not None
    moved = replace(last, T_kc=last.T_kc * last.metres)
    np.testing.assert_allclose(moved.T_kc[:3, 3], 0, atol=1e-9)  # a key frame
