"""Object motions: centres by hand, compositions against true ones, and a network that sees objects alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tests.turning_car import turning_car
from trianflow.geometry.camera import Camera, invert_pose, transform
from trianflow.geometry.splatting import forward_project
from trianflow.pose.objects import ObjPoseNet, composite_motions, object_centres, region_masks, turn_about

K = Camera.from_fov(12, 9, 80).K()


def test_region_masks() -> None:
    labels = torch.tensor([[[0, 1, 2], [-1, 3, 0]]])
    masks = region_masks(labels, 2)
    assert masks.int().tolist() == [[[[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [0, 0, 0]], [[0, 0, 1], [0, 0, 0]]]]


def test_centres_by_hand() -> None:
    g = torch.Generator().manual_seed(0)
    depth = 3 + torch.rand(2, 1, 9, 12, generator=g, dtype=torch.float64)
    labels = torch.randint(-1, 3, (2, 9, 12), generator=g)
    depth[0, 0, 0], depth[0, 0, 1], depth[1, 0, 2] = torch.inf, 0.0, torch.nan
    found = object_centres(depth, labels, 3, K.expand(2, 3, 3))
    for b in range(2):
        for k in (1, 2):
            points = [
                depth[b, 0, v, u].item() * np.linalg.inv(K.numpy()) @ [u, v, 1]
                for v in range(9)
                for u in range(12)
                if labels[b, v, u] == k and 0 < depth[b, 0, v, u] < np.inf
            ]
            np.testing.assert_allclose(found[b, k - 1], np.mean(points, 0), rtol=1e-12)
    assert (found[:, 2] == 0).all(), "there is no third object"


def test_turning_about_a_centre_leaves_it_where_it_is() -> None:
    R = torch.from_numpy(Rotation.from_rotvec([[0.1, -0.4, 0.2], [0.0, 0.3, 0.0]]).as_matrix())
    centre = torch.tensor([[1.0, 2.0, 9.0], [-4.0, 0.5, 20.0]], dtype=torch.float64)
    t = torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.1, -0.7]], dtype=torch.float64)
    T = turn_about(R, t, centre)
    torch.testing.assert_close(transform(T, centre[:, None])[:, 0], centre + t)
    torch.testing.assert_close(T[:, :3, :3], R)


def test_composite_of_true_motions() -> None:
    """What forward projection and the residual motion make of the car is where it truly is in b."""
    car = turning_car(2, 6.0, -0.4)
    pair = car.pair
    residual = car.T_ba @ invert_pose(pair.T_ba[0])
    motions = composite_motions(pair.T_ba, residual[None, None])
    torch.testing.assert_close(motions[0, 0], pair.T_ba[0])
    torch.testing.assert_close(motions[0, 1], car.T_ba)
    K = pair.K.float()
    found = forward_project(torch.where(pair.instance_a[:, None] == 1, pair.depth_a, 0.0), motions[:, 1].float(), K)
    seen = found.valid & (pair.instance_b[:, None] == 1) & (pair.visible_b > 0)
    assert seen.sum() > 3000
    error = (found.render(pair.image_a) - pair.image_b).square()[seen.expand_as(pair.image_b)].mean()
    assert -10 * error.log10() > 28, "PSNR"
    assert (found.depth / pair.depth_b)[seen].log().abs().median() < 2e-3
    still = forward_project(torch.where(pair.instance_a[:, None] == 1, pair.depth_a, 0.0), pair.T_ba.float(), K)
    assert (still.depth / pair.depth_b)[still.valid & seen].log().abs().median() > 1e-2


def network() -> ObjPoseNet:
    torch.manual_seed(0)
    net = ObjPoseNet()
    with torch.no_grad():  # so that its numbers are far from zero
        for parameter in net.parameters():
            parameter.mul_(1.5)
    return net


def scene() -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(1)
    images = torch.rand(2, 2, 3, 64, 96, generator=g)
    labels = torch.zeros(2, 64, 96, dtype=torch.long)
    labels[:, 10:40, 5:40], labels[:, 30:60, 60:90] = 1, 2
    centres = torch.tensor([[[-2.0, 0.0, 8.0], [3.0, 1.0, 12.0], [0.0, 0.0, 0.0]]]).expand(2, 3, 3)
    return images[0], labels, images[1], labels.clone(), centres


def test_the_network_sees_one_object_at_a_time() -> None:
    net, (intermediate, labels_i, image_b, labels_b, centres) = network(), scene()
    first = net(intermediate, labels_i, image_b, labels_b, centres)
    assert first.shape == (2, 3, 4, 4)
    eye = torch.eye(4)
    assert torch.equal(first[:, 2], eye.expand(2, 4, 4)), "nobody shows the third"
    assert ((first[:, :2] - eye).abs().amax((2, 3)) > 1e-6).all()
    R = first[:, :2, :3, :3]
    torch.testing.assert_close(R @ R.mT, torch.eye(3).expand_as(R), atol=1e-5, rtol=0)
    changed = image_b.clone()
    changed[:, :, labels_b[0] == 2] = 0.1
    changed[:, :, labels_b[0] == 0] = 0.9
    second = net(intermediate, labels_i, changed, labels_b, centres)
    torch.testing.assert_close(second[:, 0], first[:, 0])
    assert (second[:, 1] - first[:, 1]).abs().max() > 1e-6


def test_an_object_that_one_frame_does_not_show_stays() -> None:
    net, (intermediate, labels_i, image_b, labels_b, centres) = network(), scene()
    labels_b[1] = torch.where(labels_b[1] == 2, -1, labels_b[1])
    found = net(intermediate, labels_i, image_b, labels_b, centres)
    assert torch.equal(found[1, 1], torch.eye(4))
    assert not torch.equal(found[0, 1], torch.eye(4))


def test_items_do_not_see_each_other() -> None:
    net, inputs = network(), scene()
    together = net(*inputs)
    for i in range(2):
        torch.testing.assert_close(net(*(x[i : i + 1] for x in inputs))[0], together[i], atol=1e-6, rtol=0)


@pytest.mark.parametrize("count", [0, 3])
def test_a_batch_without_objects(count: int) -> None:
    """Gradients are zeros, as processes that train together all must have some."""
    net, (intermediate, labels_i, image_b, labels_b, centres) = network(), scene()
    found = net(intermediate, 0 * labels_i, image_b, labels_b, centres[:, :count])
    assert torch.equal(found, torch.eye(4).expand(2, count, 4, 4))
    if count:
        found.sum().backward()
        assert all(p.grad is not None and (p.grad == 0).all() for p in net.parameters())
