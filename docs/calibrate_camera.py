"""Calibrate a camera from a video of a chessboard, or from photographs of it, with OpenCV.

python calibrate_camera.py chessboard.mp4 --corners 9 6 --out calib.yaml
python calibrate_camera.py photos/*.jpg --corners 9 6 --out calib.yaml
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

VIEWS = 60  # used at most
MOVED = 0.02  # between two views that are used corners have moved by this share of the width, on average
FLAGS = cv2.CALIB_FIX_K3  # two radial coefficients: a third is rarely needed and hard to tell


def pictures(paths):
    """Grey pictures of files: all images, or about four hundred frames of a video."""
    for path in paths:
        image = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
        if image is not None:
            yield image
            continue
        video = cv2.VideoCapture(path)
        every = max(1, int(video.get(cv2.CAP_PROP_FRAME_COUNT)) // 400)
        number = 0
        while video.grab():
            if number % every == 0:
                yield cv2.cvtColor(video.retrieve()[1], cv2.COLOR_BGR2GRAY)
            number += 1


def main():
    """Find the board, calibrate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help="one video, or photographs")
    parser.add_argument("--corners", nargs=2, type=int, default=(9, 6), help="inner corners along and across the board")
    parser.add_argument("--out", type=Path, default=Path("calib.yaml"))
    args = parser.parse_args()

    found, size = [], None
    for image in pictures(args.files):
        if image.shape[::-1] != (size or image.shape[::-1]):
            raise SystemExit(f"pictures of {image.shape[1]}x{image.shape[0]} and of {size[0]}x{size[1]}: take one size")
        size = image.shape[::-1]
        seen, corners = cv2.findChessboardCornersSB(image, args.corners, flags=cv2.CALIB_CB_NORMALIZE_IMAGE)
        if not seen:
            continue
        corners = corners.reshape(-1, 2)
        if all(np.linalg.norm(corners - other, axis=1).mean() > MOVED * size[0] for other in found):
            found.append(corners)
    if len(found) < 10:
        raise SystemExit(f"{len(found)} views of the board: 10 are needed, from many sides; are --corners right?")
    found = found[:: -(-len(found) // VIEWS)]

    columns, rows = args.corners
    board = np.zeros((columns * rows, 3), np.float32)
    board[:, :2] = np.mgrid[:columns, :rows].T.reshape(-1, 2)  # the side of a square is 1: no length is needed
    boards = [board] * len(found)
    error = cv2.calibrateCameraExtended(boards, found, size, None, None, flags=FLAGS)[-1][:, 0]
    found = [corners for corners, e in zip(found, error) if e < 2 * np.median(error)]  # without blurred views
    rms, K, distortion, _, _ = cv2.calibrateCamera(boards[: len(found)], found, size, None, None, flags=FLAGS)

    corners = np.concatenate(found)
    covered = (corners.max(0) - corners.min(0)) / size
    args.out.write_text(
        f"fx: {K[0, 0]:.4f}\nfy: {K[1, 1]:.4f}\ncx: {K[0, 2]:.4f}\ncy: {K[1, 2]:.4f}\n"
        f"width: {size[0]}\nheight: {size[1]}\n"
        f"distortion: [{', '.join(f'{value:.6f}' for value in distortion.ravel()[:4])}]\n"
    )
    print(f"{len(found)} views, error {rms:.2f} px; board seen over {covered[0]:.0%} x {covered[1]:.0%} of the picture")
    print(args.out.read_text(), end="")


if __name__ == "__main__":
    main()
