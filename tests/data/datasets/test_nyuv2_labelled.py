"""The reader of NYUv2's labelled images."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from trianflow.data.datasets.nyuv2_labelled import open_nyuv2_labelled, read_scenes, scenes_by_split
from trianflow.errors import TrianflowError

COUNT = 5
TRAIN, TEST = [2, 4], [1, 3, 5]  # from 1, as MATLAB counts


def image(number: int) -> np.ndarray:
    """An image in which every pixel tells its row, its column and its number."""
    rows, columns = np.indices((480, 640))
    return np.stack([rows % 256, columns % 256, np.full_like(rows, number)], axis=-1).astype(np.uint8)


def depth(number: int) -> np.ndarray:
    rows, columns = np.indices((480, 640))
    return (1 + number + rows / 1000 + columns / 1e6).astype(np.float32)


def write(folder: Path, splits: bool = True) -> Path:
    """A v7.3 file with a user block of 512 bytes and transposed arrays, as MATLAB writes it."""
    file = folder / "nyu_depth_v2_labeled.mat"
    with h5py.File(file, "w", userblock_size=512) as mat:
        mat["images"] = np.stack([image(i).transpose(2, 1, 0) for i in range(COUNT)])
        mat["depths"] = np.stack([depth(i).T for i in range(COUNT)])
        mat["rawDepths"] = np.stack([depth(i).T for i in range(COUNT)])
        names = [mat.create_dataset(f"#refs#/{i}", data=_text(f"kitchen_{i // 2:04d}")) for i in range(COUNT)]
        references = np.array([[name.ref for name in names]], dtype=object)
        mat.create_dataset("scenes", data=references, dtype=h5py.ref_dtype)
    with open(file, "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(128))
    if splits:
        columns = {"trainNdxs": np.array(TRAIN, np.uint16)[:, None], "testNdxs": np.array(TEST, np.uint16)[:, None]}
        savemat(folder / "splits.mat", columns)
    return file


def _text(text: str) -> np.ndarray:
    return np.array([[ord(c)] for c in text], np.uint16)


def test_images_depth_and_split(tmp_path: Path) -> None:
    write(tmp_path)
    found = open_nyuv2_labelled(tmp_path)
    assert found.problems == ()
    test, train = found.sequences
    assert (test.name, train.name) == ("test", "train")
    assert [frame.image[0, 0, 2] for frame in test.frames] == [0, 2, 4]
    assert [frame.image[0, 0, 2] for frame in train.frames] == [1, 3]
    frames = list(train.frames)
    assert np.array_equal(frames[1].image, image(3))
    assert (frames[1].time, frames[1].name) == (3.0, "nyu_depth_v2_labeled.mat#3")
    assert np.array_equal(train.depth(1), depth(3))
    camera = train.camera
    assert (camera.width, camera.height, camera.distortion) == (640, 480, ())
    assert (camera.fx, camera.fy) == pytest.approx((518.857901, 519.469611), abs=1e-6)
    assert (camera.cx, camera.cy) == pytest.approx((324.582449, 252.736166), abs=1e-6)


def test_the_crop_is_carried_into_the_camera(tmp_path: Path) -> None:
    file = write(tmp_path)
    whole, window = open_nyuv2_labelled(file).sequences[0], open_nyuv2_labelled(file, crop=True).sequences[0]
    frame, true_depth = next(iter(window.frames)), window.depth(0)
    assert true_depth is not None
    assert frame.image.shape == (427, 561, 3)
    assert true_depth.shape == (427, 561)
    # row 45 and column 41, counted from 1
    assert frame.image[0, 0, :2].tolist() == [44, 40]
    assert frame.image[-1, -1, :2].tolist() == [470 % 256, 600 % 256]
    assert true_depth[0, 0] == depth(0)[44, 40]
    assert (whole.camera.cx - window.camera.cx, whole.camera.cy - window.camera.cy) == (40, 44)
    assert (window.camera.width, window.camera.height, window.camera.fx) == (561, 427, whole.camera.fx)


def test_it_pickles_and_can_be_read_twice(tmp_path: Path) -> None:
    write(tmp_path)
    sequence = pickle.loads(pickle.dumps(open_nyuv2_labelled(tmp_path).sequences[0]))
    assert len(list(sequence.frames)) == len(list(sequence.frames)) == len(sequence) == 3
    assert np.array_equal(next(sequence.frames.select([2])).image, image(4))


def test_files_are_named_by_their_number_in_the_file(tmp_path: Path) -> None:
    file = write(tmp_path)
    test, train = open_nyuv2_labelled(tmp_path).sequences
    assert train.listed(1) == (Path(f"{file}#3"), 3.0)
    assert test.listed(2) == (Path(f"{file}#4"), 4.0)


def test_other_files_beside_it_are_noted(tmp_path: Path) -> None:
    file = write(tmp_path)
    (tmp_path / "thesis.pdf").write_bytes(b"x")
    found = open_nyuv2_labelled(tmp_path)
    assert found.problems == ()
    assert found.notes == (
        f"{tmp_path}: left out thesis.pdf: no files of the labelled images; remove what does not belong there",
    )
    assert open_nyuv2_labelled(file).notes == (), "it was named itself"


def test_scenes(tmp_path: Path) -> None:
    assert read_scenes(write(tmp_path)) == [f"kitchen_{i:04d}" for i in (0, 0, 1, 1, 2)]


def test_scenes_by_split(tmp_path: Path) -> None:
    file = write(tmp_path)
    # images 1 3 5 are for testing and in scenes 0 1 2, so that the others of scenes 0 and 1 are not for training
    assert scenes_by_split(file) == {"train": [], "test": ["kitchen_0000", "kitchen_0001", "kitchen_0002"]}
    savemat(tmp_path / "splits.mat", {"trainNdxs": [1, 2, 3, 4], "testNdxs": [5]})
    assert scenes_by_split(tmp_path) == {"train": ["kitchen_0000", "kitchen_0001"], "test": ["kitchen_0002"]}
    (tmp_path / "splits.mat").unlink()
    with pytest.raises(TrianflowError, match=r"splits\.mat: missing"):
        scenes_by_split(tmp_path)
    with h5py.File(file, "r+") as mat:
        del mat["scenes"]
    with pytest.raises(TrianflowError, match="names of the scenes cannot be read"):
        scenes_by_split(tmp_path)


def test_unknown_depth_is_zero(tmp_path: Path) -> None:
    with h5py.File(write(tmp_path), "r+") as mat:
        mat["depths"][0, 3, 2] = np.nan
        mat["depths"][0, 4, 2] = -1
    found = open_nyuv2_labelled(tmp_path).sequences[0].depth(0)
    assert found is not None
    assert (found[2, 3], found[2, 4]) == (0, 0)
    assert (found > 0).sum() == 640 * 480 - 2


def test_without_or_with_a_bad_split(tmp_path: Path) -> None:
    write(tmp_path, splits=False)
    found = open_nyuv2_labelled(tmp_path)
    assert [(s.name, len(s)) for s in found.sequences] == [("all", COUNT)]
    assert "splits.mat: missing, so train and test images are not told apart; download it" in found.problems[0]
    (tmp_path / "splits.mat").write_bytes(b"junk")
    assert "splits.mat: not a readable MATLAB 5 file" in open_nyuv2_labelled(tmp_path).problems[0]
    savemat(tmp_path / "splits.mat", {"trainNdxs": [1]})
    assert "splits.mat: it has no testNdxs" in open_nyuv2_labelled(tmp_path).problems[0]
    savemat(tmp_path / "splits.mat", {"trainNdxs": [1], "testNdxs": [2, 6]})
    assert "it names image 6, but nyu_depth_v2_labeled.mat has 1 to 5" in open_nyuv2_labelled(tmp_path).problems[0]


def test_nested_folder(tmp_path: Path) -> None:
    (tmp_path / "nyu" / "labelled").mkdir(parents=True)
    write(tmp_path / "nyu" / "labelled")
    assert len(open_nyuv2_labelled(tmp_path).sequences) == 2


def test_files_that_are_not_what_they_should_be(tmp_path: Path) -> None:
    with pytest.raises(TrianflowError, match=r"expected nyu_depth_v2_labeled\.mat and splits\.mat"):
        open_nyuv2_labelled(tmp_path)
    (tmp_path / "nyu.zip").write_bytes(b"PK")
    with pytest.raises(TrianflowError, match=r"nyu\.zip: an archive that is not unpacked"):
        open_nyuv2_labelled(tmp_path)
    file = write(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(TrianflowError, match=r"labeled\.mat: truncated .*; download it again"):
        open_nyuv2_labelled(tmp_path)
    savemat(file, {"images": np.zeros(3)})
    with pytest.raises(TrianflowError, match=r"not a MATLAB 7\.3 \(HDF5\) file"):
        open_nyuv2_labelled(tmp_path)
    with h5py.File(file, "w") as mat:
        mat["images"] = np.zeros((2, 480, 640, 3), np.uint8)
    with pytest.raises(TrianflowError, match="no images and depths in it but only images"):
        open_nyuv2_labelled(tmp_path)
    with h5py.File(file, "r+") as mat:
        mat["depths"] = np.zeros((2, 480, 640), np.float32)
    with pytest.raises(TrianflowError, match=r"expected \(N, 3, 640, 480\)"):
        open_nyuv2_labelled(tmp_path)
