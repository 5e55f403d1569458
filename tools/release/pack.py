"""Pack real frames small, to take them to another machine: resized JPEGs and their calibration under runs/packed.

    python tools/release/pack.py FRAMES NAME --width 448 [--every N] [--calib FILE] [--quality 90]

Prints the size of what it wrote.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import yaml

from trianflow.data.calibrated import find_calibration
from trianflow.data.calibration import fit_to_image, read_calibration
from trianflow.data.frames import open_frames
from trianflow.data.undistort import Undistorter

PACKED = Path("runs/packed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", help="video or folder of images")
    parser.add_argument("name", help="of the folder under runs/packed")
    parser.add_argument("--calib", type=Path)
    parser.add_argument("--width", type=int, default=448)
    parser.add_argument("--every", type=int, default=1, help="keep every N-th frame alone; warped pairs need no others")
    parser.add_argument("--quality", type=int, default=90)
    args = parser.parse_args()
    frames = open_frames(args.frames, stride=args.every)
    calibration = args.calib or find_calibration(frames)
    if calibration is None:
        parser.error("no calibration beside the frames: --calib FILE")
    camera, _ = fit_to_image(read_calibration(calibration), *frames.first_image_size())
    undistorter = Undistorter(camera) if any(camera.distortion) else None
    camera = undistorter.camera if undistorter else camera
    height = round(args.width * camera.height / camera.width)
    folder = PACKED / args.name
    (folder / "images").mkdir(parents=True, exist_ok=True)
    written = 0
    for frame in frames:
        if frame.image is None:
            continue
        image = undistorter.image(frame.image) if undistorter else frame.image
        image = cv2.resize(image, (args.width, height), interpolation=cv2.INTER_AREA)
        image = image if image.ndim == 2 else image[..., ::-1]
        _, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, args.quality])
        (folder / "images" / f"{frame.index:06d}.jpg").write_bytes(content.tobytes())
        written += len(content)
    small = camera.resized(args.width, height)
    names = ("fx", "fy", "cx", "cy", "width", "height")
    (folder / "calib.yaml").write_text(yaml.safe_dump({name: getattr(small, name) for name in names}))
    print(f"{folder}: {written / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
