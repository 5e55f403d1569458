"""How fast `trianflow prepare` is, and whether a killed run ends like one that was left alone.

    python tools/bench_prepare.py            # 5,000 frames of 1242x375 to 832x256, once whole, once killed twice

Writes a KITTI odometry tree with PNGs of a sliding street texture (250 different ones, linked 20 times) into
`--out` (default out/bench_prepare), prepares it in processes of its own, and exits with 1 where the two results differ.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

FRAMES, DIFFERENT = 5000, 250
WIDTH, HEIGHT = 1242, 375


def write_tree(root: Path) -> None:
    """A sequence 00 in the official layout."""
    sequence = root / "sequences" / "00"
    images = sequence / "image_2"
    images.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (48, 480, 3)).astype(np.uint8)
    texture = cv2.resize(noise, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    for number in range(FRAMES):
        path = images / f"{number:06d}.png"
        if number < DIFFERENT:
            begin = 5 * number
            cv2.imwrite(str(path), texture[:HEIGHT, begin : begin + WIDTH])
        else:
            os.link(images / f"{number % DIFFERENT:06d}.png", path)
    row = "718.856 0 607.1928 {} 0 718.856 185.2157 0 0 0 1 0"
    (sequence / "calib.txt").write_text("".join(f"P{i}: {row.format(-386.1448 * (i % 2))}\n" for i in range(4)))
    (sequence / "times.txt").write_text("".join(f"{number / 10:e}\n" for number in range(FRAMES)))


def prepare(root: Path, out: Path, workers: int) -> subprocess.Popen[bytes]:
    """Start `trianflow prepare`."""
    words = ["-m", "trianflow", "-q", "prepare", "kitti_odometry", str(root), str(out), "--workers", str(workers)]
    return subprocess.Popen([sys.executable, *words])


def digest(folder: Path) -> str:
    """Of all names and contents."""
    found = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        found.update(f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/bench_prepare"))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    root = args.out / "dataset"
    write_tree(root)
    whole, cut = args.out / "whole", args.out / "cut"
    begin = time.monotonic()
    if prepare(root, whole, args.workers).wait():
        return 1
    seconds = time.monotonic() - begin
    for part in (0.3, 0.7):
        process = prepare(root, cut, args.workers)
        images = cut / "00" / "images"
        while process.poll() is None and (not images.is_dir() or sum(1 for _ in images.iterdir()) < part * FRAMES):
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            sys.exit("it ended before it could be killed")
        time.sleep(1)
    if prepare(root, cut, args.workers).wait():
        return 1
    same = digest(whole) == digest(cut)
    kept = sum(1 for _ in (whole / "00" / "images").iterdir())
    print(f"{FRAMES} frames of {WIDTH}x{HEIGHT} to 832x256, {args.workers} processes, PNG to PNG, {kept} kept")
    print(f"{FRAMES / seconds:.0f} frames/s, start included ({seconds:.0f} s)")
    print(f"killed twice and resumed: {'identical' if same else 'DIFFERENT'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
