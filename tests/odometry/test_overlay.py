"""The video of a run: a picture for every frame, whatever becomes of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.odometry.test_run import CAMERA, FAST, frames
from trianflow.data.frames import Frame
from trianflow.errors import TrianflowError, UsageError
from trianflow.odometry.overlay import Layout, Overlay
from trianflow.odometry.pair import Seen
from trianflow.odometry.run import run_odometry
from trianflow.odometry.step import Step
from trianflow.odometry.video_file import VideoFileWriter, _count
from trianflow.visualization import overlay as draw


def pictures(path: Path) -> list[np.ndarray]:
    """All of a video, RGB."""
    capture = cv2.VideoCapture(str(path))
    found = []
    while True:
        more, picture = capture.read()
        if not more:
            return found
        found.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


def size_of(value: object, seen: set[int] | None = None) -> int:
    """Bytes of the arrays and bytes that are reached from a value through the package's own objects and containers."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return 0
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        return value.nbytes if value.base is None else size_of(value.base, seen)
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, dict):
        return size_of(list(value.values()), seen)
    if isinstance(value, (list, tuple, set, deque)):
        return sum(size_of(part, seen) for part in value)
    return size_of(vars(value), seen) if type(value).__module__.startswith("trianflow") else 0


def with_depth(number: int) -> Iterator[Frame]:
    for frame in frames(number):
        yield replace(frame, depth=np.full((96, 160), 4.0, np.float32))


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".avi"])
def test_a_picture_for_every_frame(tmp_path: Path, suffix: str) -> None:
    video = tmp_path / "new" / f"out{suffix}"
    run = run_odometry(frames(6), CAMERA, FAST, tmp_path / "run", observers=[Overlay(video)])
    assert run.problems == []
    assert run.files[-1] == str(video)
    assert [path.name for path in video.parent.iterdir()] == [video.name], "nothing else is left"
    capture = cv2.VideoCapture(str(video))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    shown = pictures(video)
    layout = Layout.of(160, 96, False)
    assert [picture.shape for picture in shown] == [(layout.height, layout.width, 3)] * 6
    images = [frame.image for frame in frames(6)]
    for picture, image in zip(shown, images):
        assert image is not None
        main = cv2.resize(layout.main.of(picture)[..., 2], (80, 48), interpolation=cv2.INTER_AREA)
        expected = cv2.resize(image, (80, 48), interpolation=cv2.INTER_AREA)
        assert np.corrcoef(main.ravel(), expected.ravel())[0, 1] > 0.8
    flow = layout.flow.of(shown[3])[60:-20, 20:-150].reshape(-1, 3).astype(float)
    assert np.median(flow, 0) == pytest.approx([0, 209, 255], abs=30), "the wall goes to the left: cyan"


def test_the_name_in_the_folder_of_the_run(tmp_path: Path) -> None:
    run = run_odometry(frames(3), CAMERA, FAST, tmp_path, observers=[Overlay(tmp_path / "overlay.mp4")])
    assert run.files[-1] == "overlay.mp4"


def test_depth_has_a_place_of_its_own(tmp_path: Path) -> None:
    video = tmp_path / "out.mp4"
    run = run_odometry(with_depth(4), CAMERA, FAST, tmp_path / "run", observers=[Overlay(video)])
    assert run.problems == []
    layout = Layout.of(160, 96, True)
    assert layout.depth is not None
    shown = pictures(video)
    assert shown[0].shape[:2] == (layout.height, layout.width)
    assert np.ptp(layout.depth.of(shown[2])[40:-10, 10:100].astype(int), axis=(0, 1)).max() < 40, "all at one depth"
    assert layout.depth.of(shown[2])[40:-10, 10:100].max() > 60


def test_frames_that_cannot_be_used_are_shown_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    put = draw.put_text

    def spy(picture: np.ndarray, text: str, *args: object, **kwargs: object) -> int:
        texts.append(text)
        return put(picture, text, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(draw, "put_text", spy)

    def some() -> Iterator[Frame]:
        for frame in frames(5):
            bad = frame.index in (0, 1, 3)
            yield replace(frame, image=None, problem="truncated") if bad else frame

    video = tmp_path / "out.mp4"
    run = run_odometry(some(), CAMERA, FAST, tmp_path / "run", observers=[Overlay(video)])
    assert run.problems == []
    assert len(pictures(video)) == 5
    assert texts.count("no image: truncated") == 3
    assert [text for text in texts if text.startswith("frame ")] == [f"frame {i}" for i in range(5)]
    assert texts.count("bridged") == 3


def test_frames_before_the_first_image_are_kept_without_their_depth(tmp_path: Path) -> None:
    overlay, kept = Overlay(tmp_path / "out.mp4"), []

    def blind() -> Iterator[Frame]:
        yield from (replace(frame, image=None) for frame in with_depth(3))

    def on_step(*_: object) -> None:
        kept.append([(frame.image, frame.depth) for frame, _ in overlay._early])

    run_odometry(blind(), CAMERA, FAST, tmp_path / "run", on_step=on_step, observers=[overlay])
    assert kept[-1] == [(None, None)] * 3


def test_a_video_that_fails_leaves_no_half_of_itself(tmp_path: Path) -> None:
    video = tmp_path / "out.mp4"
    made: list[Path] = []

    class Breaking(Overlay):
        def _picture(self, layout: Layout, seen: Seen | None, frame: Frame, step: Step) -> np.ndarray:
            if frame.index == 11:
                made.extend(tmp_path.glob(".out.part.mp4"))
                raise MemoryError
            return super()._picture(layout, seen, frame, step)

    run = run_odometry(frames(13), CAMERA, FAST, tmp_path / "run", observers=[Breaking(video)])
    assert run.problems == ["Breaking at frame 11 has failed: MemoryError: no reason given"]
    assert made, "it had been begun"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_no_image_at_all(tmp_path: Path) -> None:
    blind = [Frame(i, i / 10, None, problem="gone") for i in range(3)]
    run = run_odometry(blind, CAMERA, FAST, tmp_path / "run", observers=[Overlay(tmp_path / "out.mp4")])
    assert run.problems == [f"{tmp_path / 'out.mp4'}: cannot write the video: there was no picture to write"]
    assert not list(tmp_path.glob("*.mp4"))


@pytest.mark.parametrize("number", [1, 4])
def test_an_interrupted_run_leaves_a_video(tmp_path: Path, number: int) -> None:
    video = tmp_path / "out.mp4"

    def stop(frame: Frame, *_: object) -> None:
        if frame.index == number - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_odometry(frames(9), CAMERA, FAST, tmp_path / "run", on_step=stop, observers=[Overlay(video)])
    assert len(pictures(video)) == number


@pytest.mark.parametrize(
    ("name", "said"), [("a.txt", "ends in one of .mp4, .webm, .avi$"), ("a", "ends in"), ("b.mp4", "a folder")]
)
def test_names_that_are_no_video(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "b.mp4").mkdir()
    with pytest.raises(UsageError, match=said):
        Overlay(tmp_path / name)
    (tmp_path / "file").write_text("")
    with pytest.raises(TrianflowError, match="cannot write"):
        Overlay(tmp_path / "file" / "a.mp4")


def test_what_cannot_be_written_is_a_problem_and_the_run_goes_on(tmp_path: Path) -> None:
    overlay = Overlay(tmp_path / "place" / "out.mp4")
    (tmp_path / "place").rmdir()
    run = run_odometry(frames(4), CAMERA, FAST, tmp_path / "run", observers=[overlay])
    assert run.report.state == "complete"
    assert len(run.problems) == 1
    assert "out.mp4: cannot write the video: OpenCV cannot open it" in run.problems[0]


def test_pictures_that_a_webm_lacks_are_noticed(tmp_path: Path) -> None:
    """It has no index: OpenCV goes by how long the file says that it plays."""
    video = VideoFileWriter(tmp_path / "out.webm")
    for i in range(30):
        noise = np.random.default_rng(i).integers(0, 255, (64, 96, 3), np.uint8)
        video.write(noise, i / 10)
    video.close()
    data = (tmp_path / "out.webm").read_bytes()
    (tmp_path / "half.webm").write_bytes(data[: len(data) // 2])
    assert _count(tmp_path / "out.webm") == 30
    assert 5 < _count(tmp_path / "half.webm") < 20


def test_lost_pictures_are_noticed_and_the_old_video_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.mp4"
    path.write_text("old")
    video = VideoFileWriter(path)
    for i in range(3):
        video.write(np.full((64, 96, 3), 40 * i, np.uint8), i / 5)
    monkeypatch.setattr("trianflow.odometry.video_file._count", lambda path: 2)
    with pytest.raises(TrianflowError, match="of 3 pictures 2 arrived"):
        video.close()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("out.mp4", "old")]


@pytest.mark.parametrize(
    ("times", "rate"),
    [
        ([0, 0.05, 0.1], 20),
        ([0, 5, *(5 + 0.05 * i for i in range(1, 15))], 20),  # a camera that starts slowly
        ([0, *(0.05 * i for i in range(12))], 20),
        ([3, 3], 10),
        ([0, 100], 1),
        ([0, 0.001], 60),
        ([7], 10),
    ],
)
def test_rate_is_that_of_the_median_step_of_the_first_ten(tmp_path: Path, times: list[float], rate: float) -> None:
    video = VideoFileWriter(tmp_path / "a.mp4")
    for time in times:
        video.write(np.full((64, 96, 3), 90, np.uint8), time)
    video.close()
    capture = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(rate, rel=1e-3)
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == len(times)


@pytest.mark.parametrize(
    "size", [(1241, 376), (640, 480), (800, 600), (1920, 1080), (480, 640), (64, 2000), (2000, 64)]
)
@pytest.mark.parametrize("has_depth", [False, True])
def test_layouts_fill_the_video_without_overlap(size: tuple[int, int], has_depth: bool) -> None:
    layout = Layout.of(*size, has_depth)
    assert layout.width % 2 == layout.height % 2 == 0
    assert layout.width <= 1290
    taken = np.zeros((layout.height, layout.width), int)
    cells = [layout.main, layout.flow, layout.trajectory, layout.status, *([layout.depth] if layout.depth else [])]
    for cell in cells:
        assert min(cell.width, cell.height) >= 2
        assert cell.of(taken).shape == (cell.height, cell.width)
        cell.of(taken)[:] += 1
    assert taken.max() == 1
    assert taken.mean() > 0.9
    assert layout.main.width / layout.main.height == pytest.approx(size[0] / size[1], rel=0.1)


def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    """What the overlay keeps while it runs: positions, and nothing of the pictures, each of which has 46,080 bytes."""
    overlay, kept = Overlay(tmp_path / "out.mp4"), []

    class Watch:
        def observe(self, *_: object) -> None:
            kept.append(size_of(vars(overlay)))

        def finish(self, *_: object) -> list[str]:
            return []

        def abandon(self) -> None:
            pass

    run_odometry(frames(24), CAMERA, FAST, tmp_path / "run", observers=[overlay, Watch()])
    assert kept[-1] - kept[8] < 16 * 500


def test_the_path_is_corrected_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trianflow.odometry.path_so_far._EVERY", 4)
    overlay = Overlay(tmp_path / "out.mp4")
    run = run_odometry(frames(9), CAMERA, FAST, tmp_path / "run", observers=[overlay])
    positions = overlay._trajectory.positions
    assert positions.shape == (9, 3)
    assert positions[:8] == pytest.approx(run.trajectory.positions[:8], abs=0.3 * run.trajectory.path_length)
    assert overlay._trajectory.unit == "units"
