"""KITTI 2012 and 2015: image pairs with true flow, disparity and (2015) object maps."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trianflow.data.calibration import fit_to_image, guess_camera, read_calibration
from trianflow.data.datasets.interface import DatasetContent, DatasetSequence, FlowTruth
from trianflow.data.datasets.kitti_files import unpack_advice
from trianflow.data.datasets.scanning import content, find_folders, left_out, packed, readable, require_folder
from trianflow.data.decoding import decode_raw, read_bytes
from trianflow.data.depth import read_depth
from trianflow.data.flow_files import read_flow
from trianflow.data.images import ImageFolder
from trianflow.errors import TrianflowError
from trianflow.geometry.camera import Camera

DISPARITY_SCALE = 256.0  # stored units a pixel
_FILE = re.compile(r"\d{6}_\d{2}\.png")  # the multi-view extension has the frames _00 to _20
_FOREIGN = "no files of KITTI"
_EXPECTED = "KITTI 2015 (training/image_2, flow_occ) or 2012 (training/colored_0 or image_0, flow_occ)"


@dataclass(frozen=True)
class KittiEdition:
    """What an edition calls its folders and archives.

    Attributes:
        name: for people.
        images: folders of the left images, the better first, each with the camera it belongs to.
        disparity: folders of all known disparities, and of those that both cameras see.
        calibration: folder with a file a scene.
        archives: of the images with the truth, and of the calibration.
    """

    name: str
    images: tuple[tuple[str, str], ...]
    disparity: tuple[str, str]
    calibration: str
    archives: tuple[str, str]


KITTI_2015 = KittiEdition(
    "KITTI 2015",
    (("image_2", "P_rect_02"),),
    ("disp_occ_0", "disp_noc_0"),
    "calib_cam_to_cam",
    ("data_scene_flow.zip", "data_scene_flow_calib.zip"),
)
KITTI_2012 = KittiEdition(
    "KITTI 2012",
    (("colored_0", "P2"), ("image_0", "P0")),
    ("disp_occ", "disp_noc"),
    "calib",
    ("data_stereo_flow.zip", "data_stereo_flow.zip"),
)


@dataclass(frozen=True)
class KittiFlowFolder:
    """The folder `training` (or `testing`) of an edition: where the truth of a scene lies.

    Attributes:
        path: the folder.
        edition: its layout.
    """

    path: Path
    edition: KittiEdition

    @classmethod
    def find(cls, root: str | Path) -> KittiFlowFolder | None:
        """The folder in `root`, which may be it or stand one or two levels above; None where nothing looks like it.

        Raises:
            TrianflowError: no such folder, an archive, several folders, or both editions in one.
        """
        root = Path(root).expanduser()
        require_folder(root, "'training' of KITTI 2012 or 2015")
        # `testing` has no truth: it is taken only where it is named
        folders = find_folders(root, lambda p: bool(_editions(p)) and (p == root or p.name != "testing"))
        found = [cls(folder, edition) for folder in folders for edition in _editions(folder)]
        if len(found) > 1 and found[0].path == found[1].path:
            raise TrianflowError(
                f"{found[0].path}: KITTI 2012 and 2015 lie in one folder, where their flow files have the same names:"
                " unpack each archive into a folder of its own"
            )
        if len(found) > 1:
            names = ", ".join(f"{f.path} ({f.edition.name})" for f in found)
            raise TrianflowError(f"{root}: holds several folders of KITTI flow: name one of {names}")
        return found[0] if found else None

    @property
    def scenes(self) -> list[str]:
        """Names of the scenes with true flow: '000000', ..."""
        return sorted(p.name[:6] for p in (self.path / "flow_occ").glob("??????_10.png") if _FILE.fullmatch(p.name))

    def flow_file(self, scene: str, kind: str = "occ") -> Path:
        """Where the true flow of a scene lies: all that is known ('occ') or without the occluded pixels ('noc')."""
        return self.path / f"flow_{kind}" / f"{scene}_10.png"

    def flow(self, scene: str) -> FlowTruth:
        """True flow of a scene; without `visible` where there is no folder `flow_noc`.

        Raises:
            TrianflowError: a file is missing, damaged or of another size.
        """
        try:
            flow = read_flow(self.flow_file(scene))
            if not (self.path / "flow_noc").is_dir():
                return FlowTruth(flow)
            file = self.flow_file(scene, "noc")
            visible = np.isfinite(read_flow(file)).all(-1)
            _check_size(file, visible, flow)
        except TrianflowError as error:
            raise TrianflowError(f"{error}: unpack {self.edition.archives[0]} again") from None
        return FlowTruth(flow, visible)

    def disparity(self, scene: str, visible: bool = False) -> np.ndarray | None:
        """True disparity of the first frame, `(H, W)` float32 pixels, 0 where unknown; None without its folder.

        Args:
            scene: its name.
            visible: only what both cameras see.

        Raises:
            TrianflowError: the file is missing or damaged.
        """
        folder = self.path / self.edition.disparity[visible]
        if not folder.is_dir():
            return None
        file = folder / f"{scene}_10.png"
        with readable(file):
            return read_depth(file, DISPARITY_SCALE)

    def instances(self, scene: str) -> np.ndarray | None:
        """Moving objects of the first frame, `(H, W)` int32, 0 is background; None without the folder `obj_map`.

        Raises:
            TrianflowError: the file is missing or damaged.
        """
        if not (self.path / "obj_map").is_dir():
            return None
        file = self.path / "obj_map" / f"{scene}_10.png"
        with readable(file):
            stored = decode_raw(read_bytes(file))
        if stored.ndim != 2:
            raise TrianflowError(f"{file}: not an object map of KITTI (one channel): unpack the archive again")
        return stored.astype(np.int32)


class KittiFlowScene(DatasetSequence):
    """A pair of frames of KITTI 2012 or 2015; the truth belongs to the first."""

    consecutive = False

    def __init__(
        self, folder: KittiFlowFolder, name: str, frames: ImageFolder, camera: Camera, problems: tuple[str, ...]
    ) -> None:
        super().__init__(name, frames, camera, problems=problems)
        self._folder = folder

    def flow(self, index: int) -> FlowTruth | None:
        """As of `DatasetSequence`."""
        if index or not (self._folder.path / "flow_occ").is_dir():
            return None
        return self._folder.flow(self.name)

    def instances(self, index: int) -> np.ndarray | None:
        """As of `DatasetSequence`; 2015 only, moving cars."""
        return None if index else self._folder.instances(self.name)


def open_kitti_flow(root: str | Path) -> DatasetContent:
    """The image pairs of KITTI 2012 or 2015 as the archives unpack.

    A sequence is a pair of the left camera (colour where there is some), named '000000', ... Sizes and ends of all
    files are looked at, none is decoded.

    Args:
        root: the folder `training` or `testing`, or the folder that holds `training`.

    Raises:
        TrianflowError: no such folder, an archive, not this dataset, both editions in one folder, or no usable pair.
    """
    root = Path(root).expanduser()
    folder = KittiFlowFolder.find(root)
    if folder is None:
        return content(root, (), packed(root, levels=2), _EXPECTED)
    edition, path = folder.edition, folder.path
    images, camera = next(((path / n, c) for n, c in edition.images if (path / n).is_dir()), (None, ""))
    if images is None:
        raise TrianflowError(
            f"{path}: no images: {edition.images[0][0]} is missing; unpack {edition.archives[0]} there"
        )
    problems = _missing_folders(folder)
    notes = [line for place in (images, path / "flow_occ") for line in left_out(place, _strays(place), _FOREIGN)]
    frames = {p.name for p in images.iterdir() if _FILE.fullmatch(p.name)}
    scenes = sorted({name[:6] for name in frames if name[6:9] in ("_10", "_11")} | set(folder.scenes))
    sequences = []
    for scene in scenes:
        files = [images / f"{scene}_{number}.png" for number in ("10", "11")]
        missing = next((f for f in files if f.name not in frames), None)
        try:
            if missing is not None:
                raise TrianflowError(f"{missing}: missing")
            sizes = [_png_size(file) for file in files]
            if sizes[0] != sizes[1]:
                raise TrianflowError(
                    "{}: {}x{} pixels, but the first frame has {}x{}".format(files[1], *sizes[1], *sizes[0])
                )
        except TrianflowError as error:
            problems.append(f"{error}, so the pair is left out: unpack {edition.archives[0]} again")
            continue
        source = ImageFolder(images, files, name=scene, start=0, end=None, stride=1, fps=10.0, stray=[])
        found, faults = _camera(folder, scene, camera, sizes[0])
        faults += _truth_faults(folder, scene, sizes[0])
        sequences.append(KittiFlowScene(folder, scene, source, found, tuple(faults)))
    return content(root, sequences, problems, "image pairs (000000_10.png, 000000_11.png)", notes)


def _editions(path: Path) -> list[KittiEdition]:
    """Which editions a folder looks like; of image folders alone only `testing` is taken (KITTI has many `image_2`)."""
    truth = (path / "flow_occ").is_dir()
    found = []
    for edition in (KITTI_2015, KITTI_2012) if truth or path.name == "testing" else ():
        if any((path / name).is_dir() for name in (*(n for n, _ in edition.images), *edition.disparity)):
            found.append(edition)
    return found or ([KITTI_2015] if next((path / "flow_occ").glob("??????_10.png"), None) else [])


def _missing_folders(folder: KittiFlowFolder) -> list[str]:
    """Lines on what is not there at all."""
    path, edition = folder.path, folder.edition
    lines = []
    if not (path / edition.calibration).is_dir():
        remedy = unpack_advice(path, edition.archives[1])
        lines.append(f"{path / edition.calibration}: missing, the cameras are guessed; {remedy}")
    if path.name != "testing":
        for name in ("flow_occ", "flow_noc"):
            if not (path / name).is_dir():
                lines.append(f"{path / name}: missing, so is its truth; unpack {edition.archives[0]} again")
    return lines


def _strays(folder: Path) -> list[str]:
    """Names of files that do not belong into a folder."""
    return [p.name for p in folder.iterdir() if not _FILE.fullmatch(p.name)] if folder.is_dir() else []


def _camera(folder: KittiFlowFolder, scene: str, name: str, size: tuple[int, int]) -> tuple[Camera, list[str]]:
    """The camera of a scene, guessed where its file is of no use, and what is wrong with that."""
    guess = guess_camera(*size)[0]
    if not (folder.path / folder.edition.calibration).is_dir():
        return guess, []
    file = folder.path / folder.edition.calibration / f"{scene}.txt"
    try:
        return fit_to_image(read_calibration(file, name), *size)[0], []
    except TrianflowError as error:
        text = str(error) if str(file) in str(error) else f"{file}: {error}"
        return guess, [f"{text}; the camera is guessed: unpack {folder.edition.archives[1]} again"]


def _truth_faults(folder: KittiFlowFolder, scene: str, size: tuple[int, int]) -> list[str]:
    """What can be seen to be wrong with the truth of a scene without decoding it."""
    lines = []
    for name in ("flow_occ", "flow_noc", *folder.edition.disparity, "obj_map"):
        file = folder.path / name / f"{scene}_10.png"
        if not file.parent.is_dir():
            continue
        try:
            found = _png_size(file)
            if found != size:
                raise TrianflowError("{}: {}x{} pixels, but the image has {}x{}".format(file, *found, *size))
        except TrianflowError as error:
            lines.append(f"{error}: unpack {folder.edition.archives[0]} again")
    return lines


def _check_size(file: Path, values: np.ndarray, flow: np.ndarray) -> None:
    if values.shape[:2] != flow.shape[:2]:
        raise TrianflowError(
            "{}: {}x{} pixels, but the flow has {}x{}".format(file, *values.shape[1::-1], *flow.shape[1::-1])
        )


def _png_size(file: Path) -> tuple[int, int]:
    """Width and height of a PNG that begins and ends as one.

    Raises:
        TrianflowError: it does not, or cannot be read.
    """
    try:
        with open(file, "rb") as opened:
            head = opened.read(24)
            length = opened.seek(0, 2)
            opened.seek(max(length - 12, 0))
            tail = opened.read()
    except FileNotFoundError:
        raise TrianflowError(f"{file}: missing") from None
    except OSError as error:
        raise TrianflowError(f"{file}: {error.strerror}") from None
    if head[:8] != b"\x89PNG\r\n\x1a\n" or len(head) < 24:
        raise TrianflowError(f"{file}: {'not a PNG file' if length else 'the file is empty (0 bytes)'}")
    if tail[4:8] != b"IEND":
        raise TrianflowError(f"{file}: truncated PNG (ends after {length} bytes)")
    width, height = struct.unpack(">II", head[16:24])
    return width, height
