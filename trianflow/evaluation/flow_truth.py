"""True flow, or true disparity: which images have it, how it is read, and what their predictions are called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trianflow.data.datasets.interface import FlowTruth
from trianflow.data.datasets.kitti_flow import DISPARITY_SCALE, KittiFlowFolder
from trianflow.data.datasets.scanning import packed
from trianflow.data.decoding import UnreadableImage, decode_raw, read_bytes
from trianflow.data.depth import read_depth
from trianflow.data.flow_files import FLOW_SUFFIXES, read_flow
from trianflow.data.images import natural_key
from trianflow.errors import TrianflowError, UsageError


@dataclass(frozen=True)
class TrueFlow:
    """An image with true flow.

    Attributes:
        names: of its prediction without suffix, relative to the folder of predictions; the first names the image.
        file: of the truth, for messages.
        read: the truth, and where an object moves (`(H, W)` bool, or None); raises TrianflowError.
    """

    names: tuple[str, ...]
    file: Path
    read: Callable[[], tuple[FlowTruth, np.ndarray | None]]

    @property
    def name(self) -> str:
        """Of the image."""
        return self.names[0]


@dataclass(frozen=True)
class TrueFlows:
    """Images with true flow.

    Attributes:
        label: what it is, for people.
        images: at least one, in natural order.
        kitti: its folder, where it is KITTI 2012 or 2015.
        disparity: whether all of it, and the predictions, are disparities in 16-bit PNG files, as flow along x.
    """

    label: str
    images: tuple[TrueFlow, ...]
    kitti: KittiFlowFolder | None = None
    disparity: bool = False


def open_true_flows(path: str | Path, disparity: bool = False) -> TrueFlows:
    """Find the true flow, or the true disparity, in a dataset, a folder or a file.

    KITTI 2012 and 2015 by their folders; Sintel's `flow` with `occlusions` and `invalid` beside it; else every .flo
    and .png of the folder and those below it (Middlebury: `RubberWhale/flow10.flo`), or the one file.

    Args:
        path: of the truth.
        disparity: look for disparities: those of KITTI, or .png files of 16 bits (pixels times 256, 0 is unknown).

    Raises:
        UsageError: no such path.
        TrianflowError: an archive, another kind of file, nothing there, or nothing that is unambiguous.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder of true flow")
    if path.is_file() and path.suffix.lower() in FLOW_SUFFIXES:
        return TrueFlows(str(path), (_plain(path, (path.stem,), disparity),), disparity=disparity)
    kitti = KittiFlowFolder.find(path)
    if kitti is not None:
        if not kitti.scenes:
            raise TrianflowError(
                f"{kitti.path}: no true flow (flow_occ/000000_10.png): unpack {kitti.edition.archives[0]},"
                " and name 'training'"
            )
        images = tuple(_kitti(kitti, scene, disparity) for scene in kitti.scenes)
        return TrueFlows(f"{kitti.edition.name}, {kitti.path}", images, kitti, disparity)
    sintel = next((p for p in (path / "training" / "flow", path / "flow", path) if p.is_dir()), path)
    files = files_below(sintel, disparity)
    if not files:
        kind = "disparity files (16-bit .png)" if disparity else "flow files (.flo, 16-bit .png)"
        archives = packed(path, levels=2)
        raise TrianflowError(archives[0] if archives else f"{path}: no {kind} in this folder or below it")
    images = tuple(_plain(file, _names(name), disparity, sintel) for name, file in files.items())
    return TrueFlows(str(sintel), images, disparity=disparity)


def read_motion(file: Path, disparity: bool) -> np.ndarray:
    """A flow, or a disparity as a flow along x; NaN where unknown.

    Raises:
        TrianflowError: it cannot be read, or is of another kind.
    """
    if not disparity:
        return read_flow(file)
    try:
        return _along_rows(read_depth(file, DISPARITY_SCALE))
    except UnreadableImage as error:
        raise TrianflowError(f"{file}: {error}") from None


def _along_rows(disparity: np.ndarray) -> np.ndarray:
    """A disparity `(H, W)`, 0 where unknown, as a flow `(H, W, 2)` of the same length along x, NaN where unknown.

    So the rules of flow hold for it.
    """
    return np.stack([np.where(disparity > 0, disparity, np.nan), np.zeros_like(disparity)], -1)


def _plain(file: Path, names: tuple[str, ...], disparity: bool, root: Path | None = None) -> TrueFlow:
    def read() -> tuple[FlowTruth, np.ndarray | None]:
        if disparity:
            return FlowTruth(read_motion(file, True)), None
        flow = read_flow(file)
        masks = {} if root is None else _sintel_masks(root, names[0], flow.shape[:2])
        if "invalid" in masks:
            flow[masks["invalid"]] = np.nan
        return FlowTruth(flow, ~masks["occlusions"] if "occlusions" in masks else None), None

    return TrueFlow(names, file, read)


def _kitti(folder: KittiFlowFolder, scene: str, disparity: bool) -> TrueFlow:
    def read() -> tuple[FlowTruth, np.ndarray | None]:
        truth = _kitti_disparity(folder, scene) if disparity else folder.flow(scene)
        objects = folder.instances(scene)
        if objects is not None and objects.shape != truth.flow_ab.shape[:2]:
            raise TrianflowError(f"{folder.path / 'obj_map' / scene}_10.png: not of the size of the flow")
        return truth, None if objects is None else objects > 0

    where = folder.path / (folder.edition.disparity[0] if disparity else "flow_occ")
    return TrueFlow((f"{scene}_10", scene), where / f"{scene}_10.png", read)


def _kitti_disparity(folder: KittiFlowFolder, scene: str) -> FlowTruth:
    all_known, visible = folder.disparity(scene), folder.disparity(scene, visible=True)
    if all_known is None:
        raise TrianflowError(f"{folder.path / folder.edition.disparity[0]}: missing: unpack the archive again")
    if visible is not None and visible.shape != all_known.shape:
        file = folder.path / folder.edition.disparity[1] / f"{scene}_10.png"
        raise TrianflowError(f"{file}: not of the size of that in {folder.edition.disparity[0]}")
    return FlowTruth(_along_rows(all_known), None if visible is None else visible > 0)


def _names(name: str) -> tuple[str, ...]:
    """Under which names the prediction of an image may lie: its own, and that of its folder."""
    parent = str(Path(name).parent)
    return (name,) if parent == "." or Path(name).name != "flow10" else (name, parent)


def _sintel_masks(root: Path, name: str, size: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The masks that lie beside the folder of the flow, where there are some.

    Raises:
        TrianflowError: one is missing, damaged or of another size.
    """
    masks = {}
    for kind in ("occlusions", "invalid") if root.name == "flow" else ():
        if (root.parent / kind).is_dir():
            file = root.parent / kind / f"{name}.png"
            try:
                stored = decode_raw(read_bytes(file))
            except UnreadableImage as error:
                raise TrianflowError(f"{file}: {error}") from None
            if stored.shape != size:
                raise TrianflowError(f"{file}: not a mask of the size of the flow")
            masks[kind] = stored > 0
    return masks


def files_below(folder: Path, disparity: bool) -> dict[str, Path]:
    """The files of flow or disparity below a folder, by their names without suffix, in natural order.

    Disparities are .png files; flow is .flo files or, where there is none, .png files: beside .flo they are pictures.
    """
    files = sorted((p for p in folder.rglob("*") if not p.name.startswith(".")), key=natural_key)
    wanted = ".png" if disparity or not any(p.suffix.lower() == ".flo" for p in files) else ".flo"
    return {p.relative_to(folder).with_suffix("").as_posix(): p for p in files if p.suffix.lower() == wanted}
