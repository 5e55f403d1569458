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
from scipy.spatial.transform import Rotation
from torch import Tensor

from trianflow.config import OdometryConfig
from trianflow.data.frames import Frame
from trianflow.depth.interface import DepthEstimator
from trianflow.errors import TrianflowError, UsageError
from trianflow.flow.interface import FlowEstimator, FlowPair
from trianflow.flow.matches import select_matches
from trianflow.flow.occlusion import flow_quality
from trianflow.geometry.camera import Camera, invert_pose
from trianflow.odometry.estimators import Estimators
from trianflow.odometry.loops import LoopCloser
from trianflow.odometry.metric import MetricScale
from trianflow.odometry.motion import MotionSolver, noise_of
from trianflow.odometry.pair import Guess, KeyFrame, Motion, Pair
from trianflow.odometry.pose_graph import corrected_trajectory, optimise_pose_graph
from trianflow.odometry.preparation import Preparation, with_next
from trianflow.odometry.speed import SpeedFile
from trianflow.odometry.step import Step, StepStatus
from trianflow.odometry.structure import Structure, follow, measure_depth
from trianflow.odometry.window import SlidingWindow
from trianflow.pose.two_view import solve_two_view
from trianflow.trajectory import Trajectory

# Smaller images than this have no optical flow.
_MIN_SIZE = 16
# Points whose log depth is known better than this take part in the search for loops.
_SURE = 0.1


class VisualOdometry:
    """Monocular (or RGB-D) visual odometry, a frame at a time.

    Args:
        camera: of the frames; distortion is removed.
        config: preset or own settings; the accurate preset by default.
        flow: optical flow; by default what the configuration names.
        depth: of frames that carry none, for the scale `depth`; by default that of the configured weights, loaded
            when the first frame carries none.

    Raises:
        UsageError: weights, device or file of speeds that do not exist, or loops asked for together with metres.

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
    ) -> None:
        self.config = config or OdometryConfig()
        self._flow = flow or Estimators.of(self.config, measured_depth=True).flow
        self._measures = False  # whether a frame has carried depth
        self._preparation = Preparation(camera, self.config, self._flow, depth)
        self.camera = self._preparation.camera
        self._K = self.camera.K()
        self._solver = MotionSolver(self._K, self.config, self._preparation)
        self._key: KeyFrame | None = None
        self._structure = Structure.empty()
        self._window: SlidingWindow | None = None
        speed = SpeedFile.load(self.config.speed) if self.config.speed is not None else None
        wanted = self.config.camera_height is not None or speed is not None
        self._metric = MetricScale(self._K, self.config.camera_height, speed) if wanted else None
        if wanted and self.config.loops:
            raise UsageError("loops do not go with metres yet: leave out loops, or camera_height and speed")
        self._closer = LoopCloser(self._K) if self.config.loops else None
        self._breaks: set[int] = set()  # rows before which the structure was lost
        self._size = (self.camera.width, self.camera.height)
        self._last_image: np.ndarray | None = None
        self._last_T_wc = np.eye(4)  # of the last image that was used
        self._measured: Step | None = None
        self._lost = 0  # frames in a row
        self._advances = True  # the last frame became the key frame, and so may the next
        self._ahead: tuple[Frame, Future[Guess]] | None = None
        self._speed = 0.0  # when a translation was last measured, units a second
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="look-ahead")
        self._times: list[float] = []
        self._last_pose = np.eye(4)
        self._key_poses: list[np.ndarray] = []  # T_wc, the latest of them still subject to the window
        self._relative: list[tuple[int, np.ndarray]] = []  # key frame and pose in it, of each row
        self._velocity: tuple[np.ndarray, np.ndarray] = (
            np.zeros(3),
            np.zeros(3),
        )  # radians and units a second

    @classmethod
    def from_pretrained(
        cls, weights: str = "default", *, camera: Camera, config: OdometryConfig | None = None
    ) -> VisualOdometry:
        """Odometry on the flow of a network, and scaled by its depth where the weights have that too.

        Args:
            weights: name of bundled weights, or a .safetensors file.
            camera: of the frames.
            config: all other settings.

        Raises:
            UsageError: no weights are called so, or they hold no flow network.
            TrianflowError: they cannot be read.
        """
        config, estimators = Estimators.pretrained(weights, config or OdometryConfig())
        return cls(camera, config, estimators.flow, estimators.depth)

    @property
    def trajectory(self) -> Trajectory:
        """All poses so far, as the key frames after them have corrected them."""
        if self._metric is not None:
            poses = self._metric.corrected(np.array(self._key_poses), self._relative)
        else:
            poses = np.array([self._key_poses[key] @ T for key, T in self._relative]).reshape(-1, 4, 4)
        return Trajectory(np.array(self._times, dtype=np.float64), poses)

    @property
    def radial(self) -> float | None:
        """Residual radial distortion as estimated (`geometry.radial.straighten`); None without a window."""
        return None if self._window is None else self._window.radial

    @property
    def loops(self) -> int:
        """Number of loops that were found."""
        return 0 if self._closer is None else len(self._closer.loops)

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
        if step.status not in (StepStatus.LOST, StepStatus.BRIDGED, StepStatus.DUPLICATE):
            self._measure_velocity(step)
        self._times.append(step.time)
        self._last_pose = step.T_wc
        if not self._key_poses:
            self._key_poses.append(step.T_wc)
        T_kc = np.linalg.inv(self._key_poses[-1]) @ step.T_wc
        self._relative.append((len(self._key_poses) - 1, T_kc))
        return step if self._metric is None else replace(step, T_wc=self._metric.place(T_kc))

    def _track(self, frame: Frame, upcoming: Frame | None) -> Step:
        image = frame.image
        row = Step(frame.index, frame.time, self._predict(frame.time), StepStatus.BRIDGED)
        guess = self._guess_for(frame)
        if image is None:
            return replace(row, note=frame.problem or "no image")
        if (problem := self._size_problem(image)) is not None:
            return replace(row, note=problem)
        if self._last_image is not None and np.array_equal(image, self._last_image):
            return replace(row, T_wc=self._last_T_wc.copy(), status=StepStatus.DUPLICATE, note="same image as before")
        if min(image.shape[:2]) < _MIN_SIZE:
            raise TrianflowError(f"frames of {image.shape[1]}x{image.shape[0]} pixels are too small for optical flow")
        self._last_image, self._size = image, image.shape[1::-1]
        prepared = guess.prepared if guess else self._preparation.prepare(frame)
        encoded = prepared.encoded
        if prepared.depth is not None and not self._measures:
            self._measures = True
            if self.config.scale == "auto":
                self._window = None
        if self._key is None:
            self._key = KeyFrame(frame.index, frame.time, prepared, torch.from_numpy(row.T_wc))
            self._last_T_wc = row.T_wc
            if not self._key_poses:
                self._key_poses.append(row.T_wc)
            measures = self._measures and self.config.scale in ("auto", "depth")
            if measures and self._preparation.depth_source == "depth":
                self._metric = None  # depth tells metres better
            if self.config.window.frames and self.config.scale in ("auto", "structure") and not measures:
                self._window = SlidingWindow(self._K, self.config.window)
                self._window.restart(len(self._key_poses) - 1, invert_pose(self._key.T_wc))
            return replace(row, status=StepStatus.FIRST)
        key = self._key
        right = guess is not None and guess.start is key.prepared.encoded
        flow = guess.flow if guess is not None and right else self._flow.flow(key.prepared.encoded, encoded)
        if self._is_worth_a_look(upcoming, image):
            assert upcoming is not None
            start = encoded if self._advances else key.prepared.encoded
            self._ahead = (upcoming, self._pool.submit(self._look_ahead, start, upcoming))
        pair = self._compare(flow)
        predicted = invert_pose(torch.from_numpy(self._predict(frame.time))) @ key.T_wc
        travelled = self._speed * max(frame.time - key.time, 0.0)
        motion = self._solver.solve(pair, key, self._structure, predicted, travelled)
        T_wc = key.T_wc @ invert_pose(motion.T_ck)
        if motion.measured:
            self._filter(pair, motion)
            if motion.scale_source != "velocity" and frame.time > key.time:
                self._speed = float(motion.T_ck[:3, 3].norm()) / (frame.time - key.time)
        self._lost = self._lost + 1 if motion.status is StepStatus.LOST else 0
        self._advances = self._is_new_key(pair, motion)
        shares: dict[str, float] = {}
        if self._advances:
            T_wc, shares = self._advance(pair, motion, T_wc, key.time, frame.time)
            self._key = KeyFrame(frame.index, frame.time, prepared, T_wc)
            self._look_for_loops()
        self._last_T_wc = T_wc.numpy()
        return replace(
            row,
            T_wc=T_wc.numpy(),
            status=motion.status,
            matches=int(pair.matches.valid.sum()),
            inlier_ratio=motion.inlier_ratio,
            parallax=float(pair.view.parallax),
            scale=float((T_wc[:3, 3] - key.T_wc[:3, 3]).norm()),
            scale_source=motion.scale_source,
            shares=shares,
            key_frame=key.index,
            note=motion.note,
        )

    def _advance(
        self, pair: Pair, motion: Motion, T_wc: Tensor, start: float, end: float
    ) -> tuple[Tensor, dict[str, float]]:
        """Make the current frame the key frame: the structure moves on, the window adjusts, metres are measured.

        Returns:
            The pose of the frame, and the shares of the sources of its scale.
        """
        lost = motion.status is StepStatus.LOST
        moved = self._structure.moved(motion.T_ck, self._K, *self._follow(pair.flow))
        self._structure = Structure.empty() if lost else moved
        number = len(self._key_poses)
        if lost:
            self._breaks.add(len(self._times))
        if self._window is not None and lost:
            self._window.restart(number, invert_pose(T_wc))
        elif self._window is not None:
            step = self._window.add(number, motion.T_ck, pair)
            self._structure = self._structure.scaled(step.scale)
            self._speed *= step.scale
            T_wc = invert_pose(step.T_cw)
            for key, T_cw in self._window.poses.items():
                if key < number:
                    self._key_poses[key] = invert_pose(T_cw).numpy()
        self._key_poses.append(T_wc.numpy())
        if self._metric is None:
            return T_wc, {}
        T_step = np.linalg.inv(self._key_poses[-2]) @ self._key_poses[-1]
        T_ba = torch.from_numpy(np.linalg.inv(T_step))
        measured = self._metric.measure(pair, T_ba, start, end) if motion.measured else {}
        return T_wc, self._metric.advance(T_step, measured, lost).shares

    def _look_for_loops(self) -> None:
        """Compare the new key frame with the places seen before."""
        if self._closer is None or self._key is None:
            return
        sure = self._structure.variance < _SURE**2
        p, depth = self._structure.p[sure].numpy(), self._structure.log_depth[sure].exp().numpy()
        self._closer.add(len(self._times), self._key.prepared.image, self._key.T_wc.numpy(), p, depth)

    def closed(self) -> Trajectory | None:
        """The trajectory with its loops closed, in its own unit; None where none was found or looked for."""
        if self._closer is None or not self._closer.loops:
            return None
        raw = self.trajectory
        rows = self._closer.indices
        nodes = {node for node, row in enumerate(rows) for cut in self._breaks if rows[node - 1] < cut <= row and node}
        graph = optimise_pose_graph(raw.T_wc[rows], self._closer.loops, sorted(nodes))
        if not any(graph.kept):
            return None
        return Trajectory(raw.times, corrected_trajectory(raw.T_wc, rows, graph.S_wc))

    def _size_problem(self, image: np.ndarray) -> str | None:
        width, height = self._size
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

    def _measure_velocity(self, step: Step) -> None:
        """Velocity between the last two poses that were measured, not guessed."""
        if self._measured is not None and step.time > self._measured.time:
            T = np.linalg.inv(self._measured.T_wc) @ step.T_wc
            seconds = step.time - self._measured.time
            self._velocity = (Rotation.from_matrix(T[:3, :3]).as_rotvec() / seconds, T[:3, 3] / seconds)
        self._measured = step

    def _predict(self, at: float) -> np.ndarray:
        """Pose by constant velocity since the last row."""
        if not self._times:
            return np.eye(4)
        seconds = max(at - self._times[-1], 0.0)
        T = np.eye(4)
        T[:3, :3] = Rotation.from_rotvec(self._velocity[0] * seconds).as_matrix()
        T[:3, 3] = self._velocity[1] * seconds
        return self._last_pose @ T

    def _follow(self, flow: FlowPair) -> tuple[Tensor, Tensor]:
        return follow(self._structure.p, flow, self.config.matches.alpha / 3, self.config.matches.beta)

    def _compare(self, flow: FlowPair) -> Pair:
        settings = self.config.matches
        stride = settings.stride_for(*flow.flow_ab.shape[-2:])
        quality = flow_quality(flow, settings.alpha, settings.beta, stride)
        matches = select_matches(
            flow.flow_ab,
            quality.score,
            settings.count,
            settings.ratio,
            settings.cell,
            stride,
            self.config.seed,
        )
        view = solve_two_view(
            matches.p_a.double(),
            matches.p_b.double(),
            self._K,
            matches.valid,
            self.config.two_view,
            self.config.seed,
        )
        overlap = float((quality.consistent & (quality.visible > 0.5)).float().mean())
        return Pair(flow, matches, view, overlap, *self._follow(flow))

    def _filter(self, pair: Pair, motion: Motion) -> None:
        """Fuse this pair's depths into the structure, and add points where there are none."""
        noise = noise_of(pair)
        log_depth, variance = measure_depth(self._structure.p, pair.p_b, motion.T_ck, self._K, noise)
        log_depth = torch.where(pair.followed, log_depth, torch.nan)
        self._structure = self._structure.fused(log_depth, variance)
        inlier = pair.view.inlier[0]
        p_a, p_b = pair.matches.p_a[0].double()[inlier], pair.matches.p_b[0].double()[inlier]
        log_depth, variance = measure_depth(p_a, p_b, motion.T_ck, self._K, noise)
        height, width = pair.flow.flow_ab.shape[-2:]
        spacing = math.sqrt(width * height / (1.5 * self.config.points))
        self._structure = self._structure.extended(p_a, log_depth, variance, self.config.points, spacing)

    def _is_new_key(self, pair: Pair, motion: Motion) -> bool:
        """Whether the current frame is to be the next key frame."""
        if motion.status is StepStatus.LOST:
            return self._lost >= 2
        if motion.status is StepStatus.STATIC:
            return False
        if self.config.scale == "unit" and motion.measured:
            return True
        width = pair.flow.flow_ab.shape[-1]
        far = float(pair.view.motion) > self.config.key_motion * width or pair.overlap < self.config.key_overlap
        return far or (motion.measured and float(pair.view.parallax) > self.config.key_parallax * width)
