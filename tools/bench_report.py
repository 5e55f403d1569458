"""Whether a long run stays small: memory over its frames with --cloud and --report, the page's size, how soon it opens.

    python tools/bench_report.py [--frames 5000] [--out out/bench_report]

Renders a drive through a town once (a minute for 1,000 frames), tracks its video with the fast preset but for the flow,
and opens the page in a headless Chromium. The exit code is 1 where a limit below is passed.
"""

from __future__ import annotations

import argparse
import re
import resource
import shutil
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import torch

from trianflow.config import OdometryConfig
from trianflow.data.frames import Frame, open_frames
from trianflow.data.synthetic import SyntheticSequence
from trianflow.geometry.camera import Camera
from trianflow.odometry.cloud import CloudWriter
from trianflow.odometry.html_report import HtmlReport
from trianflow.odometry.pipeline import VisualOdometry
from trianflow.odometry.run import PAGE, OdometryRun, run_odometry, set_threads
from trianflow.odometry.step import Step
from trianflow.trajectory import Trajectory

CAMERA, FPS = Camera.from_fov(416, 160, 78.0), 10.0
# The coarsest flow loses the scale in pictures as small as these, and the cloud with it.
CONFIG = OdometryConfig.preset("fast").model_copy(update={"flow_preset": "medium"})
EVERY = 1000  # frames between two lines about the memory
# Growth of the memory after the first 1,000 frames, while the cloud fills up, and in the second half of the run; size
# of the page, and time until it can be used.
GROWTH_MB, LATE_MB, PAGE_MB, SECONDS = 100.0, 30.0, 15.0, 2.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")


class Memory:
    """An observer that tells how large the process is.

    Attributes:
        megabytes: resident, by number of frames.
    """

    def __init__(self) -> None:
        self.megabytes: dict[int, float] = {}
        self._begin = time.perf_counter()

    def observe(self, odometry: VisualOdometry, frame: Frame, step: Step) -> None:
        """Look every so many frames."""
        done = frame.index + 1
        if done % EVERY == 0:
            self.megabytes[done] = resident()
            seconds = time.perf_counter() - self._begin
            print(f"{done:6d} frames  {self.megabytes[done]:6.0f} MB  {seconds:6.0f} s", flush=True)

    def finish(self, run: OdometryRun, odometry: VisualOdometry) -> list[str]:
        """Nothing to write."""
        return []

    def abandon(self) -> None:
        """Nothing to give up."""


def resident() -> float:
    """Memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def drive_of(frames: int) -> SyntheticSequence:
    return SyntheticSequence.drive("open", CAMERA, frames=frames, fps=FPS)


def render(path: Path, frames: int) -> None:
    """Write the drive as a video."""
    torch.set_num_threads(1)
    beside = path.with_name(f"part-{path.name}")
    writer = cv2.VideoWriter(str(beside), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (CAMERA.width, CAMERA.height))
    for frame in drive_of(frames).stream():
        assert frame.image is not None
        writer.write(np.ascontiguousarray(frame.image[..., ::-1]))
    writer.release()
    beside.replace(path)


def opening(page: Path) -> float:
    """Seconds from the call of a page until it is drawn and can be used; the least of five: others may want the cores.

    Raises:
        SystemExit: there is no browser.
    """
    from playwright.sync_api import sync_playwright

    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit("no Chromium found: install one (Debian: apt install chromium)")
    taken = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(5):
            tab = chromium.new_page(viewport={"width": 1280, "height": 900})
            begin = time.perf_counter()
            tab.goto(page.absolute().as_uri())
            tab.wait_for_selector("html[data-ready]", state="attached")
            tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            taken.append(time.perf_counter() - begin)
            tab.close()
        chromium.close()
    return min(taken)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=5000, help=f"{2 * EVERY} or more")
    parser.add_argument("--out", type=Path, default=Path("out/bench_report"))
    args = parser.parse_args()
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    video = out / f"drive_{args.frames}.mp4"
    if not video.is_file():
        print(f"rendering {video}", flush=True)
        renderer = get_context("spawn").Process(target=render, args=(video, args.frames))  # its memory is not ours
        renderer.start()
        renderer.join()
    truth = Trajectory(np.arange(args.frames) / FPS, drive_of(args.frames).T_0c.numpy())
    set_threads()
    memory, cloud = Memory(), out / "cloud.ply"
    run = run_odometry(
        open_frames(video),
        CAMERA,
        CONFIG,
        out,
        truth=truth,
        observers=[CloudWriter(cloud), memory, HtmlReport(truth, cloud)],
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    vertices = re.search(rb"element vertex (\d+)", cloud.read_bytes()[:400])
    assert vertices is not None
    page = (out / PAGE).stat().st_size / 1e6
    samples = list(memory.megabytes.values())
    print(f"at the end {resident():.0f} MB, at most {peak:.0f} MB; {run.report.seconds:.0f} s")
    print(f"cloud {int(vertices[1])} points, {cloud.stat().st_size / 1e6:.1f} MB")
    if run.report.evaluation is not None:
        ate, length = run.report.evaluation["ate"]["rmse"], run.report.evaluation["path_length"]
        print(f"ATE {100 * ate / length:.1f} % of {length:.0f} m, 7-DoF alignment")
    print("\n".join(run.problems))
    claims = [
        (f"memory grows after {EVERY} frames by", samples[-1] - samples[0], "MB", GROWTH_MB),
        ("memory grows in the second half by", samples[-1] - samples[len(samples) // 2], "MB", LATE_MB),
        ("the page has", page, "MB", PAGE_MB),
        ("the page opens in", opening(out / PAGE), "s", SECONDS),
    ]
    for words, value, unit, limit in claims:
        print(f"{'ok  ' if value < limit else 'FAIL'}  {words} {value:.2f} {unit} (limit {limit:g} {unit})")
    return int(bool(run.problems) or any(value >= limit for *_, value, _, limit in claims))


if __name__ == "__main__":
    sys.exit(main())
