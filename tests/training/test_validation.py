"""Validation: nothing is wrong with the truth, and known errors are measured as such."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.systems.known_networks import KnownDepth, KnownFlow, batch_of
from trianflow.data.pairs.batch import PairBatch, PairTruth
from trianflow.data.synthetic import RenderedPair, camera_path, make_scene, render_pairs
from trianflow.flow.interface import FlowPair
from trianflow.geometry.camera import Camera
from trianflow.systems.trianflow import TrianFlow
from trianflow.training.config import Stages
from trianflow.training.pictures import training_picture
from trianflow.training.validation import FIGURES, photometric_error, validate, watched

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pair() -> RenderedPair:
    scene = make_scene("street", 2, 0, length=40.0)
    T_wc = camera_path("driving", scene, 2, 10.0, 1)[None]
    times = torch.tensor([[0.0, 0.1]], dtype=torch.float64)
    return render_pairs([scene], T_wc, times, Camera.from_fov(256, 128, 80).K()[None], 128, 256)


class DepthOfA(KnownDepth):
    """Validation asks for image a alone."""

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [self.disparity[: len(image)]]


def system(pair: RenderedPair, offset: float = 0.0, depth: torch.Tensor | None = None) -> TrianFlow:
    made = TrianFlow()
    made.flow = KnownFlow(pair.flow_ab + offset, pair.flow_ba - offset)  # type: ignore[assignment]
    depth = pair.depth_a if depth is None else depth
    made.depth = DepthOfA(depth, depth, 0.2)  # type: ignore[assignment]
    return made


def known(pair: RenderedPair) -> PairBatch:
    batch = batch_of(pair)
    assert batch.truth is not None
    depth = torch.where(pair.depth_a.isfinite(), pair.depth_a, torch.nan)
    return replace(batch, truth=replace(batch.truth, depth_a=depth))


def test_the_truth_has_no_error(pair: RenderedPair) -> None:
    found = validate(system(pair), [known(pair)], True, CPU)
    assert set(found) == set(FIGURES)
    assert found["epe"] == found["epe_visible"] == found["outliers"] == 0
    assert found["epe_zero"] == pytest.approx(float(pair.flow_ab.norm(dim=1).mean()), rel=1e-5)
    assert found["solved"] == 1
    assert found["rotation"] < 1e-3
    assert found["direction"] < 1e-2
    assert found["abs_rel"] < 1e-3
    assert found["abs_rel_constant"] > 0.2
    assert found["depth_error"] < 0.05, "the network sees 100 m far"
    assert found["photometric"] < 0.15


def test_known_errors(pair: RenderedPair) -> None:
    found = validate(system(pair, 4.0, torch.full_like(pair.depth_a, 7.0)), [known(pair)], True, CPU)
    assert found["epe"] == pytest.approx(4 * 2**0.5, rel=1e-4)
    assert found["epe_visible"] == pytest.approx(4 * 2**0.5, rel=1e-4)
    assert found["outliers"] > 0.9
    assert found["abs_rel"] == pytest.approx(found["abs_rel_constant"], rel=1e-5)
    assert found["rotation"] > 0.5


@pytest.mark.parametrize(
    ("stage", "learning", "expected"),
    [
        ("flow", ("flow",), ("epe", "photometric")),
        ("depth", ("depth",), ("abs_rel", "depth_error")),
        ("joint", ("flow", "depth"), ("epe", "photometric")),
        ("joint", ("depth",), ("abs_rel", "depth_error")),
        ("photometric", ("depth", "pose", "flow"), ("abs_rel", "photometric")),
        ("instance", ("depth", "pose"), ("abs_rel", "photometric")),
    ],
)
def test_what_is_watched_is_of_a_network_that_learns(
    stage: str, learning: tuple[str, ...], expected: tuple[str, str]
) -> None:
    assert watched(stage, learning) == expected
    assert set(expected) <= set(FIGURES)


def test_a_flow_that_means_nothing_is_not_measured(pair: RenderedPair) -> None:
    made, batch = system(pair), known(pair)
    expected = validate(made, [batch], True, CPU)
    made.flow = None  # type: ignore[assignment]
    found = validate(made, [batch], True, CPU, with_flow=False)
    assert found == pytest.approx({key: expected[key] for key in ("abs_rel", "abs_rel_constant")})
    assert validate(made, [replace(batch, truth=None)], True, CPU, with_flow=False) == {}


def test_nothing_is_said_of_what_is_unknown(pair: RenderedPair) -> None:
    batch = known(pair)
    assert batch.truth is not None
    bare = validate(system(pair), [replace(batch, truth=None)], False, CPU)
    assert set(bare) == {"photometric", "solved"}
    assert set(validate(system(pair), [replace(batch, truth=None)], True, CPU)) == {
        "photometric",
        "solved",
        "depth_error",
    }
    poses = PairTruth(T_ba=batch.truth.T_ba)
    assert set(validate(system(pair), [replace(batch, truth=poses)], False, CPU)) == {
        *("photometric", "solved", "rotation", "direction"),
    }
    assert validate(system(pair), [], True, CPU) == {}


def test_means_are_over_pairs_not_batches(pair: RenderedPair) -> None:
    batch = known(pair)
    unknown = replace(batch, truth=replace(batch.truth, flow_ab=torch.full_like(pair.flow_ab, torch.nan)))
    made = system(pair, 1.0)
    found = validate(made, [batch, unknown], False, CPU)
    assert found["epe"] == pytest.approx(2**0.5, rel=1e-4), "a pair without truth has no say"
    assert found == pytest.approx(validate(made, [unknown, batch], False, CPU))


def test_modes_of_all_parts_come_back(pair: RenderedPair) -> None:
    made = TrianFlow()
    made.flow = KnownFlow(pair.flow_ab, pair.flow_ba)  # type: ignore[assignment]
    made.depth.eval()
    before = [m.training for m in made.modules()]
    running = {name: b.clone() for name, b in made.named_buffers()}
    seen: list[bool] = []
    made.depth.register_forward_pre_hook(lambda module, args: seen.append(module.training))
    validate(made, [known(pair)], True, CPU)
    assert seen == [False]
    assert [m.training for m in made.modules()] == before
    assert all(torch.equal(b, running[name]) for name, b in made.named_buffers())
    broken = nn.Module.forward
    made.flow.forward = lambda *args: broken(made.flow)  # type: ignore[method-assign]
    with pytest.raises((NotImplementedError, TypeError)):
        validate(made, [known(pair)], True, CPU)
    assert [m.training for m in made.modules()] == before


def test_a_picture_of_a_batch(pair: RenderedPair) -> None:
    made, batch = system(pair), known(pair)
    made.depth = KnownDepth(pair.depth_a, pair.depth_b, 0.2)  # type: ignore[assignment]
    stages = dict(Stages().listed())
    picture = training_picture(batch, made(batch, stages["joint"].losses))
    assert picture.shape == (128, 7 * 256, 3)
    assert picture.dtype == "uint8"
    columns = picture.reshape(128, 7, 256, 3).transpose(1, 0, 2, 3)
    image = (pair.image_a[0].permute(1, 2, 0) * 255).round().numpy()
    assert (columns[0] == image).all()
    assert (columns[3][..., 0] > 200).mean() > 0.6, "most is visible"
    assert (columns[4][..., 0] > 200).mean() > 0.9, "all stands still"
    near = columns[5][pair.depth_a[0, 0].numpy() < 5].mean()
    assert near > columns[5][pair.depth_a[0, 0].numpy() > 30].mean() + 30, "near is bright"
    assert (columns[6] != columns[0] // 2).any(-1).mean() > 0.1, "points"
    assert training_picture(batch, made(batch, stages["flow"].losses)).shape == (128, 4 * 256, 3)
    twice = replace(batch, input_a=batch.input_a.expand(1, 3, 128, 256))
    assert training_picture(twice, made(twice, stages["joint"].losses), pairs=5).shape == picture.shape


def error_of(pair: RenderedPair, flow_ab: torch.Tensor, flow_ba: torch.Tensor) -> float:
    return float(photometric_error(pair.image_a, pair.image_b, FlowPair(flow_ab, flow_ba)))


def test_photometric_error_ranks_flows(pair: RenderedPair) -> None:
    """A flow that masks of consistency or visibility would empty is not good, but bad."""
    ab, ba, none = pair.flow_ab, pair.flow_ba, torch.zeros_like(pair.flow_ab)
    g = torch.Generator().manual_seed(0)
    noise = 20 * torch.randn(ab.shape, generator=g)
    truth, zero = error_of(pair, ab, ba), error_of(pair, none, none)
    assert 0 < truth < 0.6 * zero
    assert truth < error_of(pair, ab + 0.5, ba - 0.5) < error_of(pair, ab + 2, ba - 2)
    garbage = {
        "+30 px": error_of(pair, none + 30, none + 30),
        "+200 px": error_of(pair, none + 200, none + 200),
        "inconsistent": error_of(pair, ab + 15, ba + 15),
        "noise": error_of(pair, ab + noise, ba - noise),
    }
    assert all(value > zero for value in garbage.values()), (zero, garbage)
    for far in (1e4, -1e30):
        assert error_of(pair, none + far, none + far) == pytest.approx(1.5 * zero, rel=1e-5), "no way out"
    assert error_of(pair, none, ba) == pytest.approx((zero + truth) / 2, abs=0.05), "the mean of both directions"


def test_photometric_error_of_flow_that_is_not_finite(pair: RenderedPair) -> None:
    ab, ba, none = pair.flow_ab, pair.flow_ba, torch.zeros_like(pair.flow_ab)
    spoilt, far = ab.clone(), ab.clone()
    spoilt[..., :64], far[..., :64] = torch.nan, 1e6
    spoilt[..., 64:70], far[..., 64:70] = torch.inf, 1e6
    assert error_of(pair, spoilt, ba) == error_of(pair, far, ba), "such pixels count as if they left the image"
    assert error_of(pair, spoilt, ba) > error_of(pair, ab, ba)
    assert torch.tensor(error_of(pair, none + torch.nan, ba)).isnan()
    batch = known(pair)
    found = validate(system(pair, float("nan")), [batch], False, CPU)
    assert not {"photometric", "epe"} & set(found), "so that it is never the best"
    twice = photometric_error(
        torch.cat([pair.image_a] * 2),
        torch.cat([pair.image_b] * 2),
        FlowPair(torch.cat([ab, none]), torch.cat([ba, none])),
    )
    expected = [error_of(pair, ab, ba), error_of(pair, none, none)]
    assert twice.tolist() == pytest.approx(expected, rel=1e-5), "items do not see each other"


def test_photometric_error_of_a_known_shift() -> None:
    """Image b is image a two pixels to the right: the flow that says so has no error where it stays inside."""
    wide = torch.rand(1, 3, 20, 42, generator=torch.Generator().manual_seed(1))
    a, b = wide[..., 2:], wide[..., :-2]
    flow = torch.zeros(1, 2, 20, 40)
    flow[:, 0] = 2
    right = photometric_error(a, b, FlowPair(flow, -flow))
    zero = photometric_error(a, b, FlowPair(0 * flow, 0 * flow))
    assert 0 < float(right) < 5 / 40 * float(zero), "two columns leave the image, a third beside them sees them"
    same = photometric_error(a, a, FlowPair(0 * flow, 0 * flow))
    assert float(same) == pytest.approx(0, abs=1e-6)
    opposite = photometric_error(
        torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8), FlowPair(*[torch.zeros(1, 2, 8, 8)] * 2)
    )
    assert 0.15 + 0.85 * 0.49 < float(opposite) < 1, "the difference, and structure that is neither like nor opposed"
