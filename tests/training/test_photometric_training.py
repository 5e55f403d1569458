"""Photometric runs: files they leave, exact continuation, validation, weights of pose networks, every grid row."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from tests.systems.known_networks import KnownDepth
from tests.training.small_runs import rows, timeless
from trianflow.config import load_settings
from trianflow.data.pairs.batch import collate
from trianflow.data.pairs.config import DriveSource
from trianflow.data.pairs.dataset import PairDataset
from trianflow.data.pairs.drives import RenderedDrives
from trianflow.depth.dispnet import DispNet
from trianflow.depth.learned import LearnedDepth
from trianflow.errors import TrianflowError, UsageError
from trianflow.geometry.sampson import rotation_exp
from trianflow.pose.posenet import PoseNet
from trianflow.systems.photometric import Photometric
from trianflow.training.config import PhotometricStage, TrainConfig
from trianflow.training.initial import load_initial
from trianflow.training.loading import validation_batches
from trianflow.training.loop import Trainer, TrainingOutcome
from trianflow.training.photometric_validation import PHOTOMETRIC_FIGURES, validate_photometric
from trianflow.training.run_folder import LAST, RunFolder
from trianflow.weights import load_weights, save_weights

ROOT = Path(__file__).parents[2]
SIZE = (96, 64)
GRID = sorted(path.stem for path in (ROOT / "configs" / "grid").glob("[ABC]*.yaml"))
TINY = (
    *("data.size=[96,64]", "data.views=3", "batch_size=2", "workers=0", "accelerator=cpu", "precision=32-true"),
    *("log_every=1", "val_every=2", "save_every=2", "photometric.steps=4", "photometric.lr=1e-3"),
    *("photometric.system.depth=dispnet", "photometric.system.pose=plain", "photometric.system.scales=2"),
)


@pytest.fixture(scope="module")
def drives() -> RenderedDrives:
    """Four triples, each of which is read again and again."""
    source = RenderedDrives(DriveSource(drives=4, seed=3), SIZE, 3, None)
    known = [source.read(i) for i in range(4)]
    source.read = lambda number: known[number]  # type: ignore[method-assign]
    return source


def run(out: Path, drives: RenderedDrives, *words: str, minutes: float | None = None) -> TrainingOutcome:
    config = load_settings(TrainConfig(), None, [*TINY, *words])
    pairs = PairDataset([drives], SIZE, 0)
    return Trainer(config, out, minutes=minutes, quiet=True, data=(pairs, pairs.first(2))).run()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, drives: RenderedDrives) -> Path:
    out = tmp_path_factory.mktemp("finished")
    assert run(out, drives).finished
    return out


def test_the_auto_mask_waits_for_depth_and_motion(drives: RenderedDrives, tmp_path: Path) -> None:
    words = ("photometric.system.auto_mask=true", "photometric.mask_after=0.5")
    config = load_settings(TrainConfig(), None, [*TINY, *words])
    pairs = PairDataset([drives], SIZE, 0)
    one, waited = Trainer(config, tmp_path, quiet=True, data=(pairs, pairs.first(2))), []
    forward = one.system.forward

    def watched(*args, **kwargs):
        waited.append(one.system.mask_waits)
        return forward(*args, **kwargs)

    one.system.forward = watched  # type: ignore[method-assign]
    assert one.run().finished
    assert waited == [True, True, False, False]


def test_a_run_leaves_tables_and_weights(finished: Path) -> None:
    table = rows(finished / "metrics.csv")
    assert [row["step"] for row in table] == ["1", "2", "3", "4"]
    assert {"photometric", "smooth", "explainability", "velocity"} <= table[0].keys()
    assert table[0]["velocity"] == ""
    assert all(math.isfinite(float(row["total"])) for row in table)
    validation = rows(finished / "validation.csv")
    assert set(PHOTOMETRIC_FIGURES) <= validation[0].keys()
    assert all(float(value) >= 0 for name, value in validation[-1].items() if name != "stage")
    weights = load_weights(finished / "photometric.safetensors")
    assert isinstance(weights.depth, DispNet)
    assert isinstance(weights.pose, PoseNet)
    assert weights.flow is None
    assert weights.card["networks"] == {
        "dispnet": {"scales": 2},
        "pose": {"encoder": "plain", "rotation": "axis_angle", "explain": False},
    }
    state = torch.load(finished / LAST, weights_only=True)["system"]
    assert torch.equal(state["pose.head.0.weight"], weights.pose.state_dict()["head.0.weight"])
    image = torch.zeros(64, 96, 3, dtype=torch.uint8).numpy()
    depth = LearnedDepth(weights.depth, "cpu", SIZE).depth(image)
    assert depth.shape == (64, 96)
    assert (depth > 0).all()


def test_alignment_without_a_pose_network_leaves_none(drives: RenderedDrives, tmp_path: Path) -> None:
    words = ("photometric.system.alignment=identity", "photometric.steps=1")
    assert run(tmp_path, drives, *words).finished
    weights = load_weights(tmp_path / "photometric.safetensors")
    assert weights.pose is None
    assert isinstance(weights.depth, DispNet)


def test_figures_of_known_networks(drives: RenderedDrives, monkeypatch: pytest.MonkeyPatch) -> None:
    """Depth in another unit, and a pose of half the length in it, turned by a degree."""
    batch = collate([PairDataset([drives], SIZE, 0)[0]])
    assert batch.truth is not None
    assert batch.truth.depth_a is not None
    assert batch.truth.T_ba is not None
    depth = batch.truth.depth_a.nan_to_num(80.0)
    system = Photometric()
    system.depth = KnownDepth(depth, depth, 0.5)  # type: ignore[assignment]
    turn = torch.eye(4, dtype=torch.float64)
    turn[:3, :3] = rotation_exp(torch.tensor([0.0, 0.0, math.radians(1.0)], dtype=torch.float64))
    T_ba = turn @ batch.truth.T_ba
    T_ba[:, :3, 3] *= 0.5
    monkeypatch.setattr(system, "estimate_pose", lambda *images: (T_ba.float(), torch.ones(1, dtype=torch.bool)))
    found = validate_photometric(system, [batch], torch.device("cpu"))
    assert found["rotation"] == pytest.approx(1.0, abs=1e-3)
    t, truth = T_ba[0, :3, 3], batch.truth.T_ba[0, :3, 3]
    angle = math.degrees(math.acos(float(t @ truth / t.norm() / truth.norm())))
    assert found["direction"] == pytest.approx(angle, abs=1e-2)
    assert found["length"] == pytest.approx(0.5, rel=1e-4)
    assert found["abs_rel"] == pytest.approx(0, abs=1e-4) != found["abs_rel_constant"]
    assert found["inverse_depth"] == pytest.approx((2 / depth.clamp(0.5, 100)).mean().item(), rel=1e-3)


def test_validation_pairs_are_rendered_in_full_precision() -> None:
    pairs = PairDataset([RenderedDrives(DriveSource(drives=2, seed=3), SIZE, 2, None)], SIZE, 0)
    (expected,) = validation_batches(pairs, 2, 2, [])
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = validation_batches(pairs, 2, 2, [])
    assert torch.equal(found.image_a, expected.image_a)
    assert found.truth is not None
    assert expected.truth is not None
    torch.testing.assert_close(found.truth.depth_a, expected.truth.depth_a, rtol=0, atol=0, equal_nan=True)


def test_a_stopped_run_goes_on_to_the_same_end(finished: Path, drives: RenderedDrives, tmp_path: Path) -> None:
    stopped = run(tmp_path, drives, minutes=1e-9)
    assert not stopped.finished
    assert stopped.steps == 1
    assert run(tmp_path, drives).finished
    assert timeless(finished / "metrics.csv") == timeless(tmp_path / "metrics.csv")
    first, second = (torch.load(folder / LAST, weights_only=True)["system"] for folder in (finished, tmp_path))
    assert all(torch.equal(first[key], second[key]) for key in first)
    with pytest.raises(UsageError, match=r"other settings \(photometric\.system\.ssim\)"):
        run(tmp_path, drives, "photometric.system.ssim=0")
    RunFolder(tmp_path).forget()
    assert {path.name for path in tmp_path.iterdir()} <= {"tensorboard"}


def test_networks_go_from_one_run_to_the_next(finished: Path, tmp_path: Path) -> None:
    weights = load_weights(finished / "photometric.safetensors")
    system = Photometric(load_settings(TrainConfig(), None, TINY).photometric.system)  # type: ignore[union-attr]
    load_initial(system, str(finished / "photometric.safetensors"))
    assert weights.pose is not None
    assert all(torch.equal(p, q) for p, q in zip(system.pose.state_dict().values(), weights.pose.state_dict().values()))
    save_weights(tmp_path / "flow_pose.safetensors", None, None, {}, pose=PoseNet("flow", "euler"))
    again = load_weights(tmp_path / "flow_pose.safetensors")
    assert again.pose is not None
    assert again.pose.arguments == {"encoder": "flow", "rotation": "euler", "explain": False}
    with pytest.raises(TrianflowError, match="not the tensors of this network"):
        load_initial(system, str(tmp_path / "flow_pose.safetensors"))


def test_what_configurations_are_refused() -> None:
    with pytest.raises(UsageError, match="other methods learn from pairs"):
        load_settings(TrainConfig(), None, ["data.views=3"])
    with pytest.raises(UsageError, match=r"photometric: explain and a weight"):
        load_settings(TrainConfig(), None, ["photometric.system={pose: plain, explain: true}"])
    with pytest.raises(UsageError, match=r"did you mean 'photometric\.system\.reduction'"):
        load_settings(TrainConfig(), None, ["photometric.system.reductoin=minimum"])


def test_the_grid_is_that_of_the_thesis() -> None:
    """Figure 4.1, column by column."""
    assert GRID == ["A1", "A2", "B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "C3", "C6", "C7", "C8"]
    for name in GRID:
        config = load_settings(TrainConfig(), ROOT / "configs" / "grid" / f"{name}.yaml")
        stage = config.photometric
        assert stage is not None
        system = stage.system
        deep = name == "A2" or name[0] == "C"
        assert (system.depth, system.pose) == (("resnet18", "resnet18") if deep else ("dispnet", "plain")), name
        assert (config.data.root == "lyft") == (name in ("B8", "C8")), name
        assert system.smooth_of == ("disparity" if name == "A1" else "depth"), name
        edge = name in ("A2", "B4", "B5", "B6", "B7", "B8", "C6", "C7", "C8")
        assert (system.smooth_kind == "edge_aware") == edge, name
        full = edge and name != "B4"
        assert system.smooth_normalized == full, name
        assert system.explain == (name in ("A1", "B1")), name
        assert system.auto_mask == (name not in ("A1", "B1", "B2")), name
        assert system.ssim == (0.85 if full else 0), name
        assert system.reduction == ("minimum" if full else "average"), name
        assert system.upscale == (name in ("A2", "B7", "B8", "C7", "C8")), name
        assert config.data.views == 3


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("posenet_flow", "multimask", "ddvo", "ddvo_refined")]


@pytest.mark.parametrize("name", [*GRID, "posenet", "sfmlearner_normalized", *SLOW])
def test_every_configuration_learns(name: str, drives: RenderedDrives) -> None:
    """On one batch, the objective falls and stays finite."""
    folder = "grid" if name in GRID else "compare"
    config = load_settings(TrainConfig(), ROOT / "configs" / folder / f"{name}.yaml")
    stage = config.photometric
    assert isinstance(stage, PhotometricStage)
    torch.manual_seed(0)
    system = Photometric(stage.system)
    pairs = PairDataset([drives], SIZE, 0)
    batch = collate([pairs[0], pairs[1]])
    optimizer = torch.optim.Adam(system.parameters(), stage.lr)
    totals = []
    for _ in range(12 if stage.system.pose == "flow" else 8):
        optimizer.zero_grad()
        result = system(batch, stage.losses)
        result.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(system.parameters(), config.clip)
        assert norm.isfinite()
        optimizer.step()
        totals.append(float(result.total.detach()))
    assert all(map(math.isfinite, totals))
    assert min(totals[4:]) < totals[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", GRID)
def test_every_grid_configuration_runs_an_epoch(name: str, drives: RenderedDrives, tmp_path: Path) -> None:
    words = (
        *("data.size=[96,64]", "data.train=[{drives: 4}]", "data.val=[{drives: 2, seed: 9}]", "data.cache=null"),
        *("batch_size=2", "workers=0", "photometric.epochs=1", "accelerator=cpu"),
    )
    config = load_settings(TrainConfig(), ROOT / "configs" / "grid" / f"{name}.yaml", words)
    pairs = PairDataset([drives], SIZE, 0)
    outcome = Trainer(config, tmp_path, quiet=True, data=(pairs, pairs.first(2))).run()
    assert outcome.finished
    assert (outcome.steps, outcome.skipped) == (2, 0)
    assert json.loads((tmp_path / "photometric.json").read_text())["steps"] == 2
