"""Runs of Insta-DM: files they leave, exact continuation, objects that learn, what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tests.training.small_runs import rows, timeless
from trianflow.config import load_settings
from trianflow.data.pairs.config import DriveSource
from trianflow.data.pairs.dataset import PairDataset
from trianflow.data.pairs.drives import RenderedDrives
from trianflow.depth.dispnet import DispNet
from trianflow.errors import UsageError
from trianflow.systems.instance import InstaDM
from trianflow.systems.instance_config import InstanceConfig
from trianflow.training.config import InstanceStage, TrainConfig
from trianflow.training.held_out import score_held_out
from trianflow.training.loop import Trainer, TrainingOutcome
from trianflow.training.photometric_validation import PHOTOMETRIC_FIGURES
from trianflow.training.run_folder import LAST, RunFolder
from trianflow.weights import load_weights

CONFIG = Path(__file__).parents[2] / "configs" / "compare" / "instadm.yaml"
SIZE = (96, 64)
TINY = (
    *("data.size=[96,64]", "batch_size=2", "workers=0", "accelerator=cpu", "precision=32-true", "data.cache=null"),
    *("log_every=1", "val_every=2", "save_every=2", "instance.steps=4", "instance.system.depth=dispnet"),
    "instance.system.pose=plain",
)


@pytest.fixture(scope="module")
def drives() -> RenderedDrives:
    """Four pairs of streets with cars, each of which is read again and again."""
    source = RenderedDrives(DriveSource(drives=4, seed=3, movers=6), SIZE, 2, None)
    known = [source.read(i) for i in range(4)]
    assert any((pair.labels > 0).any() for pair in known if pair.labels is not None)
    source.read = lambda number: known[number]  # type: ignore[method-assign]
    return source


def trainer(out: Path, drives: RenderedDrives, *words: str, minutes: float | None = None) -> Trainer:
    config = load_settings(TrainConfig(), CONFIG, [*TINY, *words])
    pairs = PairDataset([drives], SIZE, 0)
    return Trainer(config, out, minutes=minutes, quiet=True, data=(pairs, pairs.first(2)))


def run(out: Path, drives: RenderedDrives, *words: str, minutes: float | None = None) -> TrainingOutcome:
    return trainer(out, drives, *words, minutes=minutes).run()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, drives: RenderedDrives) -> Path:
    out = tmp_path_factory.mktemp("finished")
    assert run(out, drives).finished
    return out


def test_a_run_leaves_tables_and_weights(finished: Path, drives: RenderedDrives) -> None:
    table = rows(finished / "metrics.csv")
    assert [(row["step"], row["stage"]) for row in table] == [(str(n), "instance") for n in (1, 2, 3, 4)]
    assert all(
        math.isfinite(float(row[key])) for row in table for key in ("total", *InstanceStage().losses.model_dump())
    )
    validation = rows(finished / "validation.csv")
    assert set(PHOTOMETRIC_FIGURES) <= validation[0].keys()
    assert all(float(value) >= 0 for name, value in validation[-1].items() if name != "stage")
    weights = load_weights(finished / "instance.safetensors")
    assert isinstance(weights.depth, DispNet)
    assert weights.flow is None
    assert "Insta-DM" in weights.card["description"]
    assert weights.card["networks"]["pose"] == {"encoder": "plain", "rotation": "euler", "explain": False}
    state = torch.load(finished / LAST, weights_only=True)["system"]
    assert weights.pose is not None
    assert torch.equal(state["pose.head.0.weight"], weights.pose.state_dict()["head.0.weight"])
    assert weights.objects is not None
    assert all(torch.equal(state[f"objects.{key}"], value) for key, value in weights.objects.state_dict().items())


def test_every_network_learns(finished: Path, drives: RenderedDrives, tmp_path: Path) -> None:
    before = trainer(tmp_path, drives).system.state_dict()
    after = torch.load(finished / LAST, weights_only=True)["system"]
    for network in ("depth", "pose", "objects"):
        names = [name for name in before if name.startswith(f"{network}.") and name.endswith("weight")]
        assert names
        assert any(not torch.equal(before[name], after[name]) for name in names), network


def test_objects_learn_after_the_others(drives: RenderedDrives, tmp_path: Path) -> None:
    one = trainer(tmp_path, drives, "instance.objects_after=0.5")
    waited: list[bool] = []
    forward = one.system.forward

    def watched(*args, **kwargs):
        waited.append(one.system.objects_wait)
        return forward(*args, **kwargs)

    one.system.forward = watched  # type: ignore[method-assign]
    assert one.run().finished
    assert waited == [True, True, False, False]


def test_a_trained_system_is_scored_as_all_others(finished: Path, drives: RenderedDrives) -> None:
    system = InstaDM(InstanceConfig(depth="dispnet"))
    system.load_state_dict(torch.load(finished / LAST, weights_only=True)["system"])
    pairs = PairDataset([drives], SIZE, 0)
    figures = score_held_out(system, {1: pairs, 3: pairs}, 4, 2).figures()
    assert 0 < figures["abs_rel"] < 10
    assert 0 < figures["object_abs_rel"] < 10
    assert figures["object_epe"] > 0
    assert all(math.isfinite(value) for value in figures.values())


def test_a_stopped_run_goes_on_to_the_same_end(finished: Path, drives: RenderedDrives, tmp_path: Path) -> None:
    stopped = run(tmp_path, drives, minutes=1e-9)
    assert (stopped.finished, stopped.steps) == (False, 1)
    assert run(tmp_path, drives).finished
    assert timeless(finished / "metrics.csv") == timeless(tmp_path / "metrics.csv")
    first, second = (torch.load(folder / LAST, weights_only=True)["system"] for folder in (finished, tmp_path))
    assert all(torch.equal(first[key], second[key]) for key in first)
    with pytest.raises(UsageError, match=r"other settings \(instance\.system\.ssim\)"):
        run(tmp_path, drives, "instance.system.ssim=0")
    RunFolder(tmp_path).forget()
    assert {path.name for path in tmp_path.iterdir()} <= {"tensorboard"}


def test_what_configurations_are_refused() -> None:
    for words, problem in (
        (["photometric.lr=1e-4", "instance.lr=1e-4"], "photometric and instance are two methods"),
        (["instance.lr=1e-4", "data.views=3"], "other methods learn from pairs"),
        (["instance.system.pose=flow"], "there is no flow network"),
        (["instance.losses={photometric: 0, geometric: 0}"], "nothing teaches depth and motions"),
    ):
        with pytest.raises(UsageError, match=problem):
            load_settings(TrainConfig(), None, words)
