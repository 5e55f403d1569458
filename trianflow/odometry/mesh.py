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
from trianflow.odometry.shots import Shot, ShotPicker
from trianflow.odometry.step import Step
from trianflow.visualization.mesh import DepthView, fuse_depth, save_mesh
from trianflow.visualization.viewer import import_open3d

NEEDS_DEPTH = "a mesh needs depth: measured with --depth DIR, or of the network with --scale depth"
# Largest value that a 16-bit depth image may hold, and the quality of the pictures beside them.
_LARGEST, _QUALITY = 65534, 95


@dataclass(frozen=True)
class _Kept:
    """Where a shot lies in the file: picture, then depth; `scale` stored units make one of depth."""

    key: int
    T_kc: np.ndarray
    begin: int
    picture: int
    depth: int
    scale: float


class MeshWriter:
    """An observer of a run that writes a triangle mesh (PLY) of the surfaces that the depth maps see.

    Until the poses are final the depth maps wait in a temporary file, compressed: about 0.3 MB each.

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
        self._medians: list[float] = []
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
        shot = self._picker.observe(odometry, frame, step)
        if shot is not None and shot.depth.any():
            self._keep(shot)

    def finish(self, run: OdometryRun, odometry: VisualOdometry) -> list[str]:
        """Write the mesh.

        Raises:
            TrianflowError: there was no depth, its unit does not relate to the trajectory's, no surface was found, or
                the file cannot be written.
        """
        if not self._kept:
            raise TrianflowError(f"{self.path}: no mesh: {NEEDS_DEPTH}")
        if odometry.metric.carries and not odometry.metric.known:
            raise TrianflowError(f"{self.path}: no mesh: how depth scales the trajectory has not become known")
        place, K = self._rows.placement(run, odometry), odometry.camera.K().numpy()
        grid = fuse_depth(lambda: self._views(place), K, float(np.median(self._medians)))
        save_mesh(self.path, grid)
        self._file.close()
        return [str(self.path)]

    def _keep(self, shot: Shot) -> None:
        known = shot.depth[shot.depth > 0]
        scale = _LARGEST / float(known.max())
        self._medians.append(float(np.median(known[::16])))
        color = np.ascontiguousarray(shot.image[..., ::-1])
        picture = cv2.imencode(".jpg", color, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
        depth = depth_png(shot.depth, scale)
        begin = self._file.seek(0, 2)
        self._file.write(picture + depth)
        self._kept.append(_Kept(shot.key, shot.T_kc, begin, len(picture), len(depth), scale))

    def _views(self, place: Placement) -> Iterator[DepthView]:
        for kept in self._kept:
            if kept.key >= len(place.T_wc):
                continue
            self._file.seek(kept.begin)
            image, depth = (_decoded(self._file.read(size)) for size in (kept.picture, kept.depth))
            T_kc = kept.T_kc.copy()
            T_kc[:3, 3] *= place.metres[kept.key]
            yield DepthView(depth / np.float32(kept.scale), image[..., ::-1], place.T_wc[kept.key] @ T_kc)


def _decoded(data: bytes) -> np.ndarray:
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert values is not None  # written by ourselves
    return values
