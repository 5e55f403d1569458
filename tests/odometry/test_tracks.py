"""Points followed from key frame to key frame: where they are, when they end, and when they are given out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from tests.odometry.corridor import CAMERA, CONFIG
from tests.odometry.slide import Slide
from trianflow.odometry.step import StepStatus
from trianflow.odometry.tracks import Tracker, Tracks

SHIFT = CAMERA.fx * Slide.STEP / Slide.NEAR


def followed(number: int, lost: int = -1) -> tuple[Slide, Tracker, list[Tracks]]:
    """A slide of some key frames, one of them lost, and what the tracker gave out at each."""
    odometry, tracker, found = Slide(), Tracker(), []
    for i in range(number):
        odometry.track(i)
        step = SimpleNamespace(status=StepStatus.LOST if i == lost else StepStatus.OK)
        found.append(tracker.observe(odometry, step))  # type: ignore[arg-type]
    return odometry, tracker, found


def test_tracks_are_where_the_points_are() -> None:
    odometry, tracker, found = followed(30)
    tracks = Tracks.joined([*found, tracker.rest()])
    assert set(tracks.count) == set(range(3, 11)) | ({2} & set(tracks.count))
    for first, count, p in zip(tracks.first, tracks.count, tracks.p):
        assert np.isfinite(p[:count]).all()
        assert np.isnan(p[count:]).all()
        np.testing.assert_allclose(np.diff(p[:count], axis=0), np.tile([-SHIFT, 0], (count - 1, 1)), atol=1e-3)
        assert 0 <= first <= 30 - count
    points = tracks.triangulated(odometry.key_poses, CAMERA.K())
    long = tracks.count >= 3
    np.testing.assert_allclose(points.X_w[long, 2], Slide.NEAR, rtol=1e-3)
    place = points.X_w.numpy()[long, 0] - tracks.first[long] * Slide.STEP
    expected = (tracks.p[long, 0, 0] - CAMERA.cx) / CAMERA.fx * Slide.NEAR
    np.testing.assert_allclose(place, expected, atol=1e-3)


def test_a_point_is_followed_once() -> None:
    """No two tracks are in one cell of a picture at one time."""
    _, tracker, found = followed(20)
    tracks = Tracks.joined([*found, tracker.rest()])
    side = max(CAMERA.width / 200, 1)
    begun = [np.floor(tracks.p[tracks.first == i, 0] / side) for i in range(19)]
    assert all(len(np.unique(cells, axis=0)) == len(cells) for cells in begun)


def test_tracks_are_given_out_when_their_key_frames_move_no_more() -> None:
    _, _, found = followed(30)
    for i, tracks in enumerate(found):
        assert (tracks.first + tracks.count <= i - CONFIG.window.frames + 1).all()
    assert sum(len(tracks) for tracks in found) > 1000


def test_no_track_passes_a_frame_that_was_lost() -> None:
    _, tracker, found = followed(24, lost=12)
    tracks = Tracks.joined([*found, tracker.rest()])
    last = tracks.first + tracks.count - 1
    assert not ((tracks.first < 12) & (last >= 12)).any()
    assert (tracks.first >= 12).any()
    assert (last == 11).any()


def test_believed() -> None:
    odometry, tracker, found = followed(20)
    tracks = Tracks.joined([*found, tracker.rest()])
    points = tracks.triangulated(odometry.key_poses, CAMERA.K())
    believed = tracks.believed(points)
    assert believed[tracks.count >= 6].all()
    assert not believed[tracks.count < 4].any()  # three stand too close together
    bad = tracks.select(tracks.count == 10)
    bad.p[:, 5, 1] += 4  # one view that does not agree
    assert not bad.believed(bad.triangulated(odometry.key_poses, CAMERA.K())).any()
    still = np.tile(np.eye(4), (20, 1, 1))
    assert not bad.believed(bad.triangulated(still, CAMERA.K())).any()
