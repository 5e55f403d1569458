"""`trianflow vo`: what it writes and says, and input that is hostile in every way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from trianflow.cli import common, progress
from trianflow.evaluation.odometry import evaluate_odometry
from trianflow.trajectory import Trajectory

FRAMES = 8
FILES = {"trajectory.tum", "trajectory.kitti", "report.json", "trajectory.png"}


def report_of(out: Path) -> dict:
    return json.loads((out / "report.json").read_text())


def statuses(out: Path) -> list[str]:
    """One word a frame, after a check that every file has one row a frame."""
    rows = report_of(out)["frames"]
    assert len(Trajectory.load(out / "trajectory.tum")) == len(rows)
    assert len(Trajectory.load(out / "trajectory.kitti")) == len(rows)
    return [row["status"] for row in rows]


# --- the plain case -----------------------------------------------------------------------------------------


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


def test_video(drive: Path, tmp_path: Path, trianflow) -> None:
    path = write_video(drive, tmp_path / "drive.mp4")
    calibration = drive / "calib.yaml"
    assert trianflow("vo", path, "--calib", calibration, "--out", tmp_path / "a").code == 0
    assert len(statuses(tmp_path / "a")) == FRAMES


def write_video(drive: Path, path: Path, codec: str = "mp4v") -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (160, 96))
    for file in sorted((drive / "images").glob("*.png")):
        writer.write(cv2.imread(str(file)))
    writer.release()
    return path


# --- hostile frames -----------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def resize(path: Path) -> None:
    cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (80, 48)))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (truncate, "truncated PNG"),
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_text("not a picture\n"), "a text file, not an image"),
        (resize, "size 80x48 differs from 160x96"),
    ],
    ids=["truncated", "empty", "text", "another size"],
)
def test_a_bad_frame_is_bridged(drive: Path, tmp_path: Path, trianflow, harm, said: str) -> None:
    for number in (3, 5):
        harm(drive / "images" / f"{number:04d}.png")
    result = trianflow("vo", drive / "images", "--out", tmp_path / "a")
    assert (result.code, result.errors) == (0, [])
    found = statuses(tmp_path / "a")
    assert len(found) == FRAMES
    assert [i for i, status in enumerate(found) if status == "bridged"] == [3, 5]
    assert said in report_of(tmp_path / "a")["frames"][3]["note"]
    warnings = [line for line in result.err.splitlines() if "warning" in line]
    assert len(warnings) == 2  # the first of the kind when it happens, the count at the end
    assert f"frame 3 (0003.png) bridged: {said}" in warnings[0]
    assert "2 frames bridged, the first 3 (0003.png)" in warnings[1]
    assert np.isfinite(Trajectory.load(tmp_path / "a" / "trajectory.tum").T_wc).all()


@pytest.mark.parametrize("kind", ["16 bits", "grey", "alpha"])
def test_other_pixel_formats(drive: Path, tmp_path: Path, trianflow, kind: str) -> None:
    for path in (drive / "images").iterdir():
        image = cv2.imread(str(path))
        if kind == "16 bits":
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.uint16) * 256
        elif kind == "grey":
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        else:
            image = cv2.cvtColor(image, cv2.COLOR_BGR2BGRA)
        cv2.imwrite(str(path), image)
    assert trianflow("vo", drive / "images", "--out", tmp_path / "a").code == 0
    assert not {"bridged", "lost"} & set(statuses(tmp_path / "a"))


def test_stray_files_and_first_frame_bad(drive: Path, tmp_path: Path, trianflow) -> None:
    (drive / "images" / "Thumbs.db").write_bytes(b"\0\1")
    (drive / "images" / ".0001.png").write_bytes(b"")
    (drive / "images" / "0000.png").write_bytes(b"")
    assert trianflow("vo", drive / "images", "--out", tmp_path / "a").code == 0
    found = statuses(tmp_path / "a")
    assert found[:2] == ["bridged", "first"]
    assert len(found) == FRAMES
    assert report_of(tmp_path / "a")["input"]["stray"] == 2


def test_truncated_mp4_without_index(drive: Path, tmp_path: Path, trianflow) -> None:
    path = write_video(drive, tmp_path / "cut.mp4")
    truncate(path)
    result = trianflow("vo", path, "--out", tmp_path / "a")
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert "cut short" in result.errors[0]
    assert not (tmp_path / "a").exists()


def test_truncated_avi_gives_what_it_has(drive: Path, tmp_path: Path, trianflow) -> None:
    path = write_video(drive, tmp_path / "cut.avi", "MJPG")
    truncate(path)
    result = trianflow("vo", path, "--calib", drive / "calib.yaml", "--out", tmp_path / "a")
    assert result.code == 0
    assert 1 < len(statuses(tmp_path / "a")) < FRAMES
    assert "cut short" in result.err
    assert any("cut short" in note for note in report_of(tmp_path / "a")["notes"])


def test_one_frame(drive: Path, tmp_path: Path, trianflow) -> None:
    result = trianflow("vo", drive / "images" / "0000.png", "--out", tmp_path / "a")
    assert result.code == 1
    assert statuses(tmp_path / "a") == ["first"]
    assert "a single frame" in result.err
    assert {path.name for path in (tmp_path / "a").iterdir()} == FILES


def test_mostly_lost_is_a_failure_with_results(drive: Path, tmp_path: Path, trianflow) -> None:
    for number in range(3, FRAMES):
        (drive / "images" / f"{number:04d}.png").write_bytes(b"")
    result = trianflow("vo", drive / "images", "--out", tmp_path / "a")
    assert result.code == 1
    assert "5 of 8 poses are guesses" in result.err
    assert len(statuses(tmp_path / "a")) == FRAMES


@pytest.mark.parametrize("case", ["empty folder", "no image", "no readable frame", "text as video", "missing"])
def test_nothing_to_work_on(drive: Path, tmp_path: Path, trianflow, case: str) -> None:
    source = drive / "images"
    for path in source.iterdir():
        path.write_bytes(b"")
        if case in ("empty folder", "no image"):
            path.unlink()
    if case == "no image":
        (source / "notes.txt").write_text("nothing")
    elif case == "text as video":
        source = drive / "calib.yaml"
    elif case == "missing":
        source = drive / "nowhere"
    result = trianflow("vo", source, "--out", tmp_path / "a")
    assert result.code == (2 if case == "missing" else 1)
    assert len(result.errors) == 1
    assert result.err.count("\n") == 1
    assert not (tmp_path / "a").exists()


# --- hostile arguments --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--calib", "truth.tum"], 1, "calibration"),
        (["--calib", "nowhere.yaml"], 1, "no such file"),
        (["--calib", "wide.yaml"], 1, "another aspect ratio"),
        (["--config", "nowhere.yaml"], 2, "cannot read the configuration"),
        (["--config", "list.yaml"], 2, "not a mapping"),
        (["sede=3"], 2, "did you mean 'seed'?"),
        (["matches.cont=3"], 2, "did you mean 'matches.count'?"),
        (["matches.count=lots"], 2, "matches.count"),
        (["--flow", "magic"], 2, "flow"),
        (["--seed", "-1"], 2, "seed"),
        (["--scale", "depth", "--weights", "nothing"], 2, "--depth"),
        (["--depth", "nowhere"], 2, "no such folder"),
        (["--start", "99"], 2, "beyond the end"),
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


# --- interruption -------------------------------------------------------------------------------------------


def many_frames(drive: Path, number: int) -> Path:
    """A long sequence of hard links to the frames, there and back."""
    files = sorted((drive / "images").iterdir())
    files = files + files[-2:0:-1]
    (drive / "long").mkdir()
    for i in range(number):
        os.link(files[i % len(files)], drive / "long" / f"{i:05d}.png")
    return drive / "long"


def wait_for_rows(process: subprocess.Popen[str], file: Path, number: int) -> None:
    deadline = time.monotonic() + 120
    while not file.exists() or file.read_bytes().count(b"\n") <= number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_interrupt_leaves_results(drive: Path, tmp_path: Path, started) -> None:
    process = started("vo", many_frames(drive, 3000), "--out", tmp_path / "a", "--preset", "fast", cwd=tmp_path)
    wait_for_rows(process, tmp_path / "a" / "trajectory.tum", 10)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "trianflow: interrupted"
    number = len(statuses(tmp_path / "a"))
    assert 10 <= number < 3000
    assert f"stopped after {number} frames" in err
    assert report_of(tmp_path / "a")["state"] == "interrupted"
    assert {path.name for path in (tmp_path / "a").iterdir()} == FILES


def test_kill_leaves_a_readable_trajectory(drive: Path, tmp_path: Path, started) -> None:
    out = tmp_path / "a"
    process = started("vo", many_frames(drive, 3000), "--out", out, "--preset", "fast", cwd=tmp_path)
    wait_for_rows(process, out / "trajectory.tum", 10)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    tum, kitti = Trajectory.load(out / "trajectory.tum"), Trajectory.load(out / "trajectory.kitti")
    assert 10 <= len(tum) < 3000
    assert len(tum) - len(kitti) in (0, 1)  # the row of one file is written after that of the other
    np.testing.assert_allclose(tum.times, np.arange(len(tum)) / 10)
    assert report_of(out)["state"] == "running"


# --- progress -----------------------------------------------------------------------------------------------


def test_plain_progress(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter(np.arange(0, 1000.0))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.Progress(100) as shown:
        for i in range(100):
            shown.advance("lost" if i == 3 else "ok")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0] == "10 of 100 (10 %) frames, 1.0 a second: 9 ok, 1 lost"
    with progress.Progress(None) as shown:
        for _ in range(100):
            shown.advance("ok")
    assert len(capsys.readouterr().err.splitlines()) == 3
    with progress.Progress(100, quiet=True) as shown:
        for _ in range(100):
            shown.advance("ok")
    assert capsys.readouterr().err == ""


def test_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    with progress.Progress(3) as shown:
        for status in ("first", "ok", "ok"):
            shown.advance(status)
        shown.say("a line")
    text = capsys.readouterr().err
    assert "3/3" in text
    assert "2 ok, 1 first" in text
    assert "a line\n" in text
