"""Frames from folders and globs: order, layouts, selections, times."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.data.frame_files import HEIGHT, WIDTH, picture, write_folder
from trianflow.data.frames import open_frames
from trianflow.data.images import natural_key
from trianflow.errors import TrianflowError, UsageError


def test_folder(tmp_path: Path) -> None:
    source = open_frames(write_folder(tmp_path / "seq"))
    frames = list(source)
    assert (source.kind, source.name, source.length, len(source)) == ("folder", "seq", 5, 5)
    assert source.first_image_size() == (WIDTH, HEIGHT)
    assert [f.index for f in frames] == [0, 1, 2, 3, 4]
    assert [f.name for f in frames] == [f"{i:06d}.png" for i in range(5)]
    np.testing.assert_allclose([f.time for f in frames], [0, 0.1, 0.2, 0.3, 0.4])
    for i, frame in enumerate(frames):
        assert frame.image is not None
        assert frame.image.dtype == np.uint8
        assert frame.image.flags.c_contiguous
        np.testing.assert_array_equal(frame.image, picture(i))  # RGB, not BGR
        assert frame.problem == ""
        assert frame.depth is None
    assert [f.name for f in source] == [f.name for f in frames]  # a second time


def test_natural_order_and_stray_files(tmp_path: Path) -> None:
    for name in ("img10", "img2", "img1", "IMG3"):
        Image.fromarray(picture()).save(tmp_path / f"{name}.png")
    for name in ("notes.txt", "Thumbs.db", "._img1.png", "img1.png.bak"):
        (tmp_path / name).write_text("x")
    source = open_frames(tmp_path)
    assert [f.name for f in source if f.name.startswith("img")] == ["img1.png", "img2.png", "img10.png"]
    assert sorted(source.stray) == ["._img1.png", "Thumbs.db", "img1.png.bak", "notes.txt"]
    names = ["a10b2", "a2b10", "a2b9", "b1", "1", "a", "01"]
    assert sorted(names, key=natural_key) == ["01", "1", "a", "a2b9", "a2b10", "a10b2", "b1"]


def test_selection(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, 10)
    source = open_frames(folder, start=2, end=9, stride=3, fps=5)
    assert [(f.index, f.time) for f in source] == [(2, 0.4), (5, 1.0), (8, 1.6)]
    assert len(source) == 3
    assert len(open_frames(folder, end=100)) == 10
    assert [f.index for f in open_frames(folder, start=9)] == [9]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"stride": 0}, "stride"),
        ({"stride": -1}, "stride"),
        ({"start": 5}, "beyond the end"),
        ({"start": -1}, "selects no frame"),
        ({"start": 3, "end": 3}, "selects no frame"),
        ({"fps": 0}, "fps"),
        ({"fps": float("nan")}, "fps"),
        ({"size": (0, 5)}, "size"),
    ],
)
def test_impossible_selections(tmp_path: Path, selection: dict[str, int], message: str) -> None:
    folder = write_folder(tmp_path)
    with pytest.raises(UsageError, match=message):
        open_frames(folder, **selection)  # type: ignore[arg-type]


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such"):
        open_frames(tmp_path / "none")
    with pytest.raises(UsageError, match="matches"):
        open_frames(str(tmp_path / "*.png"))
    with pytest.raises(TrianflowError, match="found nothing"):
        open_frames(tmp_path)
    (tmp_path / "readme.txt").write_text("x")
    with pytest.raises(TrianflowError, match=r"1 other files \(readme.txt"):
        open_frames(tmp_path)
    (tmp_path / "other.txt").write_text("x")
    with pytest.raises(TrianflowError, match="is an image"):
        open_frames(str(tmp_path / "*.txt"))


def test_single_image_glob_and_single_frame_folder(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "seq[1]", 12)  # a name that looks like a pattern but exists
    assert len(open_frames(folder)) == 12
    write_folder(tmp_path / "seq", 12)
    source = open_frames(str(tmp_path / "seq" / "00000[2-4].*"))
    assert [(f.index, f.name) for f in source] == [(0, "000002.png"), (1, "000003.png"), (2, "000004.png")]
    single = open_frames(tmp_path / "seq" / "000003.png")
    assert [f.name for f in single] == ["000003.png"]
    assert len(open_frames(write_folder(tmp_path / "one", 1))) == 1


@pytest.mark.parametrize("layout", ["image_0", "image_2", "images", "rgb", "data", "image_02/data", "mav0/cam0/data"])
def test_dataset_layouts(tmp_path: Path, layout: str) -> None:
    write_folder(tmp_path / layout, 3)
    Image.fromarray(picture()).save(tmp_path / "trajectory_plot.png")
    source = open_frames(tmp_path)
    assert len(source) == 3
    assert source.path == tmp_path / layout
    assert source.name == tmp_path.name
    assert layout in source.notes[0]


def test_colour_is_preferred_and_unknown_folders_need_a_name(tmp_path: Path) -> None:
    write_folder(tmp_path / "kitti" / "image_0", 3)
    write_folder(tmp_path / "kitti" / "image_2", 3)
    assert open_frames(tmp_path / "kitti").path.name == "image_2"
    write_folder(tmp_path / "own" / "shots", 3)
    assert open_frames(tmp_path / "own").path.name == "shots"
    write_folder(tmp_path / "own" / "more", 3)
    with pytest.raises(TrianflowError, match="but in more, shots; name one"):
        open_frames(tmp_path / "own")


def test_colour_beside_depth_in_one_folder(tmp_path: Path) -> None:
    for i in range(2):
        Image.fromarray(picture(i)).save(tmp_path / f"frame-{i:06d}.color.png")
        cv2.imwrite(str(tmp_path / f"frame-{i:06d}.depth.png"), np.full((HEIGHT, WIDTH), 2000, np.uint16))
    source = open_frames(tmp_path, depth=tmp_path, depth_scale=1000)
    assert [f.name for f in source] == ["frame-000000.color.png", "frame-000001.color.png"]
    assert source.stray == ["frame-000000.depth.png", "frame-000001.depth.png"]
    assert all(f.depth is not None and f.depth[0, 0] == 2.0 for f in source)


@pytest.mark.parametrize(
    ("place", "name", "text"),
    [
        ("images", "times.txt", "10.5\n11.5\n13.5\n"),
        (".", "times.txt", "1.05e+01\n1.15e+01\n1.35e+01\n\n\n"),
        (
            ".",
            "timestamps.txt",
            "2011-09-26 13:02:25.500\n2011-09-26 13:02:26.500\n2011-09-26 13:02:28.500\n",
        ),
        (
            ".",
            "data.csv",
            "#timestamp [ns],filename\n1403636579500000000,a.png\n1403636580500000000,b.png\n"
            "1403636582500000000,c.png\n",
        ),
        (
            ".",
            "rgb.txt",
            "# color images\n# timestamp filename\n10.5 rgb/000000.png\n11.5 rgb/000001.png\n"
            "12.0 rgb/gone.png\n13.5 rgb/000002.png\n",
        ),
    ],
)
def test_times_from_files(tmp_path: Path, place: str, name: str, text: str) -> None:
    write_folder(tmp_path / "images", 3)
    (tmp_path / place / name).write_text(text)
    source = open_frames(tmp_path / "images")
    times = [f.time for f in source]
    np.testing.assert_allclose(np.diff(times), [1, 2], atol=1e-6)
    assert source.notes == []
    assert [f.time for f in open_frames(tmp_path / "images", stride=2)] == times[::2]
    assert [f.time for f in open_frames(tmp_path / "images", fps=1)] == [0, 1, 2]  # asked for, so it wins


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0\n1\n", "2 times for 3 images"),
        ("0\n2\n1\n", "do not rise"),
        ("a\nb\nc\n", "could not convert"),
        ("0\nnan\n1\n", "do not rise"),
    ],
)
def test_times_that_do_not_fit_are_named_and_left(tmp_path: Path, text: str, reason: str) -> None:
    write_folder(tmp_path, 3)
    (tmp_path / "times.txt").write_text(text)
    source = open_frames(tmp_path)
    np.testing.assert_allclose([f.time for f in source], [0, 0.1, 0.2])
    assert "times.txt" in source.notes[0]
    assert reason in source.notes[0]
