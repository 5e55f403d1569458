"""The instances of a pair under common numbers: of rendered pairs, and of recorded ones with masks beside them."""

from __future__ import annotations

import cv2
import numpy as np

from trianflow.data.frames import FrameSource
from trianflow.data.images import ImageFolder
from trianflow.data.instances import InstanceFolder, match_instances
from trianflow.data.pairs.prepare import Preparation
from trianflow.data.pairs.sources import UnreadablePair
from trianflow.data.pairs.static import MotionMeter
from trianflow.data.synthetic import RenderedPair
from trianflow.errors import TrianflowError, UsageError


def shared_labels(pair: RenderedPair) -> np.ndarray:
    """The instances of a rendered pair, `(2, h, w)` int8: -1 where the other view does not show the object."""
    a, b = pair.instance_a[0].numpy(), pair.instance_b[0].numpy()
    shared = np.intersect1d(a, b)
    return np.stack([np.where((view == 0) | np.isin(view, shared), view, -1) for view in (a, b)]).astype(np.int8)


class RecordedLabels:
    """Instance masks beside the frames of a folder.

    Args:
        folder: of the masks.
        frames: of the images, by whose names the masks are found.
        preparation: what is done to the images.

    Raises:
        UsageError: the frames are those of a video.
    """

    def __init__(self, folder: InstanceFolder, frames: FrameSource, preparation: Preparation) -> None:
        if not isinstance(frames, ImageFolder):
            raise UsageError("instances are found by the names of images: take a folder of images, not a video")
        self._folder, self._preparation = folder, preparation
        self._names = [file.name for file in frames.files[frames.start :]]

    def read(self, a: int, b: int, image_a: np.ndarray, image_b: np.ndarray) -> np.ndarray:
        """The instances of two frames, matched along the flow between the two: `(2, h, w)` int32, see `PairBatch`.

        Args:
            a, b: numbers of the frames in the selection.
            image_a, image_b: their pictures, `(h, w, 3)` RGB uint8.

        Raises:
            UnreadablePair: masks that are missing, cannot be read or have another size than the frames.
        """
        first, second = self._one(a), self._one(b)
        matched = match_instances(first, second, _flow(image_a, image_b))
        return np.stack([matched.labels_a, matched.labels_b])

    def _one(self, number: int) -> np.ndarray:
        camera = self._preparation.source_camera
        try:
            labels = self._folder.read(self._names[number])
        except TrianflowError as error:
            raise UnreadablePair(str(error)) from None
        if not labels.size:
            labels = np.zeros((camera.height, camera.width), np.int32)
        if labels.shape != (camera.height, camera.width):
            sizes = f"{labels.shape[1]}x{labels.shape[0]}, the images are {camera.width}x{camera.height}"
            raise UnreadablePair(f"{self._folder.folder}: instances of {self._names[number]} are {sizes}")
        # zero is unknown to depth and comes back as NaN
        return np.nan_to_num(self._preparation.depth(labels.astype(np.float32))).astype(np.int32)


def _flow(image_a: np.ndarray, image_b: np.ndarray) -> np.ndarray:
    """Rough flow `(h, w, 2)` in pixels, by dense inverse search on small copies."""
    height, width = image_a.shape[:2]
    small = [MotionMeter.small(image) for image in (image_a, image_b)]
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    flow = finder.calc(small[0], small[1], np.empty((1, 1, 2), np.float32))
    scale = np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
    return cv2.resize(flow, (width, height)) * scale
