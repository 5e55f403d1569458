"""Miniature trees of KITTI in the layout of the official archives, and a scene whose truth is known."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT = 96, 32
DATE = "2011_09_26"
DRIVE = "2011_09_26_drive_0001_sync"
# P0 to P3: left grey, right grey, left colour, right colour
FOURTH = ((0.0, 0.0, 0.0), (-38.0, 0.0, 0.0), (4.5, 0.2, 0.003), (-34.0, 2.0, 0.003))
K = np.array([[70.0, 0.0, 47.0], [0.0, 70.0, 15.0], [0.0, 0.0, 1.0]])
VELO_TO_CAM = np.array([[0.0, -1.0, 0.0, 0.01], [0.0, 0.0, -1.0, -0.07], [1.0, 0.0, 0.0, -0.27], [0.0, 0.0, 0.0, 1.0]])
IMU_TO_VELO = np.array([[1.0, 0.0, 0.0, -0.81], [0.0, 1.0, 0.0, 0.32], [0.0, 0.0, 1.0, -0.8], [0.0, 0.0, 0.0, 1.0]])


def projection(camera: int) -> np.ndarray:
    """`(3, 4)` of a camera."""
    return np.hstack([K, np.reshape(FOURTH[camera], (3, 1))])


def write_image(path: Path, seed: int, grey: bool = False, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """A PNG of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0]) if grey else (size[1], size[0], 3)
    assert cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def scan_of(seed: int) -> np.ndarray:
    """`(200, 4)` float32 points around the scanner."""
    rng = np.random.default_rng(seed)
    xyz = rng.uniform((-10, -8, -2), (30, 8, 2), (200, 3))
    return np.hstack([xyz, rng.random((200, 1))]).astype(np.float32)


def text_of(matrix: np.ndarray) -> str:
    """Numbers as KITTI writes them."""
    return " ".join(f"{value:.12e}" for value in np.ravel(matrix))


def write_odometry(dataset: Path, names: tuple[str, ...] = ("00",), count: int = 6, scans: bool = True) -> np.ndarray:
    """`dataset/sequences/NN` and `dataset/poses/NN.txt` (00 to 10); the poses `(count, 4, 4)` of camera 0."""
    T_w0 = np.tile(np.eye(4), (count, 1, 1))
    for i in range(1, count):
        angle = 0.1 * i
        T_w0[i, :3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        T_w0[i, :3, 3] = (0.1 * i * i, 0.01 * i, 1.0 * i)
    for name in names:
        folder = dataset / "sequences" / name
        for i in range(count):
            for camera in range(4):
                write_image(folder / f"image_{camera}" / f"{i:06d}.png", 10 * i + camera, grey=camera < 2)
            if scans:
                (folder / "velodyne").mkdir(exist_ok=True)
                scan_of(i).tofile(folder / "velodyne" / f"{i:06d}.bin")
        lines = [f"P{camera}: {text_of(projection(camera))}" for camera in range(4)]
        (folder / "calib.txt").write_text("\n".join([*lines, f"Tr: {text_of(VELO_TO_CAM[:3])}"]) + "\n")
        (folder / "times.txt").write_text("".join(f"{0.103 * i:.6e}\n" for i in range(count)))
        if int(name) <= 10:
            (dataset / "poses").mkdir(exist_ok=True)
            (dataset / "poses" / f"{name}.txt").write_text("".join(f"{text_of(T[:3])}\n" for T in T_w0))
    return T_w0


def write_calibration(date: Path) -> None:
    """The three files of `2011_09_26_calib.zip`."""
    date.mkdir(parents=True, exist_ok=True)
    lines = ["calib_time: 09-Jan-2012 13:57:47", "corner_dist: 9.950000e-02"]
    for camera in range(4):
        lines += [
            f"S_0{camera}: 1.392000e+02 5.120000e+01",
            f"K_0{camera}: {text_of(K + np.diag((30.0, 30.0, 0.0)))}",
            f"D_0{camera}: -3.728755e-01 2.037299e-01 2.219027e-03 1.383707e-03 -7.233722e-02",
            f"S_rect_0{camera}: {WIDTH:.6e} {HEIGHT:.6e}",
            f"R_rect_0{camera}: {text_of(rectification())}",
            f"P_rect_0{camera}: {text_of(projection(camera))}",
        ]
    (date / "calib_cam_to_cam.txt").write_text("\n".join(lines) + "\n")
    for name, T in (("velo_to_cam", VELO_TO_CAM), ("imu_to_velo", IMU_TO_VELO)):
        (date / f"calib_{name}.txt").write_text(
            f"calib_time: 15-Mar-2012 11:37:16\nR: {text_of(T[:3, :3])}\nT: {text_of(T[:3, 3])}\n"
        )


def rectification() -> np.ndarray:
    """A small rotation about y, `(3, 3)`."""
    return np.array([[np.cos(0.01), 0, np.sin(0.01)], [0, 1, 0], [-np.sin(0.01), 0, np.cos(0.01)]])


def write_drive(root: Path, drive: str = DRIVE, count: int = 6, numbers: tuple[int, ...] = ()) -> np.ndarray:
    """`DATE/DRIVE` and its calibration; the car goes north-east and turns left. The OXTS rows `(count, 30)`."""
    date = root / drive[:10]
    write_calibration(date)
    rows = np.zeros((count, 30))
    for i in range(count):
        rows[i, :6] = (49.0 + 8e-6 * i, 8.4 + 9e-6 * i, 116.0 + 0.01 * i, 0.02, 0.01, 0.9 + 0.02 * i)
        rows[i, 6:11] = (7.0, 5.0, 8.0 + i, 0.6, 0.02)
    folder = date / drive
    stamps = "".join(f"2011-09-26 13:02:2{i // 10}.{i % 10}94360375\n" for i in range(max((count, *numbers)) + 1)[:-1])
    for i in numbers or range(count):
        for camera in range(4):
            write_image(folder / f"image_0{camera}" / "data" / f"{i:010d}.png", 10 * i + camera, grey=camera < 2)
        for part in ("velodyne_points", "oxts"):
            (folder / part / "data").mkdir(parents=True, exist_ok=True)
        scan_of(i).tofile(folder / "velodyne_points" / "data" / f"{i:010d}.bin")
        (folder / "oxts" / "data" / f"{i:010d}.txt").write_text(" ".join(f"{v:.13g}" for v in rows[i % count]) + "\n")
    for part in ("image_00", "image_01", "image_02", "image_03", "oxts", "velodyne_points"):
        (folder / part / "timestamps.txt").write_text(stamps)
    for part in ("start", "end"):
        (folder / "velodyne_points" / f"timestamps_{part}.txt").write_text(stamps)
    (folder / "oxts" / "dataformat.txt").write_text("lat: latitude of the oxts-unit (deg)\n")
    return rows
