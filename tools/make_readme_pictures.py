"""Make the README's pictures from the bundled clip: what is seen, the trajectory, and the page of a run.

    python tools/make_readme_pictures.py [--out assets]

Writes demo_seen.webp (an animation of `trianflow vo --overlay`), demo_trajectory.png and demo_report.png (a screenshot
by Chromium). All are of one run; only times of computing differ from run to run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
from PIL import Image

from trianflow import cli
from trianflow.data.frames import open_frames

ROOT = Path(__file__).resolve().parent.parent
_EVERY, _WIDTH, _MILLISECONDS, _QUALITY = 3, 720, 200, 50  # of the animation: frames, pixels, a frame, WebP's 0 ... 100
_COLORS = 256  # of the PNG files


def make_pictures(out: Path) -> list[Path]:
    """Run the clip and draw all pictures into a folder that exists.

    Raises:
        SystemExit: a step has failed; it has said why.
    """
    demo = ROOT / "assets"
    with tempfile.TemporaryDirectory() as folder:
        run, seen = Path(folder) / "demo", Path(folder) / "seen.avi"
        words = [demo / "demo.mp4", "--calib", demo / "demo_calib.yaml", "--gt", demo / "demo_groundtruth.tum"]
        words += ["--report", "--overlay", seen, "--out", run]
        if code := cli.main(["vo", *map(str, words)]):
            raise SystemExit(code)
        shot = Path(folder) / "report.png"
        command = [sys.executable, "-m", "tests.browser.screenshot", str(run / "report.html"), str(shot)]
        if code := subprocess.run(command, cwd=ROOT, check=False).returncode:
            raise SystemExit(code)
        made = [out / "demo_seen.webp", out / "demo_trajectory.png", out / "demo_report.png"]
        write_animation(seen, made[0])
        reduce_png(run / "trajectory.png", made[1])
        reduce_png(shot, made[2])
    return made


def write_animation(video: Path, path: Path) -> None:
    """Every third frame of a video, smaller, as an animated WebP that starts again at its end."""
    pictures = []
    for frame in open_frames(video, stride=_EVERY):
        assert frame.image is not None
        height, width = frame.image.shape[:2]
        size = _WIDTH, round(height * _WIDTH / width)
        pictures.append(Image.fromarray(cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)))
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=_MILLISECONDS, loop=0, quality=_QUALITY, method=4
    )


def reduce_png(source: Path, path: Path) -> None:
    """A picture with a palette."""
    picture = Image.open(source).convert("RGB")
    picture.quantize(_COLORS, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "assets")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for path in make_pictures(out):
        print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
