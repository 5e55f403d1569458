"""Monocular visual odometry with dense optical flow and real two-view geometry."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trianflow.config import OdometryConfig
    from trianflow.data.frames import Frame, open_frames
    from trianflow.geometry.camera import Camera
    from trianflow.odometry.pipeline import VisualOdometry
    from trianflow.odometry.step import Step, StepStatus
    from trianflow.trajectory import Trajectory

__version__ = "0.1.0"

__all__ = ["Camera", "Frame", "OdometryConfig", "Step", "StepStatus", "Trajectory", "VisualOdometry", "open_frames"]

# where each name lives: imported when it is first asked for, so that `trianflow --help` need not wait for torch
_HOMES = {
    "Camera": "geometry.camera",
    "Frame": "data.frames",
    "OdometryConfig": "config",
    "Step": "odometry.step",
    "StepStatus": "odometry.step",
    "Trajectory": "trajectory",
    "VisualOdometry": "odometry.pipeline",
    "open_frames": "data.frames",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trianflow' has no attribute '{name}'")
    return getattr(import_module(f"trianflow.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
