"""How fast `trianflow prepare` is, and whether a killed run ends like one that was left alone.

    python tools/bench_prepare.py            # 5,000 frames of 1242x375 to 832x256, once whole, once killed twice

Writes a KITTI odometry tree with PNGs of a sliding, noisy street texture (250 different ones, linked 20 times) into
`--out` (default out/bench_prepare), prepares it in processes of its own, and exits with 1 where the two results differ
or frames are missing. With fewer `--frames` the start of the program, some seconds, weighs more.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

DIFFERENT = 250
WIDTH, HEIGHT = 1242, 375
STEP = 5  # pixels from one frame to the next
NOISE = 0.5  # grey levels: without it a PNG is smaller than KITTI's, of about 715 kB, and is read faster


def write_tree(root: Path, frames: int) -> int:
    """A sequence 00 in the official layout, with its poses; the mean size of its images, bytes."""
    sequence = root / "sequences" / "00"
    images = sequence / "image_2"
    images.mkdir(parents=True)
    random = np.random.default_rng(0)
    coarse = random.integers(0, 255, (24, (WIDTH + DIFFERENT * STEP) // 16 + 1, 3)).astype(np.uint8)
    texture = cv2.resize(coarse, None, fx=16, fy=16, interpolation=cv2.INTER_CUBIC)
    sizes = []
    for number in range(frames):
        path = images / f"{number:06d}.png"
        if number < DIFFERENT:
            view = texture[:HEIGHT, STEP * number : STEP * number + WIDTH]
            noisy = view + random.normal(0, NOISE, view.shape)
            cv2.imwrite(str(path), noisy.round().clip(0, 255).astype(np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 6])
            sizes.append(path.stat().st_size)
        else:
            os.link(images / f"{number % DIFFERENT:06d}.png", path)
    row = "718.856 0 607.1928 {} 0 718.856 185.2157 0 0 0 1 0"
    (sequence / "calib.txt").write_text("".join(f"P{i}: {row.format(-386.1448 * (i % 2))}\n" for i in range(4)))
    (sequence / "times.txt").write_text("".join(f"{number / 10:e}\n" for number in range(frames)))
    (root / "poses").mkdir()
    (root / "poses" / "00.txt").write_text("".join(f"1 0 0 {number} 0 1 0 0 0 0 1 0\n" for number in range(frames)))
    return sum(sizes) // len(sizes)


def prepare(root: Path, out: Path, workers: int) -> subprocess.Popen[bytes]:
    """Start `trianflow prepare`."""
    words = ["-m", "trianflow", "-q", "prepare", "kitti_odometry", str(root), str(out), "--workers", str(workers)]
    return subprocess.Popen([sys.executable, *words])


def digest(folder: Path) -> str:
    """Of all names and contents, hidden files too."""
    found = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        found.update(f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/bench_prepare"))
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    root = args.out / "dataset"
    size = write_tree(root, args.frames)
    whole, cut = args.out / "whole", args.out / "cut"
    begin = time.monotonic()
    if prepare(root, whole, args.workers).wait():
        return 1
    seconds = time.monotonic() - begin
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    for part in (0.3, 0.7):
        process = prepare(root, cut, args.workers)
        images = cut / "00" / "images"
        while process.poll() is None and (not images.is_dir() or sum(1 for _ in images.iterdir()) < part * args.frames):
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            sys.exit("it ended before it could be killed")
        time.sleep(1)  # its workers end when they see that it is gone
    if prepare(root, cut, args.workers).wait():
        return 1
    same = digest(whole) == digest(cut)
    kept = sum(1 for _ in (whole / "00" / "images").iterdir())
    print(
        f"{args.frames} frames of {WIDTH}x{HEIGHT} (PNG, {size / 1e3:.0f} kB) to 832x256 (PNG),"
        f" {args.workers} processes: {kept} written"
    )
    busy = usage.ru_utime + usage.ru_stime
    print(
        f"{args.frames / seconds:.0f} frames/s, start included ({seconds:.0f} s);"
        f" {1e3 * busy / args.frames:.1f} ms of processor time a frame"
    )
    print(f"killed twice and resumed: {'identical' if same else 'DIFFERENT'}")
    return 0 if same and kept == args.frames else 1


if __name__ == "__main__":
    sys.exit(main())
