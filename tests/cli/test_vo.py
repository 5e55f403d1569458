"""`trianflow vo`: what it writes and says, and arguments that cannot be right."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.cli.vo_results import FILES, FRAMES, report_of, statuses
from trianflow.cli import common
from trianflow.evaluation.odometry import evaluate_odometry
from trianflow.trajectory import Trajectory


def test_folder_with_truth(drive: Path, tmp_path: Path, trianflow) -> None:
    out = tmp_path / "result"
    result = trianflow("vo", drive / "images", "--gt", drive / "truth.tum", "--out", out, "seed=4")
    assert (result.code, result.errors) == (0, [])
    assert {path.name for path in out.iterdir()} == FILES
    assert statuses(out)[0] == "first"
    assert set(statuses(out)[1:]) <= {"ok", "planar", "pnp"}
    report = report_of(out)
    assert report["state"] == "complete"
    assert report["seed"] == report["config"]["seed"] == 4
    assert report["threads"]["torch"] == 1
    assert report["calibration"]["source"] == str(drive / "calib.yaml")
    assert report["evaluation"]["compared"] == FRAMES
    np.testing.assert_allclose([row["time"] for row in report["frames"]], np.arange(FRAMES) / 10)
    ate, length = report["evaluation"]["ate"]["rmse"], report["evaluation"]["path_length"]
    recomputed = evaluate_odometry(Trajectory.load(drive / "truth.tum"), Trajectory.load(out / "trajectory.tum"))
    assert recomputed.ate is not None
    assert ate == pytest.approx(recomputed.ate.rmse, abs=1e-4)
    lines = result.out.splitlines()
    assert lines[0].startswith(f"frames  {FRAMES}: ")
    assert "arbitrary unit" in lines[2]
    assert f"ATE {ate:.3f} m rmse = {100 * ate / length:.2f} %" in lines[3]
    assert "7-DoF" in lines[3]
    assert str(out) in lines[-1]


def test_default_output_folder(drive: Path, monkeypatch: pytest.MonkeyPatch, trianflow) -> None:
    monkeypatch.chdir(drive)
    assert trianflow("vo", "images", "--preset", "fast", "--end", 3).code == 0
    assert len(statuses(drive / "out" / "drive_images")) == 3


@pytest.mark.parametrize(
    ("source", "kind", "expected"),
    [
        ("drive.mp4", "video", "drive"),
        ("07", "folder", "07"),
        ("imgs/*.png", "folder", "png"),
        ("..", "folder", "frames"),
    ],
)
def test_output_name(source: str, kind: str, expected: str, tmp_path: Path) -> None:
    from types import SimpleNamespace

    frames = SimpleNamespace(name=source, kind=kind, path=tmp_path)
    assert common.output_folder(None, frames) == Path("out") / expected  # type: ignore[arg-type]


def test_json_is_all_there_is_on_stdout(drive: Path, tmp_path: Path, trianflow) -> None:
    result = trianflow("vo", drive / "images", "--json", "--out", tmp_path / "a", "--preset", "fast", "--end", 3)
    assert result.code == 0
    told = json.loads(result.out)
    assert told["summary"]["frames"] == 3
    assert set(told["files"]) == FILES
    assert told["out"] == str(tmp_path / "a")
    assert "frames" not in told


def test_quiet(drive: Path, tmp_path: Path, trianflow) -> None:
    result = trianflow("vo", drive / "images", "-q", "--out", tmp_path / "a", "--preset", "fast", "--end", 3)
    assert (result.code, result.out, result.err) == (0, "", "")


def test_same_seed_same_rows(drive: Path, tmp_path: Path, trianflow) -> None:
    for name in ("a", "b"):
        assert trianflow("vo", drive / "images", "--out", tmp_path / name, "--seed", 7).code == 0
    for file in ("trajectory.tum", "trajectory.kitti"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_selection_keeps_frame_numbers_and_finds_kitti_truth(drive: Path, tmp_path: Path, trianflow) -> None:
    Trajectory.load(drive / "truth.tum").save(drive / "poses.kitti")
    words = ("--start", 1, "--stride", 2, "--gt", drive / "poses.kitti", "--out", tmp_path / "a")
    assert trianflow("vo", drive / "images", *words).code == 0
    report = report_of(tmp_path / "a")
    assert [row["index"] for row in report["frames"]] == [1, 3, 5, 7]
    assert report["evaluation"]["association"] == "frame index"
    assert report["evaluation"]["compared"] == 4


def test_measured_depth_makes_metres(drive: Path, tmp_path: Path, trianflow) -> None:
    (drive / "depth").mkdir()
    for i in range(FRAMES):
        cv2.imwrite(str(drive / "depth" / f"{i:04d}.png"), np.full((96, 160), 8000, np.uint16))
    words = ("vo", drive / "images", "--depth", drive / "depth", "--depth-scale", 1000)
    result = trianflow(*words, "--gt", drive / "truth.tum", "--out", tmp_path / "a")
    assert result.code == 0
    assert report_of(tmp_path / "a")["summary"]["unit"] == "metres"
    assert "6-DoF" in result.out
    result = trianflow(*words, "--scale", "unit", "--out", tmp_path / "b")
    assert report_of(tmp_path / "b")["summary"]["unit"] == "arbitrary"
    assert "--depth is not used with --scale unit" in result.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--calib", "truth.tum"], 1, "calibration"),
        (["--calib", "nowhere.yaml"], 2, "--calib nowhere.yaml: no such file"),
        (["--calib", "wide.yaml"], 1, "another aspect ratio"),
        (["--config", "nowhere.yaml"], 2, "cannot read the configuration"),
        (["--config", "list.yaml"], 2, "not a mapping"),
        (["sede=3"], 2, "did you mean 'seed'?"),
        (["matches.cont=3"], 2, "did you mean 'matches.count'?"),
        (["matches.count=lots"], 2, "matches.count: 'lots' is not a whole number"),
        (["--flow", "magic"], 2, "flow"),
        (["--seed", "-1"], 2, "seed"),
        (["--scale", "depth", "--weights", "nothing"], 2, "--depth"),
        (["--scale", "unit", "--camera-height", "1.65"], 2, "scale unit gives every step the same length"),
        (["--scale", "unit", "--speed", "calib.yaml"], 2, "leave it out for metres"),
        (["--camera-height", "0"], 2, "camera_height: 0.0 is not above 0"),
        (["--speed", "nowhere.txt"], 2, "nowhere.txt: no such file or folder of speeds"),
        (["--speed", "calib.yaml"], 1, "calib.yaml:1: 'fx: "),
        (["--depth", "nowhere"], 2, "no such folder"),
        (["--start", "99"], 2, "beyond the end: images has 8 frames, 0 to 7"),
        (["--gt", "nowhere.tum"], 1, "cannot read the trajectory"),
        (["--gt", "calib.yaml"], 1, "calib.yaml"),
        (["--out", "images"], 2, "would become frames"),
        (["--out", "truth.tum"], 1, "it is a file"),
        (["--out", "truth.tum/below"], 1, "cannot write the results there"),
        (["--out", "/proc/trianflow"], 1, "cannot write the results there"),
    ],
)
def test_refused_before_any_work(
    drive: Path, monkeypatch: pytest.MonkeyPatch, trianflow, words: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(drive)
    (drive / "wide.yaml").write_text("fx: 100\nfy: 100\ncx: 160\ncy: 48\nwidth: 320\nheight: 96\n")
    (drive / "list.yaml").write_text("- 1\n- 2\n")
    result = trianflow("vo", "images", *words)
    assert result.code == code
    assert len(result.errors) == 1
    assert result.err.count("\n") == 1
    assert said in result.errors[0]
    assert not (drive / "out").exists()
    assert len(list((drive / "images").iterdir())) == FRAMES


def test_calibration_of_another_resolution_is_scaled(drive: Path, tmp_path: Path, trianflow) -> None:
    (drive / "calib.yaml").write_text("fx: 200\nfy: 200\ncx: 160\ncy: 96\nwidth: 320\nheight: 192\n")
    result = trianflow("vo", drive / "images", "--out", tmp_path / "a")
    assert result.code == 0
    assert "was scaled to the 160x96 frames" in result.err
    assert report_of(tmp_path / "a")["calibration"]["fx"] == 100


def test_kitti_calibration_with_tr_last(drive: Path, tmp_path: Path, trianflow) -> None:
    (drive / "calib.yaml").unlink()
    rows = "".join(f"P{i}: {99 + i} 0 79.5 0 0 {99 + i} 47.5 0 0 0 1 0\n" for i in range(4))
    (drive / "calib.txt").write_text(rows + "Tr: 7 0 0 0 0 7 0 0 0 0 7 0")
    assert trianflow("vo", drive / "images", "--out", tmp_path / "a").code == 0
    assert report_of(tmp_path / "a")["calibration"]["fx"] == 99


def test_truth_that_does_not_fit_costs_only_the_comparison(drive: Path, tmp_path: Path, trianflow) -> None:
    truth = Trajectory.load(drive / "truth.tum")
    Trajectory(truth.times[:5] + 0.05 + 100, truth.T_wc[:5]).save(drive / "late.tum")
    result = trianflow("vo", drive / "images", "--gt", drive / "late.tum", "--out", tmp_path / "a")
    assert result.code == 1
    assert "cannot compare with the truth: no common time stamp" in result.err
    assert len(statuses(tmp_path / "a")) == FRAMES
    assert (tmp_path / "a" / "trajectory.png").is_file()


def test_a_short_path_is_told_how_to_be_scored(drive: Path, tmp_path: Path, trianflow) -> None:
    """What is printed can be run as it stands, with time stamps or frame numbers in the truth."""
    Trajectory.load(drive / "truth.tum").save(drive / "true poses.kitti")
    for name, stride in (("truth.tum", 1), ("true poses.kitti", 2)):
        out = tmp_path / f"stride {stride}"
        result = trianflow("vo", drive / "images", "--gt", drive / name, "--stride", stride, "--out", out)
        (hint,) = [line for line in result.out.splitlines() if "for t_err: " in line]
        assert hint.strip().startswith("no segment of 100 m; for t_err: trianflow eval odometry ")
        program, *words = shlex.split(hint.split("for t_err: ")[1])
        assert program == "trianflow"
        length = report_of(out)["evaluation"]["path_length"]
        assert max(float(x) for x in words[words.index("--lengths") + 1 :]) <= length
        scored = trianflow(*words, "--json")
        assert (scored.code, scored.errors) == (0, [])
        (found,) = json.loads(scored.out)["estimates"].values()
        assert found["t_err"] is not None
        assert found["ate"]["rmse"] == pytest.approx(report_of(out)["evaluation"]["ate"]["rmse"], abs=1e-4)


def test_a_truth_of_whole_seconds_has_time_stamps(drive: Path, tmp_path: Path, trianflow) -> None:
    """One pose a second, of frames at two a second."""
    truth = Trajectory.load(drive / "truth.tum")
    Trajectory(5.0 + np.arange(4), truth.T_wc[::2]).save(drive / "seconds.tum")
    (drive / "times.txt").write_text("".join(f"{5 + i / 2}\n" for i in range(FRAMES)))
    result = trianflow("vo", drive / "images", "--gt", drive / "seconds.tum", "--out", tmp_path / "a")
    assert (result.code, result.errors) == (0, [])
    measured = report_of(tmp_path / "a")["evaluation"]
    assert (measured["association"], measured["compared"]) == ("time stamp", 4)
    assert measured["ate"]["rmse"] < 0.05 * measured["path_length"]
