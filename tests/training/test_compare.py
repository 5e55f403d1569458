"""Comparisons: budgets, going on, methods that fail, figures of known estimates."""

from __future__ import annotations

import argparse
import json
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.systems.known_networks import KnownDepth, KnownFlow, batch_of
from tests.training.small_runs import dataset
from trianflow.cli import compare as command
from trianflow.data.pairs.batch import PairBatch, PairTruth
from trianflow.data.pairs.config import DataConfig, DriveSource
from trianflow.data.pairs.dataset import PairDataset
from trianflow.data.pairs.sources import RawPair
from trianflow.data.synthetic import camera_path, make_scene, render_pairs
from trianflow.errors import UsageError
from trianflow.geometry.camera import Camera
from trianflow.systems.estimate import PairEstimate, estimate_pair
from trianflow.systems.trianflow import TrianFlow
from trianflow.training import compare as module
from trianflow.training import held_out, loop
from trianflow.training.compare import compare, comparison_table, learning_curve, read_score, spent, train_method
from trianflow.training.held_out import HeldOutScore, held_out_pairs
from trianflow.training.loop import Trainer
from trianflow.training.methods import Budget, read_methods
from trianflow.training.state import RunState

BASE = """
data: {size: [64, 64], train: [{drives: 4}], val: [{drives: 4, seed: 9}], views: VIEWS}
batch_size: 2
workers: 0
val_every: 2
val_pairs: 4
accelerator: cpu
precision: 32-true
"""
POSENET = "photometric: {system: {depth: dispnet, pose: plain, scales: 1}, losses: {photometric: 1.0, smooth: 0.001}}"
TRIANFLOW = """
system: {geometry: {matches: 300, min_points: 20}}
stages:
  flow: {epochs: 3, train: [flow], losses: {pixel: 0.15, ssim: 0.85, flow_smooth: 10}}
  depth: {epochs: 1, train: [depth], losses: {triangulation: 1, depth_smooth: 0.001}}
  joint: null
"""


def call(*words: str) -> int:
    """The command, without its program."""
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["compare", *words])
    args.quiet = True
    return command.run(args)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    (tmp_path / "a.yaml").write_text(BASE.replace("VIEWS", "3") + POSENET)
    (tmp_path / "b.yaml").write_text(BASE.replace("VIEWS", "2") + TRIANFLOW)
    return [tmp_path / "a.yaml", tmp_path / "b.yaml"]


@pytest.fixture
def small_data(
    small_networks: None, raw_pairs: list[RawPair], monkeypatch: pytest.MonkeyPatch
) -> tuple[PairDataset, PairDataset]:
    """Pairs for b with small networks, which begin with nothing but must have something to begin with."""

    def initialize(system: Any, init: str | None) -> None:
        assert init is None or Path(init).is_file()

    monkeypatch.setattr(loop, "initialize", initialize)
    return dataset(raw_pairs), dataset(raw_pairs[:3], None, 0)


@pytest.mark.slow
def test_all_methods_have_the_same_steps_and_are_scored(files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcomes = compare(read_methods(files, out, []), Budget(None, 4), out, True)
    assert [(o.method.name, o.problem, o.finished) for o in outcomes] == [("a", "", True), ("b", "", True)]
    runs = {"a": {"photometric": 4}, "b": {"flow": 3, "depth": 1}}
    for outcome in outcomes:
        for stage, steps in runs[outcome.method.name].items():
            state = torch.load(outcome.method.stage_folder(stage) / "last.ckpt", weights_only=True)
            assert state["total_step"] == steps
        score = outcome.score
        assert score is not None
        assert set(score.poses) == {1, 2, 3}
        figures = score.figures()
        assert np.isfinite(list(figures.values())).all()
        assert 0 < figures["abs_rel"] < 10
        assert [x for x, _ in learning_curve(outcome.method, "abs_rel")] == sorted(
            x for x, _ in learning_curve(outcome.method, "abs_rel")
        )
    table = comparison_table(outcomes)
    assert table.csv().splitlines()[0].startswith("method,abs_rel,rmse,d1,object_abs_rel,object_epe,rotation_1")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("last.ckpt")}
    again = compare(read_methods(files, out, []), Budget(None, 4), out, True)
    assert [o.score for o in again] == [o.score for o in outcomes]
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("last.ckpt")}, "nothing is done twice"
    with pytest.raises(UsageError, match="another budget"):
        compare(read_methods(files, out, []), Budget(None, 5), out, True)


def test_time_is_shared_by_the_stages(
    files: list[Path], small_data: tuple[PairDataset, PairDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has all of its time, also where its networks take long to build; once it is spent, nothing is done."""
    given: list[float] = []

    class Slow(Trainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            given.append(60 * kwargs["minutes"])
            time.sleep(0.4)

    monkeypatch.setattr(module, "Trainer", Slow)
    monkeypatch.setattr(module, "_TO_SPARE", 0.1)
    (method,) = read_methods(files[1:], tmp_path / "out", [])
    assert train_method(method, Budget(0.8 / 60, None), small_data, True) is not None
    assert given == pytest.approx([0.6, 0.2])
    for stage, share in (("flow", 0.6), ("depth", 0.2)):
        state = torch.load(method.stage_folder(stage) / "last.ckpt", weights_only=True)
        assert state["seconds"] >= share - 1e-6
    before = spent(method)
    assert before.minutes >= 0.8 / 60 - 1e-6
    assert train_method(method, Budget(0.8 / 60, None), small_data, True) is not None
    assert spent(method) == before


def test_a_stage_without_time_makes_a_step(
    files: list[Path], small_data: tuple[PairDataset, PairDataset], tmp_path: Path
) -> None:
    (method,) = read_methods(files[1:], tmp_path / "out", [])
    for _ in range(2):
        assert train_method(method, Budget(1e-6, None), small_data, True) is not None
        assert spent(method).steps == 2


def test_a_signal_is_told_from_the_end_of_time(
    files: list[Path],
    raw_pairs: list[RawPair],
    small_data: tuple[PairDataset, PairDataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_TO_SPARE", 0.0)
    (method,) = read_methods(files[1:], tmp_path / "out", [])
    seen: list[int] = []

    def ask(number: int) -> None:
        seen.append(number)
        if len(seen) == 3:  # the first pair of step 2
            signal.raise_signal(signal.SIGINT)

    assert train_method(method, Budget(1.0, None), (dataset(raw_pairs, ask), small_data[1]), True) is None
    assert spent(method).steps == 2
    assert train_method(method, Budget(1e-6, None), small_data, True) is not None
    assert spent(method).steps == 3, "of flow nothing is left, of depth a step"


def test_other_settings_and_damage_are_told_in_the_words_of_the_command(
    files: list[Path], small_data: tuple[PairDataset, PairDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "open_pairs", lambda *args: small_data)
    monkeypatch.setattr(module, "held_out_pairs", lambda *args: {1: small_data[1]})
    monkeypatch.setattr(module, "score_held_out", lambda *args: HeldOutScore({"abs_rel": 0.5}, {}, {}))
    out, budget = tmp_path / "out", Budget(None, 4)
    outcomes = compare(read_methods(files[1:], out, []), budget, out, True)
    assert outcomes[0].spent == spent(outcomes[0].method)
    assert outcomes[0].spent.steps == 4
    with pytest.raises(UsageError) as raised:
        compare(read_methods(files[1:], out, ["seed=3"]), budget, out, True)
    folder = out / "b"
    what = f"{folder / 'flow'} holds a run with other settings (seed)"
    assert str(raised.value) == f"{what}: give another --out, or remove {folder}"
    (folder / "flow" / "last.ckpt").write_text("no checkpoint")
    (outcome,) = compare(read_methods(files[1:], out, []), budget, out, True)
    assert outcome.problem.endswith(f"; remove {folder} to begin anew")
    assert (outcome.score, outcome.spent) == (None, None)


def test_scores_of_other_pairs_are_not_shown(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []

    def score(system: Any, pairs: Any, limit: int, size: int) -> HeldOutScore:
        measured.append(limit)
        return HeldOutScore({"abs_rel": float(limit)}, {}, {})

    monkeypatch.setattr(module, "train_method", lambda *args: "a system")
    monkeypatch.setattr(module, "score_held_out", score)
    out = tmp_path / "out"
    (out / "a").mkdir(parents=True)

    def shown(limit: int) -> float:
        (outcome,) = compare(read_methods(files[:1], out, [f"val_pairs={limit}"]), Budget(1.0, None), out, True)
        assert outcome.score == read_score(outcome.method)
        assert outcome.score is not None
        return outcome.score.depth["abs_rel"]

    assert [shown(limit) for limit in (4, 4, 3)] == [4, 4, 3]
    assert measured == [4, 3]
    values = json.loads((out / "a" / "scores.json").read_text())
    del values["measure"]  # as older versions left it
    (out / "a" / "scores.json").write_text(json.dumps(values))
    assert shown(3) == 3
    assert measured == [4, 3, 3]


def test_with_a_budget_of_time_the_rate_falls_by_the_pace(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = read_methods(files[:1], tmp_path, ["photometric.lr_end=0.1"])[0].config
    trainer = Trainer(config, tmp_path / "run", quiet=True, budget=2.0)
    assert trainer._expected(0, 1000) == 1000
    for seconds, steps in ((30.0, 40), (60.0, 20), (120.0, 10), (150.0, 10)):
        monkeypatch.setattr(RunState, "seconds", property(lambda state, spent=seconds: spent))
        assert trainer._expected(10, 1000) == steps
    stage = config.listed_stages()[0][1]
    assert stage.rate(10, 10) == pytest.approx(0.1 * stage.lr)
    assert stage.rate(10, 20) == pytest.approx(0.55 * stage.lr)


def test_a_method_that_fails_leaves_the_others_alone(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files[0].write_text(files[0].read_text() + "\ninit: nowhere.safetensors\n")
    out = tmp_path / "out"
    assert call(*map(str, files), "data.flip=0", "--steps", "2", "--out", str(out), "--json") == 1
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert "nowhere.safetensors" in found["failed"]["a"]
    assert found["methods"]["a"] is None
    assert found["methods"]["b"]["abs_rel"] > 0
    assert found["training"]["a"] is None
    assert found["training"]["b"]["steps"] == 3
    assert "a failed: " in (out / "table.txt").read_text()
    for name in ("table.csv", "learning.png", "poses.png"):
        assert (out / name).stat().st_size > 0


def test_a_signal_leaves_the_rest_for_later(files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "train_method", lambda *args: None)
    out = tmp_path / "out"
    outcomes = compare(read_methods(files, out, []), Budget(1.0, None), out, True)
    assert [(o.method.name, o.finished) for o in outcomes] == [("a", False)]
    assert call(*map(str, files), "--minutes", "1", "--out", str(out)) == command.UNFINISHED


def test_what_cannot_be_compared(files: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "c.yaml"
    other.write_text(files[1].read_text().replace("size: [64, 64]", "size: [96, 64]"))
    with pytest.raises(UsageError, match=r"a and c differ in data\.size"):
        read_methods([files[0], other], tmp_path, [])
    for key, settings in (
        ("val_pairs", "val_pairs: 3"),
        ("seed", "seed: 3"),
        (r"data\.flip", "data: {flip: 0}"),
        (r"data\.min_motion", "data: {min_motion: 0.1}"),
    ):
        other.write_text(f"base: b.yaml\n{settings}\n")
        with pytest.raises(UsageError, match=rf"a and c differ in {key}: give one {key}=\.\.\. for all of them"):
            read_methods([files[0], other], tmp_path, [])
    with pytest.raises(UsageError, match="two configurations are called a"):
        read_methods([files[0], files[0]], tmp_path, [])
    with pytest.raises(UsageError, match="nothing to compare on"):
        held_out_pairs(DataConfig(train=(DriveSource(drives=2),)), 0)
    with pytest.raises(UsageError, match="positive"):
        call(str(files[0]), "--steps", "0")


def test_each_object_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large object that is half wrong and a small one that is a tenth wrong; one seen in one image has no say."""
    g = torch.Generator().manual_seed(0)
    depth, flow = torch.full((1, 1, 20, 30), 8.0), torch.rand(1, 2, 20, 30, generator=g)
    labels = torch.zeros(1, 2, 20, 30, dtype=torch.int64)
    labels[0, 0, :8, :12], labels[0, 0, 15:18, :4], labels[0, 0, 10:14, 10:14] = 1, 2, -1
    image = torch.zeros(1, 3, 20, 30)
    truth = PairTruth(depth_a=depth, flow_ab=flow, T_ba=torch.eye(4)[None].double())
    batch = PairBatch(image, image, image, image, torch.eye(3)[None].double(), truth, torch.zeros(1).long(), ())
    batch = replace(batch, labels=labels)
    off = 1 + torch.tensor([0.0, 0.5, 0.1, 3.0])[labels[:, :1]]
    moved = flow + torch.tensor([0.0, 3.0, 1.0, 9.0])[labels[:, :1]] * torch.tensor([0.6, 0.8])[:, None, None]
    found = PairEstimate(off * depth / 7, torch.eye(4)[None].double(), torch.ones(1, dtype=torch.bool), moved)
    monkeypatch.setattr(held_out, "validation_batches", lambda *args: [batch])
    monkeypatch.setattr(held_out, "estimate_pair", lambda *args: found)
    figures = held_out.score_held_out(torch.nn.Linear(1, 1), {1: None}, 4, 2).objects  # type: ignore[dict-item, arg-type]
    assert figures == pytest.approx({"object_abs_rel": (0.5 + 0.1) / 2, "object_epe": (3 + 1) / 2}, rel=1e-5)


def test_scores_of_known_estimates() -> None:
    """Poses in another unit are right; a second set by the same unit is wrong by what it is too long."""
    g = np.random.default_rng(0)
    true = np.tile(np.eye(4), (20, 1, 1))
    true[:, :3, 3] = g.normal(size=(20, 3)) + np.array([0, 0, 3])
    known = np.ones(20, bool)
    estimated = true.copy()
    estimated[:, :3, 3] /= 7
    scale = held_out._scale(estimated, true, known)
    assert scale == pytest.approx(7)
    exact = held_out._pose_score(estimated, true, known, scale)
    assert (exact.rotation, exact.direction, exact.translation) == pytest.approx((0, 0, 0), abs=1e-5)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]]
    long = estimated.copy()
    long[:, :3, 3] *= 1.5
    wrong = held_out._pose_score(long @ turn, true, known, scale)
    assert wrong.rotation == pytest.approx(np.rad2deg(0.1))
    assert wrong.translation == pytest.approx(0.5)
    lost = held_out._pose_score(estimated, true, ~known, scale)
    assert (lost.direction, lost.solved) == (90, 0)
    unmoved = held_out._pose_score(np.tile(np.eye(4), (20, 1, 1)), true, known, scale)
    assert (unmoved.direction, unmoved.translation) == (90, 1)


def test_objects_are_measured_in_the_scale_of_the_whole_image() -> None:
    truth = np.array([[np.nan, 2.0, 4.0, 4.0, 8.0, 200.0, 8.0]]).repeat(10, 0)
    depth = np.array([[1.0, 1.0, 2.0, 2.0, 8.0, 1.0, 4.0]]).repeat(10, 0)  # half of the truth, but for an object
    labels = np.array([[2, 0, -1, 1, 2, 2, 0]]).repeat(10, 0)
    labels[:9, 6] = 3  # too small to count
    image, off = held_out._depth_errors(depth, truth, labels)
    assert image["abs_rel"] == pytest.approx(1 / 5)
    assert off.tolist() == pytest.approx([0, 1])
    assert held_out._depth_errors(depth, truth * np.nan, None) == ({}, pytest.approx([]))


def test_trianflow_has_the_pose_in_the_unit_of_its_depth() -> None:
    """With true flow, and true depth in another unit, the pose is the true one in that unit."""
    scene = make_scene("street", 3, 0, length=40.0)
    camera = Camera.from_fov(256, 128, 80)
    T_wc = camera_path("driving", scene, 2, 10.0, 3)[None]
    pair = render_pairs([scene], T_wc, torch.tensor([[0.0, 0.1]]).double(), camera.K()[None], 128, 256)
    system = TrianFlow()
    system.flow = KnownFlow(pair.flow_ab, pair.flow_ba)  # type: ignore[assignment]
    system.depth = KnownDepth(pair.depth_a[:0], pair.depth_a, 0.5)  # type: ignore[assignment]
    batch = batch_of(pair)
    found = estimate_pair(system, batch)
    assert found.known.all()
    expected = pair.T_ba.clone()
    expected[:, :3, 3] *= 0.5
    torch.testing.assert_close(found.T_ba, expected, rtol=0, atol=5e-3)
    standing = replace(batch, image_b=batch.image_a)
    system.flow = KnownFlow(0 * pair.flow_ab, 0 * pair.flow_ba)  # type: ignore[assignment]
    still = estimate_pair(system, standing)
    assert not still.known.any()
    assert torch.equal(still.T_ba[0], torch.eye(4).double())
