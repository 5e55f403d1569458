"""Pack real frames small, to learn from them here or on another machine: JPEGs and a calibration under runs/packed.

    python tools/release/pack.py FRAMES NAME --width 448 [--height H] [--every N] [--calib FILE] [--quality 90]

--height keeps so many rows, with the optical axis in the middle as far as there are rows: a car's camera sees much sky
and bonnet that teach nothing. Prints the size of what it wrote.
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
HELD_OUT = ("kitti_odom_07", "kitti_odom_10", "kitti_mini_depth/10", "tum_")  # for measuring: never to learn from


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", help="video or folder of images")
    parser.add_argument("name", help="of the folder under runs/packed")
    parser.add_argument("--calib", type=Path)
    parser.add_argument("--width", type=int, default=448)
    parser.add_argument("--height", type=int, help="rows that are kept; default: all")
    parser.add_argument("--every", type=int, default=1, help="keep every N-th frame alone; warped pairs need no others")
    parser.add_argument("--quality", type=int, default=90)
    args = parser.parse_args()
    if any(part in str(Path(args.frames).resolve()) for part in HELD_OUT):
        parser.error(f"{args.frames}: held out for measuring")
    frames = open_frames(args.frames, stride=args.every)
    calibration = args.calib or find_calibration(frames)
    if calibration is None:
        parser.error("no calibration beside the frames: --calib FILE")
    camera, _ = fit_to_image(read_calibration(calibration), *frames.first_image_size())
    undistorter = Undistorter(camera) if any(camera.distortion) else None
    camera = undistorter.camera if undistorter else camera
    small = camera.resized(args.width, round(args.width * camera.height / camera.width))
    rows = min(args.height or small.height, small.height)
    top = round(min(max(small.cy - rows / 2, 0), small.height - rows))
    folder = PACKED / args.name
    (folder / "images").mkdir(parents=True, exist_ok=True)
    written = 0
    for frame in frames:
        if frame.image is None:
            continue
        image = undistorter.image(frame.image) if undistorter else frame.image
        image = cv2.resize(image, (small.width, small.height), interpolation=cv2.INTER_AREA)[top : top + rows]
        image = image if image.ndim == 2 else image[..., ::-1]
        _, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, args.quality])
        (folder / "images" / f"{frame.index:06d}.jpg").write_bytes(content.tobytes())
        written += len(content)
    packed = small.cropped(0, top, small.width, rows)
    names = ("fx", "fy", "cx", "cy", "width", "height")
    (folder / "calib.yaml").write_text(yaml.safe_dump({name: getattr(packed, name) for name in names}))
    print(f"{folder}: {written / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
