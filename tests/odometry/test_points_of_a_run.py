"""What a run makes of its points: cloud, mesh and COLMAP's files, in a corridor that is known; memory; real depth."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from tests.odometry.corridor import CAMERA, CONFIG, GRID, Corridor, drive
from tests.odometry.slide import Slide
from trianflow.config import OdometryConfig
from trianflow.data.frames import Frame, open_frames
from trianflow.errors import UsageError
from trianflow.geometry.camera import Camera
from trianflow.odometry.cloud import CloudWriter
from trianflow.odometry.colmap import ColmapWriter
from trianflow.odometry.estimators import Estimators
from trianflow.odometry.pipeline import VisualOdometry
from trianflow.odometry.run import Observer, OdometryRun, run_odometry
from trianflow.odometry.step import Step, StepStatus
from trianflow.trajectory import Trajectory
from trianflow.visualization.viewer import read_ply

# A flow of half a pixel's noise would hide nothing here: the corridor's is exact.
WORLD = Corridor(drive(30, turn=0.2))


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Points and colours of a cloud that was written."""
    body = path.read_bytes().partition(b"end_header\n")[2]
    rows = np.frombuffer(body, [("X", "<f4", 3), ("color", "u1", 3)])
    return rows["X"].astype(float), rows["color"]


def run(out: Path, observer: Observer, with_depth: bool = False, config: OdometryConfig = CONFIG) -> OdometryRun:
    frames = WORLD.frames(with_depth)
    return run_odometry(frames, CAMERA, config, out, estimators=Estimators(WORLD), observers=[observer])


def off_the_walls(points: np.ndarray) -> np.ndarray:
    """Distance of points to the nearest one of the true depth maps, as a share of that to where the drive ends."""
    rays = np.concatenate([GRID.numpy(), np.ones_like(GRID[..., :1])], -1)
    parts = []
    for i in range(0, len(WORLD.T_wc), 3):
        X_c, T = rays * WORLD.depth(i)[..., None], WORLD.T_wc[i]
        parts.append((X_c[WORLD.depth(i) < 60] @ T[:3, :3].T + T[:3, 3]).reshape(-1, 3))
    return cKDTree(np.concatenate(parts)).query(points)[0]


def scale_of(outcome: OdometryRun) -> float:
    """Metres in a unit of the trajectory."""
    return Trajectory(outcome.trajectory.times, WORLD.T_wc).path_length / outcome.trajectory.path_length


def test_a_cloud_lies_on_the_walls_in_the_scale_of_the_trajectory(tmp_path: Path) -> None:
    outcome = run(tmp_path, CloudWriter(tmp_path / "cloud.ply"))
    assert outcome.problems == []
    assert outcome.files[-1] == "cloud.ply"
    points, color = read(tmp_path / "cloud.ply")
    assert len(points) > 1000
    off = off_the_walls(scale_of(outcome) * points)
    assert np.median(off) < 0.1  # the truth has a point every 0.1 m and more
    assert np.quantile(off, 0.95) < 0.4
    assert (color == color[:, :1]).all()  # grey


def late_metres(folder: Path) -> OdometryConfig:
    """Speeds that are known from the tenth frame on."""
    speed = folder / "speed.txt"
    way = np.linalg.norm(np.diff(WORLD.T_wc[:, :3, 3], axis=0), axis=1)
    speed.write_text("".join(f"{0.1 * i + 0.05} {w / 0.1}\n" for i, w in enumerate(way) if i > 8))
    return CONFIG.model_copy(update={"speed": str(speed)})


def test_metres_that_become_known_late_scale_the_cloud_as_the_trajectory(tmp_path: Path) -> None:
    outcome = run(tmp_path, CloudWriter(tmp_path / "cloud.ply"), config=late_metres(tmp_path))
    assert outcome.report.unit == "metres"
    assert scale_of(outcome) == pytest.approx(1, abs=0.03)
    off = off_the_walls(read(tmp_path / "cloud.ply")[0])
    assert np.median(off) < 0.15


def test_measured_depth_takes_the_place_of_triangulated_points(tmp_path: Path) -> None:
    run(tmp_path, CloudWriter(tmp_path / "cloud.ply"), with_depth=True)
    off = off_the_walls(read(tmp_path / "cloud.ply")[0])
    assert np.quantile(off, 0.9) < 0.1


def test_depth_fused_with_a_window(tmp_path: Path) -> None:
    """The trajectory's unit is not that of the depths before the end."""
    config = CONFIG.model_copy(update={"scale": "depth"})
    outcome = run(tmp_path, CloudWriter(tmp_path / "cloud.ply"), with_depth=True, config=config)
    assert scale_of(outcome) == pytest.approx(1, abs=0.02)
    assert np.quantile(off_the_walls(read(tmp_path / "cloud.ply")[0]), 0.9) < 0.25


def test_no_points_is_a_problem_where_a_cloud_was_asked_for(tmp_path: Path) -> None:
    standing = Corridor(np.tile(np.eye(4), (4, 1, 1)))
    for required, problems in ((True, 1), (False, 0)):
        writer = CloudWriter(tmp_path / "cloud.ply", required=required)
        outcome = run_odometry(
            standing.frames(), CAMERA, CONFIG, tmp_path, estimators=Estimators(standing), observers=[writer]
        )
        assert len(outcome.problems) == problems
        assert not (tmp_path / "cloud.ply").exists()


def test_a_cloud_that_fails_leaves_none_of_an_earlier_run(tmp_path: Path) -> None:
    path = tmp_path / "cloud.ply"
    standing = Corridor(np.tile(np.eye(4), (4, 1, 1)))
    for i, world in enumerate((WORLD, standing)):
        outcome = run_odometry(
            world.frames(),
            CAMERA,
            CONFIG,
            tmp_path / str(i),
            estimators=Estimators(world),
            observers=[CloudWriter(path)],
        )
        assert (len(outcome.problems), path.exists()) == ((0, True), (1, False))[i]


def test_colmap_reprojects_within_a_pixel(tmp_path: Path) -> None:
    outcome = run(tmp_path, ColmapWriter(tmp_path / "model"))
    assert outcome.problems == []
    camera = Camera.from_file(tmp_path / "model" / "cameras.txt")
    poses = Trajectory.load(tmp_path / "model" / "images.txt")
    np.testing.assert_allclose(poses.T_wc, outcome.trajectory.T_wc[poses.times.astype(int)], atol=1e-9)
    lines = [row.split() for row in (tmp_path / "model" / "points3D.txt").read_text().splitlines()[1:]]
    X = np.array([row[1:4] for row in lines], float)
    assert len(X) > 500
    assert np.median(off_the_walls(scale_of(outcome) * X)) < 0.1
    body = (tmp_path / "model" / "images.txt").read_text().splitlines()[2:]
    worst = 0.0
    for i, seen in enumerate(body[1::2]):
        table = np.array(seen.split(), float).reshape(-1, 3)
        T_cw = np.linalg.inv(poses.T_wc[i])
        X_c = X[table[:, 2].astype(int) - 1] @ T_cw[:3, :3].T + T_cw[:3, 3]
        p = X_c[:, :2] / X_c[:, 2:] * [camera.fx, camera.fy] + [camera.cx + 0.5, camera.cy + 0.5]
        worst = max(worst, np.abs(p - table[:, :2]).max(initial=0))
    assert worst < 1
    names = {line.split()[9] for line in body[::2]}
    assert names == {path.name for path in (tmp_path / "model" / "images").iterdir()}


def pictures(model: Path) -> set[str]:
    return {path.name for path in (model / "images").iterdir()}


def test_colmap_replaces_an_earlier_run_and_nothing_else(tmp_path: Path) -> None:
    model = tmp_path / "model"
    run(tmp_path, ColmapWriter(model))
    assert len(pictures(model)) > 5
    ColmapWriter(model)  # of a run that never begins
    assert len(pictures(model)) > 5
    few = Corridor(WORLD.T_wc[:2])
    frames = (replace(frame, index=100 + frame.index) for frame in few.frames())
    run_odometry(frames, CAMERA, CONFIG, tmp_path, estimators=Estimators(few), observers=[ColmapWriter(model)])
    assert pictures(model) <= {"000100.jpg", "000101.jpg"}
    (model / "images" / "mine.jpg").touch()
    with pytest.raises(UsageError, match="images holds other files; name another folder"):
        ColmapWriter(model)
    (model / "images" / "mine.jpg").unlink()
    (model / "images.txt").write_text("# Image list with two lines of data per image:\n")
    with pytest.raises(UsageError, match=r"cameras\.txt is of another program; name another folder"):
        ColmapWriter(model)


@pytest.mark.parametrize("part", ["cameras", "images", "points3D"])
@pytest.mark.parametrize("suffix", [".txt", ".bin"])
def test_colmap_refuses_any_part_of_another_reconstruction(tmp_path: Path, part: str, suffix: str) -> None:
    path = tmp_path / f"{part}{suffix}"
    path.write_text("# of another program\n")
    with pytest.raises(UsageError, match=rf"{part}\{suffix} is of another program; name another folder"):
        ColmapWriter(tmp_path)
    assert list(tmp_path.iterdir()) == [path], "not so much as an empty folder is left"
    path.unlink()
    path.mkdir()
    with pytest.raises(UsageError, match="is of another program"):
        ColmapWriter(tmp_path)


class Killed(ColmapWriter):
    """One whose process ends before its run does."""

    def finish(self, run: OdometryRun, odometry: VisualOdometry) -> list[str]:
        return []


def test_colmap_replaces_what_a_killed_run_left(tmp_path: Path) -> None:
    model = tmp_path / "model"
    run(tmp_path, Killed(model))
    left = pictures(model)
    assert len(left) > 5
    few = Corridor(WORLD.T_wc[:2])
    frames = (replace(frame, index=100 + frame.index) for frame in few.frames())
    run_odometry(frames, CAMERA, CONFIG, tmp_path, estimators=Estimators(few), observers=[Killed(model)])
    assert pictures(model) <= {"000100.jpg", "000101.jpg"}
    assert run(tmp_path, ColmapWriter(model)).problems == []
    assert pictures(model) == left
    assert len(Trajectory.load(model / "images.txt")) == len(left)


@pytest.mark.parametrize("at", [0, 2])
def test_colmap_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Neither of its own nor of an earlier run; the same folder will do for the next."""
    model, few = tmp_path / "model", Corridor(WORLD.T_wc[:8])
    write, done = Path.write_bytes, []

    def limited(path: Path, data: bytes) -> int:
        done.append(path)
        if len(done) > at:
            write(path, data[:10])
            raise OSError(28, "No space left on device")
        return write(path, data)

    def outcome() -> OdometryRun:
        return run_odometry(
            few.frames(), CAMERA, CONFIG, tmp_path, estimators=Estimators(few), observers=[ColmapWriter(model)]
        )

    outcome()
    assert (model / "cameras.txt").is_file()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", limited)
        assert outcome().problems == [f"{done[-1]}: cannot write the picture: No space left on device"]
    assert done[-1].suffix == ".jpg"
    assert list(model.rglob("*")) == [model / "images"]
    outcome()
    assert len(pictures(model)) > at


def test_colmap_without_points_has_poses_and_a_problem(tmp_path: Path) -> None:
    standing, model = Corridor(np.tile(np.eye(4), (4, 1, 1))), tmp_path / "model"
    outcome = run_odometry(
        standing.frames(), CAMERA, CONFIG, tmp_path, estimators=Estimators(standing), observers=[ColmapWriter(model)]
    )
    assert outcome.problems == [f"{model}: no points: not one was seen from places far enough apart"]
    assert outcome.files[-1] == "model/"
    assert (model / "images.txt").is_file()


def test_colmap_keeps_its_observations_without_room_for_more(tmp_path: Path) -> None:
    writer = ColmapWriter(tmp_path / "model")
    run(tmp_path, writer)
    points = (tmp_path / "model" / "points3D.txt").read_text().splitlines()[1:]
    assert len(points) > 500
    assert sum(len(part.X) for part in writer._parts) >= len(points)
    for part in writer._parts:
        assert part.p.dtype == np.float32
        assert len(part.p) == part.count.sum()
        assert (part.count < 10).any()


def test_a_mesh_lies_on_the_walls(tmp_path: Path) -> None:
    pytest.importorskip("open3d")
    from trianflow.odometry.mesh import MeshWriter

    for scale in ("auto", "depth"):  # without and with a window
        config = CONFIG.model_copy(update={"scale": scale})
        outcome = run(tmp_path, MeshWriter(tmp_path / "mesh.ply"), with_depth=True, config=config)
        assert outcome.problems == []
        mesh = read_ply(tmp_path / "mesh.ply")
        assert len(mesh.faces) > 5000
        off = off_the_walls(mesh.vertices)
        assert np.median(off) < 0.1
        assert np.quantile(off, 0.9) < 0.3


def test_a_mesh_does_without_a_huge_depth(tmp_path: Path) -> None:
    pytest.importorskip("open3d")
    from trianflow.odometry.mesh import MeshWriter

    def bogus() -> Iterator[Frame]:
        for frame in WORLD.frames(True):
            assert frame.depth is not None
            depth = frame.depth.copy()
            depth[:8, :8] = 1e6
            yield replace(frame, depth=depth)

    writer = MeshWriter(tmp_path / "mesh.ply")
    outcome = run_odometry(bogus(), CAMERA, CONFIG, tmp_path, estimators=Estimators(WORLD), observers=[writer])
    assert outcome.problems == []
    off = off_the_walls(read_ply(tmp_path / "mesh.ply").vertices)
    assert np.quantile(off, 0.9) < 0.3


def test_a_mesh_of_the_flow_where_there_is_no_depth(tmp_path: Path) -> None:
    pytest.importorskip("open3d")
    from trianflow.odometry.mesh import MeshWriter

    for config, unit in ((CONFIG, "arbitrary"), (late_metres(tmp_path), "metres")):
        outcome = run(tmp_path, MeshWriter(tmp_path / "mesh.ply"), config=config)
        assert (outcome.problems, outcome.report.unit) == ([], unit)
        mesh = read_ply(tmp_path / "mesh.ply")
        assert len(mesh.faces) > 5000
        off = off_the_walls(scale_of(outcome) * mesh.vertices)
        assert np.median(off) < 0.15
        assert np.quantile(off, 0.9) < 0.4


def test_a_mesh_takes_depth_of_the_flow_only_where_none_was_measured(tmp_path: Path) -> None:
    pytest.importorskip("open3d")
    from trianflow.odometry.mesh import MeshWriter

    frames = [frame if frame.index % 2 else replace(frame, depth=None) for frame in WORLD.frames(True)]
    frames[0] = WORLD.frames(True)[0]
    numbers = list[int]()  # of the key frames

    class Counting(MeshWriter):
        def observe(self, odometry: VisualOdometry, frame: Frame, step: Step) -> None:
            super().observe(odometry, frame, step)
            assert odometry.seen is not None
            numbers.extend([frame.index] * odometry.seen.advanced)

    config, writer = CONFIG.model_copy(update={"scale": "depth"}), Counting(tmp_path / "mesh.ply")
    outcome = run_odometry(iter(frames), CAMERA, config, tmp_path, estimators=Estimators(WORLD), observers=[writer])
    assert outcome.problems == []
    of_flow = {numbers[kept.key] for kept in writer._kept if kept.of_flow}
    assert of_flow == {number for number in numbers if frames[number].depth is None}
    assert len(of_flow) > 3
    off = off_the_walls(read_ply(tmp_path / "mesh.ply").vertices)
    assert np.median(off) < 0.15
    assert np.quantile(off, 0.9) < 0.4


def test_a_standing_camera_makes_no_mesh(tmp_path: Path) -> None:
    pytest.importorskip("open3d")
    from trianflow.odometry.mesh import MeshWriter

    path, standing = tmp_path / "mesh.ply", Corridor(np.tile(np.eye(4), (4, 1, 1)))
    path.write_text("of an earlier run")
    outcome = run_odometry(
        standing.frames(), CAMERA, CONFIG, tmp_path, estimators=Estimators(standing), observers=[MeshWriter(path)]
    )
    assert outcome.problems == [f"{path}: no mesh: nothing was seen from places far enough apart"]
    assert not path.exists()


def resident() -> float:
    """Memory of this process, MB."""
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return float(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_five_thousand_frames_in_flat_memory(tmp_path: Path) -> None:
    odometry, writer, memory = Slide(), CloudWriter(tmp_path / "cloud.ply", limit=20_000), {}
    for i in range(5000):
        odometry.track(i)
        step = SimpleNamespace(status=StepStatus.OK, T_wc=odometry.key_poses[-1])
        writer.observe(odometry, SimpleNamespace(index=i, depth=None), step)  # type: ignore[arg-type]
        if i in (1000, 3000, 4999):
            memory[i] = resident()
    outcome = SimpleNamespace(trajectory=Trajectory(np.arange(5000.0), odometry.key_poses), named=str)
    writer.finish(outcome, odometry)  # type: ignore[arg-type]
    points = read(tmp_path / "cloud.ply")[0]
    assert 2000 < len(points) <= 20_000
    np.testing.assert_allclose(points[:, 2], Slide.NEAR, rtol=1e-3)
    assert np.ptp(points[:, 0]) > 0.99 * 5000 * Slide.STEP
    assert max(memory.values()) - memory[1000] < 15


@pytest.mark.data
@pytest.mark.slow
def test_seven_scenes_within_three_centimetres_of_a_cloud_of_the_true_poses(shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("open3d")
    from trianflow.visualization.mesh import DepthView, fuse_depth

    folder = shared_data / "sevenscenes_400-599"
    camera = Camera.from_file(folder / "calib.yaml")
    truth = Trajectory.load(folder / "poses.txt").relative_to_first().T_wc
    frames = open_frames(folder / "images", depth=folder / "depth", depth_scale=1000)
    views = [
        DepthView(f.depth, f.image, truth[f.index]) for f in frames.select(range(0, 200, 4)) if f.depth is not None
    ]
    fused = fuse_depth(lambda: views, camera.K().numpy(), 2.0).extract_point_cloud(3.0)
    reference = fused.point.positions.numpy()
    outcome = run_odometry(
        frames, camera, OdometryConfig.preset("fast"), tmp_path, observers=[CloudWriter(tmp_path / "cloud.ply")]
    )
    assert outcome.problems == []
    points = read(tmp_path / "cloud.ply")[0]
    accuracy, completeness = cKDTree(reference).query(points)[0], cKDTree(points).query(reference)[0]
    print(f"{len(points)} points: {np.median(accuracy):.4f} m off, the reference {np.median(completeness):.4f} m")
    assert len(points) > 100_000
    assert np.median(accuracy) < 0.03
    assert np.median(completeness) < 0.03
