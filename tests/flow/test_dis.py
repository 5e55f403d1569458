"""DIS flow on images moved by a known amount, and on a real pair with truth."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from trianflow.flow.dis import DISFlow
from trianflow.flow.interface import FlowPair
from trianflow.flow.occlusion import flow_quality

PRESETS = ["ultrafast", "fast", "medium"]


def texture(seed: int, height: int = 160, width: int = 240) -> np.ndarray:
    """Blobs of many sizes, `(H, W)` uint8."""
    rng = np.random.default_rng(seed)
    image = sum(cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), s) * s for s in (1.5, 3, 6, 12))
    return np.uint8(np.clip(128 + 45 * image / image.std(), 0, 255))


def moved(image: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The image b of which `image` is sampled at p + (u, v)."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    maps = (x + np.float32(u), y + np.float32(v))
    return cv2.remap(image, *maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


@pytest.mark.parametrize("preset", PRESETS)
def test_shift_in_both_directions(preset: str) -> None:
    b = texture(0)
    a = moved(b, 3.5, -2.0)
    dis = DISFlow(preset)
    flow = dis.flow(dis.encode(a), dis.encode(b))
    for field, sign in ((flow.flow_ab, 1), (flow.flow_ba, -1)):
        assert field.shape == (1, 2, 160, 240)
        assert field.dtype == torch.float32
        inner = field[0, :, 16:-16, 16:-16]
        assert inner[0].median() == pytest.approx(sign * 3.5, abs=0.05)
        assert inner[1].median() == pytest.approx(sign * -2.0, abs=0.05)
        error = (inner - sign * torch.tensor([3.5, -2.0])[:, None, None]).norm(dim=0)
        assert error.mean() < 0.25


def test_motion_that_differs_from_place_to_place() -> None:
    b = texture(1)
    y, x = np.mgrid[:160, :240]
    u, v = 0.03 * (x - 120), 0.02 * (y - 80) + 1
    dis = DISFlow()
    flow = dis.flow(moved(b, u, v), b).flow_ab[0].numpy()
    error = np.hypot(flow[0] - u, flow[1] - v)[12:-12, 12:-12]
    assert error.mean() < 0.15


def test_a_start_that_is_nearly_right_finds_what_is_too_far_away() -> None:
    """From half of the size on, 60 pixels are out of reach, unless the start has come near; both ways."""
    b = texture(7)
    a = moved(b, 60.0, -4.0)
    dis = DISFlow("medium", 1)
    near = torch.tensor([57.0, -3.0])[None, :, None, None].expand(1, 2, 160, 240)
    flow = dis.flow(a, b, FlowPair(near, -near))
    for field, sign in ((flow.flow_ab, 1), (flow.flow_ba, -1)):
        inner = field[0, :, 20:-20, 70:-70]
        error = (inner - sign * torch.tensor([60.0, -4.0])[:, None, None]).norm(dim=0)
        assert error.median() < 0.1
    lost = dis.flow(a, b).flow_ab[0, :, 20:-20, 70:-70] - torch.tensor([60.0, -4.0])[:, None, None]
    assert lost.norm(dim=0).median() > 10
    with pytest.raises(ValueError, match=r"the first flow has the shape \(1, 2, 80, 240\), not \(1, 2, 160, 240\)"):
        dis.flow(a, b, FlowPair(near[:, :, :80], -near[:, :, :80]))


def test_same_image_is_no_motion() -> None:
    image = texture(2)
    flow = DISFlow("fast").flow(image, image)
    assert flow.flow_ab.abs().max() < 0.05
    assert flow.flow_ba.abs().max() < 0.05


def test_encode() -> None:
    dis = DISFlow("fast")
    grey = texture(3)
    assert np.array_equal(dis.encode(grey), grey)
    # Green weighs most in the grey of an RGB image, and blue least: the order of the channels matters.
    levels = [int(dis.encode(np.full((16, 16, 3), c, np.uint8))[0, 0]) for c in np.eye(3) * 200]
    assert levels == [60, 117, 23]


def test_a_call_leaves_earlier_results_alone_and_repeats() -> None:
    """The buffers of a method object are its own: nothing of the last pair is left in the next."""
    dis = DISFlow("ultrafast")
    images = [texture(s) for s in (4, 5)]
    pairs = [(moved(i, 2.0, 0.0), i) for i in images]
    first = dis.flow(*pairs[0])
    kept = first.flow_ab.clone(), first.flow_ba.clone()
    dis.flow(*pairs[1])
    assert torch.equal(first.flow_ab, kept[0])
    assert torch.equal(first.flow_ba, kept[1])
    again = dis.flow(*pairs[0])
    assert torch.equal(again.flow_ab, kept[0])
    assert torch.equal(again.flow_ba, kept[1])


def test_images_without_texture_are_finite() -> None:
    flat = np.full((64, 96), 7, np.uint8)
    flow = DISFlow("fast").flow(flat, flat)
    assert flow.flow_ab.isfinite().all()


def test_wrong_use() -> None:
    with pytest.raises(ValueError, match="ultrafast, fast, medium, not 'best'"):
        DISFlow("best")
    with pytest.raises(ValueError, match=r"one size, got \(96, 64\) and \(80, 64\)"):
        DISFlow("fast").flow(np.zeros((64, 96), np.uint8), np.zeros((64, 80), np.uint8))


@pytest.mark.data
def test_kitti_2015_pair(shared_data: Path) -> None:
    """A street scene with lidar truth: the score orders pixels by their error."""
    folder = shared_data / "flow_kitti2015_pair"
    a, b = (cv2.imread(str(folder / name))[..., ::-1].copy() for name in ("img1.png", "img2.png"))
    raw = cv2.imread(str(folder / "flow_gt.png"), cv2.IMREAD_UNCHANGED)[..., ::-1].astype(np.float32)
    truth, known = (raw[..., :2] - 32768) / 64, torch.from_numpy(raw[..., 2] > 0)
    dis = DISFlow("medium")
    flow = dis.flow(dis.encode(a), dis.encode(b))
    error = (flow.flow_ab[0] - torch.from_numpy(truth).permute(2, 0, 1)).norm(dim=0)
    score = flow_quality(flow).score[0, 0]
    # Fast: half of the pixels move by more than 34, and many leave the image.
    assert error[known].median() < 8.0
    for share, median, mean in ((0.5, 1.0, 8.0), (0.3, 0.7, 4.0), (0.1, 0.5, 2.0)):
        best = known & (score >= score[known].quantile(1 - share))
        assert best.sum() < 1.1 * share * known.sum()
        assert error[best].median() < median
        assert error[best].mean() < mean
