"""Monocular visual odometry with dense optical flow and real two-view geometry."""

from trianflow.config import OdometryConfig
from trianflow.data.frames import Frame, open_frames
from trianflow.geometry.camera import Camera
from trianflow.odometry.pipeline import VisualOdometry
from trianflow.odometry.step import Step, StepStatus
from trianflow.trajectory import Trajectory

__version__ = "0.1.0"

__all__ = [
    "Camera",
    "Frame",
    "OdometryConfig",
    "Step",
    "StepStatus",
    "Trajectory",
    "VisualOdometry",
    "open_frames",
]
