"""What is prepared again: what was damaged since, and what is made of a source that has changed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.data.datasets.kitti_trees import VELO_TO_CAM, scan_of, text_of, write_odometry
from tests.data.datasets.test_scenes_folder import write_scene
from tests.data.in_process import work_here
from tests.data.test_prepared import CAMERA, SETTINGS, Drive, contents, sequence, write_frames
from trianflow.data import prepared, prepared_parts
from trianflow.data.datasets.interface import DatasetSequence
from trianflow.data.datasets.kitti_odometry import open_kitti_odometry
from trianflow.data.datasets.scenes_folder import open_scenes_folder
from trianflow.data.depth import read_depth
from trianflow.data.prepared import PreparedSequence, prepare_sequences
from trianflow.errors import TrianflowError


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    work_here(monkeypatch)


def test_damage_that_leaves_the_size_is_found(tmp_path: Path) -> None:
    """Each in a part of its own: zeros, as after a loss of power, and a bit that turned, in a picture and in depth."""
    write_frames(tmp_path / "src", 130)
    sequences = (sequence(tmp_path / "src", "night"),)
    prepare_sequences(sequences, tmp_path / "out", SETTINGS)
    before = contents(tmp_path / "out")
    folder = tmp_path / "out" / "night"
    zeros = folder / "images" / "000012.png"
    zeros.write_bytes(bytes(zeros.stat().st_size))
    for path in (folder / "images" / "000070.png", folder / "depth" / "000129.png"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert sum(contents(tmp_path / "out")[name] != digest for name, digest in before.items()) == 3
    [result] = prepare_sequences(sequences, tmp_path / "out", SETTINGS)
    assert contents(tmp_path / "out") == before
    assert result.notes == []


@pytest.mark.parametrize(("missing", "again"), [(129, 2), (0, 130), (70, 66)])
def test_a_frame_that_was_restored_costs_its_part_only(tmp_path: Path, missing: int, again: int) -> None:
    """The frames after it move by one where they have no numbers; what was made of others is made again."""
    write_frames(tmp_path / "src", 130)
    frame = tmp_path / "src" / f"{missing:010d}.png"
    frame.rename(tmp_path / "kept.png")
    [first] = prepare_sequences((sequence(tmp_path / "src", "night"),), tmp_path / "out", SETTINGS)
    assert first.kept == 129
    images = tmp_path / "out/night/images"
    stamps = {path: path.stat().st_mtime_ns for path in images.iterdir()}
    (tmp_path / "kept.png").rename(frame)
    [second] = prepare_sequences((sequence(tmp_path / "src", "night"),), tmp_path / "out", SETTINGS)
    assert second.kept == 130
    assert second.notes == [
        f"{images.parent}: {again} of 130 frames were prepared again, as the source has changed since they were"
    ]
    untouched = {path for path, stamp in stamps.items() if path.stat().st_mtime_ns == stamp}
    assert len(untouched) == 64 * (missing // 64)
    [third] = prepare_sequences((sequence(tmp_path / "src", "night"),), tmp_path / "out", SETTINGS)
    assert third.notes == []
    prepare_sequences((sequence(tmp_path / "src", "night"),), tmp_path / "fresh", SETTINGS)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_numbers_that_move_to_other_frames(tmp_path: Path) -> None:
    """The first of numbered files is restored: the numbers of the others stay, their places move."""
    write_frames(tmp_path / "src", 66)
    (tmp_path / "src" / "0000000000.png").rename(tmp_path / "kept.png")

    def numbered() -> tuple[Drive]:
        drive = sequence(tmp_path / "src", "night")
        drive.numbers = [int(path.stem) for path in sorted((tmp_path / "src").iterdir())]
        return (drive,)

    prepare_sequences(numbered(), tmp_path / "out", SETTINGS)
    (tmp_path / "kept.png").rename(tmp_path / "src" / "0000000000.png")
    [result] = prepare_sequences(numbered(), tmp_path / "out", SETTINGS)
    assert result.kept == 66
    prepare_sequences(numbered(), tmp_path / "fresh", SETTINGS)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_a_source_that_was_moved_is_prepared_again(tmp_path: Path) -> None:
    write_frames(tmp_path / "nested" / "src", 4)
    prepare_sequences((sequence(tmp_path / "nested" / "src"),), tmp_path / "out", SETTINGS)
    (tmp_path / "nested" / "src").rename(tmp_path / "src")
    [result] = prepare_sequences((sequence(tmp_path / "src"),), tmp_path / "out", SETTINGS)
    assert "4 of 4 frames were prepared again" in result.notes[0]
    prepare_sequences((sequence(tmp_path / "src"),), tmp_path / "fresh", SETTINGS)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_frames_that_the_source_lost_are_gone(tmp_path: Path) -> None:
    write_frames(tmp_path / "src", 70)
    prepare_sequences((sequence(tmp_path / "src"),), tmp_path / "out", SETTINGS)
    for number in range(60, 70):
        (tmp_path / "src" / f"{number:010d}.png").unlink()
    [result] = prepare_sequences((sequence(tmp_path / "src"),), tmp_path / "out", SETTINGS)
    assert "60 of 60 frames were prepared again" in result.notes[0]
    prepare_sequences((sequence(tmp_path / "src"),), tmp_path / "fresh", SETTINGS)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_depth_camera_times_and_poses_that_came_later(tmp_path: Path) -> None:
    write_frames(tmp_path / "src", 8)
    whole = sequence(tmp_path / "src", "night")
    for change in ("depth", "camera", "times", "poses"):
        out = tmp_path / change
        before: DatasetSequence = sequence(tmp_path / "src", "night")
        if change == "depth":
            before = DatasetSequence("night", before.frames, CAMERA, before.poses)
        elif change == "camera":
            before.camera = replace(CAMERA, fx=99.0)
        elif change == "times":
            before.frames.times = [time + 7 for time in whole.frames.times]
        if change in ("times", "poses"):
            before.poses = None
        [result] = prepare_sequences((before,), out, SETTINGS)
        stamps = {path: path.stat().st_mtime_ns for path in out.rglob("images/*")}
        [result] = prepare_sequences((whole,), out, SETTINGS)
        touched = any(path.stat().st_mtime_ns != stamp for path, stamp in stamps.items())
        assert touched == (change in ("depth", "camera"))
        assert len(result.notes) == (change == "camera")
        prepare_sequences((whole,), tmp_path / "fresh", SETTINGS)
        assert contents(out) == contents(tmp_path / "fresh"), change
        prepare_sequences((before,), out, SETTINGS)
        assert (out / "night" / "poses.tum").exists() == (before.poses is not None), "poses that are gone"


def test_a_file_that_was_replaced_under_its_name(tmp_path: Path) -> None:
    write_frames(tmp_path / "src", 130)
    sequences = (sequence(tmp_path / "src", "night"),)
    prepare_sequences(sequences, tmp_path / "out", SETTINGS)
    other = (tmp_path / "src" / "0000000100.png").read_bytes()
    (tmp_path / "src" / "0000000070.png").write_bytes(other)
    [result] = prepare_sequences(sequences, tmp_path / "out", SETTINGS)
    assert "64 of 130 frames were prepared again" in result.notes[0]
    prepare_sequences(sequences, tmp_path / "fresh", SETTINGS)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


@pytest.mark.parametrize("corrected", ["scan", "calibration"])
def test_a_scan_and_its_calibration_that_were_corrected(tmp_path: Path, corrected: str) -> None:
    write_odometry(tmp_path / "dataset", count=3)
    folder = tmp_path / "dataset" / "sequences" / "00"

    def prepare(out: str) -> PreparedSequence:
        sequences = open_kitti_odometry(tmp_path / "dataset").sequences
        [result] = prepare_sequences(sequences, tmp_path / out, replace(SETTINGS, min_motion=0))
        return result

    first = prepare("out")
    assert prepare("out") == first
    depth = (tmp_path / "out/00/depth/000001.png").read_bytes()
    if corrected == "scan":
        scan_of(7)[:150].tofile(folder / "velodyne" / "000001.bin")
    else:
        moved = VELO_TO_CAM[:3] + np.array([0, 0, 0, 0.5])
        lines = (folder / "calib.txt").read_text().splitlines()
        (folder / "calib.txt").write_text("\n".join([*lines[:-1], f"Tr: {text_of(moved)}"]) + "\n")
    assert "3 of 3 frames were prepared again" in prepare("out").notes[0]
    assert (tmp_path / "out/00/depth/000001.png").read_bytes() != depth
    prepare("fresh")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_a_scale_that_was_corrected(tmp_path: Path) -> None:
    write_scene(tmp_path / "src" / "scene", frames=3)
    for scale, metres in ((500, 2), (1000, 1)):
        sequences = open_scenes_folder(tmp_path / "src", depth_scale=scale).sequences
        prepare_sequences(sequences, tmp_path / "out", replace(SETTINGS, min_motion=0))
        assert read_depth(tmp_path / "out/scene/depth/000000.png", 256)[0, 0] == metres


def test_a_damaged_signature_is_found(tmp_path: Path) -> None:
    write_frames(tmp_path / "src", 2)
    sequences = (sequence(tmp_path / "src", "night"),)
    prepare_sequences(sequences, tmp_path / "out", SETTINGS)
    before = contents(tmp_path / "out")
    picture = tmp_path / "out/night/images/000000.png"
    picture.write_bytes(b"\0" + picture.read_bytes()[1:])
    prepare_sequences(sequences, tmp_path / "out", SETTINGS)
    assert contents(tmp_path / "out") == before


def _stop(*arguments: object) -> int:
    raise TrianflowError("stopped")


@pytest.mark.parametrize("why", ["absent", "problem", "changed", "damaged"])
def test_a_folder_is_not_complete_while_a_part_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    write_frames(tmp_path / "src", 3)
    if why == "problem":
        (tmp_path / "src" / "0000000002.png").write_bytes(b"no picture")
    sequences = (sequence(tmp_path / "src", "night"),)
    prepare_sequences(sequences, tmp_path / "out", SETTINGS)
    folder = tmp_path / "out" / "night"
    assert (folder / "prepared.json").exists()
    if why == "absent":
        (folder / ".parts" / "000000.json").unlink()
    elif why == "changed":
        os.utime(tmp_path / "src" / "0000000001.png", (1, 1))
    elif why == "damaged":
        (folder / "images" / "000000.png").write_bytes(b"")
    if why == "damaged":
        monkeypatch.setattr(prepared_parts, "_write_picture", _stop)
    else:
        monkeypatch.setattr(prepared, "do_part", _stop)
    with pytest.raises(TrianflowError, match="stopped"):
        prepare_sequences(sequences, tmp_path / "out", SETTINGS)
    assert not (folder / "prepared.json").exists()


@pytest.mark.parametrize("part", ["images", "depth"])
def test_a_disk_that_gives_back_other_values_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    write_frames(tmp_path / "src", 1)
    other = cv2.imencode(".png", np.full((64, 80), 77, np.uint16))[1].tobytes()
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: other if path.parent.name == part else read(path))
    with pytest.raises(TrianflowError, match=rf"{part}/000000\.png: .*; check the disk, or name another DST"):
        prepare_sequences((sequence(tmp_path / "src", "night"),), tmp_path / "out", SETTINGS)
