"""Frames from folders, globs and videos: order, times, damage, depth, and the thread that reads ahead."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from trianflow.data.decoding import UnreadableImage, decode_image
from trianflow.data.depth import read_depth
from trianflow.data.frames import Frame, open_frames
from trianflow.data.images import natural_key
from trianflow.data.prefetch import prefetched
from trianflow.errors import TrianflowError, UsageError

WIDTH, HEIGHT = 64, 48


def picture(seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A smooth random RGB image: compressible, and different for every seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def write_folder(folder: Path, number: int = 5, suffix: str = ".png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        Image.fromarray(picture(i)).save(folder / f"{i:06d}{suffix}")
    return folder


def write_video(
    path: Path, number: int = 30, fps: float = 20.0, size: tuple[int, int] = (WIDTH, HEIGHT)
) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
    assert writer.isOpened()
    for i in range(number):
        writer.write(np.full((size[1], size[0], 3), 8 * i, np.uint8) + picture(i % 3, *size) // 16)
    writer.release()
    return path


def boxes(data: bytes) -> dict[bytes, tuple[int, int]]:
    """Top-level boxes of an MP4 file: name to (start, end)."""
    found, at = {}, 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        found[data[at + 4 : at + 8]] = (at, at + length)
        at += length
    return found


def index_first(data: bytes) -> bytes:
    """The same MP4 with its index before the pictures ("fast start"), as streaming services write it."""
    place = boxes(data)
    (moov, moov_end), (mdat, _) = place[b"moov"], place[b"mdat"]
    index = bytearray(data[moov:moov_end])
    at = index.find(b"stco")
    for i in range(int.from_bytes(index[at + 8 : at + 12], "big")):
        spot = slice(at + 12 + 4 * i, at + 16 + 4 * i)
        index[spot] = (int.from_bytes(index[spot], "big") + len(index)).to_bytes(4, "big")
    return data[:mdat] + bytes(index) + data[mdat:moov]


def reading_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "trianflow-frames"]


# --- folders ------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    "layout", ["image_0", "image_2", "images", "rgb", "data", "image_02/data", "mav0/cam0/data"]
)
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


# --- times --------------------------------------------------------------------------------------------------


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


# --- images of every kind -----------------------------------------------------------------------------------


def test_kinds_of_images(tmp_path: Path) -> None:
    rgb = picture()
    grey = rgb[..., 0]
    alpha = np.dstack([rgb, 255 - grey])
    Image.fromarray(rgb).save(tmp_path / "a_colour.png")
    Image.fromarray(alpha).save(tmp_path / "b_alpha.png")
    Image.fromarray(grey).save(tmp_path / "c_grey.png")
    palette = Image.fromarray(rgb).quantize(16)
    palette.save(tmp_path / "d_palette.png")
    Image.fromarray(rgb).save(tmp_path / "e.bmp")
    Image.fromarray(rgb).save(tmp_path / "f.ppm")
    Image.fromarray(grey).save(tmp_path / "g.pgm")
    Image.fromarray(rgb).save(tmp_path / "h.tif")
    Image.fromarray(rgb).save(tmp_path / "i.webp", lossless=True)
    Image.fromarray(rgb).save(tmp_path / "j.JPG", quality=98)
    Image.fromarray(grey > 128).save(tmp_path / "k_bits.png")
    images = {f.name[0]: f.image for f in open_frames(tmp_path)}
    for name in "abefhi":
        np.testing.assert_array_equal(images[name], rgb, err_msg=name)
    for name in "cg":
        np.testing.assert_array_equal(images[name], grey, err_msg=name)
    np.testing.assert_array_equal(images["d"], np.asarray(palette.convert("RGB")))
    assert images["j"] is not None
    assert np.abs(images["j"].astype(int) - rgb).mean() < 4
    assert images["k"] is not None
    assert set(np.unique(images["k"])) == {0, 255}


def test_orientation_tag_is_honoured(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture()).save(tmp_path / "turned.jpg", exif=exif)
    assert open_frames(tmp_path).first_image_size() == (HEIGHT, WIDTH)


@pytest.mark.parametrize(("largest", "shift"), [(200, 0), (1000, 2), (4095, 4), (16000, 6), (65535, 8)])
def test_16_bits_become_8_by_one_shift(tmp_path: Path, largest: int, shift: int) -> None:
    ramp = np.linspace(0, largest, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH).astype(np.uint16)
    for i, values in enumerate((ramp // 8, ramp, ramp // 2)):  # a dark first frame must not decide alone
        cv2.imwrite(str(tmp_path / f"{i}.png"), values)
    frames = list(open_frames(tmp_path))
    for frame, values in zip(frames, (ramp // 8, ramp, ramp // 2)):
        assert frame.image is not None
        assert frame.image.dtype == np.uint8
        np.testing.assert_array_equal(frame.image, values >> shift)
    last = next(iter(open_frames(tmp_path, start=2)))  # the selection does not change the rule
    np.testing.assert_array_equal(last.image, ramp // 2 >> shift)


def test_16_bit_colour(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), picture()[..., ::-1].astype(np.uint16) * 257)
    image = next(iter(open_frames(tmp_path))).image
    np.testing.assert_array_equal(image, picture())


# --- damage -------------------------------------------------------------------------------------------------


def test_damaged_files_are_frames_with_a_problem(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path, 12)
    whole = (folder / "000001.png").read_bytes()
    (folder / "000001.png").write_bytes(whole[: len(whole) // 2])
    (folder / "000002.png").write_bytes(b"")
    (folder / "000003.png").write_text("this is a text file\n")
    Image.fromarray(picture(3, 32, 24)).save(folder / "000004.png")
    (folder / "000005.png").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 0xFF
    (folder / "000006.png").write_bytes(broken)
    (folder / "000007.png").write_bytes(whole[:-6])
    (folder / "000008.png").write_bytes(bytes(1000))
    (folder / "000009.png").write_bytes(bytes(range(128, 256)) * 8)
    cv2.imwrite(str(folder / "000010.tif"), picture().astype(np.float32))
    (folder / "000010.png").unlink()
    frames = {f.index: f for f in open_frames(folder)}
    assert len(frames) == 12
    expected = {1: "truncated PNG", 2: "empty", 3: "text file", 4: "size 32x24 differs from 64x48", 5: "LFS",
                6: "checksum", 7: "truncated", 8: "zero bytes", 9: "not an image", 10: "float32"}  # fmt: skip
    for index, problem in expected.items():
        assert frames[index].image is None, index
        assert problem in frames[index].problem
        assert "\n" not in frames[index].problem
    for index in (0, 11):
        assert frames[index].image is not None
        assert frames[index].problem == ""
    captured = capfd.readouterr()
    assert captured.err == ""  # neither OpenCV nor libpng says anything
    assert captured.out == ""


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("keep", [0.02, 0.3, 0.7, 0.99, -2, -1])
def test_truncated_jpeg_is_no_half_grey_picture(tmp_path: Path, progressive: bool, keep: float) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x010E] = "thumbnail end marker \xff\xd9 inside"
    Image.fromarray(picture(0, 320, 240)).save(
        path, progressive=progressive, exif=exif, restart_marker_blocks=4
    )
    data = path.read_bytes()
    assert decode_image(data).shape == (240, 320, 3)
    assert decode_image(data + b"trailer of a phone").shape == (240, 320, 3)
    cut = int(len(data) * keep) if keep > 0 else len(data) + int(keep)
    with pytest.raises(UnreadableImage, match="JPEG"):
        decode_image(data[:cut])


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".ppm", ".jpg"])
def test_cut_anywhere_is_a_reason_or_the_whole_picture(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(picture()).save(path)
    data = path.read_bytes()
    whole = decode_image(data)
    for cut in np.linspace(0, len(data) - 1, 60).astype(int):
        try:
            image = decode_image(data[:cut])
        except UnreadableImage:
            continue
        np.testing.assert_array_equal(image, whole)


def test_nothing_readable(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(TrianflowError, match=r"not one frame can be read \(a.png: .*empty"):
        open_frames(tmp_path).first_image_size()


def test_given_size(tmp_path: Path) -> None:
    frame = next(iter(open_frames(write_folder(tmp_path), size=(10, 10))))
    assert frame.problem == "size 64x48 differs from 10x10"


def test_opencv_log_level_is_put_back(tmp_path: Path) -> None:
    before = cv2.utils.logging.getLogLevel()
    list(open_frames(write_folder(tmp_path)))
    assert cv2.utils.logging.getLogLevel() == before


# --- video --------------------------------------------------------------------------------------------------


def test_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "drive.mp4")
    source = open_frames(path)
    assert (source.kind, source.name, len(source)) == ("video", "drive.mp4", 30)
    assert source.first_image_size() == (WIDTH, HEIGHT)
    frames = list(source)
    assert [f.index for f in frames] == list(range(30))
    np.testing.assert_allclose([f.time for f in frames], np.arange(30) / 20, atol=1e-6)
    assert frames[12].name == "drive.mp4#12"
    level = [float(f.image.mean()) for f in frames if f.image is not None]
    np.testing.assert_allclose(np.diff(level), 8, atol=4)  # every frame once, in order
    assert source.notes == []
    part = list(open_frames(path, start=5, end=20, stride=5))
    assert [f.index for f in part] == [5, 10, 15]
    for frame in part:
        np.testing.assert_array_equal(frame.image, frames[frame.index].image)
        assert frame.time == frames[frame.index].time
    assert [f.time for f in open_frames(path, fps=10, stride=15)] == [0, 1.5]
    with pytest.raises(UsageError, match="beyond the end"):
        open_frames(path, start=30)


def test_video_colour_is_rgb(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "red.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(3):
        writer.write(np.full((48, 64, 3), (0, 0, 255), np.uint8))
    writer.release()
    frames = list(open_frames(tmp_path / "red.avi"))
    assert len(frames) == 3
    for frame in frames:
        assert frame.image is not None
        assert frame.image[..., 0].mean() > 200
        assert frame.image[..., 2].mean() < 50
    assert np.all(np.diff([f.time for f in frames]) > 0)


def test_truncated_video_gives_what_is_there(tmp_path: Path) -> None:
    data = index_first(write_video(tmp_path / "a.mp4").read_bytes())
    (tmp_path / "whole.mp4").write_bytes(data)
    assert len(list(open_frames(tmp_path / "whole.mp4"))) == 30
    place = boxes(data)[b"mdat"]
    (tmp_path / "cut.mp4").write_bytes(data[: place[0] + (place[1] - place[0]) // 2])
    source = open_frames(tmp_path / "cut.mp4")
    for _ in range(2):
        read = list(source)
        assert 3 < len(read) < 30
        assert len(source.notes) == 1
        assert f"promises 30 frames but {len(read)} could be read" in source.notes[0]
    late = open_frames(tmp_path / "cut.mp4", start=29)
    with pytest.raises(TrianflowError, match="before --start 29"):
        list(late)


def test_video_that_does_not_know_its_length(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4").rename(
        tmp_path / "a.mpg"
    )  # FFmpeg goes by content, we by the name
    source = open_frames(path)
    assert source.length is None
    assert source
    with pytest.raises(TypeError):
        len(source)
    assert len(list(source)) == 30
    assert [f.index for f in open_frames(path, start=29)] == [29]
    with pytest.raises(TrianflowError, match="ends after 30 frames, before --start 30"):
        list(open_frames(path, start=30))


def test_video_without_its_index(tmp_path: Path) -> None:
    data = write_video(tmp_path / "a.mp4").read_bytes()
    assert boxes(data)[b"moov"][0] > boxes(data)[b"mdat"][0]
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(TrianflowError, match=r"cut short.*moov"):
        open_frames(tmp_path / "cut.mp4")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"hello world\n" * 50, "text file"),
        (b"\0\1\2\3" * 500, "ffmpeg -i"),
        (b"#EXTM3U\n", "text file"),
    ],
)
def test_files_that_are_no_video(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(TrianflowError, match=message):
        open_frames(tmp_path / "a.mp4")


# --- depth --------------------------------------------------------------------------------------------------


def write_depth(path: Path, value: int = 5000, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    depth = np.full(size, value, np.uint16)
    depth[0, :3] = (0, 65535, 1)
    cv2.imwrite(str(path), depth)


def test_depth_by_order(tmp_path: Path) -> None:
    images = write_folder(tmp_path / "rgb", 3)
    (tmp_path / "depth").mkdir()
    for i in range(3):
        write_depth(tmp_path / "depth" / f"d{i}.png", 5000 * (i + 1))
    frames = list(open_frames(images, depth=tmp_path / "depth", depth_scale=5000))
    for i, frame in enumerate(frames):
        assert frame.depth is not None
        assert frame.depth.dtype == np.float32
        assert frame.depth[5, 5] == i + 1
        np.testing.assert_allclose(frame.depth[0, :3], [0, 0, 1 / 5000])
    strided = list(open_frames(images, depth=tmp_path / "depth", depth_scale=5000, start=2))
    assert strided[0].depth is not None
    assert strided[0].depth[5, 5] == 3


def test_depth_by_name_and_by_time(tmp_path: Path) -> None:
    images = write_folder(tmp_path / "rgb", 3)
    (tmp_path / "depth").mkdir()
    for i in (0, 2):
        write_depth(tmp_path / "depth" / f"{i:06d}.png", 5000 * (i + 1))
    source = open_frames(images, depth=tmp_path / "depth", depth_scale=5000)
    depths = [None if f.depth is None else f.depth[5, 5] for f in source]
    assert depths == [1, None, 3]
    assert "depth for 2 of 3 images" in source.notes[0]
    assert "000001.png" in source.notes[0]

    (tmp_path / "tum").mkdir()
    (tmp_path / "tum_depth").mkdir()
    for i in range(3):
        Image.fromarray(picture(i)).save(tmp_path / "tum" / f"1305031102.{100000 * (i + 1)}.png")
    for i in range(4):
        write_depth(tmp_path / "tum_depth" / f"1305031102.{100000 * (i + 1) + 15000}.png", 1000 * (i + 1))
    source = open_frames(tmp_path / "tum", depth=tmp_path / "tum_depth", depth_scale=1000)
    assert [None if f.depth is None else f.depth[5, 5] for f in source] == [1, 2, 3]


def test_depth_in_npy_needs_no_scale(tmp_path: Path) -> None:
    images = write_folder(tmp_path / "rgb", 1)
    (tmp_path / "depth").mkdir()
    depth = np.full((HEIGHT, WIDTH), 2.5)
    depth[0, :4] = (np.nan, np.inf, -1, 0)
    np.save(tmp_path / "depth" / "0.npy", depth)
    (frame,) = open_frames(images, depth=tmp_path / "depth")
    assert frame.depth is not None
    np.testing.assert_array_equal(frame.depth[0, :5], [0, 0, 0, 0, 2.5])


def test_unusable_depth_is_none_with_a_note(tmp_path: Path) -> None:
    images = write_folder(tmp_path / "rgb", 5)
    folder = tmp_path / "depth"
    folder.mkdir()
    for i in range(5):
        write_depth(folder / f"{i}.png")
    write_depth(folder / "1.png", size=(24, 32))
    (folder / "2.png").write_bytes((folder / "0.png").read_bytes()[:60])
    cv2.imwrite(str(folder / "3.png"), np.full((HEIGHT, WIDTH), 9, np.uint8))
    source = open_frames(images, depth=folder, depth_scale=1000)
    frames = list(source)
    assert [f.depth is not None for f in frames] == [True, False, False, False, True]
    assert all(f.image is not None and not f.problem for f in frames)
    assert source.notes == ["no depth for 3 frames, the first: 1.png: 32x24, but the image is 64x48"]


def test_depth_that_cannot_be(tmp_path: Path) -> None:
    images = write_folder(tmp_path / "rgb", 3)
    folder = tmp_path / "depth"
    with pytest.raises(UsageError, match="no such folder"):
        open_frames(images, depth=folder)
    folder.mkdir()
    with pytest.raises(TrianflowError, match="no depth files"):
        open_frames(images, depth=folder)
    write_depth(folder / "x.png")
    with pytest.raises(
        TrianflowError, match=r"1 depth files for 3 images, none named like 000000.png; .* x.png"
    ):
        open_frames(images, depth=folder)
    write_depth(folder / "000001.png")
    with pytest.raises(UsageError, match=r"--depth-scale \(KITTI 256, TUM 5000"):
        open_frames(images, depth=folder)
    with pytest.raises(UsageError, match="positive"):
        open_frames(images, depth=folder, depth_scale=-1)
    with pytest.raises(TrianflowError, match="3 frames"):
        open_frames(write_video(tmp_path / "v.mp4", 3), depth=folder, depth_scale=1)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"text"])
def test_damaged_npy(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(UnreadableImage):
        read_depth(tmp_path / "a.npy")


# --- the thread ---------------------------------------------------------------------------------------------


def test_thread_ends_with_the_iteration(tmp_path: Path) -> None:
    source = open_frames(write_folder(tmp_path, 20))
    assert len(list(source)) == 20
    assert not reading_threads()
    for frame in source:
        assert frame.index == 0
        break
    assert not reading_threads()
    iterator = iter(source)
    next(iterator)
    assert len(reading_threads()) == 1
    iterator.close()  # type: ignore[attr-defined]
    assert not reading_threads()
    with pytest.raises(ZeroDivisionError):
        [1 / frame.index for frame in source]
    assert not reading_threads()


def test_video_is_released_on_an_early_stop(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    started = time.perf_counter()
    for _ in range(5):
        for _ in open_frames(path):
            break
    assert not reading_threads()
    assert time.perf_counter() - started < 5


def test_errors_arrive_in_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_frames(write_folder(tmp_path, 5))

    def broken(indices: Iterable[int]) -> Iterator[Frame]:
        yield Frame(0, 0.0, None, problem="x")
        yield Frame(1, 0.0, None, problem="x")
        raise MemoryError("planted")

    monkeypatch.setattr(source, "_read", broken)
    iterator = iter(source)
    assert [next(iterator).index for _ in range(2)] == [0, 1]
    with pytest.raises(MemoryError, match="planted"):
        next(iterator)
    assert not reading_threads()


def test_reading_ahead_is_bounded_and_overlaps() -> None:
    made: list[int] = []
    closed = threading.Event()

    def slow() -> Iterator[int]:
        try:
            for i in range(50):
                made.append(i)
                yield i
        finally:
            closed.set()

    items = prefetched(slow(), ahead=2)
    assert not made  # nothing runs before it is asked for
    assert next(items) == 0
    time.sleep(0.3)
    assert 3 <= len(made) <= 4  # two wait, one is in hand
    items.close()  # type: ignore[attr-defined]
    assert closed.wait(1)
    assert len(made) <= 5


# --- real data ----------------------------------------------------------------------------------------------


@pytest.mark.data
def test_shared_video(shared_data: Path) -> None:
    source = open_frames(shared_data / "video_malaga_120.mp4")
    assert source.first_image_size() == (800, 600)
    times = [f.time for f in source if f.image is not None]
    assert len(times) == 120
    np.testing.assert_allclose(np.diff(times), 0.05, atol=1e-6)


@pytest.mark.data
def test_shared_rgbd_folder(shared_data: Path) -> None:
    folder = shared_data / "tum_fr1_desk_9frames"
    source = open_frames(folder, depth=folder / "depth", depth_scale=5000)
    frames = list(source)
    assert len(frames) == 9
    assert frames[0].time == pytest.approx(1305031453.359684, abs=1e-6)
    for frame in frames:
        assert frame.image is not None
        assert frame.depth is not None
        known = frame.depth[frame.depth > 0]
        assert 0.3 < np.median(known) < 5
