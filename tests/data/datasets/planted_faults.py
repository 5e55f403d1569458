"""The trees of all readers as downloaded, and what can be wrong with each: see test_planted_faults.py."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import h5py
import numpy as np
from scipy.io import savemat

from . import (
    test_cityscapes,
    test_euroc,
    test_kitti_flow,
    test_make3d,
    test_nyuv2_labelled,
    test_nyuv2_raw,
    test_scenes_folder,
    test_seven_scenes,
    test_tum,
)
from .kitti_trees import DATE, DRIVE, write_drive, write_odometry

FAULTS = ("missing frame", "truncated file", "times apart", "wrong size", "extra file", "archive")
SINGLE = "single images have no times"
NUMBERED = "times are made of the numbers of the frames"

Action = Callable[[Path], Path | None]


@dataclass(frozen=True)
class Fault:
    """Something done to a file of a tree.

    Attributes:
        do: the deed; it may return another file that the message has to name.
        place: the file below the root.
        named: what the message has to name, where it is not that file.
        problem: whether something is lost by it, or it is only noted.
        unmade: a file of the output that must not be made, as it would be wrong.
    """

    do: Action
    place: str
    named: str = ""
    problem: bool = True
    unmade: str = ""


@dataclass(frozen=True)
class Reader:
    """A tree as downloaded, and what can be wrong with it.

    Attributes:
        write: makes the tree below a root.
        whole: a sequence that no fault touches; None where the dataset is one.
        faults: by kind; a text says why there is none of it.
        options: of the reader.
        alone: whether all lies in one file, without which nothing is left.
    """

    write: Callable[[Path], object]
    whole: str | None
    faults: Mapping[str, tuple[Fault, ...] | str]
    options: Mapping[str, float] = field(default_factory=dict)
    alone: bool = False


# --- deeds --------------------------------------------------------------------------------------------------


def gone(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 4])


def resized(path: Path) -> None:
    depth = "depth" in (path.parent.name + path.name)
    assert cv2.imwrite(str(path), np.ones((10, 24), np.uint16) if depth else np.ones((10, 24, 3), np.uint8))


def added(path: Path) -> None:
    assert not path.exists()
    path.write_bytes(b"PK, or anything else")


def text(words: str) -> Action:
    def write(path: Path) -> None:
        path.write_text(words)

    return write


def packed_instead(folder: str, archive: str) -> Action:
    """The folder is not there, the archive with it is."""

    def pack(root: Path) -> Path:
        shutil.rmtree(root / folder)
        (root / archive).write_bytes(b"PK")
        return root / archive

    return pack


def _lost_dump(path: Path) -> None:
    index = path.parent / "INDEX.txt"
    index.write_text("".join(f"{file.name}\n" for file in path.parent.iterdir()))
    path.unlink()


def _late_dump(path: Path) -> Path:
    return path.rename(path.with_name(f"d-{test_nyuv2_raw.START + 50:.6f}-1.pgm"))


def _small_dump(path: Path) -> None:
    test_nyuv2_raw.write_depth(path, np.full((240, 320), 700))


def _late_listing(path: Path) -> None:
    rows = [row.split() for row in path.read_text().splitlines() if not row.startswith("#")]
    path.write_text("".join(f"{float(time) + 100:.6f} {name}\n" for time, name in rows))


def _late_truth(path: Path) -> None:
    path.write_text(test_euroc.TRUTH_HEADER + "1,0,0,0,1,0,0,0\n2,0,0,0,1,0,0,0\n")


def _fewer_labelled(path: Path) -> None:
    with h5py.File(path, "r+") as mat:
        for key in ("images", "depths"):
            fewer = mat[key][:3]
            del mat[key]
            mat[key] = fewer


def _narrow_labelled(path: Path) -> None:
    with h5py.File(path, "w") as mat:
        mat["images"], mat["depths"] = np.zeros((5, 3, 600, 480), np.uint8), np.zeros((5, 600, 480), np.float32)


def _labelled_packed(root: Path) -> Path:
    (root / "nyu_depth_v2_labeled.mat").unlink()
    (root / "nyu.zip").write_bytes(b"PK")
    return root / "nyu.zip"


def _small_grid(path: Path) -> None:
    savemat(path, {"Position3DGrid": np.zeros((55, 300, 4))})


# --- trees --------------------------------------------------------------------------------------------------


def _flow(root: Path) -> None:
    for scene in range(2):
        test_kitti_flow.write_scene(root / "training", scene, "2015")


def _raw(root: Path) -> None:
    for drive in (DRIVE, DRIVE.replace("0001", "0002")):
        write_drive(root, drive, count=4)


def _dumps(root: Path) -> None:
    for name in ("study_0001", "study_0002"):
        test_nyuv2_raw.write_scene(root / name, [0.0, 0.1, 0.2], [0.0, 0.1, 0.2])


def _labelled(root: Path) -> None:
    root.mkdir(parents=True)
    test_nyuv2_labelled.write(root)


def _snippets(root: Path) -> None:
    for drive in ("aachen_000000", "zurich_000000"):
        test_cityscapes.write_snippet(root, drive, 0)


def _pair_of(write: Callable[[Path], object], first: str, second: str) -> Callable[[Path], None]:
    def both(root: Path) -> None:
        write(root / first)
        write(root / second)

    return both


ODOMETRY = "sequences/00/image_2"
IMAGES = f"{DATE}/{DRIVE}/image_02"
R = [f"study_0001/r-{test_nyuv2_raw.START + t / 10:.6f}-{3118787619 + t}.ppm" for t in range(3)]
D = [f"study_0001/d-{test_nyuv2_raw.START + t / 10:.6f}-{3143255701 + t}.pgm" for t in range(3)]
TUM = "rgbd_dataset_freiburg1_xyz"
RGB = [f"{TUM}/rgb/{test_tum.START + i / 30:.6f}.png" for i in range(4)]
KINECT = [f"{TUM}/depth/{test_tum.START + i / 30 + 0.012:.6f}.png" for i in range(4)]
CAM0 = "MH_01_easy/mav0/cam0"
EUROC = [f"{CAM0}/data/{test_euroc.START + i * 50_000_000}.png" for i in range(4)]
TRUTH = "MH_01_easy/mav0/state_groundtruth_estimate0/data.csv"
MAKE3D = [f"Test134/img-{name}.jpg" for name in test_make3d.NAMES]
LASER = [f"Gridlaserdata/depth_sph_corr-{name}.mat" for name in test_make3d.NAMES]
AACHEN = "leftImg8bit_sequence/train/aachen"

READERS = {
    "kitti_odometry": Reader(
        lambda root: write_odometry(root, ("00", "01"), count=4),
        "01",
        {
            "missing frame": (
                Fault(gone, f"{ODOMETRY}/000001.png"),
                Fault(gone, f"{ODOMETRY}/000003.png", ODOMETRY),
                Fault(gone, "poses/00.txt"),
                Fault(gone, "sequences/00/velodyne/000001.bin", "sequences/00/velodyne"),
            ),
            "truncated file": (
                Fault(cut, f"{ODOMETRY}/000001.png"),
                Fault(cut, "poses/00.txt"),
                Fault(text("cut"), "sequences/00/velodyne/000001.bin"),
            ),
            "times apart": (Fault(text("0.0\n0.1\n0.05\n0.3\n"), "sequences/00/times.txt"),),
            "wrong size": (Fault(resized, f"{ODOMETRY}/000002.png"),),
            "extra file": (Fault(added, f"{ODOMETRY}/plot.png", problem=False),),
            "archive": (Fault(added, "sequences/02.zip"),),
        },
    ),
    "kitti_raw": Reader(
        _raw,
        IMAGES.replace("0001", "0002"),
        {
            "missing frame": (
                Fault(gone, f"{IMAGES}/data/0000000001.png"),
                Fault(gone, f"{DATE}/{DRIVE}/oxts/data/0000000001.txt", f"{DATE}/{DRIVE}/oxts/data"),
                Fault(
                    gone, f"{DATE}/{DRIVE}/velodyne_points/data/0000000001.bin", f"{DATE}/{DRIVE}/velodyne_points/data"
                ),
            ),
            "truncated file": (
                Fault(cut, f"{IMAGES}/data/0000000001.png"),
                Fault(text("cut"), f"{DATE}/{DRIVE}/velodyne_points/data/0000000001.bin"),
                Fault(cut, f"{DATE}/{DRIVE}/oxts/data/0000000001.txt", f"{DATE}/{DRIVE}/oxts/data"),
            ),
            "times apart": (Fault(text("2011-09-26 13:02:20.1\nyesterday\n"), f"{IMAGES}/timestamps.txt"),),
            "wrong size": (Fault(resized, f"{IMAGES}/data/0000000002.png"),),
            "extra file": (Fault(added, f"{IMAGES}/data/plot.png", problem=False),),
            "archive": (Fault(added, "2011_09_26_drive_0003_sync.zip"),),
        },
    ),
    "kitti_flow": Reader(
        _flow,
        "000001",
        {
            "missing frame": (
                Fault(gone, "training/image_2/000000_11.png"),
                Fault(gone, "training/flow_noc/000000_10.png"),
            ),
            "truncated file": (
                Fault(cut, "training/image_2/000000_10.png"),
                Fault(text(""), "training/image_2/000000_11.png"),
                Fault(cut, "training/flow_occ/000000_10.png"),
                Fault(cut, "training/calib_cam_to_cam/000000.txt"),
            ),
            "times apart": "pairs have no times",
            "wrong size": (
                Fault(resized, "training/image_2/000000_11.png"),
                Fault(resized, "training/flow_noc/000000_10.png"),
            ),
            "extra file": (Fault(added, "training/image_2/notes.txt", problem=False),),
            "archive": (Fault(packed_instead("training/calib_cam_to_cam", "data_scene_flow_calib.zip"), "."),),
        },
    ),
    "nyuv2_raw": Reader(
        _dumps,
        "study_0002",
        {
            "missing frame": (Fault(_lost_dump, R[1]), Fault(_lost_dump, D[1])),
            "truncated file": (Fault(cut, R[1]), Fault(cut, D[1]), Fault(text(""), R[1])),
            "times apart": (Fault(_late_dump, D[1], problem=False),),
            "wrong size": (Fault(resized, R[1]), Fault(_small_dump, D[1])),
            "extra file": (Fault(added, "study_0001/Thumbs.db", problem=False),),
            "archive": (Fault(added, "offices.zip"),),
        },
    ),
    "nyuv2_labelled": Reader(
        _labelled,
        None,
        {
            "missing frame": (
                Fault(_fewer_labelled, "nyu_depth_v2_labeled.mat", "splits.mat"),
                Fault(gone, "splits.mat"),
            ),
            "truncated file": (Fault(cut, "nyu_depth_v2_labeled.mat"), Fault(cut, "splits.mat")),
            "times apart": SINGLE,
            "wrong size": (Fault(_narrow_labelled, "nyu_depth_v2_labeled.mat"),),
            "extra file": (Fault(added, "notes.txt", problem=False),),
            "archive": (Fault(_labelled_packed, "."),),
        },
        alone=True,
    ),
    "tum": Reader(
        _pair_of(test_tum.write_sequence, TUM, "rgbd_dataset_freiburg2_desk"),
        "rgbd_dataset_freiburg2_desk",
        {
            "missing frame": (Fault(gone, RGB[1]), Fault(gone, KINECT[1]), Fault(gone, f"{TUM}/groundtruth.txt")),
            "truncated file": (Fault(cut, RGB[1]), Fault(cut, KINECT[1]), Fault(cut, f"{TUM}/groundtruth.txt")),
            "times apart": (
                Fault(_late_listing, f"{TUM}/depth.txt"),
                Fault(text("1 0 0 0 0 0 0 1\n2 0 0 0 0 0 0 1\n"), f"{TUM}/groundtruth.txt"),
            ),
            "wrong size": (Fault(resized, RGB[1]), Fault(resized, KINECT[1])),
            "extra file": (Fault(added, f"{TUM}/rgb/plot.png", problem=False),),
            "archive": (Fault(added, "rgbd_dataset_freiburg3_office.tgz"),),
        },
    ),
    "euroc": Reader(
        _pair_of(test_euroc.write_sequence, "MH_01_easy", "MH_02_easy"),
        "MH_02_easy",
        {
            "missing frame": (Fault(gone, EUROC[1]), Fault(gone, TRUTH)),
            "truncated file": (Fault(cut, EUROC[1]), Fault(cut, TRUTH), Fault(cut, f"{CAM0}/sensor.yaml")),
            "times apart": (Fault(_late_truth, TRUTH),),
            "wrong size": (Fault(resized, EUROC[1]),),
            "extra file": (Fault(added, f"{CAM0}/data/plot.png", problem=False),),
            "archive": (Fault(added, "MH_03_medium.zip"),),
        },
    ),
    "seven_scenes": Reader(
        _pair_of(test_seven_scenes.write_sequence, "chess/seq-01", "chess/seq-02"),
        "chess/seq-02",
        {
            "missing frame": tuple(
                Fault(gone, f"chess/seq-01/frame-00000{n}.{part}")
                for n, part in ((1, "color.png"), (3, "color.png"), (0, "color.png"), (1, "depth.png"), (1, "pose.txt"))
            ),
            "truncated file": tuple(
                Fault(cut, f"chess/seq-01/frame-000001.{part}") for part in ("color.png", "depth.png", "pose.txt")
            ),
            "times apart": NUMBERED,
            "wrong size": tuple(
                Fault(resized, f"chess/seq-01/frame-000001.{part}") for part in ("color.png", "depth.png")
            ),
            "extra file": (Fault(added, "chess/seq-01/Thumbs.db", problem=False),),
            "archive": (Fault(added, "chess/seq-03.zip"),),
        },
    ),
    "make3d": Reader(
        test_make3d.write,
        None,
        {
            "missing frame": (Fault(gone, MAKE3D[0], LASER[0]), Fault(gone, LASER[0], MAKE3D[0])),
            "truncated file": (Fault(cut, MAKE3D[0]), Fault(cut, LASER[0])),
            "times apart": SINGLE,
            "wrong size": (Fault(resized, MAKE3D[0]), Fault(_small_grid, LASER[0])),
            "extra file": (
                Fault(added, "Test134/notes.txt", problem=False),
                Fault(added, "Gridlaserdata/notes.txt", problem=False),
            ),
            "archive": (Fault(packed_instead("Gridlaserdata", "Test134Depth.tar.gz"), "."),),
        },
    ),
    "cityscapes": Reader(
        _snippets,
        "train/zurich/zurich_000000_000019",
        {
            "missing frame": (Fault(gone, f"{AACHEN}/aachen_000000_000001_leftImg8bit.png"),),
            "truncated file": (
                Fault(cut, f"{AACHEN}/aachen_000000_000001_leftImg8bit.png"),
                Fault(cut, "camera/train/aachen/aachen_000000_000019_camera.json"),
            ),
            "times apart": NUMBERED,
            "wrong size": (Fault(resized, f"{AACHEN}/aachen_000000_000001_leftImg8bit.png"),),
            "extra file": (Fault(added, f"{AACHEN}/notes.txt", problem=False),),
            "archive": (Fault(added, "leftImg8bit_demo.zip"),),
        },
    ),
    "folder": Reader(
        _pair_of(test_scenes_folder.write_scene, "a", "b"),
        "b",
        {
            # nothing but the number of poses or times tells that an image is missing
            "missing frame": (
                Fault(gone, "a/3.png", "a/poses.txt", unmade="a/poses.tum"),
                Fault(gone, "a/depth/3.png"),
            ),
            "truncated file": (Fault(cut, "a/3.png"), Fault(cut, "a/depth/3.png"), Fault(cut, "a/poses.txt")),
            "times apart": tuple(
                Fault(text(words), "a/times.txt")
                for words in ("0\n1\n", "noon\n" * 12, "".join(f"{(5 * i) % 12}\n" for i in range(12)))
            ),
            "wrong size": (Fault(resized, "a/3.png"), Fault(resized, "a/depth/3.png")),
            "extra file": (Fault(added, "a/notes.doc", problem=False),),
            "archive": (Fault(added, "c.zip"),),
        },
        {"depth_scale": 1000.0},
    ),
}
