"""The stride protocol, and when figures of papers are comparable."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.trajectories import drive, noisy
from trianflow.errors import TrianflowError, UsageError
from trianflow.evaluation.alignment import align_trajectories
from trianflow.evaluation.odometry import evaluate_odometry
from trianflow.evaluation.odometry_protocol import comparable_rows, kitti_sequence, nth, take_every
from trianflow.evaluation.segments import kitti_segment_errors
from trianflow.trajectory import Trajectory

GT = drive(200, seed=3)  # 201 poses: frames 0, 3, ... 198 are 67 and reach not quite the end


def picked(frames: np.ndarray, times: np.ndarray | None = None) -> Trajectory:
    return Trajectory(frames if times is None else times, GT.T_wc[frames], times_are_indices=times is None)


@pytest.mark.parametrize(
    ("est", "frames", "resampled"),
    [
        (GT, range(0, 201, 3), True),
        (picked(np.arange(0, 201, 3), np.arange(67)), range(0, 201, 3), False),
        (picked(np.arange(0, 201, 3)), range(0, 201, 3), False),
        (picked(np.arange(0, 201, 3), 0.3 * np.arange(67)), range(0, 201, 3), False),
        (Trajectory(0.1 * np.arange(201), GT.T_wc), range(0, 201, 3), True),
        (picked(np.delete(np.arange(201), [5, 6, 7])), [0, 3, *range(9, 201, 3)], True),
        (picked(np.arange(11, 201)), range(12, 201, 3), True),
        (picked(np.delete(np.arange(0, 201, 3), 2)), [0, 3, *range(9, 201, 3)], False),
    ],
)
def test_truth_and_estimate_are_of_the_same_frames(est: Trajectory, frames: range, resampled: bool) -> None:
    pair = take_every(GT, est, 3)
    assert pair.resampled == resampled
    assert np.array_equal(pair.gt.T_wc, GT.T_wc[::3])
    assert np.array_equal(pair.gt.times, np.arange(67))
    assert np.array_equal(pair.est.times, np.array(frames) // 3)
    assert np.array_equal(pair.est.T_wc, GT.T_wc[list(frames)])
    compared = align_trajectories(pair.gt, pair.est, "none")
    assert len(compared.gt_index) == len(frames)
    assert np.allclose(compared.gt.T_wc[compared.gt_index], compared.est.T_wc[compared.est_index])


def test_errors_of_strided_frames_by_the_definition() -> None:
    est = noisy(GT, seed=1)
    pair = take_every(GT, est, 3)
    m = evaluate_odometry(pair.gt, pair.est, "none", [40, 80], step=2, with_evo=False)
    expected = kitti_segment_errors(GT.T_wc[::3], est.T_wc[::3], [40, 80], 2)
    assert m.t_err == pytest.approx(expected.t_err, rel=1e-9)
    assert m.segments == len(expected.length)
    whole = take_every(GT, est, 1)
    assert np.array_equal(whole.est.T_wc, est.T_wc)


@pytest.mark.parametrize(
    "est",
    [
        picked(np.arange(66)),  # the first of all frames, or nearly all of the kept ones?
        picked(np.arange(100)),
        picked(np.delete(np.arange(60), 5)),
        picked(np.arange(100), 0.1 * np.arange(100)),
        Trajectory(np.arange(300), np.tile(np.eye(4), (300, 1, 1))),
        Trajectory(np.zeros(0), np.zeros((0, 4, 4))),
    ],
)
def test_what_frames_an_estimate_is_of_is_never_guessed(est: Trajectory) -> None:
    with pytest.raises(TrianflowError, match=r"neither one for each of 201 .* nor one for every 3rd of them \(67\)"):
        take_every(GT, est, 3)
    with pytest.raises(TrianflowError, match="without --stride, time stamps tell"):
        take_every(Trajectory(0.01 * np.arange(201), GT.T_wc), Trajectory(0.05 * np.arange(40), GT.T_wc[:40]), 3)


def test_bad_strides() -> None:
    with pytest.raises(UsageError, match="at least one frame, not 0"):
        take_every(GT, GT, 0)


def test_ordinals() -> None:
    assert [nth(n) for n in (1, 2, 3, 4, 10, 11, 12, 13, 21, 102, 111)] == [
        *("single", "2nd", "3rd", "4th", "10th", "11th", "12th", "13th", "21st", "102nd", "111th")
    ]


def test_figures_of_papers_are_only_given_for_what_they_are_of() -> None:
    straight = drive(810)
    alike = evaluate_odometry(straight, noisy(straight), with_evo=False)
    first = {
        (sequence, stride): comparable_rows(sequence, [alike], stride)[0].values
        for sequence in ("09", "10")
        for stride in (1, 3)
    }
    assert first == {
        ("09", 1): {"t_err": 6.93, "r_err": 0.44},
        ("09", 3): {"t_err": 7.21, "r_err": 0.56},
        ("10", 1): {"t_err": 4.66, "r_err": 0.62},
        ("10", 3): {"t_err": 11.43, "r_err": 2.57},
    }
    assert len(comparable_rows("10", [alike])) < len(comparable_rows("10", [alike], choice="all"))
    assert comparable_rows("10", [alike], choice="none") == []
    assert comparable_rows("10", [alike], stride=2) == comparable_rows(None, [alike]) == []
    assert comparable_rows("10", [alike, replace(alike, compared=803)])  # of 811
    others = (
        replace(alike, compared=802),
        evaluate_odometry(straight, straight, "se3", with_evo=False),
        evaluate_odometry(straight, straight, lengths=[10, 20], with_evo=False),
        evaluate_odometry(straight, straight, step=1, with_evo=False),
    )
    for other in others:
        assert comparable_rows("10", [alike, other]) == []


def test_other_drives_are_no_kitti_sequence() -> None:
    assert kitti_sequence(GT) is None
    long = drive(1590)
    assert kitti_sequence(long) is None
    long.T_wc[:, :3, 3] *= 1705.05 / long.path_length
    assert kitti_sequence(long) == "09"
    snippets = {i: Trajectory(long.times[i : i + 5], long.T_wc[i : i + 5]) for i in range(1587)}
    assert kitti_sequence(snippets) == "09"
    del snippets[1586]
    assert kitti_sequence(snippets) is None


@pytest.mark.data
def test_the_sequences_are_known_by_their_truth(shared_data: Path) -> None:
    for file in sorted((shared_data / "reference_trajectories" / "gt").glob("*.txt")):
        expected = file.stem if file.stem in ("09", "10") else None
        assert kitti_sequence(Trajectory.load(file)) == expected
