"""What is done to a frame before it meets another: distortion removed, encoded for the flow, its depth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from trianflow.config import OdometryConfig
from trianflow.data.frames import Frame
from trianflow.data.undistort import Undistorter
from trianflow.depth.interface import DepthEstimator
from trianflow.flow.interface import FlowEstimator
from trianflow.flow.refinement import smoothed
from trianflow.geometry.camera import Camera
from trianflow.odometry.estimators import learned_depth, wants_network_depth


@dataclass(frozen=True)
class Prepared:
    """A frame as the odometry uses it.

    Attributes:
        image: without distortion, `(H, W)` or `(H, W, 3)` uint8.
        encoded: what the flow keeps of it.
        depth: `(H, W)` float32 along z, 0 where unknown; None without.
        predicted: whether the depth is that of a network, in its unit; else it is measured, in metres.
    """

    image: np.ndarray
    encoded: Any
    depth: np.ndarray | None
    predicted: bool = False

    @cached_property
    def smooth(self) -> np.ndarray:
        """The image as matches are refined on it."""
        return smoothed(self.image)


class Preparation:
    """Prepares the frames of one camera.

    The first frame decides for all where depth comes from, so that a trajectory is in metres or in the unit of the
    network, never in both: it is measured, unless a network's is wanted and the first frame carries none.

    Args:
        camera: of the frames.
        config: scale, noise of the depths, and which network predicts depth.
        flow: encodes the images.
        depth: predicts depth; by default the network that the configuration names, loaded when it is needed.

    Attributes:
        camera: of the prepared frames, without distortion.
        depth_source: `depth` (measured) or `network`; empty before the first frame.
    """

    def __init__(
        self, camera: Camera, config: OdometryConfig, flow: FlowEstimator, depth: DepthEstimator | None
    ) -> None:
        self._undistorter = Undistorter(camera) if any(camera.distortion) else None
        self.camera = self._undistorter.camera if self._undistorter else camera
        self.depth_source = ""
        self._config, self._flow, self._depth = config, flow, depth

    @property
    def depth_noise(self) -> float:
        """Error of the depths, share of the depth."""
        return self._config.learned_depth_noise if self.depth_source == "network" else self._config.depth_noise

    def prepare(self, frame: Frame) -> Prepared:
        """A frame that has an image, prepared.

        Raises:
            UsageError, TrianflowError: depth has to be predicted, and the network cannot be loaded.
        """
        image, depth = frame.image, frame.depth
        assert image is not None
        if self._undistorter:
            image = self._undistorter.image(image)
            depth = None if depth is None else self._undistorter.depth(depth)
        if depth is not None and depth.shape != image.shape[:2]:
            depth = None
        if not self.depth_source:
            self.depth_source = "network" if depth is None and wants_network_depth(self._config) else "depth"
        predicted = self.depth_source == "network"
        if predicted:
            if self._depth is None:
                self._depth = learned_depth(self._config)
            depth = self._depth.depth(image)
        return Prepared(image, self._flow.encode(image), depth, predicted)


def with_next(frames: Iterator[Frame]) -> Iterator[tuple[Frame, Frame | None]]:
    """Every frame with the one after it; where reading that fails, the error comes after the frame."""
    current = next(frames, None)
    while current is not None:
        upcoming, error = None, None
        try:
            upcoming = next(frames, None)
        except Exception as e:
            error = e
        yield current, upcoming
        if error is not None:
            raise error
        current = upcoming
