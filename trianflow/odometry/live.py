"""`--live`: the trajectory, the camera and the points in a window, while they are computed."""

from __future__ import annotations

import os
import sys
from collections import deque
from importlib.util import find_spec

import numpy as np
from tqdm import tqdm

from trianflow.data.frames import Frame
from trianflow.errors import TrianflowError
from trianflow.odometry.live_views import NO_WINDOW, REMEDY, Open3DView, RerunView, Scene, View
from trianflow.odometry.path_so_far import PathSoFar
from trianflow.odometry.pipeline import VisualOdometry
from trianflow.odometry.run import Observer, OdometryRun
from trianflow.odometry.step import Step
from trianflow.visualization.viewer import CONNECTS, OPENS, probe

_KEY_FRAMES = 100  # whose points are shown at most
_SURE = 0.15  # points are shown whose log depth is known better than this


def open_live() -> Observer:
    """A live view as an observer of `run_odometry`: rerun where it is installed, else a window of Open3D.

    Raises:
        TrianflowError: neither is installed, there is no display, or no window can be opened on it.
    """
    rerun = find_spec("rerun") is not None
    if not rerun and find_spec("open3d") is None:
        raise TrianflowError("--live: needs rerun or Open3D: pip install 'trianflow[rerun]' or 'trianflow[view]'")
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise TrianflowError(f"--live: there is no display (DISPLAY is not set); {REMEDY}")
    if rerun:
        probe(CONNECTS, f"--live: the display cannot be reached; {REMEDY}")
        return Live(RerunView())
    probe(CONNECTS + OPENS.format(True), NO_WINDOW)
    return Live(Open3DView())


class Live:
    """An observer that shows every frame; the run goes on where the window is closed.

    Args:
        view: where to.
    """

    def __init__(self, view: View) -> None:
        self._view: View | None = view
        self._path = PathSoFar()
        self._points: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=_KEY_FRAMES)
        self._factor = 1.0

    def observe(self, odometry: VisualOdometry, frame: Frame, step: Step) -> None:
        """Show a frame."""
        self._path.add(odometry, step)
        seen, factor = odometry.seen, odometry.metric.factor
        if seen is not None and seen.advanced:
            if (factor == 1) != (self._factor == 1):  # metres have become known: what was shown has another unit
                self._points.clear()
            self._factor = factor
            sure = seen.structure.select(seen.structure.variance < _SURE**2)
            X_k = factor * sure.points(odometry.camera.K()).numpy()
            X_w = X_k @ step.T_wc[:3, :3].T + step.T_wc[:3, 3]
            self._points.append((X_w, _colors(seen.prepared.image, sure.p.numpy())))
        if self._view is None:
            return
        points, colors = ([part[i] for part in self._points] for i in (0, 1))
        scene = Scene(
            step,
            frame.image if seen is None else seen.prepared.image,
            odometry.camera.K().numpy(),
            self._path.positions,
            np.concatenate([np.zeros((0, 3)), *points]),
            np.concatenate([np.zeros((0, 3), np.uint8), *colors]),
        )
        if not self._view.show(scene):
            self.abandon()
            text = "trianflow: note: the window was closed; tracking goes on, and Ctrl-C ends it"
            tqdm.write(text, file=sys.stderr)  # which leaves a bar whole

    def finish(self, run: OdometryRun, odometry: VisualOdometry) -> list[str]:
        """Close the window; writes nothing."""
        self.abandon()
        return []

    def abandon(self) -> None:
        """Close the window."""
        view, self._view = self._view, None
        if view is not None:
            view.close()


def _colors(image: np.ndarray, p: np.ndarray) -> np.ndarray:
    """`(N, 3)` uint8 RGB of an image, `(H, W)` or `(H, W, 3)`, at pixels `(N, 2)`."""
    column, row = p.round().astype(int).T
    picked = image[row.clip(0, image.shape[0] - 1), column.clip(0, image.shape[1] - 1)]
    return np.repeat(picked[:, None], 3, 1) if picked.ndim == 1 else picked
