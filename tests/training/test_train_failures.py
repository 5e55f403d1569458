"""Runs with spoilt batches and pictures, without memory, on a full disk."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.training.small_runs import SIDE, MemoryPairs, rows, tiny, train, weights_of
from trianflow.data.pairs.batch import PairBatch
from trianflow.data.pairs.dataset import PairDataset
from trianflow.data.pairs.sources import RawPair, UnreadablePair
from trianflow.errors import TrianflowError
from trianflow.training.failures import batches_of
from trianflow.training.loop import Trainer

pytestmark = pytest.mark.usefixtures("small_networks")


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
        RuntimeError("DataLoader worker (pid 17) is killed by signal: Bus error. It is possible that"),
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


@pytest.mark.parametrize("text", ["something else", "DataLoader worker (pid 17) is killed by signal: Segmentation"])
def test_other_errors_stay_what_they_are(raw_pairs: list[RawPair], tmp_path: Path, monkeypatch, text: str) -> None:
    def fail(*args: object) -> float:
        raise RuntimeError(text)

    monkeypatch.setattr(Trainer, "_step", fail)
    with pytest.raises(RuntimeError, match=re.escape(text)):
        train(tmp_path, raw_pairs)
