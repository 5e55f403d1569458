"""Stacks whose order a list gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trianflow.errors import TrianflowError, UsageError
from trianflow.evaluation.depth_files import DepthImages
from trianflow.evaluation.depth_order import name_stack, read_order

DRIVE = "2011_09_26/2011_09_26_drive_{}_sync/image_02"


def images(names: list[str], named: bool) -> DepthImages:
    return DepthImages(Path("stack.npy"), names, named, lambda index: np.full((1, 1), index, np.float32))


def stack(n: int) -> DepthImages:
    return images([f"#{i}" for i in range(n)], False)


def test_lists_of_both_kinds() -> None:
    truth = images(
        [f"{DRIVE.format('0002')}/000054", f"{DRIVE.format('0002')}/000069", f"{DRIVE.format('0009')}/000069"], True
    )
    for form in ("{}/data/{:010d}.png", "{} {:010d}"):
        order = [
            form.format(DRIVE.format(drive), n) for drive, n in (("0009", 69), ("0002", 69), ("0001", 1), ("0002", 54))
        ]
        named = name_stack(stack(4), order, truth)
        assert list(named.names) == [truth.names[2], truth.names[1], order[2], truth.names[0]]
        assert named.named
    order = ["2011_09_26/2011_09_26_drive_0002_sync 0000000069 l"]
    assert list(name_stack(stack(1), order, truth).names) == [truth.names[1]]
    order = ["2011_09_26/2011_09_26_drive_0002_sync 0000000069 r"]
    assert list(name_stack(stack(1), order, truth).names) == order


def test_names_without_numbers_and_without_folders() -> None:
    named = name_stack(stack(2), ["b.jpg", "somewhere/a.png"], images(["a", "b"], True))
    assert list(named.names) == ["b", "a"]


def test_lists_that_do_not_fit() -> None:
    with pytest.raises(TrianflowError, match=r"stack.npy: 2 images, but its list names 1"):
        name_stack(stack(2), ["a"], images(["a"], True))
    with pytest.raises(TrianflowError, match="could be x/1 or y/1"):
        name_stack(stack(1), ["x y 1"], images(["x/1", "y/1"], True))
    with pytest.raises(UsageError, match=r"nowhere.txt: cannot read"):
        read_order("nowhere.txt")


@pytest.mark.data
def test_the_list_of_eigen(shared_data: Path) -> None:
    theirs = read_order(str(shared_data / "kitti_depth_splits" / "test_files_eigen.txt"))
    ours = read_order("eigen_test")
    truth = images([line.replace(" ", "/") for line in ours], True)
    named = name_stack(stack(697), theirs, truth)
    assert list(named.names) == list(truth.names)
    monodepth = read_order(str(shared_data / "kitti_depth_splits" / "test_files.txt"))
    assert set(name_stack(stack(697), monodepth, truth).names) == set(truth.names)
