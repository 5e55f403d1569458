"""The growing trajectory: rows follow their key frames, and the velocity is of poses of one moment."""

import numpy as np
import pytest

from trianflow.odometry.rows import Rows


def at(z, x=0.0):
    T = np.eye(4)
    T[:3, 3] = x, 0.0, z
    return T


def test_rows_follow_their_key_frame_and_stretch_with_the_step_after_it():
    rows = Rows()
    rows.add(0.0, at(0.0), measured=True)
    rows.add(0.1, at(1.0), measured=True)
    rows.add(0.2, at(2.0), measured=True)
    T_step = rows.add_key(at(4.5), came=3.0)  # came with 3 m, of which the window has made 4.5
    rows.add(0.3, at(4.5), measured=True)
    assert T_step[2, 3] == 4.5
    assert [rows.pose(i)[2, 3] for i in range(4)] == pytest.approx([0, 1.5, 3, 4.5])
    rows.key_poses[1] = at(6.0, x=0.0)
    assert [rows.pose(i)[2, 3] for i in range(4)] == pytest.approx([0, 2, 4, 6])
    assert rows.stretch(0) == pytest.approx(2.0)
    assert rows.stretch(1) == 1.0, "no next key frame yet"
    assert len(rows) == 4


def test_a_step_too_short_to_be_compared_stretches_nothing():
    rows = Rows()
    rows.add(0.0, at(0.0), measured=True)
    rows.add(0.1, at(1.0), measured=True)
    rows.add_key(at(0.05), came=0.0)  # out and back
    assert rows.pose(1)[2, 3] == 1.0


def test_the_velocity_is_of_rows_as_they_are_known_now():
    rows = Rows()
    rows.add(0.0, at(0.0), measured=True)
    rows.add(0.1, at(1.0), measured=True)
    rows.add_key(at(4.0), came=2.0)  # steps came half as long as they are
    rows.add(0.2, at(4.0), measured=True)
    assert rows.predict(0.4)[2, 3] == pytest.approx(4.0 + 0.2 * (4.0 - 2.0) / 0.1)
    rows.add(0.5, at(9.0), measured=False)  # guessed: the velocity stays
    assert rows.predict(0.6)[2, 3] == pytest.approx(9.0 + 0.1 * 20)
    assert rows.predict(0.4)[2, 3] == pytest.approx(9.0), "no way back in time"


def test_before_the_first_row_all_is_at_the_origin():
    rows = Rows()
    assert np.array_equal(rows.predict(3.0), np.eye(4))
    assert len(rows) == 0
    assert np.array_equal(rows.key_poses, [np.eye(4)])
