"""A whole run: files as they grow, what an interruption leaves, memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from trianflow.config import OdometryConfig
from trianflow.data.calibrated import find_calibration
from trianflow.data.calibration import read_calibration
from trianflow.data.frames import Frame, FrameSource, open_frames
from trianflow.errors import TrianflowError
from trianflow.geometry.camera import Camera
from trianflow.odometry import run as module
from trianflow.odometry.pipeline import VisualOdometry
from trianflow.odometry.report import RunReport
from trianflow.odometry.run import Interrupted, OdometryRun, prepare_output, run_odometry
from trianflow.odometry.step import Step
from trianflow.trajectory import Trajectory

CAMERA = Camera(150.0, 150.0, 79.5, 47.5, 160, 96)
FAST = OdometryConfig.preset("fast")


def wall(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A textured grey wall, `(height, width)` uint8."""
    noise = np.random.default_rng(seed).normal(0, 1, (height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return (128 + smooth / smooth.std() * 40).clip(0, 255).astype(np.uint8)


def frames(number: int) -> Iterator[Frame]:
    """A camera that slides along a wall."""
    picture = wall(160 + 5 * number, 96)
    for i in range(number):
        yield Frame(i, i / 10, picture[:, 5 * i : 5 * i + 160].copy(), f"{i}.png")


def rows(out: Path) -> list[int]:
    """How many rows each file has."""
    report = json.loads((out / "report.json").read_text())
    tum, kitti = Trajectory.load(out / "trajectory.tum"), Trajectory.load(out / "trajectory.kitti")
    np.testing.assert_allclose(tum.T_wc, kitti.T_wc, atol=1e-6)
    return [len(tum), len(kitti), len(report["frames"])]


def state(out: Path) -> str:
    return json.loads((out / "report.json").read_text())["state"]


def test_every_frame_has_a_row(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    seen = []

    def on_step(frame: Frame, step: object, remark: object) -> None:
        seen.append(frame.index)
        assert len(Trajectory.load(out / "trajectory.tum")) == len(seen)  # on disk before anyone is told

    run = run_odometry(frames(5), CAMERA, FAST, out, on_step=on_step)
    assert seen == [0, 1, 2, 3, 4]
    assert rows(out) == [5, 5, 5]
    assert state(out) == run.report.state == "complete"
    assert len(run.trajectory) == 5
    assert run.problems == []
    assert {path.name for path in out.iterdir()} == set(run.files)
    assert (out / "trajectory.png").stat().st_size > 1000


def test_truth_is_compared_and_a_misfit_is_a_problem(tmp_path: Path) -> None:
    T_wc = np.tile(np.eye(4), (5, 1, 1))
    T_wc[:, 0, 3] = np.arange(5)
    run = run_odometry(frames(5), CAMERA, FAST, tmp_path, truth=Trajectory(np.arange(5) / 10, T_wc))
    assert run.report.evaluation is not None
    assert run.report.evaluation["alignment"] == "sim3"
    late = Trajectory(100.5 + np.arange(3.0), T_wc[:3])
    run = run_odometry(frames(5), CAMERA, FAST, tmp_path, truth=late)
    assert run.report.evaluation is None
    assert "no common" in run.problems[0]
    assert "trajectory.png" in run.files


@pytest.mark.parametrize(
    ("error", "done"),
    [(KeyboardInterrupt(), 2), (RuntimeError("lightning\nstruck"), 3)],  # it reads one frame ahead
)
def test_what_is_done_survives(tmp_path: Path, error: BaseException, done: int) -> None:
    (tmp_path / "trajectory.png").write_text("of an earlier run")

    def broken() -> Iterator[Frame]:
        yield from frames(3)
        raise error

    with pytest.raises(type(error)):
        run_odometry(broken(), CAMERA, FAST, tmp_path)
    assert rows(tmp_path) == [done] * 3
    interrupted = isinstance(error, KeyboardInterrupt)
    assert state(tmp_path) == ("interrupted" if interrupted else "failed")
    assert json.loads((tmp_path / "report.json").read_text())["error"] == ("" if interrupted else "lightning")
    assert (tmp_path / "trajectory.png").read_bytes().startswith(b"\x89PNG")


class Writer:
    """An observer that writes how many frames it has seen; it raises at a frame, or at the end."""

    def __init__(self, path: Path, error: Exception | None = None, at: int | None = None) -> None:
        self.path, self._error, self._at = path, error, at
        self.seen, self.abandoned = 0, 0

    def observe(self, odometry: VisualOdometry, frame: Frame, step: Step) -> None:
        if self._error is not None and frame.index == self._at:
            raise self._error
        self.seen += 1

    def finish(self, run: OdometryRun, odometry: VisualOdometry) -> list[str]:
        if self._error is not None:
            raise self._error
        self.path.write_text(str(self.seen))
        return [run.named(self.path)]

    def abandon(self) -> None:
        self.abandoned += 1
        raise OSError("still no room")


@pytest.mark.parametrize("error", [OSError(28, "No space left"), cv2.error("odd"), MemoryError(), TrianflowError("no")])
def test_an_observer_that_fails_ends_neither_the_run_nor_the_others(tmp_path: Path, error: Exception) -> None:
    early, late, good = Writer(tmp_path / "a", error, 1), Writer(tmp_path / "b", error), Writer(tmp_path / "c")
    run = run_odometry(frames(4), CAMERA, FAST, tmp_path, observers=[early, late, good])
    assert rows(tmp_path) == [4, 4, 4]
    assert run.report.state == "complete"
    assert (early.seen, late.seen, (tmp_path / "c").read_text()) == (1, 4, "4")
    assert (early.abandoned, late.abandoned, good.abandoned) == (1, 1, 0)
    assert run.files[-1] == "c"
    if isinstance(error, TrianflowError):
        assert run.problems == ["no", "no"]
    else:
        said = f" has failed: {type(error).__name__}: {str(error) or 'no reason given'}"
        assert run.problems == [f"Writer at frame 1{said}", f"Writer{said}"]


def test_the_report_names_the_files(tmp_path: Path) -> None:
    good, bad = Writer(tmp_path / "a"), Writer(tmp_path / "b", ValueError("bad"))
    run = run_odometry(frames(2), CAMERA, FAST, tmp_path, observers=[good, bad])
    assert json.loads((tmp_path / "report.json").read_text())["files"] == run.files
    assert run.files == ["trajectory.tum", "trajectory.kitti", "report.json", "trajectory.png", "a"]


def test_loops_that_cannot_be_closed_are_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: VisualOdometry) -> None:
        raise RuntimeError("singular")

    monkeypatch.setattr(VisualOdometry, "closed", fails)
    observer = Writer(tmp_path / "a")
    config = FAST.model_copy(update={"loops": True})
    run = run_odometry(frames(2), CAMERA, config, tmp_path, observers=[observer])
    assert run.problems == ["closing loops has failed: RuntimeError: singular"]
    assert run.files == ["trajectory.tum", "trajectory.kitti", "report.json", "trajectory.png", "a"]
    assert observer.abandoned == 0


@pytest.mark.parametrize("what", ["report", "trajectory", "no frame", "tracking"])
def test_where_the_run_s_own_files_cannot_be_written_observers_are_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def full(*_: object) -> None:
        raise TrianflowError("no room")

    def last(*_: object) -> None:
        if what != "no frame":
            monkeypatch.setattr(Trajectory if what == "trajectory" else RunReport, "save", full)
        if what == "tracking":
            raise RuntimeError("lightning")

    observers = [Writer(tmp_path / name) for name in "ab"]
    stream = frames(0 if what == "no frame" else 1)
    said = {"no frame": "not one frame", "tracking": "lightning"}.get(what, "no room")
    with pytest.raises((TrianflowError, RuntimeError), match=said):
        run_odometry(stream, CAMERA, FAST, tmp_path, on_step=last, observers=observers)
    assert [observer.abandoned for observer in observers] == [1, 1]
    assert not any(observer.path.exists() for observer in observers)


def test_an_interrupted_run_tells_what_was_done(tmp_path: Path) -> None:
    def stop(frame: Frame, *_: object) -> None:
        if frame.index == 2:
            raise KeyboardInterrupt

    observers = [Writer(tmp_path / "a", ValueError("bad")), Writer(tmp_path / "b")]
    with pytest.raises(Interrupted) as caught:
        run_odometry(frames(4), CAMERA, FAST, tmp_path, on_step=stop, observers=observers)
    assert caught.value.run.problems == ["Writer has failed: ValueError: bad"]
    assert caught.value.run.files == ["trajectory.tum", "trajectory.kitti", "report.json", "trajectory.png", "b"]


def test_a_picture_that_fails_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_draw", full)
    run = run_odometry(frames(2), CAMERA, FAST, tmp_path, observers=[Writer(tmp_path / "a")])
    assert run.problems == ["trajectory.png has failed: OSError: [Errno 28] No space left on device"]
    assert run.files[-1] == "a"


@pytest.mark.parametrize("is_run", [False, True])
def test_the_cloud_of_an_earlier_run_goes_with_it(tmp_path: Path, is_run: bool) -> None:
    (tmp_path / "cloud.ply").write_text("of an earlier run, or of somebody else")
    if is_run:
        (tmp_path / "report.json").write_text("{}")
    run_odometry(frames(2), CAMERA, FAST, tmp_path)
    assert (tmp_path / "cloud.ply").exists() is not is_run


@pytest.mark.parametrize(("kind", "expected"), [("webcam", "rtrtrt"), ("video", "rrtrtt")])
def test_a_live_camera_is_tracked_before_it_is_read_again(tmp_path: Path, kind: str, expected: str) -> None:
    events: list[str] = []

    class Source(FrameSource):
        def __iter__(self) -> Iterator[Frame]:
            return self._read(range(3))

        def _read(self, indices: Iterable[int]) -> Iterator[Frame]:
            for frame in frames(3):
                events.append("r")
                yield frame

    source = Source(tmp_path, "source", start=0, end=None, stride=1)
    source.kind = kind
    run_odometry(source, CAMERA, FAST, tmp_path / "out", on_step=lambda *_: events.append("t"))
    assert "".join(events) == expected


def test_report_is_saved_while_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SAVE_EVERY", 0.0)
    saved = []

    def on_step(*_: object) -> None:
        saved.append(len(json.loads((tmp_path / "report.json").read_text())["frames"]))
        assert state(tmp_path) == "running"

    run_odometry(frames(3), CAMERA, FAST, tmp_path, on_step=on_step)
    assert saved == [1, 2, 3]


def test_no_frame_at_all(tmp_path: Path) -> None:
    with pytest.raises(TrianflowError, match="not one frame"):
        run_odometry([], CAMERA, FAST, tmp_path)
    assert state(tmp_path) == "failed"


def test_reading_thread_ends_with_an_early_end(tmp_path: Path) -> None:
    for frame in frames(12):
        cv2.imwrite(str(tmp_path / f"{frame.index:02d}.png"), frame.image)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_odometry(open_frames(tmp_path), CAMERA, FAST, tmp_path / "out", on_step=stop)
    assert not [thread for thread in threading.enumerate() if thread.name == "trianflow-frames"]
    assert rows(tmp_path / "out") == [1, 1, 1]


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/none"])
def test_unwritable_folder(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrianflowError, match="cannot write the results there"):
        prepare_output(tmp_path / place)


def resident() -> float:
    """Memory of this process, MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
def test_ten_thousand_frames_in_flat_memory(tmp_path: Path) -> None:
    width, height, number = 64, 48, 10_000
    world = np.concatenate([wall(1000, height), wall(1000, height)[:, ::-1]], axis=1)
    world = np.concatenate([world, world[:, :width]], axis=1)  # endless

    def stream() -> Iterator[Frame]:
        for i in range(number):  # every picture three times, and now and then none
            at = 3 * (i // 3) % 2000
            yield Frame(i, i / 30, None if i % 100 == 99 else world[:, at : at + width].copy())

    small = OdometryConfig.model_validate(
        {
            **FAST.model_dump(),
            "points": 200,
            "matches": {"count": 300, "stride": 4, "cell": 16},
            "two_view": {"hypotheses": 32, "subset": 64, "candidates": 2, "final_steps": (1, 1)},
        }
    )
    memory = {}

    def on_step(frame: Frame, *_: object) -> None:
        if frame.index in (600, number - 1):
            memory[frame.index] = resident()

    camera = Camera(60.0, 60.0, 31.5, 23.5, width, height)
    run = run_odometry(stream(), camera, small, tmp_path, on_step=on_step)
    assert len(run.trajectory) == number
    assert run.report.statuses["bridged"] == number // 100
    assert run.report.statuses["duplicate"] > number // 2
    assert memory[number - 1] - memory[600] < 30


@pytest.mark.data
def test_an_open_square_under_clouds_does_not_stop_a_car(shared_data: Path) -> None:
    """It drives at an even speed; nine tenths of what can be matched are too far away to say so."""
    frames = open_frames(shared_data / "train_malaga_urban_07", start=320, end=362)
    odometry = VisualOdometry(read_calibration(find_calibration(frames)))
    for frame in frames:
        odometry.track(frame)
    lengths = np.linalg.norm(np.diff(odometry.trajectory.T_wc[:, :3, 3], axis=0), axis=1)
    np.testing.assert_allclose(lengths, np.median(lengths), rtol=0.25)
