"""The snippet ATE: known values, the published definition in plain loops, folders of snippets, faults."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.trajectories import drive, noisy, transformed
from trianflow.errors import TrianflowError
from trianflow.evaluation.snippet_table import comparable_rows, snippet_notes, snippet_table
from trianflow.evaluation.snippets import score_snippets, snippet_errors
from trianflow.evaluation.trajectory_files import load_estimate, load_snippets
from trianflow.trajectory import Trajectory

GT = drive(60, seed=1)
EST = noisy(GT, seed=2, degrees=0.5, metres=0.1)


def published_definition(gt: np.ndarray, est: np.ndarray, length: int) -> list[float]:
    """One snippet after another: offset, one scale, the root of the summed squares over the number of frames."""
    out = []
    for first in range(len(gt) - length + 1):
        a = [np.linalg.inv(gt[first]) @ gt[first + i] for i in range(length)]
        b = [np.linalg.inv(est[first]) @ est[first + i] for i in range(length)]
        dot = sum(float(x[i, 3] * y[i, 3]) for x, y in zip(a, b) for i in range(3))
        scale = dot / sum(float(y[i, 3]) ** 2 for y in b for i in range(3))
        squares = sum((scale * y[i, 3] - x[i, 3]) ** 2 for x, y in zip(a, b) for i in range(3))
        out.append(math.sqrt(squares) / length)
    return out


@pytest.mark.parametrize("length", [3, 5])
def test_the_published_definition(length: int) -> None:
    expected = published_definition(GT.T_wc, EST.T_wc, length)
    score = score_snippets(GT, EST, length)
    assert score.true == len(expected) == 61 - length + 1
    assert score.errors.errors == pytest.approx(expected, rel=1e-9)
    assert score.errors.mean == pytest.approx(np.mean(expected))
    assert score.errors.std == pytest.approx(np.std(expected))
    assert score.errors.rmse == pytest.approx(np.mean(expected) * length**0.5)


def test_a_snippet_by_hand() -> None:
    gt, est = (np.tile(np.eye(4), (1, 3, 1, 1)) for _ in range(2))
    gt[0, :, :3, 3] = [[5, 5, 5], [5, 5, 6], [5, 5, 7]]  # 0, 1, 2 forward
    est[0, :, :3, 3] = [[0, 0, 0], [0, 0, 10], [10, 0, 20]]
    errors = snippet_errors(gt, est)
    scale = (1 * 10 + 2 * 20) / (10**2 + 10**2 + 20**2)  # 1 / 12
    left = (10 * scale - 1) ** 2 + (10 * scale) ** 2 + (20 * scale - 2) ** 2
    assert errors.scales == pytest.approx([scale])
    assert errors.errors == pytest.approx([math.sqrt(left) / 3])
    assert errors.rmse == pytest.approx(math.sqrt(left / 3)), "the true root-mean-square"


def test_each_snippet_has_its_own_world_and_scale() -> None:
    whole = snippet_errors(np.stack([GT.T_wc[:5], GT.T_wc[9:14]]), np.stack([EST.T_wc[:5], EST.T_wc[9:14]]))
    moved = snippet_errors(
        np.stack([GT.T_wc[:5], GT.T_wc[9:14]]),
        np.stack([transformed(EST, 3.0, seed=1).T_wc[:5], transformed(EST, 0.01, seed=2).T_wc[9:14]]),
    )
    assert moved.errors == pytest.approx(whole.errors, rel=1e-6)
    assert moved.scales * [3.0, 0.01] == pytest.approx(whole.scales, rel=1e-6)
    assert score_snippets(GT, transformed(GT, 0.2)).errors.mean == pytest.approx(0, abs=1e-6)


def test_degenerate_snippets() -> None:
    still = Trajectory(GT.times, np.tile(np.eye(4), (61, 1, 1)))
    nothing = score_snippets(GT, still, 3)
    assert np.array_equal(nothing.errors.scales, np.ones(59))
    far = [[math.dist(GT.positions[i], GT.positions[i + j]) for j in (1, 2)] for i in range(59)]
    expected = [math.hypot(*distances) / 3 for distances in far]
    assert nothing.errors.errors == pytest.approx(expected)
    assert score_snippets(still, EST).errors.errors == pytest.approx(np.zeros(57))
    backwards = GT.T_wc.copy()
    backwards[:, :3, 3] *= -1
    score = score_snippets(GT, Trajectory(GT.times, backwards), 3)
    assert (score.errors.scales < 0).all()
    assert snippet_notes(score) == ["snippets that run against the truth (negative scale): 59"]


def test_bad_arrays_are_refused() -> None:
    good = np.tile(np.eye(4), (2, 3, 1, 1))
    for other in (good[:1], good[:, :2], good[0]):
        with pytest.raises(ValueError, match="expected two"):
            snippet_errors(good, other)
    with pytest.raises(ValueError, match="expected two"):
        snippet_errors(good[:0], good[:0])
    with pytest.raises(ValueError, match="not finite"):
        snippet_errors(good, good * np.nan)


def test_a_frame_without_prediction_takes_its_snippets_along() -> None:
    keep = np.delete(np.arange(61), 10)
    score = score_snippets(GT, replace(EST, times=EST.times[keep], T_wc=EST.T_wc[keep]), 5)
    whole = score_snippets(GT, EST, 5).errors.errors
    assert (len(score.errors.errors), score.true) == (52, 57)
    assert score.errors.errors == pytest.approx(np.delete(whole, np.arange(6, 11)))
    assert score.first.tolist() == [*range(6), *range(11, 57)]
    assert snippet_notes(score) == ["52 of 57 snippets have a prediction"]
    with pytest.raises(TrianflowError, match=r"no 5 consecutive frames in common \(4 common poses\)"):
        score_snippets(GT, replace(EST, times=EST.times[:4], T_wc=EST.T_wc[:4]), 5)
    alternate = np.arange(0, 61, 2)
    with pytest.raises(TrianflowError, match="no 3 consecutive frames in common"):
        score_snippets(GT, replace(EST, times=EST.times[alternate], T_wc=EST.T_wc[alternate]), 3)


def test_time_stamps_of_another_rate() -> None:
    truth = Trajectory(1e9 + 0.01 * np.arange(61), GT.T_wc)
    slow = Trajectory(truth.times[2::4] + 0.001, EST.T_wc[2::4])
    score = score_snippets(truth, slow, 3)
    assert score.errors.errors == pytest.approx(published_definition(GT.T_wc[2::4], EST.T_wc[2::4], 3), rel=1e-9)
    assert (score.true, score.first.tolist()) == (13, list(range(13)))
    assert score.time_gap == pytest.approx(0.001, abs=1e-6)
    assert snippet_notes(score) == []
    late = score_snippets(truth, Trajectory(truth.times + 7.5, EST.T_wc))
    assert snippet_notes(late) == ["compared row by row, though the time stamps are up to 7.50 s apart"]


def write_snippets(folder: Path, trajectory: Trajectory, times: np.ndarray, length: int = 5) -> Path:
    """As the published evaluation has them: `000000.txt` ..., six decimals, relative to the first frame."""
    folder.mkdir()
    for i in range(len(trajectory) - length + 1):
        part = Trajectory(times[i : i + length], trajectory.T_wc[i : i + length]).relative_to_first()
        part.save(folder / f"{i:06d}.txt", "tum")
    return folder


def test_folders_of_snippets_and_whole_trajectories_agree(tmp_path: Path) -> None:
    times = 0.1037 * np.arange(61)
    true = load_snippets(write_snippets(tmp_path / "true", GT, times))
    found = load_snippets(write_snippets(tmp_path / "found", transformed(EST, 0.1), times))
    assert isinstance(true, dict)
    assert list(true) == list(range(57))
    GT.save(tmp_path / "poses.txt", "kitti")
    kitti = load_snippets(tmp_path / "poses.txt")
    assert isinstance(kitti, Trajectory)
    expected = score_snippets(GT, EST).errors.errors
    for gt in (GT, true, kitti, Trajectory(times, GT.T_wc)):
        score = score_snippets(gt, found)
        assert score.true == 57
        assert score.errors.errors == pytest.approx(expected, abs=2e-6)
    assert score_snippets(true, EST).errors.errors == pytest.approx(expected, abs=2e-6)


def test_the_folder_that_trianflow_vo_leaves(tmp_path: Path) -> None:
    Trajectory(0.1 * np.arange(61), EST.T_wc).save(tmp_path / "trajectory.tum")
    EST.save(tmp_path / "trajectory.kitti")
    for load in (load_estimate, load_snippets):
        stamped, numbered = (load(tmp_path, stamped) for stamped in (True, False))
        assert isinstance(stamped, Trajectory)
        assert isinstance(numbered, Trajectory)
        assert stamped.times[-1] == pytest.approx(6.0)
        assert numbered.times[-1] == 60
        assert stamped.positions == pytest.approx(numbered.positions, abs=1e-4)
    (tmp_path / "report.json").write_text(json.dumps({"frames": [{"index": 3 * i} for i in range(61)]}))
    assert np.array_equal(load_estimate(tmp_path, False).times, 3 * np.arange(61))
    assert load_estimate(tmp_path, True).times[-1] == pytest.approx(6.0)
    (tmp_path / "report.json").write_text("{")
    assert np.array_equal(load_estimate(tmp_path, False).times, np.arange(61))
    (tmp_path / "trajectory.kitti").unlink()
    with pytest.raises(TrianflowError, match=r"a folder without trajectory.kitti, .*: name the file itself"):
        load_estimate(tmp_path, False)


def test_snippets_with_faults(tmp_path: Path) -> None:
    times = 0.1037 * np.arange(61)
    true = load_snippets(write_snippets(tmp_path / "true", GT, times))
    folder = write_snippets(tmp_path / "found", EST, times)
    (folder / "README.txt").write_text("not a snippet\n")
    (folder / "000003.txt").unlink()
    score = score_snippets(true, load_snippets(folder))
    assert (len(score.errors.errors), score.true) == (56, 57)
    assert score.first.tolist() == [0, 1, 2, *range(4, 57)]
    shifted = Trajectory(times[3:8] + 0.5, EST.T_wc[3:8])
    shifted.save(folder / "000003.txt", "tum")
    with pytest.raises(TrianflowError, match=r"snippet 000003: the time stamps .* up to 0\.5 s apart"):
        score_snippets(true, load_snippets(folder))
    with pytest.raises(TrianflowError, match="snippet 000000 of the truth has 5 poses where 3 are scored"):
        score_snippets(true, load_snippets(folder), 3)
    (folder / "000003.txt").write_text("1 2 3\n")
    with pytest.raises(TrianflowError, match=r"000003\.txt:1: 3 columns"):
        load_snippets(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrianflowError, match=r"empty: no snippet in this folder"):
        load_snippets(tmp_path / "empty")
    with pytest.raises(TrianflowError, match="cannot read"):
        load_snippets(tmp_path / "nowhere.txt")
    far = {100 + i: snippet for i, snippet in true.items()} if isinstance(true, dict) else {}
    with pytest.raises(TrianflowError, match=r"57 \(000000 to 000056\) in the truth, 57 \(000100 to 000156\)"):
        score_snippets(true, far)


def test_the_table() -> None:
    scores = {"a": score_snippets(GT, EST), "b": score_snippets(GT, noisy(GT, seed=3))}
    table = snippet_table(scores, median=True, published=comparable_rows("09", list(scores.values())))
    text = table.text().splitlines()
    a = scores["a"].errors
    assert text[2].split() == ["a", "57", f"{a.mean:.3f}", f"{a.std:.3f}", f"{a.rmse:.3f}"]
    median = table.rows[2]
    assert median.values["ate"] == pytest.approx((a.mean + scores["b"].errors.mean) / 2)
    assert median.spread["ate"] == pytest.approx(abs(a.mean - scores["b"].errors.mean) / 2)
    assert median.values["ate_std"] == pytest.approx((a.std + scores["b"].errors.std) / 2)
    published = {row.name: (row.values["ate"], row.values["ate_std"]) for row in table.rows[3:]}
    assert published["GeoNet"] == (0.012, 0.007)
    assert published["Insta-DM"] == (0.010, 0.013)
    ten = comparable_rows("10", [scores["a"]])
    assert {row.name: row.values["ate"] for row in ten}["GeoNet"] == 0.012
    (multimask,) = comparable_rows("10", [score_snippets(GT, EST, 3)])
    assert (multimask.name, multimask.values["ate"]) == ("Multi-mask", 0.008)
    assert comparable_rows(None, [scores["a"]]) == []
    keep = np.delete(np.arange(61), 10)
    part = score_snippets(GT, replace(EST, times=EST.times[keep], T_wc=EST.T_wc[keep]))
    assert comparable_rows("10", [scores["a"], part]) == []


@pytest.mark.data
def test_orb_slam_of_the_whole_sequence_is_as_published(shared_data: Path) -> None:
    """The papers' row 'ORB-SLAM (full)' on 10 is 0.012 ± 0.011, of other runs: the same within their two digits."""
    folder = shared_data / "reference_trajectories"
    gt = Trajectory.load(folder / "gt" / "10.txt")
    score = score_snippets(gt, Trajectory.load(folder / "kitti_odom_eval_example_0" / "10.txt"))
    assert score.true == 1197
    assert score.errors.mean == pytest.approx(0.012, abs=0.002)
    assert score.errors.std == pytest.approx(0.011, abs=0.004)
    assert score.errors.rmse > 0.025, "what divides by the root of 5 is not what they print"
