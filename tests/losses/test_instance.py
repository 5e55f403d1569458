"""Errors of regions: by hand, at the truth, and the motion of an object as what makes them smallest."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from tests.turning_car import TurningCar, turning_car
from trianflow.geometry.camera import Camera, invert_pose, pose_matrix
from trianflow.geometry.sampson import rotation_exp
from trianflow.geometry.splatting import forward_project
from trianflow.losses.geometry import reproject
from trianflow.losses.instance import RegionErrors, region_errors, region_means, reproject_regions
from trianflow.pose.objects import composite_motions, object_centres, turn_about

K = Camera.from_fov(12, 9, 80).K()


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def motions() -> Tensor:
    """Of three regions of two items, `(2, 3, 4, 4)`."""
    R = Rotation.from_rotvec((rand(6, 3, seed=5) * 0.1).numpy()).as_matrix()
    return pose_matrix(torch.from_numpy(R), rand(6, 3, seed=6) - 0.5).view(2, 3, 4, 4)


def labels(seed: int = 3) -> Tensor:
    return torch.randint(-1, 4, (2, 9, 12), generator=torch.Generator().manual_seed(seed))


def test_region_means_by_hand() -> None:
    x, regions = rand(2, 1, 5, 6), rand(2, 3, 5, 6, seed=1) > 0.6
    regions[1, 2] = False
    x[~regions.any(1, keepdim=True)] = torch.nan
    x.requires_grad_()
    found = region_means(x, regions)
    for b in range(2):
        for r in range(3):
            inside = x[b, 0][regions[b, r]]
            assert float(found[b, r].detach()) == pytest.approx(float(inside.detach().mean()) if len(inside) else 0.0)
    found.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_each_region_moves_by_itself() -> None:
    depth, T, regions = 4 + rand(2, 1, 9, 12), motions(), labels()
    depth[0, 0, 0, :3], depth[1, 0, 8] = 0.0, torch.inf
    found = reproject_regions(depth, regions, T, K)
    for k in range(3):
        alone = reproject(depth, T[:, k], K)
        here = regions == k
        torch.testing.assert_close(found.points[here], alone.points[here])
        torch.testing.assert_close(found.depth[:, 0][here], alone.depth[:, 0][here])
        assert torch.equal(found.inside[:, 0][here], alone.inside[:, 0][here])
    nowhere = (regions < 0) | (regions > 2)
    assert nowhere.any()
    assert not found.inside[:, 0][nowhere].any()
    assert (found.depth[:, 0][nowhere] == 0).all()


def test_known_values() -> None:
    image_a, image_b = torch.full((1, 3, 9, 12), 0.2), torch.full((1, 3, 9, 12), 0.5)
    depth_a, depth_b = torch.full((1, 1, 9, 12), 6.0), torch.full((1, 1, 9, 12), 4.0)
    regions = torch.zeros(1, 9, 12, dtype=torch.long)
    regions[:, 3:6, 3:6] = 1
    still = torch.eye(4).expand(1, 3, 4, 4)
    found = region_errors(image_a, image_b, depth_a, depth_b, regions, regions, still, K.float(), 0.0)
    torch.testing.assert_close(found.photometric, torch.tensor([[0.3, 0.3, 0.0]]))
    torch.testing.assert_close(found.geometric, torch.tensor([[0.2, 0.2, 0.0]]))
    assert found.present.tolist() == [[True, True, False]]
    torch.testing.assert_close(found.total(found.geometric), torch.tensor([0.4]))
    same = region_errors(image_a, image_a, depth_a, depth_a, regions, regions, still, K.float())
    assert float(same.photometric.abs().max() + same.geometric.abs().max()) < 1e-6


def test_total_weighs_what_stands_still_like_all_objects_together() -> None:
    present = torch.tensor([[True, True, True, False], [True, False, False, False]])
    errors = torch.tensor([[1.0, 2.0, 4.0, 0.0], [3.0, 0.0, 0.0, 0.0]])
    found = RegionErrors(errors, errors, present, torch.zeros(2, 3, 1, 1)).total(errors)
    assert found.tolist() == [4.0, 3.0]


def test_what_an_object_hides_is_not_compared() -> None:
    """In a the object stands before what b shows of the background."""
    image = rand(1, 3, 9, 12)
    depth = torch.full((1, 1, 9, 12), 5.0, dtype=torch.float64)
    labels_a, labels_b = torch.zeros(2, 1, 9, 12, dtype=torch.long)
    labels_a[:, 3:6, 3:6] = 1
    labels_b[:, 3:6, 6:9] = 1
    image_a = torch.where(labels_a[:, None] == 1, 1.0, image)
    still = torch.eye(4, dtype=torch.float64).expand(1, 2, 4, 4)
    inputs = (image_a, image, depth, depth, labels_a, labels_b, still, K)
    found = region_errors(*inputs, ssim_share=0.0)
    assert float(found.photometric[0, 0]) == pytest.approx(0.0, abs=1e-12)
    assert (found.warped[..., 3:6, 3:6] == 0).all()
    unknown = region_errors(image_a, image, depth, depth, labels_a, -labels_b, still, K, ssim_share=0.0)
    assert unknown.present.tolist() == [[True, False]]


def test_gradients_agree_with_finite_differences() -> None:
    depth_a, depth_b = (4 + rand(2, 1, 9, 12, seed=s) for s in (1, 2))
    images = rand(2, 2, 3, 9, 12, seed=4)
    regions_a, regions_b = labels(7), labels(8)

    def errors(d_a: Tensor, d_b: Tensor, T: Tensor) -> tuple[Tensor, Tensor]:
        found = region_errors(images[0], images[1], d_a, d_b, regions_a, regions_b, T, K)
        return found.photometric, found.geometric

    inputs = (depth_a.requires_grad_(), depth_b.requires_grad_(), motions().requires_grad_())
    assert torch.autograd.gradcheck(errors, inputs, eps=1e-7, atol=1e-4)


def test_depth_that_is_not_known_has_no_say() -> None:
    images = rand(2, 2, 3, 9, 12)
    depth_a, depth_b = (4 + rand(2, 1, 9, 12, seed=s) for s in (1, 2))
    depth_a[0, 0, :2], depth_a[1, 0, 5, 5], depth_b[0, 0, :, 0], depth_b[1, 0, 2, 2] = torch.inf, 0.0, torch.nan, -1.0
    leaves = [x.requires_grad_() for x in (depth_a, depth_b, motions())]
    found = region_errors(images[0], images[1], leaves[0], leaves[1], labels(7), labels(8), leaves[2], K)
    assert found.geometric.isfinite().all()
    (found.photometric.sum() + found.geometric.sum()).backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in leaves)


def test_items_do_not_see_each_other() -> None:
    images = rand(2, 2, 3, 9, 12)
    depth_a, depth_b = (4 + rand(2, 1, 9, 12, seed=s) for s in (1, 2))
    inputs = [images[0], images[1], depth_a, depth_b, labels(7), labels(8), motions()]
    alone = region_errors(*(x[1:] for x in inputs), K)
    inputs[0][0], inputs[2][0] = torch.nan, torch.nan
    together = region_errors(*inputs, K)
    torch.testing.assert_close(together.photometric[1:], alone.photometric)
    torch.testing.assert_close(together.geometric[1:], alone.geometric)


def errors_of(car: TurningCar, T_ba: Tensor) -> RegionErrors:
    """The errors of street and car under motions `(1, 2, 4, 4)`."""
    p = car.pair
    inputs = (p.image_a, p.image_b, p.depth_a, p.depth_b, p.instance_a, p.instance_b, invert_pose(T_ba))
    return region_errors(*inputs, p.K.float())


def test_errors_are_small_at_the_truth_alone() -> None:
    car = turning_car(2, 6.0, -0.4)
    true = errors_of(car, torch.stack([car.pair.T_ba[0], car.T_ba])[None].float())
    still = errors_of(car, car.pair.T_ba.float()[:, None].expand(1, 2, 4, 4))
    assert float(true.photometric.max()) < 0.06
    assert float(true.geometric.max()) < 0.01
    assert float(still.photometric[0, 1]) > 4 * float(true.photometric[0, 1])
    assert float(still.geometric[0, 1]) > 4 * float(true.geometric[0, 1])
    # but for the car's neighbours, which structural similarity sees
    torch.testing.assert_close(still.photometric[:, 0], true.photometric[:, 0], rtol=0.02, atol=0)


@pytest.mark.parametrize(("seed", "radius", "phase"), [(0, 6.0, 0.3), (2, 6.0, -0.4), (3, 10.0, 0.0)])
def test_the_motion_of_an_object_is_recovered(seed: int, radius: float, phase: float) -> None:
    """With true depth and masks, from standing still: the car came 0.7 m and turned by 4 to 6.7 degrees."""
    car = turning_car(seed, radius, phase)
    pair, K = car.pair, car.pair.K.float()
    T_camera = pair.T_ba.float()
    intermediate = forward_project(pair.depth_a, T_camera, K)
    centres = object_centres(intermediate.depth, intermediate.carry(pair.instance_a, -1), 1, K)
    turn, shift = (torch.zeros(1, 1, 3, requires_grad=True) for _ in range(2))

    def motion() -> Tensor:
        return composite_motions(T_camera, turn_about(rotation_exp(0.1 * turn), shift, centres))

    solver = torch.optim.LBFGS([turn, shift], max_iter=60, line_search_fn="strong_wolfe", history_size=20)

    def loss() -> Tensor:
        solver.zero_grad()
        found = errors_of(car, motion())
        total = (found.photometric + found.geometric)[:, 1].sum()
        total.backward()
        return total.detach()

    solver.step(loss)
    T = motion().detach()[0, 1].double()
    way = (transform_point(car.T_ba, car.middle_a) - transform_point(pair.T_ba[0], car.middle_a)).norm()
    turned = (car.T_ba @ invert_pose(pair.T_ba[0]))[:3, :3]
    assert 0.65 < way < 0.75
    assert 3.9 < degrees(turned) < 6.8
    assert (transform_point(T, car.middle_a) - transform_point(car.T_ba, car.middle_a)).norm() < 0.035 * way
    assert degrees((T @ invert_pose(car.T_ba))[:3, :3]) < 0.6


def transform_point(T: Tensor, X: Tensor) -> Tensor:
    return T[:3, :3] @ X + T[:3, 3]


def degrees(R: Tensor) -> float:
    return math.degrees(np.linalg.norm(Rotation.from_matrix(R.numpy()).as_rotvec()))
