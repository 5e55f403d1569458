"""Whole runs with small networks: stopped and continued to the bit, spoilt batches, signals, changed settings."""

from __future__ import annotations

import errno
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.training.small_runs import (
    SIDE,
    MemoryPairs,
    dataset,
    rows,
    timeless,
    tiny,
    use_small_networks,
    weights_of,
)
from trianflow.data.pairs.batch import PairBatch
from trianflow.data.pairs.dataset import PairDataset
from trianflow.data.pairs.sources import RawPair, UnreadablePair
from trianflow.data.synthetic import random_pairs
from trianflow.errors import TrianflowError, UsageError
from trianflow.training import engine, loop
from trianflow.training.checkpoint import Checkpoint
from trianflow.training.config import TrainConfig
from trianflow.training.engine import make_fabric
from trianflow.training.failures import batches_of
from trianflow.training.loop import Trainer, TrainingOutcome
from trianflow.training.run_folder import LAST, RunFolder
from trianflow.training.state import RunState
from trianflow.weights import load_weights

pytestmark = pytest.mark.usefixtures("small_networks")


class Stopped(Exception):
    """What a run meets instead of the power button."""


def train(out: Path, raw: list[RawPair], *words: str, visit: Callable[[int], None] | None = None) -> TrainingOutcome:
    return Trainer(tiny(*words), out, quiet=True, data=(dataset(raw, visit), dataset(raw[:3], None, 0))).run()


def assert_same_run(a: Path, b: Path) -> None:
    assert (a / "config.yaml").read_text() == (b / "config.yaml").read_text()
    for name in ("metrics.csv", "validation.csv"):
        assert timeless(a / name) == timeless(b / name), name
    first, second = weights_of(a), weights_of(b)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    for name in ("flow", "depth", "joint", "flow_best", "depth_best", "joint_best"):
        first, second = (load_file(folder / f"{name}.safetensors") for folder in (a, b))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first), name
        # the checksum is of the file, in which metadata have no order
        cards = [json.loads((folder / f"{name}.json").read_text()) | {"sha256": None} for folder in (a, b)]
        assert cards[0] == cards[1]
    assert not list(b.glob(".*"))


@pytest.fixture(scope="module")
def finished(raw_pairs: list[RawPair], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        use_small_networks(raw_pairs, patch.setattr)
        outcome = train(out, raw_pairs)
    assert outcome == TrainingOutcome(True, 10, 0, outcome.figures)
    assert outcome.figures["epe"] < 0.3
    return out


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


def test_cards_tell_when_the_metrics_were_measured(finished: Path, raw_pairs: list[RawPair], tmp_path: Path) -> None:
    card = json.loads((finished / "flow.json").read_text())
    assert card["steps"] == card["metrics"]["step"] == 3
    assert card["metrics"]["epe"] == pytest.approx(float(rows(finished / "validation.csv")[1]["epe"]))
    Trainer(tiny(), tmp_path, quiet=True, data=(dataset(raw_pairs), None)).run()
    assert "metrics" not in json.loads((tmp_path / "joint.json").read_text())


def test_nothing_measured_is_never_the_best() -> None:
    state = RunState(steps=4)
    assert not state.measure("flow", {"solved": 0.0})
    assert not state.measure("flow", {"epe": float("nan")})
    assert state.measure("flow", {"epe": 2.0})
    assert not state.measure("flow", {"epe": 2.0})
    assert (state.best, state.measured) == ({"flow": 2.0}, 4)


def test_a_folder_that_cannot_be_written(raw_pairs: list[RawPair], tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrianflowError, match=r"cannot write into .*/file/out: Not a directory.*--out"):
        train(tmp_path / "file" / "out", raw_pairs)

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("trianflow.files.os.replace", "trianflow.training.log.Table.add"):
        with monkeypatch.context() as patch:
            patch.setattr(name, full)
            with pytest.raises(TrianflowError, match=rf"cannot write into {tmp_path}/out: No space left") as error:
                train(tmp_path / "out", raw_pairs)
            assert "\n" not in str(error.value)


class Spoilt(PairDataset):
    """Pairs of which some are NaN."""

    def __init__(self, raw: list[RawPair], bad: set[int]) -> None:
        super().__init__([MemoryPairs(raw)], (SIDE, SIDE), 0)
        self.bad = bad

    def __getitem__(self, key: int | tuple[int, int]) -> PairBatch:
        item = super().__getitem__(key)
        if int(item.index) in self.bad:
            item.image_a[0, 0, 5, 5] = torch.nan
        return item


def test_a_batch_of_nan_changes_nothing(raw_pairs: list[RawPair], tmp_path: Path, capsys) -> None:
    states: list[dict] = []

    class Watching(Trainer):
        def _step(self, model, optimizer, batch, *rest) -> float:
            state = {k: v.clone() for k, v in self.system.state_dict().items()}
            moments = [s["exp_avg"].clone() for s in optimizer.state_dict()["state"].values()]
            gradient = super()._step(model, optimizer, batch, *rest)
            if 4 in batch.index.tolist():
                assert np.isnan(gradient)
                after = self.system.state_dict()
                assert all(torch.equal(state[k], after[k]) for k in state)
                new = [s["exp_avg"] for s in optimizer.state_dict()["state"].values()]
                assert all(torch.equal(a, b) for a, b in zip(moments, new))
                states.append(after)
            else:
                assert gradient > 0
            return gradient

    outcome = Watching(tiny("max_skipped=2"), tmp_path, quiet=True, data=(Spoilt(raw_pairs, {4}), None)).run()
    assert outcome.finished
    assert outcome.skipped == len(states) == 4, "once in each pass of three steps"
    assert all(v.isfinite().all() for v in weights_of(tmp_path).values())
    errors = [line for line in capsys.readouterr().err.splitlines() if "not finite" in line]
    assert len(errors) == 4
    assert all("4" in line.split("pairs ")[1].split(", ") for line in errors)
    table = rows(tmp_path / "metrics.csv")
    assert [int(row["skipped"]) for row in table][-1] == 4
    assert sum(row["gradient"] == "nan" for row in table) == 4


def test_nothing_but_nan_ends_the_run(raw_pairs: list[RawPair], tmp_path: Path) -> None:
    trainer = Trainer(tiny("max_skipped=2"), tmp_path, quiet=True, data=(Spoilt(raw_pairs, set(range(6))), None))
    with pytest.raises(TrianflowError, match=r"no finite gradient in 2 steps in a row.*bad_batch\.pt") as error:
        trainer.run()
    assert "\n" not in str(error.value)
    dump = torch.load(tmp_path / "0_bad_batch.pt", weights_only=True)
    assert dump["image_a"].shape == (2, 3, SIDE, SIDE)
    assert dump["image_a"].isnan().any()
    assert len(dump["index"]) == 2


def test_unreadable_pairs_are_told_once(raw_pairs: list[RawPair], tmp_path: Path, capsys) -> None:
    def fail(number: int) -> None:
        if number == 2:
            raise UnreadablePair("000002.png: no picture")

    assert train(tmp_path, raw_pairs, visit=fail).finished
    lines = [line for line in capsys.readouterr().err.splitlines() if "000002.png" in line]
    assert len(lines) == 1


def test_a_corrupt_picture_in_a_folder_is_told_once(raw_pairs: list[RawPair], tmp_path: Path, capsys) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(5):
        cv2.imwrite(str(folder / f"{number}.png"), np.roll(raw_pairs[0].images[0], 2 * number, 1)[..., ::-1])
    (folder / "calib.yaml").write_text("fx: 40\nfy: 40\ncx: 31.5\ncy: 31.5\nwidth: 64\nheight: 64\n")
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:60])
    words = (f"data.train=[{{path: {folder}}}]", "data.min_motion=0", "data.flip=0")
    outcome = Trainer(tiny(*words), tmp_path / "out", quiet=True).run()
    assert (outcome.finished, outcome.steps, outcome.skipped) == (True, 10, 0)
    lines = [line for line in capsys.readouterr().err.splitlines() if "2.png" in line]
    assert len(lines) == 1
    assert "another pair takes its place" in lines[0]


def test_nothing_readable_is_one_line_from_a_worker_too(raw_pairs: list[RawPair], tmp_path: Path) -> None:
    def fail(number: int) -> None:
        raise UnreadablePair("gone")

    with pytest.raises(TrianflowError, match=r"^not one of the 6 pairs can be read, the first: gone$"):
        train(tmp_path, raw_pairs, visit=fail)

    def from_worker() -> Iterator[PairBatch]:
        text = "Caught TrianflowError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        raise TrianflowError(f"{text}  File x\ntrianflow.errors.TrianflowError: all of it: gone\n")
        yield

    with pytest.raises(TrianflowError, match=r"^all of it: gone$"):
        list(batches_of(from_worker()))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried\nmore"),
        MemoryError("Unable to allocate 3 GiB"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("DataLoader worker (pid 17) is killed by signal: Killed. "),
        RuntimeError("DataLoader worker (pid(s) 17, 18) exited unexpectedly"),
    ],
)
def test_out_of_memory_says_what_to_lower(
    raw_pairs: list[RawPair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*args: object) -> float:
        raise error

    for place in ("_step", "_make_system"):
        monkeypatch.setattr(Trainer, place, fail)
        with pytest.raises(TrianflowError) as caught:
            train(tmp_path, raw_pairs, "workers=1")
        text = str(caught.value)
        assert "\n" not in text
        words = ("batch_size (now 2)", "data.size (now 64x64)", "workers (now 1)", "precision=bf16-mixed")
        assert all(word in text for word in words)


def test_other_errors_stay_what_they_are(raw_pairs: list[RawPair], tmp_path: Path, monkeypatch) -> None:
    def fail(*args: object) -> float:
        raise RuntimeError("something else")

    monkeypatch.setattr(Trainer, "_step", fail)
    with pytest.raises(RuntimeError, match="something else"):
        train(tmp_path, raw_pairs)


def test_precisions(finished: Path, raw_pairs: list[RawPair], tmp_path: Path) -> None:
    reference = rows(finished / "metrics.csv")
    for precision, apart in (("bf16-mixed", 0.1), ("16-mixed", 0.05)):
        out = tmp_path / precision
        assert train(out, raw_pairs, f"precision={precision}").finished
        for row, expected in zip(rows(out / "metrics.csv"), reference, strict=True):
            if row["gradient"] != "nan":
                assert float(row["total"]) == pytest.approx(float(expected["total"]), rel=apart), row
        assert all(v.dtype in (torch.float32, torch.int64) for v in weights_of(out).values())


def test_automatic_precision_is_that_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TrainConfig().precision == "auto"
    for dtype, expected in ((torch.bfloat16, "bf16-mixed"), (torch.float32, "32-true")):
        monkeypatch.setattr(engine, "choose_precision", lambda device, dtype=dtype: dtype)
        assert make_fabric(tiny("precision=auto")).strategy.precision.precision == expected
        assert make_fabric(tiny("precision=16-mixed")).strategy.precision.precision == "16-mixed"


def test_few_bits_change_the_flow_by_little(raw_pairs: list[RawPair], tmp_path: Path) -> None:
    """Of the trained network, in the autocast of training, on a street that it can see."""
    pair = random_pairs(1, 128, 256, 7)
    network = load_weights("default").flow
    assert network is not None
    flows = []
    for precision in ("32-true", "bf16-mixed"):
        with torch.no_grad(), make_fabric(tiny(f"precision={precision}")).autocast():
            flows.append(network(pair.image_a, pair.image_b, 1)[0].flow_ab)
    assert all(flow.dtype == torch.float32 for flow in flows)
    apart = torch.hypot(*(flows[1] - flows[0])[0])
    assert 0 < float(apart.mean()) < 0.1
    assert float(torch.hypot(*flows[0][0]).mean()) > 1


def test_float16_goes_on_with_its_scale(raw_pairs: list[RawPair], tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(whole, raw_pairs, "precision=16-mixed")
    for _ in range(10):
        data = (dataset(raw_pairs), dataset(raw_pairs[:3], None, 0))
        if Trainer(tiny("precision=16-mixed"), parts, None, 1e-9, True, data).run().finished:
            break
    assert_same_run(whole, parts)
    assert Checkpoint.load(whole / LAST).scaler == Checkpoint.load(parts / LAST).scaler


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
    monkeypatch.setattr(loop, "validate", lambda *args: {"epe": next(values), "photometric": 0.0})
    written: list[float] = []
    monkeypatch.setattr(
        RunFolder, "export", lambda self, file, system, depth, card: written.append(card["metrics"]["epe"])
    )
    words = ("stages.flow.steps=4", "val_every=1", "stages.depth=null", "stages.joint=null")
    train(tmp_path, raw_pairs, *words)
    assert written == [3.0, 1.0, 1.0], "the first, a better one, and the last of the stage"
    assert Checkpoint.load(tmp_path / LAST).best == {"flow": 1.0}


def test_one_stage_alone(raw_pairs: list[RawPair], tmp_path: Path) -> None:
    assert train(tmp_path, raw_pairs, "stages.flow=null", "stages.joint=null").steps == 4
    assert [row["stage"] for row in rows(tmp_path / "metrics.csv")] == ["depth"] * 4


def test_a_batch_larger_than_the_data(raw_pairs: list[RawPair], tmp_path: Path) -> None:
    assert train(tmp_path, raw_pairs[:1], "batch_size=3").finished


def test_damaged_checkpoint_is_one_line(raw_pairs: list[RawPair], tmp_path: Path) -> None:
    (tmp_path / LAST).write_bytes(b"not a checkpoint")
    with pytest.raises(TrianflowError, match=r"last\.ckpt: not a checkpoint of a training run.*--restart") as error:
        train(tmp_path, raw_pairs)
    assert "\n" not in str(error.value)


def test_restart_removes_what_the_run_left_and_nothing_else(finished: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "run"))
    (out / "notes.txt").write_text("mine")
    (out / "mine.safetensors").write_text("mine")
    assert {"last.ckpt", "joint.safetensors", "joint.json", "metrics.csv"} <= {p.name for p in out.iterdir()}
    RunFolder(out).forget()
    left = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert left == ["mine.safetensors", "notes.txt"]


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
