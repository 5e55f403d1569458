"""How good depth and pose of any system are on pairs that were held out, also where the camera moves faster."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from trianflow.config import Settings
from trianflow.data.pairs.batch import PairBatch
from trianflow.data.pairs.config import DataConfig, SyntheticSource
from trianflow.data.pairs.dataset import PairDataset, open_dataset
from trianflow.errors import UsageError
from trianflow.evaluation.depth import depth_errors
from trianflow.systems.estimate import estimate_pair
from trianflow.training.engine import AnySystem
from trianflow.training.loading import validation_batches

STRIDES = (1, 3)
_NEAREST, _FARTHEST = 1e-3, 80.0  # metres of true depth that counts


@dataclass(frozen=True)
class PoseScore:
    """Median errors of the poses of pairs.

    Attributes:
        rotation: degrees.
        direction: of the translation, degrees; 90 for a pair without a pose.
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
        poses: stride to `PoseScore`; empty without true poses.
    """

    depth: dict[str, float]
    poses: dict[int, PoseScore]

    def figures(self) -> dict[str, float]:
        """All figures by name, the stride behind those of poses: `rotation_3`."""
        found = dict(self.depth)
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
    depth: dict[str, float] = {}
    motions: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    for stride, dataset in pairs.items():
        problems: list[str] = []
        images, motion = _estimates(system, validation_batches(dataset, limit, size, problems), device, not motions)
        if images:
            depth = {name: float(np.mean([image[name] for image in images])) for name in images[0]}
        motions[stride] = motion
    scale = _scale(*motions[STRIDES[0]])
    poses = {stride: _pose_score(*motion, scale) for stride, motion in motions.items() if len(motion[0])}
    return HeldOutScore(depth, poses)


def _with_stride(source: Settings, stride: int) -> Settings:
    return source.model_copy(update={"stride": stride * source.stride})  # type: ignore[attr-defined]


def _estimates(
    system: AnySystem, batches: Iterable[PairBatch], device: torch.device, with_depth: bool
) -> tuple[list[dict[str, float]], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Depth errors of the images, and of the pairs with a true pose the estimated and true one and which are known."""
    images: list[dict[str, float]] = []
    estimated, true, known = [], [], []
    for batch in batches:
        found = estimate_pair(system, batch.to(device))
        truth = batch.truth
        if truth is None:
            continue
        if with_depth and truth.depth_a is not None:
            images += [errors for pair in zip(found.depth_a, truth.depth_a) if (errors := _depth_errors(*pair))]
        if truth.T_ba is not None:
            whole = truth.T_ba.isfinite().all(-1).all(-1)
            estimated.append(found.T_ba.cpu()[whole])
            true.append(truth.T_ba[whole])
            known.append(found.known.cpu()[whole])
    none = torch.zeros(0, 4, 4, dtype=torch.float64)
    arrays = (torch.cat([none, *estimated]), torch.cat([none, *true]), torch.cat([none[:, 0, 0] > 0, *known]))
    return images, tuple(x.numpy() for x in arrays)  # type: ignore[return-value]


def _depth_errors(depth: Tensor, truth: Tensor) -> dict[str, float]:
    """The errors of an image, scaled by the median; empty where nothing is known."""
    depth, truth = depth.float().cpu().flatten(), truth.flatten()
    valid = truth.isfinite() & (truth > _NEAREST) & (truth < _FARTHEST)
    if not valid.any():
        return {}
    d, t = depth[valid].double().numpy(), truth[valid].double().numpy()
    return asdict(depth_errors(np.clip(d * np.median(t) / np.median(d), _NEAREST, _FARTHEST), t))


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
    length = np.linalg.norm(t_true, axis=1).clip(1e-9)
    direction = np.rad2deg(np.arctan2(np.linalg.norm(np.cross(t, t_true), axis=1), (t * t_true).sum(1)))
    direction[~known] = 90.0
    translation = np.linalg.norm(t - t_true, axis=1) / length
    turned, off, missed = (float(np.median(x)) for x in (rotation, direction, translation))
    return PoseScore(turned, off, missed, float(known.mean()))
