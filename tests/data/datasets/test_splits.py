"""Splits of KITTI and NYUv2."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy.io import savemat

from trianflow.data.datasets.interface import DatasetContent, DatasetSequence
from trianflow.data.datasets.kitti_odometry import open_kitti_odometry
from trianflow.data.datasets.kitti_raw import open_kitti_raw
from trianflow.data.datasets.nyuv2_raw import open_nyuv2_raw
from trianflow.data.datasets.splits import (
    ODOMETRY_TEST,
    ODOMETRY_TRAIN,
    choose_frames,
    eigen_test,
    eigen_test_numbers,
    eigen_train,
    nyuv2_raw_test,
    nyuv2_raw_train,
    nyuv2_test,
    nyuv2_train,
    odometry_test,
    odometry_train,
    static_numbers,
    take_split,
)
from trianflow.data.images import ImageFolder
from trianflow.errors import TrianflowError, UsageError
from trianflow.geometry.camera import Camera

from . import test_nyuv2_labelled as labelled
from .kitti_trees import write_drive, write_odometry
from .test_nyuv2_raw import write_scene

TEST_DRIVE = "2011_09_26_drive_0048_sync"  # its test frames are 0 to 21
TRAIN_DRIVE = "2011_09_26_drive_0017_sync"


def test_the_sizes_of_the_lists() -> None:
    assert len(eigen_test_numbers()) == 28
    assert sum(map(len, eigen_test_numbers().values())) == 697
    assert sum(map(len, static_numbers().values())) == 8044
    assert [*ODOMETRY_TRAIN, *ODOMETRY_TEST] == [f"{i:02d}" for i in range(11)]
    assert len(ODOMETRY_TEST) == 2


@pytest.mark.data
def test_the_lists_are_the_published_ones(shared_data: Path) -> None:
    folder = shared_data / "kitti_depth_splits"
    ours = [
        f"{drive[:10]}/{drive}/image_02/data/{number:010d}.png"
        for drive, numbers in eigen_test_numbers().items()
        for number in numbers
    ]
    assert ours == (folder / "test_files_eigen.txt").read_text().split()
    scenes = (folder / "test_scenes.txt").read_text().split()
    assert {f"{scene}_sync" for scene in scenes} == set(eigen_test_numbers())
    static = {f"{d} {n:010d}" for d, numbers in static_numbers().items() for n in numbers}
    published = [line.split() for line in (folder / "static_frames.txt").read_text().splitlines()]
    assert static == {f"{drive} {number}" for _, drive, number in published}


def test_eigen_test_has_the_order_of_the_list_and_names_what_is_missing(tmp_path: Path) -> None:
    write_drive(tmp_path, "2011_09_26_drive_0052_sync", numbers=(2, 14, 36, 46, 47))
    name = "2011_09_26/2011_09_26_drive_0052_sync/image_02"
    split = eigen_test(open_kitti_raw(tmp_path))
    assert split.frames == ((name, 44), (name, 12), (name, 34), (name, 0))  # numbers 46, 14, 36, 2; the first is 2
    assert len(split.missing) == 28
    (line,) = (line for line in split.missing if line.startswith(name))
    assert line.startswith(f"{name}: 21 of 25 test frames (0, 4, 6, 8, 10, 12, ...)")
    write_drive(tmp_path / "whole", TEST_DRIVE, count=22)
    split = eigen_test(open_kitti_raw(tmp_path / "whole"))
    assert [index for _, index in split.frames] == list(range(22))
    assert len(split.missing) == 27


def test_eigen_train_leaves_out_test_drives_and_standing_cars(tmp_path: Path) -> None:
    static = sorted(static_numbers()[TRAIN_DRIVE])
    moving = [n for n in range(max(static)) if n not in static]
    taken = sorted([*static[:3], *moving[:3]])
    write_drive(tmp_path, TRAIN_DRIVE, numbers=tuple(taken))
    write_drive(tmp_path, TEST_DRIVE)
    split = eigen_train(open_kitti_raw(tmp_path))
    expected = [n - taken[0] for n in moving[:3]]
    names = [f"2011_09_26/{TRAIN_DRIVE}/image_0{camera}" for camera in (2, 3)]
    assert split.frames == tuple((name, index) for name in names for index in expected)
    gaps = taken[-1] + 1 - len(taken)
    assert [line.split(" (")[0] for line in split.missing] == (
        [f"{name}: {gaps} of {taken[-1] + 1} frames" for name in names] if gaps else []
    )


def test_odometry(tmp_path: Path) -> None:
    write_odometry(tmp_path, ("00", "09", "10", "11"), scans=False)
    (tmp_path / "sequences/09/image_2/000002.png").unlink()
    content = open_kitti_odometry(tmp_path)
    train, test = odometry_train(content), odometry_test(content)
    assert train.frames == tuple(("00", i) for i in range(6))
    assert train.missing[:2] == (
        "00: 4535 of 4541 frames (6-4540)",
        "01: the sequence with all of its 1101 frames",
    )
    assert take_split("odometry_train", content) == train
    with pytest.raises(
        UsageError, match="no split is called 'zhou'; there are eigen_train, eigen_test, odometry_train"
    ):
        take_split("zhou", content)
    assert test.frames == (
        *(("09", i) for i in (0, 1, 3, 4, 5)),
        *(("10", i) for i in range(6)),
    )  # 09 lacks its number 2
    every_second = choose_frames(content, "odometry_test", stride=2)
    assert every_second.frames == (("09", 0), ("09", 4), ("10", 0), ("10", 2), ("10", 4))
    assert every_second.missing == test.missing
    assert test.missing == ("09: 1586 of 1591 frames (2, 6-1590)", "10: 1195 of 1201 frames (6-1200)")


def test_nyuv2(tmp_path: Path) -> None:
    source = ImageFolder(tmp_path, [tmp_path / "x"] * 654, name="", start=0, end=None, stride=1, fps=1.0, stray=[])
    camera = Camera(500.0, 500.0, 320.0, 240.0)
    content = DatasetContent((DatasetSequence("test", source, camera),))
    assert nyuv2_test(content).frames == tuple(("test", i) for i in range(654))
    assert nyuv2_test(content).missing == ()
    assert take_split("nyuv2_train", content).missing == ("train: 795 of 795 images",)
    with pytest.raises(UsageError, match="all: not the labelled images of NYUv2"):
        nyuv2_train(DatasetContent((DatasetSequence("all", source, camera),)))


def test_a_split_of_another_dataset(tmp_path: Path) -> None:
    write_odometry(tmp_path, scans=False)
    with pytest.raises(UsageError, match="00: no sequence of KITTI raw"):
        eigen_test(open_kitti_odometry(tmp_path))
    write_drive(tmp_path / "raw")
    with pytest.raises(UsageError, match="no sequence of KITTI odometry"):
        odometry_test(open_kitti_raw(tmp_path / "raw"))
    assert eigen_train(DatasetContent(())).frames == ()


def test_a_stride_goes_by_the_numbers_of_the_files(tmp_path: Path) -> None:
    write_drive(tmp_path, numbers=(3, 4, 5, 6))
    content = open_kitti_raw(tmp_path, (2,))
    name = content.sequences[0].name
    assert choose_frames(content).frames == tuple((name, index) for index in range(4))
    assert choose_frames(content, stride=3).frames == ((name, 0), (name, 3))


def test_raw_scenes_go_by_the_labelled_images(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for name in ("kitchen_0000", "kitchen_0001a", "kitchen_0001b", "office_0007"):
        write_scene(raw / "part1" / name, [0.0, 0.1], [0.0, 0.1])
    content = open_nyuv2_raw(raw)
    with pytest.raises(TrianflowError, match=r"raw: neither in it nor beside it is nyu_depth_v2_labeled\.mat"):
        nyuv2_raw_train(content)
    (tmp_path / "labelled").mkdir()
    labelled.write(tmp_path / "labelled")  # two images each in kitchen_0000 and kitchen_0001, one in kitchen_0002
    savemat(tmp_path / "labelled" / "splits.mat", {"trainNdxs": [1, 2, 5], "testNdxs": [3, 4]})
    train, test = nyuv2_raw_train(content), nyuv2_raw_test(content)
    assert train.frames == tuple((f"part1/{name}", i) for name in ("kitchen_0000", "office_0007") for i in (0, 1))
    assert train.missing == ("kitchen_0002: the scene with all of its frames",)
    assert test.frames == tuple((f"part1/kitchen_0001{part}", i) for part in "ab" for i in (0, 1))
    assert test.missing == ()
    write_odometry(tmp_path, scans=False)
    with pytest.raises(UsageError, match="00: no scene of NYUv2's raw distribution"):
        nyuv2_raw_test(open_kitti_odometry(tmp_path))
