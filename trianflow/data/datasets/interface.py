"""What every dataset is to the rest: sequences of frames with a camera and whatever truth there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trianflow.data.frames import FrameSource
from trianflow.data.images import ImageFolder
from trianflow.geometry.camera import Camera
from trianflow.trajectory import Trajectory


@dataclass(frozen=True)
class FlowTruth:
    """True optical flow of a frame and the next one.

    Attributes:
        flow_ab: `(H, W, 2)` float32 pixels, x first; NaN where unknown. All that is known, occluded pixels too.
        visible: `(H, W)` bool: the pixel is seen in the next frame as well; None where the dataset does not say.
    """

    flow_ab: np.ndarray
    visible: np.ndarray | None = None


class DatasetSequence:
    """Frames that follow one another, taken by one camera, with the truth that the dataset has.

    Subclasses give what they have by overriding `depth` and `depth_file`, `flow`, `instances` or `speed`. Files are
    opened when they are asked for; objects of this class pickle.

    Args:
        name: unique in the dataset and the same on every machine; may hold slashes. Prepared data lies under it.
        frames: all of them, with stride 1; each carries its time. One of another size than the camera's has no image.
        camera: of the frames as they are, with their size and distortion.
        poses: of this camera, camera to world, metres, at the times of frames; None if unknown.
        problems: what is wrong with files of this sequence or missing, one line each, naming the file and what to do
            about it.
    """

    #: whether the frames follow one another in time, so that two of them may look the same; else they are unrelated
    consecutive = True
    #: the numbers in the file names of the frames, rising; None where the files are not numbered
    numbers: Sequence[int] | None = None
    #: the numbers beside the camera by which depth is made of its files: a scale, or where the laser scanner is
    depth_settings: Sequence[float] = ()
    #: what else should be known, where nothing is lost by it or the dataset itself is so; one line each
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        frames: FrameSource,
        camera: Camera,
        poses: Trajectory | None = None,
        problems: tuple[str, ...] = (),
    ) -> None:
        self.name, self.frames, self.camera = name, frames, camera
        self.poses, self.problems = poses, problems
        frames._size = camera.width, camera.height

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.frames)

    def number(self, index: int) -> int:
        """The number in the file name of a frame where the dataset numbers its files, else the index."""
        return index if self.numbers is None else self.numbers[index]

    def listed(self, index: int) -> tuple[Path, float]:
        """The file of a frame, which tells it from others, and its time in seconds: nothing is read."""
        assert isinstance(self.frames, ImageFolder)
        return self.frames.files[index], self.frames.times[index]

    def depth_file(self, index: int) -> Path | None:
        """The file that the depth of a frame is made of, which may not be there; None where there is no depth."""
        return None

    def depth(self, index: int) -> np.ndarray | None:
        """True depth of a frame: `(H, W)` float32 metres along z, 0 where unknown; None where there is none.

        Raises:
            TrianflowError: its file is missing or cannot be read.
        """
        return None

    def scoring_depth(self, index: int) -> np.ndarray | None:
        """`depth` as the published figures of the dataset were computed with, where that is something else."""
        return self.depth(index)

    def flow(self, index: int) -> FlowTruth | None:
        """True flow from a frame to the next one, or None; errors as `depth`."""
        return None

    def instances(self, index: int) -> np.ndarray | None:
        """Objects of a frame: `(H, W)` int32, 0 is background, or None; errors as `depth`."""
        return None

    def speed(self, index: int) -> float | None:
        """Speed over ground when a frame was taken, metres a second, or None; errors as `depth`."""
        return None


@dataclass(frozen=True)
class DatasetContent:
    """What a reader found in a folder.

    Attributes:
        sequences: usable ones, in natural order of their names.
        problems: of sequences that cannot be used at all, one line each: what is missing or wrong, in which file, and
            what to do about it. Never a reason to stop as long as one sequence is usable.
        notes: what else should be known, where nothing is lost by it; one line each.
        root: the folder that was opened.
    """

    sequences: tuple[DatasetSequence, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    root: Path = Path()
