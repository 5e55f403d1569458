"""`--mesh`: the depth maps of a run fused into a surface, by its final poses."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from trianflow.data.depth import depth_png
from trianflow.data.frames import Frame
from trianflow.errors import TrianflowError
from trianflow.odometry.pipeline import VisualOdometry
from trianflow.odometry.placement import KeyRows, Placement
from trianflow.odometry.run import OdometryRun
from trianflow.odometry.shots import Shot, ShotPicker, triangulated_shot
from trianflow.odometry.step import Step
from trianflow.visualization.mesh import DepthView, fuse_depth, save_mesh
from trianflow.visualization.viewer import import_open3d

# Largest value that a 16-bit depth image may hold, and the quality of the pictures beside them.
_LARGEST, _QUALITY = 65534, 95
# Depth beyond so many times the median of its image is left out: a single huge one would leave no digits to the rest.
_FARTHEST = 20.0


@dataclass(frozen=True)
class _Kept:
    """Where a shot lies in the file: picture, then depth; `scale` stored units make one of depth.

    The unit of the depth and of its `median` is that of the trajectory, or, `of_flow`, the way from the key frame
    before.
    """

    key: int
    T_kc: np.ndarray
    begin: int
    picture: int
    depth: int
    scale: float
    median: float
    of_flow: bool


class MeshWriter:
    """An observer of a run that writes a triangle mesh (PLY) of the surfaces that the depth maps see.

    A key frame whose depth is neither measured nor predicted, but for the first, gets it from the flow to the one
    before. Until the poses are final the depth maps wait in a temporary file, compressed: about 0.3 MB each.

    Args:
        path: the file; its folder must exist.

    Raises:
        TrianflowError: Open3D is missing, or there is no place for temporary files.
    """

    def __init__(self, path: str | Path) -> None:
        import_open3d()
        self.path = Path(path)
        self._rows, self._picker = KeyRows(), ShotPicker()
        self._kept: list[_Kept] = []
        try:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
        except OSError as e:
            raise TrianflowError(f"{tempfile.gettempdir()}: cannot keep depth maps there: {e.strerror}") from e

    def observe(self, odometry: VisualOdometry, frame: Frame, step: Step) -> None:
        """Take a frame.

        Raises:
            OSError: the disk of the temporary file is full.
        """
        self._rows.observe(odometry)
        shot = self._picker.observe(odometry, step)
        of_flow = shot is None or not shot.depth.any()
        if of_flow:
            shot = triangulated_shot(odometry, step)
        if shot is not None and shot.depth.any():
            self._keep(shot, of_flow)

    def finish(self, run: OdometryRun, odometry: VisualOdometry) -> list[str]:
        """Write the mesh.

        Raises:
            TrianflowError: no depth was known, its unit does not relate to the trajectory's, no surface was found,
                or the file cannot be written.
        """
        place, K = self._rows.placement(run, odometry), odometry.camera.K().numpy()
        if not self._kept:
            raise TrianflowError(f"{self.path}: no mesh: nothing was seen from places far enough apart")
        measured = not all(kept.of_flow for kept in self._kept)
        if measured and odometry.metric.carries and not odometry.metric.known:
            raise TrianflowError(f"{self.path}: no mesh: how depth scales the trajectory has not become known")
        medians = [kept.median * _unit(kept, place) for kept in self._kept]
        grid = fuse_depth(lambda: self._views(place, odometry), K, float(np.median(medians)))
        save_mesh(self.path, grid)
        self._file.close()
        return [run.named(self.path)]

    def abandon(self) -> None:
        """Remove the mesh of an earlier run."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _keep(self, shot: Shot, of_flow: bool) -> None:
        median = float(np.median(shot.depth[shot.depth > 0][::16]))
        depth_map = np.where(shot.depth <= _FARTHEST * median, shot.depth, np.float32(0))
        scale = _LARGEST / float(depth_map.max())
        color = np.ascontiguousarray(shot.image[..., ::-1])
        picture = cv2.imencode(".jpg", color, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
        depth = depth_png(depth_map, scale)
        begin = self._file.seek(0, 2)
        self._file.write(picture + depth)
        self._kept.append(_Kept(shot.key, shot.T_kc, begin, len(picture), len(depth), scale, median, of_flow))

    def _views(self, place: Placement, odometry: VisualOdometry) -> Iterator[DepthView]:
        for kept in self._kept:
            self._file.seek(kept.begin)
            image, depth = (_decoded(self._file.read(size)) for size in (kept.picture, kept.depth))
            T_kc = kept.T_kc.copy()
            T_kc[:3, 3] *= place.metres[kept.key] * odometry.stretch(kept.key)
            depth = depth * np.float32(_unit(kept, place) / kept.scale)
            yield DepthView(depth, image[..., ::-1], place.T_wc[kept.key] @ T_kc)


def _unit(kept: _Kept, place: Placement) -> float:
    """What the unit of a shot's depth is in that of the trajectory."""
    if not kept.of_flow:
        return 1.0
    return float(np.linalg.norm(place.T_wc[kept.key, :3, 3] - place.T_wc[kept.key - 1, :3, 3]))


def _decoded(data: bytes) -> np.ndarray:
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert values is not None  # written by ourselves
    return values
