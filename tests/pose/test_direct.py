"""Direct alignment: exact pairs of the synthetic world, gradients, degenerate input, and OpenCV's RGB-D odometry."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation, Slerp

from trianflow.data.calibration import read_calibration
from trianflow.data.depth import read_depth
from trianflow.data.synthetic import RenderedPair, camera_path, make_scene, render_pairs
from trianflow.data.undistort import Undistorter
from trianflow.geometry.camera import Camera, pose_matrix
from trianflow.geometry.inverse_depth import see
from trianflow.geometry.sampson import rotation_exp
from trianflow.odometry.direct_motion import direct_motion
from trianflow.odometry.preparation import Prepared
from trianflow.pose import direct
from trianflow.pose.direct import Alignment, AlignmentStatus, align

STREET, ROOM = Camera.from_fov(416, 128, 80.0), Camera.from_fov(320, 240, 70.0)
VIDEO = {"street": Camera.from_fov(832, 256, 80.0), "room": Camera.from_fov(640, 480, 70.0)}


def rendered(kind, path, fps: float, seed: int, camera: Camera | None = None) -> RenderedPair:
    scene = make_scene(kind, seed, length=40.0)
    camera = camera or (STREET if kind == "street" else ROOM)
    T_wc = camera_path(path, scene, 2, fps, seed)
    times = torch.tensor([[0, 1 / fps]])
    return render_pairs([scene], T_wc[None], times, camera.K()[None], camera.height, camera.width)


def errors(T_ba: torch.Tensor, truth: torch.Tensor) -> tuple[float, float]:
    """Degrees, and the translation's error as a share of the true one."""
    T_ba, truth = T_ba.detach().double(), truth.double()
    R = T_ba[:3, :3] @ truth[:3, :3].T
    angle = math.degrees(np.linalg.norm(Rotation.from_matrix(R.numpy()).as_rotvec()))
    return angle, float((T_ba[:3, 3] - truth[:3, 3]).norm() / truth[:3, 3].norm())


def aligned(pair: RenderedPair, start: torch.Tensor | None = None, **options) -> Alignment:
    return align(pair.image_a, pair.image_b, pair.depth_a, pair.K, start, **options)


@pytest.mark.parametrize(
    ("kind", "path", "fps", "seed"),
    [("street", "driving", 40.0, 1), ("room", "driving", 8.0, 0)],
)
def test_small_motion_from_the_identity(kind, path, fps: float, seed: int) -> None:
    pair = rendered(kind, path, fps, seed, VIDEO[kind])
    found = aligned(pair, huber=0.002)
    angle, share = errors(found.T_ba[0], pair.T_ba[0])
    assert int(found.status) == AlignmentStatus.CONVERGED
    assert angle < 0.02
    assert share < 0.005


@pytest.mark.parametrize(("kind", "seed"), [("street", 1), ("street", 3), ("room", 2)])
def test_large_motion_from_a_start_that_is_a_fifth_off(kind, seed: int) -> None:
    pair = rendered(kind, "driving", 10.0 if kind == "street" else 3.0, seed)
    wrong = pair.T_ba.clone()
    wrong[:, :3, 3] *= 1.2
    found = aligned(pair, wrong.float(), huber=0.002)
    angle, share = errors(found.T_ba[0], pair.T_ba[0])
    assert found.found.all()
    assert angle < 0.02
    assert share < 0.005


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "small", "large"), [("street", 40.0, 10.0), ("room", 8.0, 3.0)])
def test_every_pair_at_the_size_of_video(kind, small: float, large: float) -> None:
    """The first eight, none chosen. In pictures of half the size 7 of these 32 miss half a percent."""
    for seed in range(8):
        near, far = (rendered(kind, "driving", fps, seed, VIDEO[kind]) for fps in (small, large))
        wrong = far.T_ba.clone()
        wrong[:, :3, 3] *= 1.2
        for pair, start in ((near, None), (far, wrong.float())):
            with torch.no_grad():
                found = aligned(pair, start, huber=0.002)
            angle, share = errors(found.T_ba[0], pair.T_ba[0])
            assert found.found.all()
            assert angle < 0.02, seed
            assert share < 0.005, seed


def test_a_pose_network_is_refined_on_the_finest_level_alone() -> None:
    pair = rendered("street", "driving", 40.0, 3)
    off = pose_matrix(rotation_exp(torch.tensor([[1e-3, -1e-3, 0.0]]).double()), torch.zeros(1, 3).double())
    start = (off @ pair.T_ba).float()
    found = aligned(pair, start, levels=1)
    before, after = errors(start[0], pair.T_ba[0]), errors(found.T_ba[0], pair.T_ba[0])
    assert after[0] < before[0] / 2


def smooth_pair() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two smooth images that differ by a small shift, a depth and K, float64."""

    def wave(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (0.5 + 0.2 * torch.sin(0.7 * x + 0.3 * y) + 0.2 * torch.cos(0.5 * y - 0.2 * x))[None, None]

    y, x = torch.meshgrid(torch.arange(24.0).double(), torch.arange(32.0).double(), indexing="ij")
    depth = (3 + 0.5 * torch.sin(0.3 * x) * torch.cos(0.2 * y))[None, None]
    K = torch.tensor([[30.0, 0, 15.5], [0, 30, 11.5], [0, 0, 1]]).double()
    return wave(x, y), wave(x + 0.4, y - 0.2), depth, K


@pytest.mark.parametrize("huber", [None, 0.05])
def test_gradients_through_depth_and_start(huber: float | None) -> None:
    image_a, image_b, depth, K = smooth_pair()

    def pose(
        depth: torch.Tensor, w: torch.Tensor, t: torch.Tensor, levels: int = 2, iterations: int = 3
    ) -> torch.Tensor:
        start = pose_matrix(rotation_exp(w), t)
        return align(image_a, image_b, depth, K, start, levels=levels, iterations=iterations, huber=huber).T_ba

    w, t = torch.tensor([[0.01, -0.01, 0.005]]).double(), torch.tensor([[0.02, 0.01, -0.01]]).double()
    inputs = tuple(x.requires_grad_() for x in (depth, w, t))
    assert torch.autograd.gradcheck(pose, inputs, fast_mode=True)
    assert torch.autograd.grad(pose(*inputs).sum(), depth)[0].abs().max() > 1e-6
    # a single step has not forgotten where it began
    assert torch.autograd.gradcheck(lambda *x: pose(*x, 1, 1), inputs, fast_mode=True)
    assert all(x.abs().max() > 1e-6 for x in torch.autograd.grad(pose(*inputs, 1, 1).sum(), inputs))


def test_items_are_independent_and_what_fails_keeps_its_start() -> None:
    image_a, image_b, depth, K = smooth_pair()
    nan = torch.full_like(depth, torch.nan)
    cases = [
        (image_a, image_b, depth),
        (image_a, image_b, torch.zeros_like(depth)),  # no depth
        (torch.full_like(image_a, 0.5), image_b, depth),  # no texture
        (image_a, image_b, nan),
    ]
    images_a, images_b, depths = (torch.cat(x).requires_grad_() for x in zip(*cases))
    start = pose_matrix(rotation_exp(torch.tensor([[0.001, 0, 0]]).double()), torch.zeros(1, 3).double())
    whole = align(images_a, images_b, depths, K, start.expand(4, 4, 4))
    assert whole.status.tolist()[1:] == [AlignmentStatus.TOO_FEW_PIXELS] * 3
    assert torch.equal(whole.T_ba[1:], start.expand(3, 4, 4))
    assert whole.error.isfinite().all()
    assert whole.share.isfinite().all()
    single = align(*cases[0], K, start)
    torch.testing.assert_close(whole.T_ba[:1], single.T_ba)
    assert whole.found.tolist() == [True, False, False, False]
    whole.T_ba.sum().backward()
    assert all(x.grad.isfinite().all() for x in (images_a, images_b, depths))


def test_unlike_images_diverge_or_stay() -> None:
    g = torch.Generator().manual_seed(1)
    image_a, image_b = torch.rand(2, 1, 1, 48, 64, generator=g)
    K = torch.tensor([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]])
    found = align(image_a, image_b, torch.ones(1, 1, 48, 64), K, iterations=5)
    assert found.T_ba.isfinite().all()
    assert not (found.status == AlignmentStatus.CONVERGED).any()


def test_what_coarse_levels_find_outlives_a_finest_one_that_errs(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = rendered("street", "driving", 10.0, 1)
    whole = aligned(pair)
    solve = direct._align_level

    def spoiled(level, T_ba, huber, iterations):
        moved, still, sound = solve(level, T_ba, huber, iterations)
        if level.image_a.shape[-1] == pair.image_a.shape[-1]:
            moved = moved @ pose_matrix(torch.eye(3)[None], torch.tensor([[0.3, 0.0, 0.0]])).to(moved)
        return moved, still, sound

    monkeypatch.setattr(direct, "_align_level", spoiled)
    found = aligned(pair)
    assert int(found.status) == AlignmentStatus.UNFINISHED
    assert found.found.all()
    assert errors(found.T_ba[0], pair.T_ba[0])[1] < 0.1
    assert errors(whole.T_ba[0], pair.T_ba[0])[1] < 0.1


def test_a_start_that_looks_away() -> None:
    """Half a turn: nothing is in view, and the start is all there is to give back."""
    image_a, image_b, depth, K = smooth_pair()
    start = pose_matrix(rotation_exp(torch.tensor([[0.0, math.pi, 0]]).double()), torch.zeros(1, 3).double())
    found = align(image_a, image_b, depth, K, start)
    assert int(found.status) == AlignmentStatus.TOO_FEW_PIXELS
    assert torch.equal(found.T_ba, start)
    assert float(found.share) == 0


def test_rotation_alone_of_an_infinitely_far_scene_is_undetermined() -> None:
    """Without depth there is no translation to find: six unknowns, three of which do nothing."""
    image_a, image_b, depth, K = smooth_pair()
    assert not align(image_a, image_b, torch.full_like(depth, torch.inf), K).found.any()


def test_exponential_of_rotations_near_zero() -> None:
    for size in (0.0, 1e-12, 1e-7, 1e-3, 1.0, 3.1):
        w = size * torch.tensor([0.6, -0.64, 0.48]).double()
        cross = torch.tensor([[0, -w[2], w[1]], [w[2], 0, -w[0]], [-w[1], w[0], 0]]).double()
        torch.testing.assert_close(rotation_exp(w), torch.matrix_exp(cross), rtol=0, atol=1e-14)


def test_see_is_projection_of_points() -> None:
    g = torch.Generator().manual_seed(2)
    depth = 1 + torch.rand(2, 1, 5, 7, generator=g).double()
    K = torch.tensor([[9.0, 0, 3.2], [0, 8, 2.1], [0, 0, 1]]).double()
    T_ba = pose_matrix(rotation_exp(0.1 * torch.randn(2, 3, generator=g).double()), 0.2 * torch.ones(2, 3).double())
    seen = see(1 / depth, T_ba, K)
    for item in range(2):
        for row in range(5):
            for column in range(7):
                ray = np.linalg.inv(K.numpy()) @ [column, row, 1]
                X = T_ba[item].numpy() @ [*(ray * float(depth[item, 0, row, column])), 1]
                u, v, z = K.numpy() @ X[:3]
                place = item, 0, row, column
                assert float(seen.x[place]) == pytest.approx(u / z)
                assert float(seen.y[place]) == pytest.approx(v / z)
                assert float(seen.ratio[place] * depth[place]) == pytest.approx(z)


class TumDesk:
    """The nine frames, without distortion, and the true motions between neighbours."""

    def __init__(self, folder: Path) -> None:
        undistorter = Undistorter(read_calibration(folder / "calib.yaml"))
        self.K = undistorter.camera.K()
        names = [f"{number:06d}.png" for number in range(9)]
        images = [undistorter.image(cv2.imread(str(folder / "images" / name))[..., ::-1].copy()) for name in names]
        depths = [undistorter.depth(read_depth(folder / "depth" / name, 5000)) for name in names]
        self.frames = [Prepared(image, None, depth) for image, depth in zip(images, depths)]
        at, known = np.loadtxt(folder / "times.txt"), np.loadtxt(folder / "groundtruth.txt")
        T_wc = np.tile(np.eye(4), (9, 1, 1))
        T_wc[:, :3, :3] = Slerp(known[:, 0], Rotation.from_quat(known[:, 4:]))(at).as_matrix()
        T_wc[:, :3, 3] = np.stack([np.interp(at, known[:, 0], known[:, k]) for k in (1, 2, 3)], 1)
        self.T_ba = torch.from_numpy(np.linalg.inv(T_wc[1:]) @ T_wc[:-1])

    def median_errors(self, estimates: list[torch.Tensor]) -> tuple[float, float]:
        """Degrees and metres."""
        angles = [errors(T, truth)[0] for T, truth in zip(estimates, self.T_ba)]
        lengths = [float((T[:3, 3] - truth[:3, 3]).norm()) for T, truth in zip(estimates, self.T_ba)]
        return float(np.median(angles)), float(np.median(lengths))


@pytest.mark.data
@pytest.mark.slow
def test_as_good_as_the_rgbd_odometry_of_opencv(shared_data: Path) -> None:
    desk = TumDesk(shared_data / "tum_fr1_desk_9frames")
    settings = cv2.OdometrySettings()
    settings.setCameraMatrix(desk.K.numpy().astype(np.float32))
    ours, theirs = [], []
    for a, b in pairwise(desk.frames):
        motion = direct_motion(a, b, desk.K, torch.eye(4), "depth")
        assert motion is not None
        ours.append(motion.T_ck)
        odometry = cv2.Odometry(cv2.ODOMETRY_TYPE_RGB_DEPTH, settings, cv2.ODOMETRY_ALGO_TYPE_COMMON)
        found, T_ba = odometry.compute(a.depth, a.image, b.depth, b.image)
        assert found
        theirs.append(torch.from_numpy(T_ba))
    (angle, length), (angle_cv, length_cv) = desk.median_errors(ours), desk.median_errors(theirs)
    assert angle < 1.1 * angle_cv
    assert length < 1.1 * length_cv
