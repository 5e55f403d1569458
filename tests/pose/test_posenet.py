"""Pose networks: shapes, published size, rotations of known angles, masks, precision."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.spatial.transform import Rotation as Reference

from trianflow.inference import prepared
from trianflow.pose.kinds import PoseEncoder, Rotation
from trianflow.pose.posenet import PoseNet, flow_input, image_pair, rotation_matrix

KINDS: tuple[PoseEncoder, ...] = ("plain", "resnet18", "flow")


def pair_for(kind: str, batch: int = 2, height: int = 64, width: int = 104) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    if kind == "flow":
        K = torch.eye(3).expand(batch, 3, 3) * 50
        return flow_input(10 * torch.randn(batch, 2, height, width, generator=g), K)
    return image_pair(*torch.rand(2, batch, 3, height, width, generator=g))


@pytest.mark.parametrize("kind", KINDS)
def test_a_rigid_pose_near_none_at_first_and_gradients_everywhere(kind: PoseEncoder) -> None:
    torch.manual_seed(0)
    network = PoseNet(kind)
    T_ba = network(pair_for(kind)).T_ba
    assert T_ba.shape == (2, 4, 4)
    R = T_ba[:, :3, :3]
    torch.testing.assert_close(R @ R.mT, torch.eye(3).expand(2, 3, 3), rtol=0, atol=1e-5)
    assert (T_ba - torch.eye(4)).abs().max() < 0.2
    assert (T_ba[0] - T_ba[1]).abs().max() > 0
    T_ba.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_published_size_of_the_flow_baseline() -> None:
    assert sum(p.numel() for p in PoseNet("flow").parameters()) == 1_583_638


@pytest.mark.parametrize(("rotation", "convention"), [("axis_angle", None), ("euler", "XYZ")])
def test_rotations_against_scipy(rotation: Rotation, convention: str | None) -> None:
    angles = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    reference = Reference.from_rotvec(angles) if convention is None else Reference.from_euler(convention, angles)
    torch.testing.assert_close(rotation_matrix(angles, rotation), torch.from_numpy(reference.as_matrix()))
    torch.testing.assert_close(rotation_matrix(0 * angles, rotation), torch.eye(3).double().expand(5, 3, 3))
    assert torch.autograd.gradcheck(lambda x: rotation_matrix(x, rotation), angles.requires_grad_())
    zero = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    rotation_matrix(zero, rotation)[0, 1, 0].backward()
    assert zero.grad is not None
    assert zero.grad[0].tolist() == [0, 0, 1], "no step is lost where training begins"


def test_masks_have_the_sizes_of_the_disparities_and_both_images() -> None:
    network = PoseNet("plain", explain=True)
    found = network(pair_for("plain", 2, 70, 101), 4).explained
    assert [tuple(m.shape) for m in found] == [(2, 2, 70, 101), (2, 2, 35, 50), (2, 2, 17, 25), (2, 2, 8, 12)]
    assert all(((m > 0) & (m < 1)).all() for m in found)
    assert len(network(pair_for("plain"), 1).explained) == 1
    assert not PoseNet("plain")(pair_for("plain"), 4).explained
    with pytest.raises(ValueError, match="plain pose encoder"):
        PoseNet("resnet18", explain=True)


def test_flow_is_an_angle() -> None:
    """The same motion gives another camera another flow, but the network the same input."""
    flow = torch.randn(1, 2, 8, 8)
    K = torch.diag(torch.tensor([100.0, 50.0, 1.0]))[None]
    found = flow_input(flow, K)
    torch.testing.assert_close(flow_input(2 * flow, K * torch.tensor([2.0, 2.0, 1.0])[:, None]), found)
    assert found[0, 0, 3, 3].item() == pytest.approx(flow[0, 0, 3, 3].item() / 100 / 0.1)
    assert found[0, 1, 3, 3].item() == pytest.approx(flow[0, 1, 3, 3].item() / 50 / 0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_items_do_not_see_each_other_and_few_bits_will_do(kind: PoseEncoder) -> None:
    torch.manual_seed(1)
    network = PoseNet(kind).eval()
    pair = pair_for(kind, 3)
    with torch.no_grad():
        together = network(pair).T_ba
        torch.testing.assert_close(network(pair[1:2]).T_ba, together[1:2], rtol=1e-4, atol=1e-6)
        with torch.autocast("cpu", torch.bfloat16):
            low = network(pair).T_ba
        assert low.dtype == torch.float32
        scale = (together - torch.eye(4)).abs().max()
        assert (low - together).abs().max() < 0.1 * scale
        stored = prepared(network, torch.device("cpu"), torch.bfloat16)(pair.bfloat16()).T_ba
        assert (stored - together).abs().max() < 0.1 * scale
    assert math.isfinite(float(scale))
