"""A training step: terms that vanish at the truth, gradients that go where they should, pairs that teach nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.systems.known_networks import KnownDepth, batch_of
from trianflow.data.synthetic import RenderedPair
from trianflow.systems import trianflow as module
from trianflow.systems.config import LossWeights, SystemConfig
from trianflow.systems.trianflow import TrianFlow
from trianflow.training.config import Stages

MakeSystem = Callable[..., TrianFlow]
FLOW, DEPTH, JOINT = (stage.losses for _, stage in Stages().listed())
ALL = LossWeights(**dict.fromkeys(LossWeights.model_fields, 1.0))


def gradients(network: torch.nn.Module) -> list[Tensor]:
    return [p.grad for p in network.parameters() if p.grad is not None]


def noisy(flow: Tensor, size: float = 0.4) -> Tensor:
    g = torch.Generator().manual_seed(1)
    return flow + size * (torch.rand(flow.shape, generator=g) - 0.5)


def test_terms_at_the_truth_vanish_in_any_unit_of_depth(still_drives: RenderedPair, system_with: MakeSystem) -> None:
    drives, found = still_drives, {}
    for unit in (1.0, 0.31):
        depth = KnownDepth(drives.depth_a, drives.depth_b, unit)
        system = system_with(drives.flow_ab, drives.flow_ba, depth)
        found[unit] = system(batch_of(drives), ALL).losses
        losses = {name: float(value) for name, value in found[unit].items()}
        assert losses["triangulation"] < 1e-2, "b is seen between its pixels"
        assert losses["epipolar"] < 0.5, "the end of the band"
        assert losses["rigid_flow"] < 0.2, "the sky stands at 100 m"
        assert losses["depth_consistency"] < 0.03
        assert losses["flow_consistency"] < 0.1
        assert 0 < losses["depth_smooth"] < 10
    assert losses["depth_truth"] == pytest.approx(-math.log(0.31), abs=0.05), "the only term that knows the unit"
    for name in set(LossWeights.model_fields) - {"depth_smooth", "depth_truth"}:
        value = found[1.0][name]
        torch.testing.assert_close(found[0.31][name], value, rtol=2e-2, atol=2e-3, msg=name)
    wrong = KnownDepth(drives.depth_a.sqrt(), drives.depth_b.sqrt(), 1.0)
    worse = system_with(drives.flow_ab, drives.flow_ba, wrong)(batch_of(drives), ALL).losses
    for name in ("triangulation", "depth_consistency", "rigid_flow"):
        assert worse[name] > 3 * found[1.0][name] + 1e-3, name


def test_total_is_the_weighted_sum_of_what_has_a_weight(drives: RenderedPair, system_with: MakeSystem) -> None:
    system = system_with(noisy(drives.flow_ab), noisy(drives.flow_ba))
    batch = batch_of(drives, [0])
    full = system(batch, ALL)
    assert set(full.losses) == set(LossWeights.model_fields)
    torch.testing.assert_close(full.total.detach(), torch.stack(list(full.losses.values())).sum())
    for weights in (FLOW, DEPTH, JOINT, LossWeights(epipolar=3.0), LossWeights(rigid_flow=0.5)):
        result = system(batch, weights)
        used = {name: w for name, w in weights.model_dump().items() if w > 0}
        assert set(result.losses) == set(used)
        expected = sum(w * result.losses[name] for name, w in used.items())
        torch.testing.assert_close(result.total.detach(), expected)
        for name, value in result.losses.items():
            assert not value.requires_grad
            torch.testing.assert_close(value, full.losses[name], msg=name)


def test_what_has_no_weight_is_not_computed(
    drives: RenderedPair, system_with: MakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, batch = system_with(drives.flow_ab, drives.flow_ba), batch_of(drives, [0])
    called: list[str] = []

    def spy(name: str) -> None:
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, **kwargs: called.append(name) or original(*args, **kwargs))

    names = ("flow_losses", "solve_geometry", "epipolar_band_loss", "rigid_flow_loss", "depth_consistency_loss")
    for name in (*names, "disparity_smoothness", "reproject"):
        spy(name)
    result = system(batch, FLOW)
    assert called == ["flow_losses"]
    assert result.geometry is None
    assert result.disparity_a is None
    called.clear()
    system(batch, LossWeights(epipolar=1.0))
    assert called == ["solve_geometry", "epipolar_band_loss"]
    called.clear()
    system(batch, LossWeights(triangulation=1.0))
    assert called == ["solve_geometry"]
    called.clear()
    system(batch, DEPTH)
    assert set(called) == {"solve_geometry", "reproject", "depth_consistency_loss", "disparity_smoothness"}


def test_true_depth_alone_needs_no_flow_and_one_image(drives: RenderedPair, system_with: MakeSystem) -> None:
    batch, weights = batch_of(drives), LossWeights(depth_truth=1.0, depth_smooth=1e-3)
    system, seen = TrianFlow(), []
    system.depth.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    system.flow = torch.nn.Linear(1, 1)  # type: ignore[assignment]
    result = system(batch, weights)
    assert seen == [len(batch)]
    assert result.flow is result.geometry is None
    assert result.disparity_a is not None
    depth = 1 / (0.01 + 9.99 * result.disparity_a)
    known = drives.depth_a.isfinite()
    expected = (depth.log() - drives.depth_a.log()).abs()[known].mean()
    torch.testing.assert_close(result.losses["depth_truth"], expected, rtol=0.1, atol=0)  # pairs weigh alike
    result.total.backward()
    assert len(gradients(system.depth)) == len(list(system.depth.parameters()))
    bare = system(replace(batch, truth=None), LossWeights(depth_truth=1.0))
    assert float(bare.total.detach()) == 0


def test_true_depth_is_brought_to_one_focal_length(drives: RenderedPair) -> None:
    batch, weights = batch_of(drives), LossWeights(depth_truth=1.0)
    assert batch.truth is not None
    assert batch.truth.depth_a is not None
    K = batch.K.clone()
    K[:, 0, 0] *= torch.linspace(0.5, 2, len(K))
    width = batch.image_a.shape[-1]
    brought = batch.truth.depth_a * (0.6 * width / K[:, 0, 0]).float()[:, None, None, None]
    own, one = TrianFlow(), TrianFlow(SystemConfig(focal=0.6))
    one.load_state_dict(own.state_dict())
    expected = own(replace(batch, K=K, truth=replace(batch.truth, depth_a=brought)), weights).total
    torch.testing.assert_close(one(replace(batch, K=K), weights).total, expected)
    assert abs(float(own(replace(batch, K=K), weights).total.detach() - expected.detach())) > 0.05


def test_second_stage_teaches_depth_and_leaves_the_flow_alone(drives: RenderedPair, system_with: MakeSystem) -> None:
    system = system_with(drives.flow_ab, drives.flow_ba)
    system.flow.requires_grad_(False)
    result = system(batch_of(drives, [0, 1]), DEPTH)
    assert not result.flow.flow_ab.requires_grad
    assert result.geometry is not None
    assert not result.geometry.depth_a.requires_grad
    result.total.backward()
    assert not gradients(system.flow)
    found = gradients(system.depth)
    assert len(found) == len(list(system.depth.parameters()))
    assert all(g.isfinite().all() for g in found)
    assert sum(float(g.abs().sum()) for g in found) > 0


def test_third_stage_teaches_both(drives: RenderedPair, system_with: MakeSystem) -> None:
    system = system_with(noisy(drives.flow_ab), noisy(drives.flow_ba))
    for weights in (JOINT, LossWeights(triangulation=1.0), LossWeights(rigid_flow=1.0)):
        system.zero_grad(set_to_none=True)
        system(batch_of(drives, [0]), weights).total.backward()
        for network in (system.flow, system.depth):
            found = gradients(network)
            assert all(g.isfinite().all() for g in found)
            assert sum(float(g.abs().sum()) for g in found) > 0
    system.zero_grad(set_to_none=True)
    system(batch_of(drives, [0]), LossWeights(epipolar=1.0)).total.backward()
    assert not gradients(system.depth)
    assert float(gradients(system.flow)[0].abs().sum()) > 0


def test_the_published_network_of_flow_gets_a_gradient(drives: RenderedPair) -> None:
    torch.manual_seed(0)
    system = TrianFlow(SystemConfig())
    system(replace_size(drives, 64, 128), FLOW).total.backward()
    assert all(p.grad is not None for p in system.flow.parameters())
    assert all(p.grad is None for p in system.depth.parameters())
    assert sum(float(p.grad.abs().sum()) > 0 for p in system.flow.parameters() if p.grad is not None) > 50


def replace_size(pair: RenderedPair, height: int, width: int):
    batch = batch_of(pair, [0])
    a, b = batch.image_a[..., :height, :width], batch.image_b[..., :height, :width]
    return replace(batch, image_a=a, image_b=b, input_a=a, input_b=b, truth=None)


def spoilt(drives: RenderedPair, kind: str) -> tuple[Tensor, Tensor]:
    """The flows of two pairs, of which the second teaches nothing."""
    ab, ba = drives.flow_ab[:2].clone(), drives.flow_ba[:2].clone()
    if kind == "noise":
        g = torch.Generator().manual_seed(2)
        ab[1], ba[1] = (20 * torch.randn(2, *ab.shape[-2:], generator=g) for _ in range(2))
    else:
        ab[1] = ba[1] = float(kind)
    return ab, ba


@pytest.mark.parametrize("kind", ["0", "nan", "noise", "1e4"])
def test_a_useless_pair_adds_nothing_at_all(drives: RenderedPair, system_with: MakeSystem, kind: str) -> None:
    ab, ba = spoilt(drives, kind)
    without_network = KnownDepth(drives.depth_a[:2].sqrt(), drives.depth_b[:2].sqrt(), 1.0)
    system = system_with(ab, ba, without_network)
    system.flow.requires_grad_(False)
    result = system(batch_of(drives, [0, 1]), DEPTH)
    assert result.geometry is not None
    assert result.geometry.usable.tolist() == [True, False]
    result.total.backward()
    grad = without_network.disparity.grad
    assert grad is not None
    assert (grad[[1, 3]] == 0).all()
    alone = KnownDepth(drives.depth_a[:1].sqrt(), drives.depth_b[:1].sqrt(), 1.0)
    system = system_with(ab[:1], ba[:1], alone)
    system.flow.requires_grad_(False)
    single = system(batch_of(drives, [0]), DEPTH)
    single.total.backward()
    torch.testing.assert_close(result.total, single.total / 2)
    torch.testing.assert_close(grad[[0, 2]], alone.disparity.grad / 2, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("kind", ["0", "nan", "noise"])
def test_nothing_but_a_useless_pair(drives: RenderedPair, system_with: MakeSystem, kind: str) -> None:
    ab, ba = spoilt(drives, kind)
    system = system_with(ab[1:], ba[1:])
    system.flow.requires_grad_(False)
    result = system(batch_of(drives, [1]), DEPTH)
    assert float(result.total.detach()) == 0
    result.total.backward()
    assert all((g == 0).all() for g in gradients(system.depth))


def test_a_step_of_adam_survives_standstill(drives: RenderedPair, system_with: MakeSystem) -> None:
    """The published code divides by a parallax of zero there, and its networks are NaN from then on."""
    ab, ba = spoilt(drives, "0")
    for items in ([0, 1], [1]):
        system = system_with(ab[items], ba[items])
        optimizer = torch.optim.Adam(system.parameters(), lr=1e-4)
        before = [p.detach().clone() for p in system.parameters()]
        system(batch_of(drives, items), JOINT).total.backward()
        optimizer.step()
        assert all(p.isfinite().all() for p in system.parameters())
        assert any(not torch.equal(p, q) for p, q in zip(system.parameters(), before))
    real = TrianFlow(SystemConfig())
    still = replace_size(drives, 64, 128)
    still = replace(still, image_b=still.image_a, input_b=still.input_a)
    optimizer = torch.optim.Adam(real.parameters(), lr=1e-4)
    for _ in range(2):
        optimizer.zero_grad()
        real(still, JOINT).total.backward()
        optimizer.step()
    assert all(p.isfinite().all() for p in real.parameters())


def test_the_loss_of_a_batch_is_the_mean_of_its_pairs(drives: RenderedPair, system_with: MakeSystem) -> None:
    ab, ba = noisy(drives.flow_ab), noisy(drives.flow_ba)
    depths = drives.depth_a.sqrt(), drives.depth_b.sqrt()
    system = system_with(ab, ba, KnownDepth(*depths, 1.0))
    together = system(batch_of(drives), ALL, 5)
    alone = [
        system_with(ab[[i]], ba[[i]], KnownDepth(depths[0][[i]], depths[1][[i]], 1.0))(batch_of(drives, [i]), ALL, 5)
        for i in range(3)
    ]
    torch.testing.assert_close(together.total, torch.stack([r.total for r in alone]).mean(), rtol=1e-4, atol=1e-6)
    for name, value in together.losses.items():
        expected = torch.stack([r.losses[name] for r in alone]).mean()
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6, msg=name)


def test_the_gradient_of_rigid_flow_mends_the_depth(drives: RenderedPair, system_with: MakeSystem) -> None:
    """A downhill step in depth brings it nearer to the truth where depth is off by its own pattern."""
    truth = drives.depth_a[:1], drives.depth_b[:1]
    pattern = 1 + 0.2 * torch.sin(torch.arange(drives.depth_a.shape[-1]) / 9.0)
    depth = KnownDepth(truth[0] * pattern, truth[1] * pattern, 1.0)
    right = KnownDepth(*truth, 1.0).disparity
    system = system_with(drives.flow_ab[:1], drives.flow_ba[:1], depth)
    before = system(batch_of(drives, [0]), LossWeights(rigid_flow=1.0))
    before.total.backward()
    grad = depth.disparity.grad
    assert grad is not None
    assert (grad[1] == 0).all(), "it is the depth of a that is reprojected"
    wrong = (depth.disparity - right).detach()
    counts = (grad[0] != 0) & (wrong[0].abs() > 0.02 * right[0])
    assert counts.float().mean() > 0.3
    assert (grad[0] * wrong[0] > 0)[counts].float().mean() > 0.8
    with torch.no_grad():
        depth.disparity -= 0.05 * grad / grad.abs().max() * right.mean()
    assert system(batch_of(drives, [0]), LossWeights(rigid_flow=1.0)).total < before.total


def test_networks_see_the_inputs_and_losses_the_images(drives: RenderedPair, system_with: MakeSystem) -> None:
    system, batch = system_with(drives.flow_ab[:1], drives.flow_ba[:1]), batch_of(drives, [0])
    plain = system(batch, ALL, 1).losses
    jittered = system(replace(batch, input_a=batch.input_a * 0.5, input_b=batch.input_b * 0.5), ALL, 1).losses
    assert torch.equal(jittered["pixel"], plain["pixel"])
    assert not torch.equal(jittered["triangulation"], plain["triangulation"])


def test_true_flow_alone_teaches_one_direction_as_it_does_among_other_terms(still_drives: RenderedPair) -> None:
    torch.manual_seed(0)
    system = TrianFlow(SystemConfig())
    batch = batch_of(still_drives, [0, 1])
    found = system(batch, LossWeights(truth=2.0))
    assert found.flow is None
    assert set(found.losses) == {"truth"}
    torch.testing.assert_close(found.total.detach(), 2 * found.losses["truth"])
    among = system(batch, LossWeights(truth=1.0, pixel=1.0))
    assert among.flow is not None
    torch.testing.assert_close(among.losses["truth"], found.losses["truth"])
    found.total.backward()
    assert all(g.isfinite().all() for g in gradients(system.flow))
    assert len(gradients(system.flow)) > 50
    assert not gradients(system.depth)


def test_true_flow_at_the_truth_costs_nothing_and_without_truth_neither(
    still_drives: RenderedPair, system_with: MakeSystem
) -> None:
    batch = batch_of(still_drives)
    system = system_with(still_drives.flow_ab, still_drives.flow_ba)
    weights = LossWeights(truth=1.0, flow_consistency=0.1)
    at_truth = float(system(batch, weights).losses["truth"])
    wrong = system_with(noisy(still_drives.flow_ab, 4.0), still_drives.flow_ba)
    assert at_truth < 0.05 * float(wrong(batch, weights).losses["truth"])
    network = TrianFlow(SystemConfig())
    nothing = network(replace(batch, truth=None), LossWeights(truth=1.0))
    assert float(nothing.total.detach()) == 0
    nothing.total.backward()
    assert not any(g.any() for g in gradients(network.flow))
