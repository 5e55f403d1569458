"""Frames to a trajectory: flow, matches, two-view geometry, scale, key frames; one row a frame, constant memory."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trianflow.config import OdometryConfig
from trianflow.data.frames import Frame
from trianflow.depth.interface import DepthEstimator
from trianflow.errors import TrianflowError
from trianflow.flow.interface import FlowEstimator
from trianflow.flow.refinement import Refiner
from trianflow.geometry.camera import Camera, invert_pose
from trianflow.odometry.estimators import Estimators, learned_pose
from trianflow.odometry.loops import Closed, LoopCloser
from trianflow.odometry.metric import MetricScale
from trianflow.odometry.motion import MotionSolver
from trianflow.odometry.pair import Guess, KeyFrame, Motion, Pair, Seen
from trianflow.odometry.preparation import Preparation, with_next
from trianflow.odometry.rows import Rows
from trianflow.odometry.step import Step, StepStatus
from trianflow.odometry.structure import Structure
from trianflow.odometry.window import SlidingWindow
from trianflow.pose.learned import PoseEstimator
from trianflow.trajectory import Trajectory

# Smaller images than this have no optical flow.
_MIN_SIZE = 16
# Points whose log depth is known better than this take part in the search for loops.
_SURE = 0.1
# Of measured depth, every so many rows and columns do.
_EVERY = 8


class VisualOdometry:
    """Monocular (or RGB-D) visual odometry, a frame at a time.

    Args:
        camera: of the frames; distortion is removed.
        config: preset or own settings; the accurate preset by default.
        flow: optical flow; by default what the configuration names.
        depth: of frames that carry none, for the scale `depth`; by default that of the configured weights, loaded
            when the first frame carries none.
        pose: of two neighbouring frames, instead of geometry; by default that of the configured weights where the
            configuration wants it.

    Attributes:
        metric: what is known of metres.
        seen: what was made of the last frame; None where it was not used (no image, or the same again).

    Raises:
        UsageError: weights, device or file of speeds that do not exist.
        TrianflowError: the speeds cannot be read.

    Example:
        >>> vo = VisualOdometry(Camera.from_file("calib.txt"))  # doctest: +SKIP
        >>> for frame in open_frames("drive.mp4"):  # doctest: +SKIP
        ...     print(vo.track(frame).T_wc)
    """

    def __init__(
        self,
        camera: Camera,
        config: OdometryConfig | None = None,
        flow: FlowEstimator | None = None,
        depth: DepthEstimator | None = None,
        pose: PoseEstimator | None = None,
    ) -> None:
        self.config = config or OdometryConfig()
        self._flow = flow or Estimators.of(self.config, measured_depth=True).flow
        self.seen: Seen | None = None
        self._measures = False  # whether a frame has carried depth
        self._preparation = Preparation(camera, self.config, self._flow, depth)
        self.camera = self._preparation.camera
        self._K = self.camera.K()
        self._pose = pose or (learned_pose(self.config) if self.config.pose == "posenet" else None)
        self._solver = MotionSolver(self._K, self.config, self._preparation, self._pose)
        self._key: KeyFrame | None = None
        self._structure = Structure.empty()
        self._window: SlidingWindow | None = None
        self.metric = MetricScale(self._K, self.config, self._preparation)
        self._closer = LoopCloser(self._K) if self.config.loops else None
        self._breaks: set[int] = set()  # rows before which the structure was lost
        self._last_image: np.ndarray | None = None
        self._last_T_wc = np.eye(4)  # of the last image that was used
        self._lost = 0  # frames in a row
        self._advances = True  # the last frame became the key frame, and so may the next
        self._ahead: tuple[Frame, Future[Guess]] | None = None
        self._speed = 0.0  # when a translation was last measured, units a second
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="look-ahead")
        self._rows = Rows()

    @classmethod
    def from_pretrained(
        cls, weights: str = "driving", *, camera: Camera, config: OdometryConfig | None = None
    ) -> VisualOdometry:
        """Odometry on a network's flow, carried on by DIS, and scaled by its depth, as far as the weights have them.

        Args:
            weights: name of bundled weights, or a .safetensors file.
            camera: of the frames.
            config: all other settings; a flow of `pwc` in it is kept.

        Raises:
            UsageError: no weights are called so, or they hold neither flow nor depth.
            TrianflowError: they cannot be read.
        """
        config, estimators = Estimators.pretrained(weights, config or OdometryConfig())
        return cls(camera, config, estimators.flow, estimators.depth)

    @property
    def trajectory(self) -> Trajectory:
        """All poses so far, as the key frames after them have corrected them."""
        rows = self._rows
        if self.metric.known:
            poses = self.metric.corrected(self.key_poses, [rows[i] for i in range(len(rows))])
        else:
            poses = np.array([rows.pose(i) for i in range(len(rows))]).reshape(-1, 4, 4)
        return Trajectory(np.array(rows.times, dtype=np.float64), poses)

    @property
    def key_poses(self) -> np.ndarray:
        """`(N, 4, 4)` camera to world of all key frames so far, before metres; the latest may still change."""
        return np.array(self._rows.key_poses)

    def stretch(self, key: int) -> float:
        """How many times as long as it came the step from a key frame to the next is, and what lies between the two."""
        return self._rows.stretch(key)

    @property
    def radial(self) -> float | None:
        """Residual radial distortion as estimated (`geometry.radial.straighten`); None without a window."""
        return None if self._window is None else self._window.radial

    def stream(self, frames: Iterable[Frame]) -> Iterator[Step]:
        """`track` for each of many frames, with the next flow computed while a pose is solved: same steps, sooner.

        Args:
            frames: in order of time; read one ahead.
        """
        for frame, upcoming in with_next(iter(frames)):
            yield self.track(frame, upcoming)

    def track(self, frame: Frame, upcoming: Frame | None = None) -> Step:
        """The pose of the next frame.

        Args:
            frame: in order of time, of the camera's image size. A frame without an image, or of another size, is
                bridged by constant velocity.
            upcoming: the frame of the next call where it is known; its flow is computed in the background.

        Returns:
            `Step`, one for every call.
        """
        begin = time.perf_counter()
        step = self._track(frame, upcoming)
        step = replace(step, milliseconds=1e3 * (time.perf_counter() - begin))
        guessed = step.status in (StepStatus.LOST, StepStatus.BRIDGED, StepStatus.DUPLICATE)
        T_kc = self._rows.add(step.time, step.T_wc, not guessed)
        if not self.metric.known:
            return step
        scale = step.scale * self.metric.factor
        return replace(step, T_wc=self.metric.place(T_kc), scale=scale, scale_sigma=self.metric.sigma)

    def _track(self, frame: Frame, upcoming: Frame | None) -> Step:
        image = frame.image
        row = Step(frame.index, frame.time, self._rows.predict(frame.time), StepStatus.BRIDGED)
        guess = self._guess_for(frame)
        self.seen = None
        if image is None:
            return replace(row, note=frame.problem or "no image")
        if (problem := self._size_problem(image)) is not None:
            return replace(row, note=problem)
        if self._last_image is not None and np.array_equal(image, self._last_image):
            return replace(row, T_wc=self._last_T_wc.copy(), status=StepStatus.DUPLICATE, note="same image as before")
        if min(image.shape[:2]) < _MIN_SIZE:
            raise TrianflowError(f"frames of {image.shape[1]}x{image.shape[0]} pixels are too small for optical flow")
        if not self.camera.width:
            self.camera = replace(self.camera, width=image.shape[1], height=image.shape[0])
        self._last_image = image
        prepared = guess.prepared if guess else self._preparation.prepare(frame)
        encoded = prepared.encoded
        self._measures |= prepared.depth is not None
        if self._key is None:
            self._key = KeyFrame(frame.index, frame.time, prepared, torch.from_numpy(row.T_wc))
            self._last_T_wc = row.T_wc
            by_depth = self.config.scale == "auto" and prepared.depth is not None
            if self.config.window.frames and self.config.scale != "unit" and not by_depth and self._pose is None:
                self._window = SlidingWindow(self._K, self.config.window)
                self._window.restart(0, invert_pose(self._key.T_wc))
                self._solver.carries = True
                self.metric.carries = self.metric.wants_metres or not self._has_depth or prepared.depth is None
            self.seen = Seen(prepared, None, None, True, 0, self._structure)
            return replace(row, status=StepStatus.FIRST)
        key = self._key
        right = guess is not None and guess.start is key.prepared.encoded
        flow = guess.flow if guess is not None and right else self._flow.flow(key.prepared.encoded, encoded)
        if self._is_worth_a_look(upcoming, image):
            assert upcoming is not None
            start = encoded if self._advances else key.prepared.encoded
            self._ahead = (upcoming, self._pool.submit(self._look_ahead, start, upcoming))
        refines = self.config.matches.refine
        refiner = Refiner(key.prepared.smooth, prepared.smooth, flow.flow_ab) if refines else None
        pair = self._solver.compare(flow, self._structure, refiner)
        predicted = invert_pose(torch.from_numpy(self._rows.predict(frame.time))) @ key.T_wc
        travelled = self._speed * max(frame.time - key.time, 0.0)
        motion = self._solver.solve(pair, key, self._structure, predicted, travelled, self._depth_unit(), prepared)
        if motion.status in (StepStatus.PNP, StepStatus.PLANAR):
            pair = pair.explained_by(motion.T_ck, self._K, self.config.two_view.threshold)
        T_wc = key.T_wc @ invert_pose(motion.T_ck)
        if motion.measured:
            self._structure = self._solver.learn(self._structure, pair, motion)
            if motion.scale_source != "velocity" and frame.time > key.time:
                self._speed = float(motion.T_ck[:3, 3].norm()) / (frame.time - key.time)
        self._lost = self._lost + 1 if motion.status is StepStatus.LOST else 0
        self._advances = self._is_new_key(pair, key, motion)
        told: dict[str, Any] = {"scale": float(motion.T_ck[:3, 3].norm())}
        if self._advances:
            T_wc, news = self._advance(pair, key, motion, T_wc, frame.time)
            told |= news
            self._key = KeyFrame(frame.index, frame.time, prepared, T_wc)
            self._look_for_loops()
        self._last_T_wc = T_wc.numpy()
        self.seen = Seen(prepared, key, pair, self._advances, len(self._rows.key_poses) - 1, self._structure)
        return replace(
            row,
            T_wc=T_wc.numpy(),
            status=motion.status,
            matches=int(pair.matches.valid.sum()),
            inlier_ratio=motion.inlier_ratio,
            parallax=float(pair.view.parallax),
            scale_source=motion.scale_source,
            key_frame=key.index,
            note=motion.note,
            **told,
        )

    def _advance(
        self, pair: Pair, key: KeyFrame, motion: Motion, T_wc: Tensor, end: float
    ) -> tuple[Tensor, dict[str, Any]]:
        """Make the current frame the key frame: the structure moves on, the window adjusts, metres are measured.

        Returns:
            The pose of the frame, and what is known of it beside: fields of `Step`.
        """
        lost = motion.status is StepStatus.LOST
        moved = self._structure.moved(motion.T_ck, self._K, *self._solver.follow(self._structure, pair.flow))
        self._structure = Structure.empty() if lost else moved
        number, radial, came = len(self._rows.key_poses), 0.0, 0.0
        told: dict[str, Any] = {}
        guessed = motion.measured and motion.scale_source in ("velocity", "unit") and self.config.scale != "unit"
        broken = lost or (guessed and number > 1)
        if self._window is not None and lost:
            self._window.restart(number, invert_pose(T_wc))
        elif self._window is not None:
            depth = None if self.metric.carries else key.prepared.depth  # then all is in metres
            step = self._window.add(number, motion.T_ck, pair, depth, self._preparation.depth_noise)
            broken &= not step.carried
            came = float(motion.T_ck[:3, 3].norm()) * step.carried
            self._structure = self._structure.scaled(step.scale)
            self._speed *= step.scale
            T_wc = invert_pose(step.T_cw)
            for older, T_cw in self._window.poses.items():
                if older < number:
                    self._rows.key_poses[older] = invert_pose(T_cw).numpy()
            radial, told = self._window.radial, {"tracks": step.points, "window": step.note}
        if broken:
            self._breaks.add(len(self._rows))
        T_step = self._rows.add_key(T_wc.numpy(), came)
        told["scale"] = float(np.linalg.norm(T_step[:3, 3]))
        T_ba = torch.from_numpy(np.linalg.inv(T_step))
        wanted = motion.measured and not self.in_metres
        measured = self.metric.measure(pair, key, T_ba, end, radial) if wanted else {}
        fused = self.metric.advance(T_step, measured, broken)
        if math.isfinite(fused.sigma):
            told["shares"] = fused.shares
        return T_wc, told

    def _look_for_loops(self) -> None:
        """Compare the new key frame with the places seen before."""
        if self._closer is None or self._key is None:
            return
        seen = self._key.prepared
        unit, metres = self._depth_unit(), None
        if seen.depth is not None and unit is not None and self._has_depth:
            metres = 1 / unit
            row, column = (seen.depth[::_EVERY, ::_EVERY] > 0).nonzero()
            p, depth = _EVERY * np.stack([column, row], 1), unit * seen.depth[_EVERY * row, _EVERY * column]
        else:
            sure = self._structure.variance < _SURE**2
            p, depth = self._structure.p[sure].numpy(), self._structure.log_depth[sure].exp().numpy()
        self._closer.add(len(self._rows), seen.image, self._key.T_wc.numpy(), p.astype(np.float64), depth, metres)

    def closed(self) -> Closed | None:
        """The trajectory with its loops closed, in its own unit; None where none was found or looked for."""
        if self._closer is None:
            return None
        metres = None
        if self.metric.known:
            steps = self.metric.metres(self.key_poses)
            metres = np.array([steps[max(self._rows[i][0] - 1, 0)] for i in range(len(self._rows))])
        elif self._has_depth:
            metres = np.ones(len(self._rows))
        free = self._preparation.depth_source == "network" and not self.metric.wants_metres  # its unit is no metre
        return self._closer.closed(self.trajectory, self._breaks, metres, metres is not None and not free)

    @property
    def in_metres(self) -> bool:
        """Whether the unit of the trajectory itself is the metre, that of measured depth."""
        return not self.metric.carries and self._has_depth

    @property
    def _has_depth(self) -> bool:
        """Whether measured depth tells the scale."""
        return self._measures and self._preparation.depth_source == "depth" and self.config.scale in ("auto", "depth")

    def _depth_unit(self) -> float | None:
        """Of the depth source, in units of the trajectory; None where it is not for use, or not to be compared yet."""
        if self.config.scale not in ("auto", "depth"):
            return None
        if not self.metric.carries:
            return 1.0
        if self.metric.known:
            return 1 / self.metric.factor
        return None if len(self._structure) else 1.0

    def _size_problem(self, image: np.ndarray) -> str | None:
        width, height = self.camera.width, self.camera.height
        if not width or image.shape[1::-1] == (width, height):
            return None
        return f"size {image.shape[1]}x{image.shape[0]} differs from {width}x{height}"

    def _is_worth_a_look(self, upcoming: Frame | None, image: np.ndarray) -> bool:
        """Whether the flow to the next frame will be wanted."""
        if upcoming is None or upcoming.image is None or self._size_problem(upcoming.image) is not None:
            return False
        return not np.array_equal(upcoming.image, image)

    def _guess_for(self, frame: Frame) -> Guess | None:
        """The flow computed ahead, if it is for this frame; waited for in any case, as a flow is not re-entrant."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return None
        if ahead[0] is frame:
            return ahead[1].result()
        ahead[1].exception()
        return None

    def _look_ahead(self, start: Any, frame: Frame) -> Guess:
        """The flow to a coming frame from what its key frame is likely to be."""
        prepared = self._preparation.prepare(frame)
        return Guess(start, prepared, self._flow.flow(start, prepared.encoded))

    def _is_new_key(self, pair: Pair, key: KeyFrame, motion: Motion) -> bool:
        """Whether the current frame is to be the next key frame."""
        if motion.status is StepStatus.LOST:
            return self._lost >= 2
        if motion.status is StepStatus.STATIC:
            return False
        if self._pose is not None or (self.config.scale == "unit" and motion.measured):
            return True
        width = pair.flow.flow_ab.shape[-1]
        far = float(pair.view.motion) > self.config.key_motion * width
        by_structure = self.metric.carries or key.prepared.depth is None  # how long the step is
        far |= min(pair.overlap, pair.arriving if by_structure else 1.0) < self.config.key_overlap
        return far or (motion.measured and pair.near_parallax(motion.T_ck, self._K) > self.config.key_parallax * width)
