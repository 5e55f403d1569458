"""Make the pictures of the documentation, `docs/images`, from the bundled clip and nothing else.

python tools/make_docs_figures.py [--out docs/images]

Needs evo, Open3D and a Chromium with playwright (`pip install -e '.[dev]'`). Takes a minute or two.
"""

from __future__ import annotations

import argparse
import base64
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from trianflow.assets import find_asset
from trianflow.config import OdometryConfig, WindowConfig
from trianflow.data.frames import Frame, open_frames
from trianflow.geometry.camera import Camera
from trianflow.odometry.cloud import CloudWriter
from trianflow.odometry.html_report import HtmlReport
from trianflow.odometry.overlay import Overlay
from trianflow.odometry.pair import Seen
from trianflow.odometry.pipeline import VisualOdometry
from trianflow.odometry.run import Observer, OdometryRun, run_odometry
from trianflow.odometry.step import Step
from trianflow.trajectory import Trajectory
from trianflow.visualization import overlay
from trianflow.visualization.colors import color_flow, flow_range
from trianflow.visualization.html_thumbnails import FrameView, draw_layers
from trianflow.visualization.style import legend_below, line_styles, new_figure, save_figure, style_axes
from trianflow.visualization.trajectory_plot import plot_trajectory
from trianflow.visualization.viewer import Scene, draw, read_ply

SHOWN = 62  # frame of the clip in the pictures of a single pair
WIDTH = 960  # of the pictures, pixels
QUALITY = 82  # of the JPEG files
SURE = 0.15  # points of the structure are drawn whose log depth is known better than this


class OneFrame:
    """An observer that keeps what was seen of one frame."""

    seen: Seen

    def observe(self, odometry: VisualOdometry, frame: Frame, step: Step) -> None:
        if frame.index == SHOWN:
            assert odometry.seen is not None
            self.seen = odometry.seen

    def finish(self, run: OdometryRun, odometry: VisualOdometry) -> list[str]:
        return []

    def abandon(self) -> None:
        pass


def run_clip(out: Path, config: OdometryConfig, truth: Trajectory, observers: list[Observer]) -> OdometryRun:
    camera = Camera.from_file(find_asset("demo_calib.yaml"))
    return run_odometry(open_frames(find_asset("demo.mp4")), camera, config, out, truth=truth, observers=observers)


def write(path: Path, picture: np.ndarray) -> None:
    """Write a picture `(H, W, 3)` RGB as JPEG."""
    bgr = np.ascontiguousarray(picture[..., ::-1])
    path.write_bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())


def stacked(panels: dict[str, np.ndarray]) -> np.ndarray:
    """Panels of equal width one below the other, each with its title."""
    for title, panel in panels.items():
        overlay.put_text(panel, title, (10, 22), 12)
    return np.concatenate(list(panels.values()))


def layer(view: FrameView, name: str) -> np.ndarray:
    """One of the pictures that a report has of a frame, RGB."""
    jpeg = base64.b64decode(draw_layers(view, view.image.shape[1])[name].jpeg)
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    return picture


def draw_pair(seen: Seen) -> dict[str, np.ndarray]:
    """A frame against its key frame: the two images, flow, what is hidden, matches, structure, each `WIDTH` wide."""
    key, pair = seen.key, seen.pair
    assert key is not None
    assert pair is not None
    image, height = seen.prepared.image, WIDTH * seen.prepared.image.shape[0] // seen.prepared.image.shape[1]
    valid = pair.matches.valid[0]
    p_a, p_b = (p[0][valid].double().numpy() for p in (pair.matches.p_a, pair.matches.p_b))
    inlier, score = pair.view.inlier[0][valid].numpy(), pair.matches.score[0][valid].numpy()

    flow = pair.flow.flow_ab[0].permute(1, 2, 0).numpy()
    flow_rgb = overlay.fitted(color_flow(flow), height, WIDTH)
    overlay.draw_flow_key(flow_rgb, (WIDTH - 70, height - 90), 55, flow_range(flow))
    hidden = layer(FrameView(image, pair.flow), "occlusion")

    matches = overlay.fitted(image, height, WIDTH)
    grow = WIDTH / image.shape[1]
    for kind, color in ((inlier, overlay.INLIER), (~inlier, overlay.OUTLIER)):
        chosen = np.flatnonzero(kind)[overlay.spread(p_b[kind], 11, score[kind])]
        overlay.draw_motion(matches, grow * p_a[chosen], grow * p_b[chosen], color, 0.05 * WIDTH)
    lines = overlay.fitted(image, height, WIDTH)
    shrink = np.diag([1 / grow, 1 / grow, 1.0])
    few = np.flatnonzero(inlier)[overlay.spread(p_b[inlier], 160, score[inlier])][::2]
    F_ba = shrink @ pair.view.F_ba[0].double().numpy() @ shrink
    overlay.draw_epipolar_lines(lines, F_ba, grow * p_a[few], grow * p_b[few])

    sure = seen.structure.select(seen.structure.variance < SURE**2)
    points = np.c_[sure.p.numpy(), sure.log_depth.exp().numpy()]
    depth = layer(FrameView(image, points=points, unit="units"), "depth")
    return {
        "key": overlay.fitted(key.prepared.image, height, WIDTH),
        "frame": overlay.fitted(image, height, WIDTH),
        "flow": flow_rgb,
        "hidden": overlay.fitted(hidden, height, WIDTH),
        "matches": matches,
        "lines": lines,
        "structure": overlay.fitted(depth, height, WIDTH),
    }


def plot_scale(path: Path, estimates: dict[str, Trajectory], truth: Trajectory) -> None:
    """Draw how the scale wanders: the way that an estimate has come in a second against the true one."""
    figure = new_figure(8, 3.2)
    axes = figure.add_subplot()
    style_axes(axes)
    steps = {name: chords(estimate) / chords(truth) for name, estimate in estimates.items()}
    for (name, ratio), style in zip(steps.items(), line_styles(len(steps))):
        axes.plot(truth.distances[: len(ratio)], ratio / ratio[0], label=name, **style)
    axes.set(xlabel="path length (m)", ylabel="scale, 1 at the start")
    legend_below(figure, *axes.get_legend_handles_labels())
    save_figure(figure, path)


def chords(trajectory: Trajectory) -> np.ndarray:
    """Distances between positions ten frames apart."""
    return np.linalg.norm(trajectory.positions[10:] - trajectory.positions[:-10], axis=1)


def picture_of(video: Path, number: int) -> np.ndarray:
    """A frame of a video, RGB."""
    capture = cv2.VideoCapture(str(video))
    capture.set(cv2.CAP_PROP_POS_FRAMES, number)
    ok, bgr = capture.read()
    assert ok, video
    return bgr[..., ::-1]


def browse(page: Path, picture: Path, *options: str) -> None:
    """A picture of a page as a browser shows it."""
    command = [sys.executable, "-m", "tests.browser.screenshot", str(page), str(picture), *options]
    subprocess.run(command, check=True, cwd=Path(__file__).parent.parent)


def make_figures(out: Path, work: Path) -> None:
    truth = Trajectory.load(find_asset("demo_groundtruth.tum"))
    one, cloud = OneFrame(), work / "cloud.ply"
    observers: list[Observer] = [one, CloudWriter(cloud), Overlay(work / "overlay.mp4"), HtmlReport(truth, cloud)]
    run = run_clip(work, OdometryConfig(), truth, observers)
    seen = one.seen
    assert seen.key is not None
    pictures = draw_pair(seen)
    names = f"key frame {seen.key.index}", f"frame {SHOWN}"
    write(out / "pair.jpg", stacked({names[0]: pictures["key"], names[1]: pictures["frame"]}))
    titles = f"flow from {names[0]} to {names[1]}", "red: hidden in the key frame; yellow: there and back disagree"
    write(out / "flow.jpg", stacked({titles[0]: pictures["flow"], titles[1]: pictures["hidden"]}))
    titles = "matches: those that fit, and those that do not", "epipolar lines of some matches"
    write(out / "matches.jpg", stacked({titles[0]: pictures["matches"], titles[1]: pictures["lines"]}))
    write(out / "structure.jpg", pictures["structure"])

    alone = OdometryConfig(window=WindowConfig(frames=0))
    without = run_clip(work / "alone", alone, truth, []).trajectory
    plot_trajectory(out / "trajectory.png", run.trajectory, truth)
    plot_scale(out / "scale.png", {"window of 8 key frames": run.trajectory, "each pair by itself": without}, truth)

    scene = read_ply(cloud)
    write(out / "cloud.jpg", draw(Scene(run.trajectory.T_wc, scene.points, scene.colors), (640, 720)))
    write(out / "overlay.jpg", picture_of(work / "overlay.mp4", SHOWN))
    browse(work / "report.html", out / "report.jpg")
    browse(work / "report.html", out / "report_phone.jpg", "--phone", "--dark")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs" / "images")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        make_figures(out, Path(work))


if __name__ == "__main__":
    main()
