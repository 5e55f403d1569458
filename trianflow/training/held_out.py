"""How good depth and pose of any system are on pairs that were held out, also where the camera moves faster."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import torch

from trianflow.config import Settings
from trianflow.data.pairs.batch import PairBatch
from trianflow.data.pairs.config import DataConfig, SyntheticSource
from trianflow.data.pairs.dataset import PairDataset, open_dataset
from trianflow.errors import UsageError
from trianflow.evaluation.depth import depth_errors
from trianflow.evaluation.flow import end_point_error
from trianflow.systems.estimate import estimate_pair
from trianflow.training.engine import AnySystem
from trianflow.training.loading import validation_batches

STRIDES = (1, 2, 3)
_NEAREST, _FARTHEST = 1e-3, 80.0  # metres of true depth that counts
_LEAST_PIXELS = 10  # of an object that counts
_AT_REST = 1e-3  # metres: a camera that moved less has no direction


@dataclass(frozen=True)
class PoseScore:
    """Median errors of the poses of pairs whose camera moved.

    Attributes:
        rotation: degrees; a pair without a pose counts as if it had not turned.
        direction: of the translation, degrees; 90 for a pair without a pose, or with one that says that nothing moved.
        translation: length of the difference over the true length, with one scale for all pairs of the system.
        solved: share of the pairs with a pose.
    """

    rotation: float
    direction: float
    translation: float
    solved: float


@dataclass(frozen=True)
class HeldOutScore:
    """What a system makes of the pairs that were held out.

    Attributes:
        depth: means of the customary figures over the images, each scaled by its median; empty without true depth.
        objects: means over the objects with instance masks of each pair, of the mean over their pixels, at stride one:
            `object_abs_rel`, of depth scaled by the median of the whole image, and `object_epe`, pixels between where
            depth and motions take a pixel and where it goes; empty without masks or truth.
        poses: stride to `PoseScore`; empty without true poses.
    """

    depth: dict[str, float]
    objects: dict[str, float]
    poses: dict[int, PoseScore]

    def figures(self) -> dict[str, float]:
        """All figures by name, the stride behind those of poses: `rotation_3`."""
        found = self.depth | self.objects
        for stride, score in self.poses.items():
            found |= {f"{name}_{stride}": value for name, value in asdict(score).items()}
        return found


def held_out_pairs(data: DataConfig, seed: int) -> dict[int, PairDataset]:
    """The validation pairs of a configuration at each of `STRIDES`, two views each, without augmentation.

    Raises:
        UsageError: there are none, or they are random scenes, which have no stride.
    """
    if not data.val:
        raise UsageError("nothing to compare on: give data.val drives, or sequences with poses")
    if any(isinstance(source, SyntheticSource) for source in data.val):
        raise UsageError("data.val of a comparison holds drives or sequences: synthetic scenes have no longer stride")
    found = {}
    for stride in STRIDES:
        val = tuple(_with_stride(source, stride) for source in data.val)
        found[stride] = open_dataset(data.model_copy(update={"val": val, "views": 2}), "val", seed, augment=False)
    return found


def score_held_out(system: AnySystem, pairs: dict[int, PairDataset], limit: int, size: int) -> HeldOutScore:
    """Depth at the first stride, poses at all of them.

    Args:
        system: in evaluation mode afterwards.
        pairs: by stride, of `held_out_pairs`; those without true poses add nothing to the figures of poses.
        limit: pairs of each stride, evenly spread.
        size: of a batch.
    """
    system.eval()
    device = next(system.parameters()).device
    found = {
        stride: _estimates(system, validation_batches(dataset, limit, size, []), device)
        for stride, dataset in pairs.items()
    }
    first = found[min(found)]
    depth = {name: float(np.mean([image[name] for image in first.images])) for name in (first.images or [{}])[0]}
    objects = {name: float(np.mean(values)) for name, values in first.objects.items() if len(values)}
    scale = _scale(first.T_ba, first.true, first.known)
    poses = {stride: _pose_score(f.T_ba, f.true, f.known, scale) for stride, f in found.items() if len(f.true)}
    return HeldOutScore(depth, objects, poses)


@dataclass(frozen=True)
class _Estimates:
    """What is found on the pairs of a stride.

    Attributes:
        images: depth errors of the images with true depth.
        objects: by name, the mean errors of all objects.
        T_ba, true, known: `(N, 4, 4)`, `(N, 4, 4)`, `(N,)` of the pairs whose camera truly moved.
    """

    images: list[dict[str, float]]
    objects: dict[str, np.ndarray]
    T_ba: np.ndarray
    true: np.ndarray
    known: np.ndarray


def _with_stride(source: Settings, stride: int) -> Settings:
    return source.model_copy(update={"stride": stride * source.stride})  # type: ignore[attr-defined]


def _estimates(system: AnySystem, batches: Iterable[PairBatch], device: torch.device) -> _Estimates:
    images: list[dict[str, float]] = []
    objects: dict[str, list[np.ndarray]] = {"object_abs_rel": [], "object_epe": []}
    poses: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for batch in batches:
        found, truth = estimate_pair(system, batch.to(device)), batch.truth
        if truth is None:
            continue
        labels = [None] * len(batch) if batch.labels is None else batch.labels[:, 0].numpy()
        if truth.depth_a is not None:
            for depth, true, label in zip(found.depth_a.float().cpu().numpy(), truth.depth_a.numpy(), labels):
                image, off = _depth_errors(depth[0], true[0], label)
                images += [image] if image else []
                objects["object_abs_rel"].append(off)
        if truth.flow_ab is not None and batch.labels is not None:
            errors = end_point_error(found.flow_ab.float().cpu(), truth.flow_ab)[:, 0].numpy()
            for error, label in zip(errors, batch.labels[:, 0].numpy()):
                objects["object_epe"].append(_means(error, np.where(np.isfinite(error), label, 0)))
        if truth.T_ba is not None:
            moving = truth.T_ba.isfinite().all(-1).all(-1) & (truth.T_ba[:, :3, 3].norm(dim=1) > _AT_REST)
            poses.append(tuple(x.cpu()[moving].numpy() for x in (found.T_ba, truth.T_ba, found.known)))  # type: ignore[arg-type]
    none = np.zeros((0, 4, 4))
    T_ba, true, known = (np.concatenate(parts) for parts in zip((none, none, np.zeros(0, bool)), *poses))
    return _Estimates(images, {name: np.concatenate(x) for name, x in objects.items() if x}, T_ba, true, known)


def _depth_errors(
    depth: np.ndarray, truth: np.ndarray, labels: np.ndarray | None
) -> tuple[dict[str, float], np.ndarray]:
    """The errors of an image, scaled by the median, and AbsRel of each of its objects; empty without truth."""
    valid = np.isfinite(truth) & (truth > _NEAREST) & (truth < _FARTHEST)
    if not valid.any():
        return {}, np.zeros(0)
    d, t = depth[valid].astype(float), truth[valid].astype(float)
    d = np.clip(d * np.median(t) / np.median(d), _NEAREST, _FARTHEST)
    on = np.zeros(len(t), int) if labels is None else labels[valid]
    return asdict(depth_errors(d, t)), _means(np.abs(d - t) / t, on)


def _means(errors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The mean error of each object: of enough pixels of a positive label, that of an object seen in both images."""
    found = [errors[labels == label] for label in np.unique(labels) if label > 0]
    return np.array([x.mean() for x in found if len(x) >= _LEAST_PIXELS], float)


def _scale(T: np.ndarray, true: np.ndarray, known: np.ndarray) -> float:
    """Metres in the unit of the estimates: the ratio of the lengths, in the median."""
    t, t_true = (np.linalg.norm(x[known, :3, 3], axis=1) for x in (T, true))
    usable = (t > 0) & (t_true > 0)
    return float(np.median(t_true[usable] / t[usable])) if usable.any() else 1.0


def _pose_score(T: np.ndarray, true: np.ndarray, known: np.ndarray, scale: float) -> PoseScore:
    R = T[:, :3, :3].transpose(0, 2, 1) @ true[:, :3, :3]
    # by the chord, which is exact for small angles, where the cosine is not
    chord = np.linalg.norm(R - np.eye(3), axis=(1, 2)) / np.sqrt(8)
    rotation = np.rad2deg(2 * np.arcsin(chord.clip(0, 1)))
    t, t_true = scale * T[:, :3, 3], true[:, :3, 3]
    direction = np.rad2deg(np.arctan2(np.linalg.norm(np.cross(t, t_true), axis=1), (t * t_true).sum(1)))
    direction[~known | ~t.any(1)] = 90.0
    translation = np.linalg.norm(t - t_true, axis=1) / np.linalg.norm(t_true, axis=1)
    turned, off, missed = (float(np.median(x)) for x in (rotation, direction, translation))
    return PoseScore(turned, off, missed, float(known.mean()))
