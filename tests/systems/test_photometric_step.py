"""Photometric learning: least at the truth, each switch on its own, gradients, independence, precision."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trianflow.data.pairs.batch import PairBatch, PairTruth, collate
from trianflow.data.pairs.config import DriveSource
from trianflow.data.pairs.dataset import PairDataset
from trianflow.data.pairs.drives import RenderedDrives
from trianflow.data.synthetic import camera_path, make_scene, render
from trianflow.geometry.camera import Camera, invert_pose
from trianflow.geometry.sampson import rotation_exp
from trianflow.pose.posenet import PoseEstimate
from trianflow.systems.photometric import Photometric
from trianflow.systems.photometric_config import PhotometricConfig, PhotometricWeights

SIZE = (256, 96)
ALONE = PhotometricWeights(photometric=1.0)


class KnownDepth(nn.Module):
    """Answers the disparity of known depths at several sizes."""

    def __init__(self, depth: Tensor, scales: int) -> None:
        super().__init__()
        self.scales = scales
        self.disparity = nn.Parameter((1 / depth.clamp(0.5, 100) - 0.01) / 9.99)

    def forward(self, image: Tensor) -> list[Tensor]:
        pool = nn.functional.avg_pool2d
        return [self.disparity, *(pool(self.disparity, 2**i) for i in range(1, self.scales))]


class InTurn(nn.Module):
    """Answers known disparities in the order in which they are asked for."""

    def __init__(self, disparities: list[Tensor]) -> None:
        super().__init__()
        self.answers = iter(disparities)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [next(self.answers)]


class KnownPose(nn.Module):
    """Answers known poses in the order in which they are asked for; masks say what they are told to."""

    def __init__(self, *T: Tensor, mask: float | None = None) -> None:
        super().__init__()
        self.known, self.asked, self.mask = T, 0, mask
        self.correction = nn.Parameter(torch.zeros(4, 4))

    def forward(self, pair: Tensor, masks: int = 1) -> PoseEstimate:
        T = self.known[self.asked % len(self.known)] + self.correction
        self.asked += 1
        height, width = pair.shape[-2:]
        sizes = [(height >> s, width >> s) for s in range(masks)] if self.mask is not None else []
        return PoseEstimate(T, [torch.full((len(pair), 2, *size), self.mask or 0.0) for size in sizes])


@pytest.fixture(scope="module")
def street() -> PairBatch:
    """A triple in a street where nothing moves, without noise."""
    scene = make_scene("street", 7, 0, length=40.0)
    camera = Camera.from_fov(*SIZE, 80)
    T_wc = camera_path("driving", scene, 3, 10.0, 7)
    frames = render(scene, T_wc, torch.zeros(3), camera)
    T_ba = invert_pose(T_wc[2:]) @ T_wc[1:2]
    c, a, b = frames.image.split(1)
    lengths = (invert_pose(T_wc[[2, 0]]) @ T_wc[1])[:, :3, 3].norm(dim=1).float()[None]
    truth = PairTruth(depth_a=frames.depth[1:2], T_ba=T_ba)
    return PairBatch(a, b, a, b, camera.K()[None], truth, torch.zeros(1).long(), (), c, c, lengths)


@pytest.fixture(scope="module")
def poses(street: PairBatch) -> tuple[Tensor, Tensor]:
    """True poses of the pairs in time: a to b, c to a."""
    scene = make_scene("street", 7, 0, length=40.0)
    T_wc = camera_path("driving", scene, 3, 10.0, 7)
    return (invert_pose(T_wc[2:]) @ T_wc[1:2]).float(), (invert_pose(T_wc[1:2]) @ T_wc[:1]).float()


def system_of(street: PairBatch, poses: tuple[Tensor, ...], depth: Tensor | None = None, **config: Any) -> Photometric:
    system = Photometric(PhotometricConfig(**{"pose": "plain"} | config))
    assert street.truth is not None
    assert street.truth.depth_a is not None
    depth = street.truth.depth_a if depth is None else depth
    system.depth = KnownDepth(depth, system.config.scales)  # type: ignore[assignment]
    system.pose = KnownPose(*poses, mask=0.5 if config.get("explain") else None)  # type: ignore[assignment]
    return system


def photometric(system: Photometric, batch: PairBatch, weights: PhotometricWeights = ALONE) -> float:
    return float(system(batch, weights).losses["photometric"])


@pytest.mark.parametrize("ssim", [0.0, 0.85])
@pytest.mark.parametrize("reduction", ["average", "minimum"])
@pytest.mark.parametrize("upscale", [False, True])
def test_the_truth_is_near_the_floor(
    street: PairBatch, poses: tuple[Tensor, Tensor], ssim: float, reduction: str, upscale: bool
) -> None:
    how: dict[str, Any] = {"ssim": ssim, "reduction": reduction, "upscale": upscale, "scales": 1}
    truth = photometric(system_of(street, poses, **how), street)
    assert street.truth is not None
    depth = street.truth.depth_a
    assert depth is not None
    still = photometric(system_of(street, (torch.eye(4)[None],) * 2, **how), street)
    flat = photometric(system_of(street, poses, torch.full_like(depth, 8.0), **how), street)
    double = photometric(system_of(street, poses, 2 * depth, **how), street)
    backward = photometric(system_of(street, tuple(map(invert_pose, poses)), **how), street)
    assert truth < 0.5 * min(still, flat, double, backward)
    assert truth < (0.02 if ssim == 0 else 0.1)


def test_scale_of_depth_and_translation_is_free(street: PairBatch, poses: tuple[Tensor, Tensor]) -> None:
    half = [T.clone() for T in poses]
    for T in half:
        T[:, :3, 3] /= 2
    assert street.truth is not None
    assert street.truth.depth_a is not None
    depth = street.truth.depth_a.clamp(2, 90)
    one = photometric(system_of(street, poses, depth, scales=1), street)
    assert photometric(system_of(street, tuple(half), depth / 2, scales=1), street) == pytest.approx(one, rel=1e-3)


def test_normalised_depth_has_mean_one_and_takes_any_unit(street: PairBatch, poses: tuple[Tensor, Tensor]) -> None:
    assert street.truth is not None
    assert street.truth.depth_a is not None
    depth = street.truth.depth_a.clamp(2, 90)
    found = []
    for unit in (1.0, 0.25):
        system = system_of(street, poses, unit * depth, normalize_depth=True, scales=1)
        inverse = system.inverse_depth(system.depth(street.image_a)[0])
        assert inverse.mean().item() == pytest.approx(1, abs=1e-4)
        found.append(photometric(system, street))
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_the_minimum_forgives_what_one_view_hides(street: PairBatch, poses: tuple[Tensor, Tensor]) -> None:
    spoilt = street.image_b.clone()
    spoilt[..., 20:60, 60:160] = 0
    batch = replace(street, image_b=spoilt)
    rise = {}
    for reduction in ("average", "minimum"):
        system = system_of(street, poses, reduction=reduction, scales=1)
        rise[reduction] = photometric(system, batch) - photometric(system, street)
    assert rise["minimum"] < 0.25 * rise["average"]


def test_auto_mask_leaves_out_what_stands_still_in_the_image(street: PairBatch, poses: tuple[Tensor, Tensor]) -> None:
    """A dashboard, the same in all views, teaches the wrong depth unless it is left out."""
    images = [image.clone() for image in (street.image_a, street.image_b, street.image_c) if image is not None]
    dashboard = torch.rand(3, 20, 256, generator=torch.Generator().manual_seed(0))
    for image in images:
        image[..., -20:, :] = dashboard
    batch = replace(street, image_a=images[0], image_b=images[1], image_c=images[2])
    with_mask, without = (system_of(street, poses, auto_mask=on, scales=1) for on in (True, False))
    (gradient,) = torch.autograd.grad(with_mask(batch, ALONE).total, with_mask.depth.disparity)  # type: ignore[arg-type]
    (all_of_it,) = torch.autograd.grad(without(batch, ALONE).total, without.depth.disparity)  # type: ignore[arg-type]
    assert (gradient[..., -17:, :] != 0).float().mean() < 0.05
    assert (all_of_it[..., -17:-2, 20:-20] != 0).float().mean() > 0.7
    standing = replace(street, image_b=street.image_a, image_c=street.image_a)
    assert photometric(with_mask, standing) == 0, "a car at rest teaches nothing"
    with_mask.mask_waits = True
    assert photometric(with_mask, standing) == photometric(without, standing) > 0


@dataclass(frozen=True)
class Board:
    """Two views of a near board before a wall, of which it hides another part in each."""

    batch: PairBatch
    T_ba: Tensor
    disparities: list[Tensor]

    def step(self, weights: PhotometricWeights = ALONE, **config: Any) -> dict[str, float]:
        """The losses at the truth."""
        system = system_of(self.batch, (self.T_ba,), scales=1, ssim=0.0, **config)
        system.depth = InTurn(self.disparities)  # type: ignore[assignment]
        return {name: float(loss) for name, loss in system(self.batch, weights).losses.items()}

    def turned(self) -> Board:
        """The other view as the target."""
        a, b = self.batch.image_b, self.batch.image_a
        batch = replace(self.batch, image_a=a, image_b=b, input_a=a, input_b=b)
        return Board(batch, invert_pose(self.T_ba), self.disparities[::-1])


@pytest.fixture(scope="module")
def board() -> Board:
    K = torch.tensor([[[40.0, 0, 31.5], [0, 40, 15.5], [0, 0, 1]]])
    g = torch.Generator().manual_seed(0)
    texture = nn.functional.interpolate(torch.rand(2, 3, 9, 33, generator=g), (32, 128), mode="bilinear")
    near, far, step = 2.0, 4.0, 0.4  # metres; eight and four pixels
    images, depths = [], []
    for shift in (0, 1):
        left = 24 - 8 * shift
        image, depth = texture[:1, ..., 4 * shift :][..., :64].clone(), torch.full((1, 1, 32, 64), far)
        image[..., 8:24, left : left + 16] = texture[1:, ..., 8:24, :16]
        depth[..., 8:24, left : left + 16] = near
        images.append(image)
        depths.append(depth)
    T_ba = torch.eye(4)[None].clone()
    T_ba[0, 0, 3] = -step
    a, b = images
    batch = PairBatch(a, b, a, b, K.double(), PairTruth(depth_a=depths[0]), torch.zeros(1).long())
    return Board(batch, T_ba, [(1 / depth - 0.01) / 9.99 for depth in depths])


@pytest.mark.parametrize("both_ways", [False, True])
def test_multi_mask_leaves_out_what_is_hidden(board: Board, both_ways: bool) -> None:
    """At the truth, nothing else is wrong."""
    found = [board.step(both_ways=both_ways, multi_mask=on)["photometric"] for on in (False, True)]
    assert found[0] > 0.005
    assert found[1] < 0.1 * found[0]


def test_both_ways_have_one_unit_at_every_size(board: Board) -> None:
    """Coarse sizes of another unit, alike in both views: normalised, the truth is as good as at the finest size."""
    system = system_of(board.batch, (board.T_ba,), scales=2, ssim=0.0, normalize_depth=True, both_ways=True)
    depths = [1 / system.raw_inverse_depth(d) for d in board.disparities]
    unit = float((1 / depths[0]).mean())

    def sizes(depth: Tensor) -> list[Tensor]:
        coarse = nn.functional.avg_pool2d(1 / depth, 2) / 3
        return [(inverse - 0.01) / 9.99 for inverse in (1 / depth, coarse)]

    class Sizes(nn.Module):
        answers = iter([sizes(depth) for depth in depths])

        def forward(self, image: Tensor) -> list[Tensor]:
            return next(self.answers)

    T_ba = board.T_ba.clone()
    T_ba[:, :3, 3] *= unit  # in the unit of normalised depth
    system.depth, system.pose = Sizes(), KnownPose(T_ba)  # type: ignore[assignment]
    both = photometric(system, board.batch)
    assert both < 2 * board.step(both_ways=True)["photometric"]


@pytest.mark.parametrize("config", [{}, {"multi_mask": True}, {"auto_mask": True, "reduction": "minimum"}])
def test_both_ways_are_the_mean_of_each(board: Board, config: dict[str, Any]) -> None:
    weights = PhotometricWeights(photometric=1.0, smooth=0.1)
    both = board.step(weights, both_ways=True, **config)
    there, back = board.step(weights, **config), board.turned().step(weights, **config)
    assert there["photometric"] != pytest.approx(back["photometric"], rel=0.01)
    for name, value in both.items():
        assert value == pytest.approx((there[name] + back[name]) / 2, rel=1e-5), name


def test_the_two_neighbours_of_a_target_have_one_half_of_both_ways(
    street: PairBatch, poses: tuple[Tensor, Tensor]
) -> None:
    """Each neighbour from the target: a quarter; the target from both: a half."""
    depth = torch.full((1, 1, SIZE[1], SIZE[0]), 8.0)
    both = photometric(system_of(street, poses, depth, scales=1, both_ways=True), street)
    there = photometric(system_of(street, poses, depth, scales=1), street)
    T_ba, T_ac = poses
    back = []
    for image, T in ((street.image_b, invert_pose(T_ba)), (street.image_c, T_ac)):
        assert image is not None
        pair = replace(street, image_a=image, input_a=image, image_b=street.image_a, input_b=street.input_a)
        pair = replace(pair, image_c=None, input_c=None, lengths=None)
        back.append(photometric(system_of(street, (T,), depth, scales=1), pair))
    assert both == pytest.approx(there / 2 + sum(back) / 4, rel=1e-5)


def test_alignment_finds_the_pose_and_teaches_depth(street: PairBatch, poses: tuple[Tensor, Tensor]) -> None:
    still = (torch.eye(4)[None],) * 2
    truth = photometric(system_of(street, poses, scales=1, ssim=0.0), street)
    nothing = photometric(system_of(street, still, scales=1, ssim=0.0), street)
    near = tuple(T + 0.2 * (torch.eye(4) - T) for T in poses)
    for alignment, start in (("identity", still), ("network", near)):
        system = system_of(street, start, scales=1, ssim=0.0, alignment=alignment)
        result = system(street, ALONE)
        assert result.losses["photometric"] < truth + 0.1 * (nothing - truth)
        result.total.backward()
        gradient = system.depth.disparity.grad
        assert isinstance(gradient, Tensor)
        assert gradient.isfinite().all()
        assert gradient.any()
        T_ba, _ = system.estimate_pose(street.image_a, street.image_b, street.K)
        torch.testing.assert_close(T_ba, poses[0], rtol=0, atol=0.05)


def test_an_alignment_that_finds_nothing_says_so(street: PairBatch, poses: tuple[Tensor, Tensor]) -> None:
    blank = torch.full_like(street.image_a, 0.5)
    for alignment, expected in (("identity", [True, False]), ("network", [True, True])):
        system = system_of(street, poses[:1], scales=1, alignment=alignment)
        pairs = ((street.image_a, street.image_b), (blank, blank))
        assert [bool(system.estimate_pose(*pair, street.K)[1]) for pair in pairs] == expected


def test_the_mean_of_the_auto_mask_is_over_the_views_that_see(street: PairBatch, poses: tuple[Tensor, Tensor]) -> None:
    """A view that looks away has no say in what counts as unmoved: the mask is that of the other view alone."""
    away = torch.eye(4)[None].clone()
    away[:, :3, :3] = rotation_exp(torch.tensor([0.0, math.pi, 0.0]))
    both = system_of(street, (poses[0], away), scales=1, auto_mask=True)
    one = system_of(street, poses[:1], scales=1, auto_mask=True)
    calm = replace(street, image_c=street.image_a)  # which would make everything unmoved
    alone = replace(street, image_c=None, input_c=None)
    assert photometric(both, calm) == pytest.approx(photometric(one, alone), rel=1e-5)


def test_masks_see_all_depths_in_one_unit(street: PairBatch) -> None:
    system = Photometric(PhotometricConfig(pose="plain", normalize_depth=True))
    a, b = torch.rand(2, 1, 1, 8, 12, generator=torch.Generator().manual_seed(0)).unbind()
    depth_a, depth_b = 1 / system.inverse_depth(a), 1 / system._inverse_of_other(b, a)
    ratio = system.raw_inverse_depth(b) / system.raw_inverse_depth(a)
    torch.testing.assert_close(depth_a / depth_b, ratio)


def test_explanation_scales_the_error_and_costs(street: PairBatch, poses: tuple[Tensor, Tensor]) -> None:
    weights = PhotometricWeights(photometric=1.0, explainability=0.2)
    plain = system_of(street, poses)(street, ALONE).losses
    masked = system_of(street, poses, explain=True)(street, weights)
    torch.testing.assert_close(masked.losses["photometric"], 0.5 * plain["photometric"])
    assert masked.losses["explainability"].item() == pytest.approx(0.693147, rel=1e-4)
    expected = masked.losses["photometric"] + 0.2 * masked.losses["explainability"]
    torch.testing.assert_close(masked.total.detach(), expected)


def test_velocity_is_zero_at_the_true_length(street: PairBatch, poses: tuple[Tensor, Tensor]) -> None:
    weights = PhotometricWeights(photometric=1.0, velocity=0.1)
    assert street.lengths is not None
    assert system_of(street, poses)(street, weights).losses["velocity"].item() < 1e-5
    longer = replace(street, lengths=street.lengths + torch.tensor([0.5, 0.1]))
    assert system_of(street, poses)(longer, weights).losses["velocity"].item() == pytest.approx(0.3, abs=1e-5)
    unknown = replace(street, lengths=street.lengths + torch.nan)
    assert system_of(street, poses)(unknown, weights).losses["velocity"].item() == 0


def test_smoothness_looks_at_what_it_is_told(street: PairBatch, poses: tuple[Tensor, Tensor]) -> None:
    """A depth that is a plane in the image is smooth to second order, its inverse is not; and the other way round."""
    ramp = torch.linspace(2.0, 12.0, SIZE[0]).expand(1, 1, SIZE[1], SIZE[0])
    weights = PhotometricWeights(photometric=0.0, smooth=1.0, depth_consistency=1.0)

    def smooth(depth: Tensor, **how: Any) -> float:
        plain: dict[str, Any] = {"smooth_kind": "second_order", "smooth_normalized": False, "scales": 1}
        return float(system_of(street, poses, depth, **plain | how)(street, weights).losses["smooth"])

    assert smooth(ramp, smooth_of="depth") < 1e-4 < smooth(1 / ramp * 24, smooth_of="depth")
    assert smooth(1 / ramp * 24, smooth_of="disparity") < 1e-6 < smooth(ramp, smooth_of="disparity")
    twice = smooth(2 * ramp, smooth_of="disparity") / smooth(ramp, smooth_of="disparity")
    assert twice == pytest.approx(0.5, rel=1e-2), "without normalisation, what is far is smooth"
    normalised = [smooth(unit * ramp, smooth_of="disparity", smooth_normalized=True) for unit in (1.0, 2.0)]
    assert normalised[0] == pytest.approx(normalised[1], rel=1e-2)
    flat = torch.full_like(ramp, 5.0)
    assert smooth(flat, smooth_kind="edge_aware") < 1e-6 < smooth(ramp, smooth_kind="edge_aware")


def test_depth_consistency_and_disparity(street: PairBatch, poses: tuple[Tensor, Tensor]) -> None:
    weights = PhotometricWeights(depth_consistency=1.0, disparity=1.0)
    flat = torch.full((1, 1, SIZE[1], SIZE[0]), 5.0)
    found = system_of(street, (torch.eye(4)[None],) * 2, flat)(street, weights).losses
    assert found["depth_consistency"].item() == pytest.approx(0, abs=1e-5)
    assert found["disparity"].item() == pytest.approx(0.2, rel=1e-4), "one over five"
    moved = torch.eye(4)[None].clone()
    moved[0, 2, 3] = -1.0
    found = system_of(street, (moved, moved), flat)(street, weights).losses
    # one metre ahead everything is at four of five metres; one metre back, at six
    assert found["depth_consistency"].item() == pytest.approx(0.2, rel=1e-3)


@pytest.fixture(scope="module")
def drives() -> PairBatch:
    source = RenderedDrives(DriveSource(drives=3, seed=3), (128, 64), 3, None)
    pairs = PairDataset([source], (128, 64), 0)
    return collate([pairs[i] for i in range(3)])


KINDS: list[dict[str, Any]] = [
    {"depth": "dispnet", "pose": "plain", "explain": True, "rotation": "euler", "ssim": 0.0},
    {"depth": "resnet18", "pose": "resnet18", "reduction": "minimum", "auto_mask": True, "upscale": True},
    {"depth": "resnet18", "pose": "flow", "normalize_depth": True},
    {"depth": "dispnet", "pose": "plain", "normalize_depth": True, "both_ways": True, "multi_mask": True},
]
WEIGHTS = [
    PhotometricWeights(smooth=0.5, explainability=0.2, velocity=0.1),
    PhotometricWeights(smooth=1e-3, disparity=1e-3),
    PhotometricWeights(smooth=1e-4, depth_consistency=0.1, rigid_flow=0.01, flow=1.0),
    PhotometricWeights(smooth=0.1),
]
CASES = list(zip(KINDS, WEIGHTS))


@pytest.mark.parametrize(("config", "weights"), CASES, ids=["sfmlearner", "monodepth2", "posenet_flow", "multimask"])
def test_gradients_reach_all_networks_and_few_bits_will_do(
    drives: PairBatch, config: dict[str, Any], weights: PhotometricWeights
) -> None:
    torch.manual_seed(0)
    system = Photometric(PhotometricConfig(**config))
    result = system(drives, weights)
    assert set(result.losses) == {name for name, w in weights.model_dump().items() if w > 0}
    used = torch.stack([getattr(weights, name) * loss for name, loss in result.losses.items()]).sum()
    torch.testing.assert_close(result.total.detach(), used)
    result.total.backward()
    for name, network in system.named_children():
        gradients = [p.grad for p in network.parameters()]
        assert all(g is not None and g.isfinite().all() for g in gradients), name
        assert sum(float(g.abs().sum()) for g in gradients if g is not None) > 0, name
    with torch.autocast("cpu", torch.bfloat16):
        low = system(drives, weights)
    assert low.total.dtype == torch.float32
    assert float(low.total.detach()) == pytest.approx(float(result.total.detach()), rel=0.1)


@pytest.mark.parametrize(("config", "weights"), CASES, ids=["sfmlearner", "monodepth2", "posenet_flow", "multimask"])
def test_items_do_not_see_each_other(drives: PairBatch, config: dict[str, Any], weights: PhotometricWeights) -> None:
    torch.manual_seed(0)
    system = Photometric(PhotometricConfig(**config)).eval()
    names = ("image_a", "image_b", "image_c", "input_a", "input_b", "input_c", "K", "lengths", "index")
    with torch.no_grad():
        together = system(drives, weights).losses
        alone = [
            system(replace(drives, truth=None, **{n: getattr(drives, n)[i : i + 1] for n in names}), weights).losses
            for i in range(3)
        ]
    for name, value in together.items():
        torch.testing.assert_close(torch.stack([a[name] for a in alone]).mean(), value, rtol=2e-3, atol=1e-5)


def test_a_pair_is_a_triple_without_the_frame_before(drives: PairBatch) -> None:
    torch.manual_seed(0)
    system = Photometric(PhotometricConfig(depth="dispnet", pose="plain")).eval()
    assert drives.lengths is not None
    pair = replace(drives, image_c=None, input_c=None, lengths=drives.lengths[:, :1])
    with torch.no_grad():
        assert system(pair, WEIGHTS[1]).total.isfinite()
        T_ba, _ = system.estimate_pose(drives.image_a, drives.image_b, drives.K)
    assert T_ba.shape == (3, 4, 4)


@pytest.mark.parametrize(
    ("config", "weights", "words"),
    [
        ({}, {"photometric": 1, "explainability": 0.2}, "explain and a weight"),
        ({"pose": "plain", "explain": True}, {"photometric": 1}, "explain and a weight"),
        ({"normalize_depth": True}, {"photometric": 1, "velocity": 1}, "takes the unit away"),
        ({"normalize_depth": True}, {"photometric": 1, "disparity": 1}, "the mean that normalize_depth takes away"),
        ({}, {"photometric": 0, "smooth": 1}, "nothing teaches"),
        ({}, {"photometric": 1, "rigid_flow": 1}, "set pose to flow"),
    ],
)
def test_what_does_not_go_together_is_refused(config: dict, weights: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PhotometricConfig(**config).require(PhotometricWeights(**weights))
    with pytest.raises(ValueError, match="asks none"):
        PhotometricConfig(pose="plain", explain=True, alignment="identity")
    with pytest.raises(ValueError, match="leave both_ways out"):
        PhotometricConfig(pose="plain", explain=True, both_ways=True)
    with pytest.raises(ValueError, match="plain pose network"):
        PhotometricConfig(pose="resnet18", explain=True)
