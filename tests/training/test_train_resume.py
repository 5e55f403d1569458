"""Runs that were stopped go on to the bit; other runs and other data are refused."""

from __future__ import annotations

import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.small_runs import SIDE, MemoryPairs, assert_same_run, dataset, rows, tiny, train
from trianflow.data.pairs.dataset import PairDataset
from trianflow.data.pairs.sources import RawPair
from trianflow.errors import TrianflowError, UsageError
from trianflow.training.checkpoint import Checkpoint
from trianflow.training.loop import Trainer
from trianflow.training.run_folder import LAST, RunFolder

pytestmark = pytest.mark.usefixtures("small_networks")


class Stopped(Exception):
    """What a run meets instead of the power button."""


@pytest.mark.parametrize("reads", [5, 9, 13, 21])
def test_a_crash_anywhere_changes_nothing(finished: Path, raw_pairs: list[RawPair], tmp_path: Path, reads: int) -> None:
    left = [reads]

    def crash(number: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Stopped

    for _ in range(30):
        left[0] = max(left[0], 0) + reads
        try:
            outcome = train(tmp_path, raw_pairs, visit=crash)
            break
        except Stopped:
            continue
    assert outcome.finished
    assert_same_run(finished, tmp_path)


@pytest.mark.parametrize("workers", [0, 2])
def test_stopping_after_every_step_changes_nothing(
    finished: Path, raw_pairs: list[RawPair], tmp_path: Path, workers: int
) -> None:
    count = 0
    for _ in range(20):
        data = (dataset(raw_pairs), dataset(raw_pairs[:3], None, 0))
        trainer = Trainer(tiny(f"workers={workers if count in (0, 4) else 0}"), tmp_path, None, 1e-9, True, data)
        outcome = trainer.run()
        count += 1
        assert outcome.steps == count
        if outcome.finished:
            break
    assert count == 10, "one step each time"
    assert_same_run_but_workers(finished, tmp_path)


def assert_same_run_but_workers(a: Path, b: Path) -> None:
    text = (b / "config.yaml").read_text()
    (b / "config.yaml").write_text(text.replace("workers: 2", "workers: 0"))
    assert_same_run(a, b)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops(finished: Path, raw_pairs: list[RawPair], tmp_path: Path, kind: int) -> None:
    handlers = [signal.getsignal(k) for k in (signal.SIGINT, signal.SIGTERM)]
    seen: list[int] = []

    def ask(number: int) -> None:
        seen.append(number)
        if len(seen) == 9:  # the first pair of step 5
            signal.raise_signal(kind)

    outcome = train(tmp_path, raw_pairs, visit=ask)
    assert (outcome.finished, outcome.steps) == (False, 5)
    assert Checkpoint.load(tmp_path / LAST).total_step == 5
    assert [signal.getsignal(k) for k in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert train(tmp_path, raw_pairs).finished
    assert_same_run(finished, tmp_path)


def test_a_second_signal_acts_as_ever(raw_pairs: list[RawPair], tmp_path: Path) -> None:
    def ask(number: int) -> None:
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in jobs of a shell's background
    try:
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, raw_pairs, visit=ask)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_finished_run_stays_as_it_is(finished: Path, raw_pairs: list[RawPair]) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in finished.glob("*.safetensors")}
    outcome = train(finished, raw_pairs)
    assert (outcome.finished, outcome.steps, outcome.skipped) == (True, 10, 0)
    assert {path.name: path.stat().st_mtime_ns for path in finished.glob("*.safetensors")} == before
    assert len(rows(finished / "metrics.csv")) == 10


def test_settings_that_make_another_run_are_refused(finished: Path, raw_pairs: list[RawPair]) -> None:
    with pytest.raises(UsageError, match=r"other settings \(stages\.joint\.lr, seed\).*--restart"):
        train(finished, raw_pairs, "seed=3", "stages.joint.lr=1")
    free = ("save_every=7", "workers=2", "max_skipped=3", "data.root=/elsewhere", "data.cache=/tmp/cache")
    assert train(finished, raw_pairs, *free).finished, "these may change"
    with pytest.raises(UsageError, match=r"other settings \(data\.flip, stages\.depth\)"):
        train(finished, raw_pairs, "stages.depth=null", "data.flip=0.1")
    with pytest.raises(UsageError, match="overfit"):
        Trainer(tiny(), finished, 2, quiet=True, data=(dataset(raw_pairs), None))
    train(finished, raw_pairs)


def test_a_run_of_before_a_setting_came_goes_on_while_it_is_at_its_default(
    finished: Path, raw_pairs: list[RawPair], tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / LAST
    state = Checkpoint.load(path)
    del state.config["data"]["grey"], state.config["stages"]["depth"]["losses"]["depth_truth"]
    state.save(path)
    assert train(tmp_path / "run", raw_pairs).finished
    with pytest.raises(UsageError, match=r"other settings \(data\.grey\)"):
        train(tmp_path / "run", raw_pairs, "data.grey=0.5")
    state.config["data"]["gone"] = 1
    state.save(path)
    with pytest.raises(UsageError, match=r"other settings \(.*data\.gone"):
        train(tmp_path / "run", raw_pairs)


def test_other_data_is_refused(finished: Path, raw_pairs: list[RawPair]) -> None:
    """An identical number of pairs is not enough: the sources count too."""
    digest = dataset(raw_pairs).digest
    with pytest.raises(
        UsageError, match=rf"other data \(6 training pairs, digest {digest}; here are 5, digest"
    ) as error:
        train(finished, raw_pairs[:5])
    assert "\n" not in str(error.value)
    named = PairDataset([MemoryPairs(raw_pairs)], (SIDE, SIDE), 0, names=["sequences/05"])
    with pytest.raises(UsageError, match=rf"here are 6, digest {named.digest}\): give another --out"):
        Trainer(tiny(), finished, quiet=True, data=(named, None))


def test_seconds_go_on(finished: Path, raw_pairs: list[RawPair], tmp_path: Path) -> None:
    state = Checkpoint.load(finished / LAST)
    last = float(rows(finished / "metrics.csv")[-1]["seconds"])
    assert 0 < last <= state.seconds + 0.01
    data = (dataset(raw_pairs), None)
    Trainer(tiny(), tmp_path, None, 1e-9, True, data).run()
    state = Checkpoint.load(tmp_path / LAST)
    replace(state, seconds=1000.0).save(tmp_path / LAST)
    Trainer(tiny(), tmp_path, None, 1e-9, True, data).run()
    assert [float(row["seconds"]) > 1000 for row in rows(tmp_path / "metrics.csv")] == [False, True]
    assert 1000 < Checkpoint.load(tmp_path / LAST).seconds < 1100


def test_damaged_checkpoint_is_one_line(raw_pairs: list[RawPair], tmp_path: Path) -> None:
    (tmp_path / LAST).write_bytes(b"not a checkpoint")
    with pytest.raises(TrianflowError, match=r"last\.ckpt: not a checkpoint of a training run.*--restart") as error:
        train(tmp_path, raw_pairs)
    assert "\n" not in str(error.value)


def test_restart_removes_what_the_run_left_and_nothing_else(finished: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "run"))
    (out / "notes.txt").write_text("mine")
    (out / "mine.safetensors").write_text("mine")
    (out / "0_bad_batch.pt").write_text("of the run")
    assert {"last.ckpt", "joint.safetensors", "joint.json", "metrics.csv"} <= {p.name for p in out.iterdir()}
    RunFolder(out).forget()
    left = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert left == ["mine.safetensors", "notes.txt"]
