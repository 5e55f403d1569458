"""Files of a run: checkpoints that are whole or not there, tables that forget, what TensorBoard reads."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from trianflow.errors import TrianflowError
from trianflow.training import log as training_log
from trianflow.training.checkpoint import Checkpoint, random_state, restore_random
from trianflow.training.log import RunLog, Table, TrainingProgress


def checkpoint(step: int = 3) -> Checkpoint:
    torch.manual_seed(step)
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    best = {"flow": 0.5}
    states = layer.state_dict(), optimizer.state_dict(), {}, random_state()
    return Checkpoint("flow", step, 9, *states, best, (2, 1), {"seed": 0}, 6, "abc", 1.5)


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    state = checkpoint()
    state.save(path)
    again = Checkpoint.load(path)
    assert (again.stage, again.step, again.total_step, again.best, again.skipped, again.config) == (
        *("flow", 3, 9, {"flow": 0.5}),
        *((2, 1), {"seed": 0}),
    )
    assert all(torch.equal(state.system[key], again.system[key]) for key in state.system)
    draws = torch.rand(3)
    restore_random(again.random)
    restored = torch.rand(3)
    restore_random(state.random)
    assert torch.equal(torch.rand(3), restored)
    assert draws.shape == restored.shape
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


class Evil:
    def __reduce__(self):
        return print, ("code was run",)


@pytest.mark.parametrize("kind", ["text", "empty", "cut", "zeros", "foreign", "tensor", "pickle", "folder", "none"])
def test_what_is_no_checkpoint(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "last.ckpt"
    checkpoint().save(path)
    whole = path.read_bytes()
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind in ("foreign", "tensor"):
        torch.save({"state_dict": {}} if kind == "foreign" else torch.ones(3), path)
    elif kind != "none":
        zeros = whole[:200] + bytes(len(whole) - 200)
        pickled = pickle.dumps(Evil())
        path.write_bytes({"text": b"hello", "empty": b"", "cut": whole[:-300], "zeros": zeros, "pickle": pickled}[kind])
    with pytest.raises(TrianflowError, match=r"last\.ckpt: not a checkpoint of a training run") as error:
        Checkpoint.load(path)
    assert "\n" not in str(error.value)
    assert "code was run" not in capsys.readouterr().out


def test_a_table_forgets_what_was_not_saved(tmp_path: Path) -> None:
    path, columns = tmp_path / "metrics.csv", ["step", "a", "b"]
    table = Table(path, columns, 0)
    for step in range(1, 5):
        table.add({"step": step, "a": 0.1 * step})
        assert path.read_text().count("\n") == step + 1, "on disk at once"
    table.close()
    assert path.read_text().splitlines()[3] == "3,0.30000000000000004,"
    with path.open("a") as file:
        file.write("1")  # of step 12, cut off
    table = Table(path, columns, 3)
    table.add({"step": 4, "a": 4, "b": 5})
    table.close()
    assert path.read_text().splitlines() == [
        "step,a,b",
        *("1,0.1,", "2,0.2,", "3,0.30000000000000004,", "4,4,5"),
    ]
    Table(path, columns, 0).close()
    assert path.read_text().splitlines() == ["step,a,b"], "a new run begins anew"
    path.write_text("")
    Table(path, columns, 5).close()
    assert path.read_text().splitlines() == ["step,a,b"]


def test_tensorboard_reads_it(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = RunLog(tmp_path, ["ssim"], ["epe"], 0)
    for step in (1, 2, 3):
        log.step(step, {"stage": "flow"}, {"total": step / 2, "ssim": 1.0})
    log.validation(2, {"stage": "flow", "seconds": 1.5}, {"epe": 7.0})
    picture = np.zeros((8, 12, 3), np.uint8)
    picture[:, :6, 0] = 255
    log.picture(2, picture)
    log.close()
    log = RunLog(tmp_path, ["ssim"], ["epe"], 2)
    log.step(3, {"stage": "flow"}, {"total": 9.0})
    log.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss/total")] == [(1, 0.5), (2, 1.0), (3, 9.0)]
    assert [(e.step, e.value) for e in events.Scalars("validation/epe")] == [(2, 7.0)]
    image = events.Images("pairs")[0]
    assert (image.step, image.width, image.height) == (2, 12, 8)
    assert (tmp_path / "metrics.csv").read_text().splitlines()[-1].startswith("3,flow")


def test_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [m for m in sys.modules if m.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    log = RunLog(tmp_path, ["ssim"], ["epe"], 0)
    log.step(1, {"stage": "flow"}, {"total": 1.0})
    log.validation(1, {"stage": "flow"}, {"epe": 1.0})
    log.picture(1, np.zeros((2, 2, 3), np.uint8))
    log.close()
    assert not (tmp_path / "tensorboard").exists()
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 2


def test_progress_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    progress = TrainingProgress("flow", 2, 4, 0, quiet=False)
    progress.advance("loss 3")
    progress.advance("loss 2")
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("flow 4/4 ")
    assert lines[0].endswith("0:00:00 left  loss 2")
    quiet = TrainingProgress("flow", 0, 1, 0, quiet=True)
    quiet.advance("loss 1")
    quiet.say("something is wrong")
    assert capsys.readouterr().err == "something is wrong\n"


def test_progress_of_a_run_that_ends_by_time(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    clock = iter([0.0, 20.0, 40.0])
    monkeypatch.setattr(training_log.time, "monotonic", lambda: next(clock))
    progress = TrainingProgress("flow", 2, 100_000_000, 0, quiet=False, ends=70.0)
    progress.advance("loss 3")
    progress.advance("loss 2")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["flow 3  0.05 steps/s  0:00:50 left  loss 3", "flow 4  0.05 steps/s  0:00:30 left  loss 2"]


def test_progress_counts_the_stages_to_come(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    clock = iter([0.0, *(float(20 * (i + 1)) for i in range(8))])
    monkeypatch.setattr(training_log.time, "monotonic", lambda: next(clock))
    progress = TrainingProgress("flow", 2, 10, 180, quiet=False)
    for _ in range(8):
        progress.advance("loss 3")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "flow 3/10  0.05 steps/s  0:02:20 left, all stages about 1:02:20  loss 3"
    assert lines[-1] == "flow 10/10  0.05 steps/s  0:00:00 left, all stages about 1:00:00  loss 3"
