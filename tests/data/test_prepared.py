"""Prepared data: small pictures of a dataset's frames, the same however the work went."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.data.in_process import work_here
from trianflow.data.calibration import read_calibration
from trianflow.data.datasets.interface import DatasetSequence
from trianflow.data.depth import read_depth
from trianflow.data.images import ImageFolder, find_images
from trianflow.data.prepared import PrepareSettings, prepare_sequences
from trianflow.errors import TrianflowError, UsageError
from trianflow.geometry.camera import Camera
from trianflow.trajectory import Trajectory

CAMERA = Camera(120.0, 130.0, 79.5, 50.0, 160, 96)
SETTINGS = PrepareSettings(size=(80, 64), min_motion=0.002)


class Drive(DatasetSequence):
    """Frames with a depth of 2 m more than their number, none for frame 5, a missing file for frame 6 of `day/`; and a
    speed, none for frame 1."""

    def depth(self, index: int) -> np.ndarray | None:
        if index == 6 and self.name.startswith("day"):
            raise TrianflowError("scan 6 is missing")
        return None if index == 5 else np.full((96, 160), index + 2, np.float32)

    def speed(self, index: int) -> float | None:
        return None if index == 1 else index / 4


def write_frames(folder: Path, count: int, still: range = range(0)) -> None:
    """A texture that slides by three pixels a frame, but not in the frames of `still`."""
    folder.mkdir(parents=True)
    texture = np.random.default_rng(0).integers(0, 255, (30, 80 + count, 3)).astype(np.uint8)
    texture = cv2.resize(texture, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    place = 0
    for index in range(count):
        place += 0 if index in still else 3
        cv2.imwrite(str(folder / f"{index:010d}.png"), texture[:96, place : place + 160])


def sequence(folder: Path, name: str = "day/drive") -> Drive:
    images, stray = find_images(folder.iterdir())
    frames = ImageFolder(folder, images, name=name, start=0, end=None, stride=1, fps=10, stray=stray)
    T_wc = np.tile(np.eye(4), (len(images), 1, 1))
    T_wc[:, 2, 3] = np.arange(len(images)) / 8
    return Drive(name, frames, CAMERA, Trajectory(np.array(frames.times), T_wc))


def contents(folder: Path) -> dict[str, str]:
    """All files and their digests."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_what_a_folder_gets(tmp_path: Path) -> None:
    write_frames(tmp_path / "src", 20, still=range(10, 14))
    (tmp_path / "src" / "0000000003.png").write_bytes(b"no picture")
    before = contents(tmp_path / "src")
    told: list[int] = []
    settings = replace(SETTINGS, truth=True)
    [result] = prepare_sequences((sequence(tmp_path / "src"),), tmp_path / "out", settings, advance=told.append)
    assert contents(tmp_path / "src") == before
    assert sum(told) == 20
    assert (result.kept, result.static, result.unreadable, result.without_depth) == (15, 4, 1, 1)
    assert not result.complete
    assert [problem.split("src/")[-1] for problem in result.problems][1] == "scan 6 is missing; no depth for this frame"
    assert "0000000003.png" in result.problems[0]
    folder = tmp_path / "out" / "day" / "drive"
    kept = [i for i in range(20) if i != 3 and i not in range(10, 14)]
    assert sorted(p.name for p in (folder / "images").iterdir()) == [f"{i:06d}.png" for i in kept]

    camera = read_calibration(folder / "calib.yaml")
    expected = CAMERA.resized(80, 64)
    assert [camera.fx, camera.fy, camera.cx, camera.cy] == pytest.approx(
        [expected.fx, expected.fy, expected.cx, expected.cy]
    )
    picture = cv2.imread(str(folder / "images" / "000004.png"))
    source = cv2.imread(str(tmp_path / "src" / "0000000004.png"))
    assert np.array_equal(picture, cv2.resize(source, (80, 64), interpolation=cv2.INTER_AREA))
    assert np.loadtxt(folder / "times.txt") == pytest.approx([i / 10 for i in kept])
    assert (folder / "speeds.txt").read_text().splitlines() == [f"{i / 4:.6f}" if i != 1 else "nan" for i in kept]
    poses = Trajectory.load(folder / "poses.tum")
    assert poses.times == pytest.approx([i / 10 for i in kept])
    assert poses.positions[:, 2] == pytest.approx([i / 8 for i in kept], abs=1e-6)
    assert sorted(p.stem for p in (folder / "depth").iterdir()) == [f"{i:06d}" for i in kept if i not in (5, 6)]
    for part, shape in (("depth", (64, 80)), ("truth", (96, 160))):
        depth = read_depth(folder / part / "000007.png", 256)
        assert depth.shape == shape
        assert (depth == 9).all()


class Ramp(DatasetSequence):
    """Depth that rises to the right, with a step in the middle."""

    values = (np.arange(160) / 10 + 100 * (np.arange(96)[:, None] > 40) + 1).astype(np.float32)

    def depth(self, index: int) -> np.ndarray | None:
        return self.values


def test_truth_has_the_view_of_the_pictures(tmp_path: Path) -> None:
    """The source is distorted: the truth at a pixel of the pinhole camera is that of the pixel which its ray hits."""
    write_frames(tmp_path / "src", 1)
    distorted = replace(CAMERA, distortion=(-0.25, 0.06, 0.001, -0.001))
    drive = Ramp("day/drive", sequence(tmp_path / "src").frames, distorted)
    prepare_sequences((drive,), tmp_path / "out", replace(SETTINGS, truth=True))
    folder = tmp_path / "out/day/drive"
    camera = read_calibration(folder / "calib.yaml").resized(160, 96)
    truth = read_depth(folder / "truth/000000.png", 256)
    rows, columns = (i.ravel() for i in np.mgrid[:96:5, :160:5])
    rays = np.stack([(columns - camera.cx) / camera.fx, (rows - camera.cy) / camera.fy, np.ones(len(rows))], axis=1)
    K, distortion = distorted.K().numpy(), np.array(distorted.distortion)
    hit = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), K, distortion)[0][:, 0]
    assert np.abs(hit - np.stack([columns, rows], axis=1)).max() > 4
    u, v = np.rint(hit).astype(int).T
    assert truth[rows, columns] == pytest.approx(Ramp.values[v.clip(0, 95), u.clip(0, 159)], abs=1 / 256)


def test_two_processes_write_what_one_does_and_a_finished_folder_stays(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_frames(tmp_path / name, 150, still=range(60, 70))
    sequences = tuple(sequence(tmp_path / name, name) for name in ("a", "b"))
    one = prepare_sequences(sequences, tmp_path / "one", SETTINGS)
    two = prepare_sequences(sequences, tmp_path / "two", SETTINGS, workers=2)
    assert one == two
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    stamps = [p.stat().st_mtime_ns for p in sorted((tmp_path / "two").rglob("*.png"))]
    assert prepare_sequences(sequences, tmp_path / "two", SETTINGS, workers=2) == two
    assert [p.stat().st_mtime_ns for p in sorted((tmp_path / "two").rglob("*.png"))] == stamps


def test_the_frames_of_a_list_only(tmp_path: Path) -> None:
    write_frames(tmp_path / "src", 12)
    settings = replace(SETTINGS, min_motion=0)
    sequences = (sequence(tmp_path / "src", "a"), sequence(tmp_path / "src", "b"))
    [result] = prepare_sequences(sequences, tmp_path / "out", settings, {"b": [2, 5, 9]})
    assert (result.name, result.kept) == ("b", 3)
    assert [p.stem for p in sorted((tmp_path / "out/b/images").iterdir())] == ["000002", "000005", "000009"]


def test_grey_frames_stay_grey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_here(monkeypatch)
    write_frames(tmp_path / "src", 2)
    for path in (tmp_path / "src").iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    prepare_sequences((sequence(tmp_path / "src"),), tmp_path / "out", SETTINGS)
    source = cv2.imread(str(tmp_path / "src" / "0000000001.png"), cv2.IMREAD_UNCHANGED)
    picture = cv2.imread(str(tmp_path / "out/day/drive/images/000001.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(picture, cv2.resize(source, (80, 64), interpolation=cv2.INTER_AREA))


def test_what_was_damaged_or_repaired_since_is_written_again(tmp_path: Path) -> None:
    write_frames(tmp_path / "src", 130)
    good = (tmp_path / "src" / "0000000100.png").read_bytes()
    (tmp_path / "src" / "0000000100.png").write_bytes(good[:200])
    [first] = prepare_sequences((sequence(tmp_path / "src"),), tmp_path / "out", SETTINGS)
    images = tmp_path / "out/day/drive/images"
    assert (first.kept, first.unreadable, first.complete) == (129, 1, False)
    (images / "000010.png").unlink()
    (images / "000011.png").write_bytes(b"")
    (tmp_path / "src" / "0000000100.png").write_bytes(good)
    [second] = prepare_sequences((sequence(tmp_path / "src"),), tmp_path / "out", SETTINGS)
    assert (second.kept, second.unreadable) == (130, 0)
    prepare_sequences((sequence(tmp_path / "src"),), tmp_path / "fresh", SETTINGS)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_what_a_killed_process_left_is_gone_in_the_end(tmp_path: Path) -> None:
    """It may be killed between writing a file under its temporary name and giving it its own."""
    write_frames(tmp_path / "src", 70)
    sequences = (sequence(tmp_path / "src"),)
    prepare_sequences(sequences, tmp_path / "whole", SETTINGS)
    prepare_sequences(sequences, tmp_path / "cut", SETTINGS)
    folder = tmp_path / "cut" / "day" / "drive"
    (folder / ".parts" / "000064.json").rename(folder / ".parts" / ".000064.json.part")
    (folder / "prepared.json").rename(folder / ".prepared.json.part")
    (tmp_path / "cut" / ".prepare.json.part").write_text('{"size": [80')
    picture = folder / "images" / "000069.png"
    picture.write_bytes(picture.read_bytes()[:10])
    (folder / ".parts" / ".000000.json.part").write_text("{")
    (folder / ".calib.yaml.part").write_text("")
    prepare_sequences(sequences, tmp_path / "cut", SETTINGS)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_slow_drive_is_thinned_not_dropped(tmp_path: Path) -> None:
    """Each frame moves less than the limit; what counts is the way since the last one that was kept."""
    settings = replace(SETTINGS, min_motion=0.025)  # 3 of 160 pixels a frame: every second
    write_frames(tmp_path / "src", 60)
    [result] = prepare_sequences((sequence(tmp_path / "src"),), tmp_path / "out", settings)
    assert result.kept == 30
    single = sequence(tmp_path / "src")
    single.consecutive = False
    [result] = prepare_sequences((single,), tmp_path / "all", settings)
    assert result.kept == 60


def test_a_sequence_that_cannot_be_used_does_not_stop_the_others(tmp_path: Path) -> None:
    write_frames(tmp_path / "good", 3)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "0.png").write_bytes(b"no picture")
    sequences = (sequence(tmp_path / "bad", "bad"), sequence(tmp_path / "good", "good"))
    bad, good = prepare_sequences(sequences, tmp_path / "out", SETTINGS)
    assert (bad.kept, bad.unreadable, good.kept) == (0, 1, 3)
    assert not bad.complete
    assert f"{tmp_path / 'bad' / '0.png'}: a text file, not an image; left out" in bad.problems[0]
    assert not (tmp_path / "out" / "bad").exists()


def test_refusals(tmp_path: Path) -> None:
    write_frames(tmp_path / "src", 3)
    sequences = (sequence(tmp_path / "src"),)
    prepare_sequences(sequences, tmp_path / "out", SETTINGS)
    with pytest.raises(UsageError, match=r"other settings \(size, truth\)"):
        prepare_sequences(sequences, tmp_path / "out", replace(SETTINGS, size=(64, 64), truth=True))
    with pytest.raises(UsageError, match=r"other settings \(reader\)"):
        prepare_sequences(sequences, tmp_path / "out", replace(SETTINGS, reader={"crop": True}))
    with pytest.raises(UsageError, match=r"other settings \(split, stride\)"):
        prepare_sequences(sequences, tmp_path / "out", replace(SETTINGS, split="odometry_test", stride=3))
    write_frames(tmp_path / "other", 3)
    with pytest.raises(UsageError, match="prepared from another source"):
        prepare_sequences((sequence(tmp_path / "other"),), tmp_path / "out", SETTINGS)
    with pytest.raises(UsageError, match=r"would not lie in .*: name the source in full"):
        prepare_sequences((sequence(tmp_path / "src", ".."),), tmp_path / "below" / "out", SETTINGS)
    (tmp_path / "busy").mkdir()
    with open(tmp_path / "busy" / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another process is at work there"):
            prepare_sequences(sequences, tmp_path / "busy", SETTINGS)
    with pytest.raises(UsageError, match="holds other things"):
        prepare_sequences(sequences, tmp_path / "src", SETTINGS)
    (tmp_path / "file").write_text("")
    with pytest.raises(TrianflowError, match="cannot be written"):
        prepare_sequences(sequences, tmp_path / "file", SETTINGS)


_RUN = """
import sys
from pathlib import Path
from tests.data.test_prepared import SETTINGS, sequence
from trianflow.data.prepared import prepare_sequences
if __name__ == "__main__":
    prepare_sequences((sequence(Path(sys.argv[1])),), sys.argv[2], SETTINGS, workers=2)
"""


@pytest.mark.slow
def test_killed_twice_and_resumed(tmp_path: Path) -> None:
    """Kill -9 in the middle of a part, cut a file short, and go on: the folder is that of an uninterrupted run."""
    write_frames(tmp_path / "src", 1200, still=range(500, 520))
    script = tmp_path / "script.py"
    script.write_text(_RUN)
    command = [sys.executable, str(script), str(tmp_path / "src")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([*command, str(tmp_path / "whole")], env=environment, check=True)
    for parts in (3, 9):
        process = subprocess.Popen([*command, str(tmp_path / "cut")], env=environment)
        images = tmp_path / "cut" / "day" / "drive" / "images"
        while process.poll() is None and (not images.is_dir() or len(list(images.iterdir())) < 64 * parts):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it was still at work"
        time.sleep(0.5)
        done = sorted((tmp_path / "cut/day/drive/.parts").glob("*.json"))
        assert 0 < len(done) < 19
        damaged = images / f"{json.loads(done[0].read_text())['kept'][0]:06d}.png"
        damaged.write_bytes(damaged.read_bytes()[:100])
    subprocess.run([*command, str(tmp_path / "cut")], env=environment, check=True)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert len(list(images.iterdir())) == 1181, "frame 512 is the first of a part, which is kept"
