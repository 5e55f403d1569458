"""Whole runs with small networks: what they leave, say and measure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.training.small_runs import dataset, rows, timeless, tiny, train
from trianflow.data.pairs.sources import RawPair
from trianflow.training import loop
from trianflow.training.checkpoint import Checkpoint
from trianflow.training.loop import Trainer
from trianflow.training.run_folder import LAST, RunFolder
from trianflow.training.state import RunState

pytestmark = pytest.mark.usefixtures("small_networks")


def test_what_a_run_leaves(finished: Path) -> None:
    steps = rows(finished / "metrics.csv")
    assert [int(row["step"]) for row in steps] == list(range(1, 11))
    assert [row["stage"] for row in steps] == ["flow"] * 3 + ["depth"] * 4 + ["joint"] * 3
    assert [int(row["stage_step"]) for row in steps] == [1, 2, 3, 1, 2, 3, 4, 1, 2, 3]
    assert all(float(row["gradient"]) > 0 and float(row["total"]) > 0 for row in steps), "every stage has learned"
    assert all(float(row["triangulation"]) > 0 for row in steps[3:])
    assert all(row["triangulation"] == "" for row in steps[:3])
    assert [int(row["step"]) for row in rows(finished / "validation.csv")] == [2, 3, 5, 7, 9, 10]
    state = Checkpoint.load(finished / LAST)
    assert (state.stage, state.step, state.total_step) == ("joint", 3, 10)
    assert set(state.best) == {"flow", "depth", "joint"}
    assert (finished / "config.yaml").is_file()


def test_stages_change_their_networks_alone(raw_pairs: list[RawPair], tmp_path: Path) -> None:
    states = {}

    class Watching(Trainer):
        def _save(self, stage, step, optimizer) -> None:
            states[self._state.steps] = {k: v.clone() for k, v in self.system.state_dict().items()}
            super()._save(stage, step, optimizer)

    data = (dataset(raw_pairs), dataset(raw_pairs[:2], None, 0))
    trainer = Watching(tiny("save_every=1"), tmp_path, quiet=True, data=data)
    start = {k: v.clone() for k, v in trainer.system.state_dict().items()}
    trainer.run()

    def changed(a: dict, b: dict) -> set[str]:
        return {key.split(".")[0] for key in a if not torch.equal(a[key], b[key])}

    assert changed(start, states[3]) == {"flow"}
    assert changed(states[3], states[7]) == {"depth"}
    assert changed(states[7], states[10]) == {"flow", "depth"}
    norms = [key for key in states[3] if "running" in key]
    assert norms
    assert not any(torch.equal(states[3][key], states[7][key]) for key in norms)


def test_one_stage_alone(raw_pairs: list[RawPair], tmp_path: Path) -> None:
    assert train(tmp_path, raw_pairs, "stages.flow=null", "stages.joint=null").steps == 4
    assert [row["stage"] for row in rows(tmp_path / "metrics.csv")] == ["depth"] * 4


def test_a_batch_larger_than_the_data(raw_pairs: list[RawPair], tmp_path: Path) -> None:
    assert train(tmp_path, raw_pairs[:1], "batch_size=3").finished


def test_cards_tell_when_the_metrics_were_measured(finished: Path, raw_pairs: list[RawPair], tmp_path: Path) -> None:
    card = json.loads((finished / "flow.json").read_text())
    assert card["steps"] == card["metrics"]["step"] == 3
    assert card["metrics"]["epe"] == pytest.approx(float(rows(finished / "validation.csv")[1]["epe"]))
    Trainer(tiny(), tmp_path, quiet=True, data=(dataset(raw_pairs), None)).run()
    assert "metrics" not in json.loads((tmp_path / "joint.json").read_text())


def test_nothing_measured_is_never_the_best() -> None:
    state = RunState(steps=4)
    assert not state.measure("flow", ("flow",), {"solved": 0.0})
    assert not state.measure("flow", ("flow",), {"epe": float("nan")})
    assert state.measure("flow", ("flow",), {"epe": 2.0})
    assert not state.measure("flow", ("flow",), {"epe": 2.0})
    assert (state.best, state.measured) == ({"flow": 2.0}, 4)


def test_validation_does_not_touch_training(finished: Path, raw_pairs: list[RawPair], tmp_path: Path) -> None:
    train(tmp_path, raw_pairs, "val_every=100")
    assert timeless(tmp_path / "metrics.csv") == timeless(finished / "metrics.csv")
    bare = Trainer(tiny(), tmp_path / "bare", quiet=True, data=(dataset(raw_pairs), None))
    assert bare.run().finished
    assert timeless(tmp_path / "bare" / "metrics.csv") == timeless(finished / "metrics.csv")
    assert rows(tmp_path / "bare" / "validation.csv") == []
    assert not list((tmp_path / "bare").glob("*_best*"))


def test_the_best_is_kept(raw_pairs: list[RawPair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([3.0, 1.0, 2.0, 1.0])
    monkeypatch.setattr(loop, "validate", lambda *args, **kwargs: {"epe": next(values), "photometric": 0.0})
    written: list[float] = []
    monkeypatch.setattr(
        RunFolder, "export", lambda self, file, system, depth, card: written.append(card["metrics"]["epe"])
    )
    words = ("stages.flow.steps=4", "val_every=1", "stages.depth=null", "stages.joint=null")
    train(tmp_path, raw_pairs, *words)
    assert written == [3.0, 1.0, 1.0], "the first, a better one, and the last of the stage"
    assert Checkpoint.load(tmp_path / LAST).best == {"flow": 1.0}


def test_a_run_says_what_it_does_and_where_it_goes_on(
    finished: Path, raw_pairs: list[RawPair], tmp_path: Path, capsys
) -> None:
    data, out = (dataset(raw_pairs), None), tmp_path / "run"
    Trainer(tiny("batch_size=8", "precision=16-mixed"), out, data=data)
    said = capsys.readouterr().err
    assert f"training on cpu, {torch.get_num_threads()} threads, 16-mixed: 6 pairs, none to validate with" in said
    assert "batch_size 8 is more than there are pairs" in said
    assert "16-mixed is for GPUs" in said
    assert "going on" not in said
    Trainer(tiny(), finished, data=(dataset(raw_pairs), dataset(raw_pairs[:3], None, 0)))
    said = capsys.readouterr().err
    assert "6 pairs, 3 to validate with" in said
    assert "going on after step 3 of 3 of the stage joint" in said


def test_a_stage_without_geometry_is_told(raw_pairs: list[RawPair], tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(loop, "_UNSOLVED", 3)
    for few, told in (("20", 0), ("299", 1)):
        capsys.readouterr()
        words = ("stages.flow=null", "stages.joint=null", f"system.geometry.min_points={few}")
        train(tmp_path / few, raw_pairs, *words)
        assert capsys.readouterr().err.count("no geometry in any pair of 3 steps") == told
        solved = [float(row["solved"]) for row in rows(tmp_path / few / "metrics.csv")]
        assert solved == [0.0] * 4 if told else min(solved) > 0
