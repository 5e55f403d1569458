"""What is prepared again: what was damaged since, and what is made of a source that has changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.in_process import work_here
from tests.data.test_prepared import CAMERA, SETTINGS, Drive, contents, sequence, write_frames
from trianflow.data.datasets.interface import DatasetSequence
from trianflow.data.prepared import prepare_sequences


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
