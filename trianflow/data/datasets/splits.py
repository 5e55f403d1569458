"""Which frames of KITTI and NYUv2 are for training and which for testing."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from trianflow.data.datasets.interface import DatasetContent
from trianflow.data.datasets.kitti_files import KittiSequence, ranges
from trianflow.data.datasets.nyuv2_labelled import LABELLED, scenes_by_split
from trianflow.data.datasets.nyuv2_raw import RawScene
from trianflow.data.datasets.scanning import find_folders
from trianflow.errors import TrianflowError, UsageError

ODOMETRY_LENGTHS = {  # frames of the sequences with poses
    **{"00": 4541, "01": 1101, "02": 4661, "03": 801, "04": 271, "05": 2761, "06": 1101, "07": 1101, "08": 4071},
    **{"09": 1591, "10": 1201},
}
NYUV2_LENGTHS = {"train": 795, "test": 654}  # labelled images
ODOMETRY_TRAIN = tuple(list(ODOMETRY_LENGTHS)[:9])
ODOMETRY_TEST = tuple(list(ODOMETRY_LENGTHS)[9:])


@dataclass(frozen=True)
class Split:
    """Frames of a dataset.

    Attributes:
        frames: name of the sequence and index of the frame in it (from 0, not always the number in its file name).
        missing: what belongs to the split and is not in the dataset, one line for each sequence.
    """

    frames: tuple[tuple[str, int], ...]
    missing: tuple[str, ...]


def choose_frames(content: DatasetContent, split: str | None = None, stride: int = 1) -> Split:
    """The frames of a split, or all; of these the ones whose number is a multiple of the stride.

    Raises:
        UsageError: as of `take_split`.
        TrianflowError: as of `nyuv2_raw_train`.
    """
    if split is None:
        chosen = Split(tuple((s.name, index) for s in content.sequences for index in range(len(s))), ())
    else:
        chosen = take_split(split, content)
    sequences = {sequence.name: sequence for sequence in content.sequences}
    frames = ((name, index) for name, index in chosen.frames if sequences[name].number(index) % stride == 0)
    return Split(tuple(frames), chosen.missing)


def take_split(name: str, content: DatasetContent) -> Split:
    """The frames of the split of a name, one of `SPLITS`.

    Raises:
        UsageError: no such split, or one of another dataset.
        TrianflowError: as of `nyuv2_raw_train`.
    """
    if name not in SPLITS:
        raise UsageError(f"no split is called {name!r}; there are {', '.join(SPLITS)}")
    return SPLITS[name](content)


def eigen_test(content: DatasetContent) -> Split:
    """The 697 test frames of Eigen's split, left colour camera, in the order of the list.

    Predictions and truth of others, which are stored as one array, have this order.

    Args:
        content: of KITTI raw.

    Raises:
        UsageError: a dataset of another kind; so do the other functions here.
    """
    sequences = {sequence.name: sequence for sequence in _kitti(content, raw=True)}
    frames: list[tuple[str, int]] = []
    missing = []
    for drive, numbers in eigen_test_numbers().items():
        name = f"{drive[:10]}/{drive}/image_02"
        present = {number: index for index, number in _frames(sequences[name])} if name in sequences else {}
        frames += [(name, present[number]) for number in numbers if number in present]
        absent = sorted(set(numbers) - present.keys())
        if absent:
            missing.append(f"{name}: {len(absent)} of {len(numbers)} test frames ({ranges(absent)})")
    return Split(tuple(frames), tuple(missing))


def eigen_train(content: DatasetContent) -> Split:
    """All frames of the drives that no test frame of Eigen's split comes from, without those in which the car stands.

    Args:
        content: of KITTI raw, with the cameras that are wanted.
    """
    sequences = [s for s in _kitti(content, raw=True) if _drive(s) not in eigen_test_numbers()]
    static = static_numbers()
    frames = [
        (sequence.name, index)
        for sequence in sequences
        for index, number in _frames(sequence)
        if number not in static.get(_drive(sequence), ())
    ]
    gaps = [_gaps(sequence, sequence.numbers[-1] + 1) for sequence in sequences]
    return Split(tuple(frames), tuple(line for line in gaps if line))


def odometry_train(content: DatasetContent) -> Split:
    """The sequences 00 to 08 of KITTI odometry."""
    return _odometry(content, ODOMETRY_TRAIN)


def odometry_test(content: DatasetContent) -> Split:
    """The sequences 09 and 10 of KITTI odometry."""
    return _odometry(content, ODOMETRY_TEST)


def nyuv2_train(content: DatasetContent) -> Split:
    """The 795 labelled images of NYUv2 for training, as `splits.mat` has them."""
    return _nyuv2(content, "train")


def nyuv2_test(content: DatasetContent) -> Split:
    """The 654 labelled images of NYUv2 for testing, as `splits.mat` has them, in the order of their numbers."""
    return _nyuv2(content, "test")


def nyuv2_raw_train(content: DatasetContent) -> Split:
    """The scenes of NYUv2's raw distribution in which no labelled test image was taken.

    The parts of a place, `office_0001a` and `office_0001b`, go together. Which image is for testing is said by
    `nyu_depth_v2_labeled.mat` and `splits.mat`, in the folder of the scenes, in one below it, or in one beside it.

    Raises:
        UsageError: a dataset of another kind.
        TrianflowError: these files are missing or cannot be read.
    """
    return _nyuv2_raw(content, "train")


def nyuv2_raw_test(content: DatasetContent) -> Split:
    """The other scenes; errors as of `nyuv2_raw_train`."""
    return _nyuv2_raw(content, "test")


@cache
def eigen_test_numbers() -> dict[str, tuple[int, ...]]:
    """Frame numbers of Eigen's test frames by drive (`2011_09_26_drive_0002_sync`), in the order of the list."""
    return {drive: tuple(numbers) for drive, numbers in _read("eigen_test.txt")}


@cache
def static_numbers() -> dict[str, frozenset[int]]:
    """Numbers of the frames in which the car stands, by drive."""
    return {drive: frozenset(numbers) for drive, numbers in _read("kitti_static.txt")}


def _odometry(content: DatasetContent, names: Iterable[str]) -> Split:
    sequences = {sequence.name: sequence for sequence in _kitti(content, raw=False)}
    frames: list[tuple[str, int]] = []
    missing = []
    for name in names:
        if name not in sequences:
            missing.append(f"{name}: the sequence with all of its {ODOMETRY_LENGTHS[name]} frames")
            continue
        frames += [(name, index) for index, _ in _frames(sequences[name])]
        missing += [line for line in [_gaps(sequences[name], ODOMETRY_LENGTHS[name])] if line]
    return Split(tuple(frames), tuple(missing))


def _nyuv2(content: DatasetContent, name: str) -> Split:
    lengths = {sequence.name: len(sequence) for sequence in content.sequences}
    if not lengths.keys() <= NYUV2_LENGTHS.keys():
        odd = next(iter(lengths.keys() - NYUV2_LENGTHS.keys()))
        raise UsageError(f"{odd}: not the labelled images of NYUv2 with their splits.mat, which this split is of")
    count, wanted = lengths.get(name, 0), NYUV2_LENGTHS[name]
    missing = (f"{name}: {wanted - count} of {wanted} images",) if count < wanted else ()
    return Split(tuple((name, index) for index in range(count)), missing)


def _nyuv2_raw(content: DatasetContent, name: str) -> Split:
    for sequence in content.sequences:
        if not isinstance(sequence, RawScene):
            raise UsageError(f"{sequence.name}: no scene of NYUv2's raw distribution, which this split is of")
    listed = {key: set(map(_place, scenes)) for key, scenes in scenes_by_split(_labelled_images(content.root)).items()}
    present = {sequence.name: _place(sequence.frames.path.name) for sequence in content.sequences}
    frames = [
        (sequence.name, index)
        for sequence in content.sequences
        if (present[sequence.name] in listed["test"]) == (name == "test")
        for index in range(len(sequence))
    ]
    wanted = listed["test"] if name == "test" else listed["train"] - listed["test"]
    missing = sorted(wanted - set(present.values()))
    return Split(tuple(frames), tuple(f"{place}: the scene with all of its frames" for place in missing))


def _labelled_images(root: Path) -> Path:
    """The labelled images of NYUv2 that lie with the raw scenes."""
    for place in (root, root.parent):
        for folder in find_folders(place, lambda f: os.path.isfile(f / LABELLED), levels=1):
            return folder / LABELLED
    raise TrianflowError(
        f"{root}: neither in it nor beside it is {LABELLED}, which with splits.mat tells the scenes for testing from"
        " those for training; put both there"
    )


def _place(scene: str) -> str:
    """The name of a scene without the letter of its part."""
    return re.sub(r"(?<=\d)[a-z]$", "", scene)


def _gaps(sequence: KittiSequence, length: int) -> str:
    absent = sorted(set(range(length)) - {number for _, number in _frames(sequence)})
    return f"{sequence.name}: {len(absent)} of {length} frames ({ranges(absent)})" if absent else ""


def _kitti(content: DatasetContent, raw: bool) -> Iterator[KittiSequence]:
    for sequence in content.sequences:
        if not isinstance(sequence, KittiSequence) or ("/" in sequence.name) != raw:
            what = "raw" if raw else "odometry"
            raise UsageError(f"{sequence.name}: no sequence of KITTI {what}, which this split is of")
        yield sequence


def _frames(sequence: KittiSequence) -> list[tuple[int, int]]:
    """Index and number of the frames that have a file."""
    return [(i, number) for i, number in enumerate(sequence.numbers) if number not in sequence.absent]


def _drive(sequence: KittiSequence) -> str:
    return sequence.name.split("/")[1]


def _read(name: str) -> Iterator[tuple[str, list[int]]]:
    """Drives and frame numbers of a list that comes with the package; `3-6` stands for 3, 4, 5, 6."""
    for line in resources.files("trianflow.data.datasets").joinpath(name).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            drive, *fields = line.split()
            spans = [[int(number) for number in field.split("-")] for field in fields]
            yield drive, [number for span in spans for number in range(span[0], span[-1] + 1)]


SPLITS: dict[str, Callable[[DatasetContent], Split]] = {
    split.__name__: split
    for split in (
        *(eigen_train, eigen_test, odometry_train, odometry_test, nyuv2_train, nyuv2_test),
        *(nyuv2_raw_train, nyuv2_raw_test),
    )
}
