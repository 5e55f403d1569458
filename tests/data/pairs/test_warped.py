"""Warped real images: their truth is exact, of the size that was asked for, and the same every time."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from trianflow.data.pairs import warped
from trianflow.data.pairs.config import DataConfig, WarpedSource
from trianflow.data.pairs.dataset import open_dataset
from trianflow.data.pairs.sources import RawPair, UnreadablePair
from trianflow.data.pairs.warp_fields import image_motion, polygon_mask, random_flow, random_inverse_depth, random_mover
from trianflow.data.pairs.warped import WarpedPairs
from trianflow.errors import UsageError
from trianflow.geometry.camera import Camera, backproject, project

SIZE = (128, 64)
FRAMES = 3


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of soft noise, each of other colours."""
    folder = tmp_path_factory.mktemp("footage")
    rng = np.random.default_rng(0)
    for i in range(FRAMES):
        coarse = rng.uniform(0, 255, (20, 40, 3)).astype(np.float32)
        image = cv2.GaussianBlur(cv2.resize(coarse, (200, 100), interpolation=cv2.INTER_CUBIC), (0, 0), 2)
        cv2.imwrite(str(folder / f"{i}.png"), image.clip(0, 255))
    return folder


def pairs_of(folder: Path, **options: object) -> WarpedPairs:
    return WarpedPairs(WarpedSource.model_validate({"warped": str(folder), "pairs": 40, **options}), SIZE, None)


def warp_error(pair: RawPair) -> np.ndarray:
    """Mean difference of the first image and the second one along the flow, `(H, W)` grey values."""
    assert pair.flow_ab is not None
    grid = np.stack(np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1])), -1).astype(np.float32)
    target = grid + np.nan_to_num(pair.flow_ab.transpose(1, 2, 0), nan=-1e4)
    x, y = (np.ascontiguousarray(target[..., i]) for i in (0, 1))
    back = cv2.remap(pair.images[1].astype(np.float32), x, y, cv2.INTER_LINEAR)
    return np.asarray(np.abs(back - pair.images[0]).mean(-1))


def test_second_image_along_the_flow_is_the_first(footage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warped, "disturb", lambda rng, images: images)
    source, moved, hidden = pairs_of(footage), 0, 0
    for number in range(len(source)):
        pair = source.read(number)
        assert pair.visible_a is not None
        assert pair.flow_ab is not None
        error, seen = warp_error(pair), pair.visible_a[0] > 0.5
        wrong = (error > 8) & seen
        assert wrong.sum() < 0.02 * seen.sum(), f"pair {number}: the borders of patches alone may differ"
        moved += int(np.nanmedian(np.abs(pair.flow_ab)) > 1)
        hidden += int((~seen).sum() > 50)
    assert moved > 10
    assert hidden > 10


def test_a_patch_hides_what_is_behind_it(footage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a pixel is said to be hidden though it stays in the window, another surface is seen there."""
    monkeypatch.setattr(warped, "disturb", lambda rng, images: images)
    monkeypatch.setattr(warped, "_MOVERS", (0.0, 0.0, 0.0, 1.0))
    source, behind = pairs_of(footage, motion=0.1), []
    for number in range(20):
        pair = source.read(number)
        assert pair.visible_a is not None
        assert pair.flow_ab is not None
        grid = np.mgrid[: SIZE[1], : SIZE[0]][::-1].astype(np.float32)
        target = grid + pair.flow_ab
        inside = ((target >= 0) & (target <= np.array(SIZE)[:, None, None] - 1)).all(0)
        hidden = inside & (pair.visible_a[0] < 0.5)
        behind.append(warp_error(pair)[hidden])
    found = np.concatenate(behind)
    assert len(found) > 500
    assert np.median(found) > 15


def test_pairs_depend_on_seed_and_number_alone(footage: Path) -> None:
    source, again, other = pairs_of(footage, seed=4), pairs_of(footage, seed=4, pairs=7), pairs_of(footage, seed=5)
    first, second = source.read(5), again.read(5)
    np.testing.assert_array_equal(first.images, second.images)
    assert first.flow_ab is not None
    assert second.flow_ab is not None
    np.testing.assert_array_equal(first.flow_ab, second.flow_ab)
    for different in (other.read(5), source.read(6), source.read(5 + FRAMES)):
        assert different.flow_ab is not None
        assert np.mean(different.flow_ab != first.flow_ab) > 0.9
    copied = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copied.read(5).images, first.images)


def test_motion_is_of_the_size_that_was_asked_for() -> None:
    for motion in (4.0, 40.0):
        flows = [random_flow(np.random.default_rng([1, i]), 160, 80, motion) for i in range(60)]
        sizes = [np.quantile(np.linalg.norm(flow, axis=-1), 0.9) for flow in flows]
        assert max(sizes) < 1.3 * motion
        assert min(sizes) < 0.03 * motion
        assert motion / 6 < np.median(sizes) < motion / 2.5
        assert all(np.isfinite(flow).all() for flow in flows)


def test_flow_is_that_of_a_camera_before_points() -> None:
    rng = np.random.default_rng(2)
    camera = Camera(90.0, 90.0, 40.0, 22.0, 80, 44)
    inverse = random_inverse_depth(rng, 80, 44)
    assert inverse.min() >= 0.01
    assert inverse.max() <= 1
    turn, shift = np.array([0.02, -0.05, 0.1]), np.array([0.1, -0.05, -0.4])
    u = ((np.arange(80) - 40.0) / 90).astype(np.float32)
    v = ((np.arange(44)[:, None] - 22.0) / 90).astype(np.float32)
    found = 90 * image_motion(u, v, inverse, turn, shift)
    p = torch.from_numpy(np.stack(np.meshgrid(np.arange(80.0), np.arange(44.0)), -1).reshape(-1, 2))
    X = backproject(p, torch.from_numpy(1 / inverse.astype(np.float64)).flatten(), camera.K())
    R = torch.from_numpy(cv2.Rodrigues(turn)[0])
    moved = project(X @ R.T + torch.from_numpy(shift), camera.K()) - p
    np.testing.assert_allclose(found.reshape(-1, 2), moved.numpy(), atol=2e-3)


def test_mover_goes_with_its_outline() -> None:
    rng = np.random.default_rng(3)
    flow = np.full((64, 128, 2), (2.0, -1.0), np.float32)
    movers = [random_mover(rng, flow) for _ in range(200)]
    centres = np.array([m.polygon.mean(0) for m in movers])
    shifts = np.array([c - np.linalg.solve(m.A[:, :2], c - m.A[:, 2]) for m, c in zip(movers, centres)])
    assert 0.5 < np.linalg.norm(shifts, axis=1).mean() < 8
    half = polygon_mask(np.array([[9.5, -0.5], [19.5, -0.5], [19.5, 63.5], [9.5, 63.5]], np.float32), 128, 64)
    assert half[:, 11:19].min() == 255
    assert half[:, 22:].max() == 0


def test_in_a_dataset_below_its_root_mirrored_and_cached(footage: Path, tmp_path: Path) -> None:
    settings = {
        "size": SIZE,
        "root": str(footage.parent),
        "train": [{"warped": footage.name, "pairs": 12}, {"synthetic": 1}],
        "cache": str(tmp_path),
        "flip": 1.0,
        "jitter": 0.0,
    }
    data = open_dataset(DataConfig.model_validate(settings), "train", 0, augment=True)
    plain = open_dataset(DataConfig.model_validate(settings | {"flip": 0.0}), "train", 0, augment=True)
    assert len(data) == 13
    item, straight = data[0], plain[0]
    assert item.truth is not None
    assert straight.truth is not None
    assert item.truth.flow_ab is not None
    assert straight.truth.flow_ab is not None
    mirrored = straight.truth.flow_ab.flip(-1) * torch.tensor([-1.0, 1.0])[:, None, None]
    torch.testing.assert_close(item.truth.flow_ab, mirrored, equal_nan=True)
    assert item.truth.depth_a is None
    assert list(tmp_path.glob("*.npy"))


def test_mistakes(footage: Path, tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes((footage / "0.png").read_bytes())
    (tmp_path / "1.png").write_bytes(b"no picture")
    with pytest.raises(UnreadablePair, match=r"1\.png"):
        pairs_of(tmp_path).read(1)
    with pytest.raises(UsageError, match=r"data\.train\[0\], .*nowhere"):
        open_dataset(DataConfig.model_validate({"train": [{"warped": "nowhere"}]}), "train", 0, augment=True)
    with pytest.raises(ValueError, match="no triples"):
        DataConfig.model_validate({"train": [{"warped": "a"}], "views": 3})
