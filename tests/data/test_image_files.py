"""Images of every kind, and damaged ones: a whole picture, or a reason."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.data.frame_files import HEIGHT, WIDTH, picture, write_folder
from trianflow.data.decoding import UnreadableImage, decode_image
from trianflow.data.frames import open_frames
from trianflow.errors import TrianflowError


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
    Image.fromarray(picture(0, 320, 240)).save(path, progressive=progressive, exif=exif, restart_marker_blocks=4)
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
