"""`trianflow vo` on videos and frames that are hostile in every way."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.cli.vo_results import FILES, FRAMES, report_of, statuses
from trianflow.trajectory import Trajectory


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
