"""`trianflow eval pose`: table, JSON, files, folders of snippets and messages."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.test_snippets import write_snippets
from tests.evaluation.trajectories import drive, noisy
from trianflow.evaluation.snippets import score_snippets

GT = drive(60, seed=1)
EST = noisy(GT, seed=2, degrees=0.5, metres=0.1)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    gt, est = tmp_path / "gt.txt", tmp_path / "est.kitti"
    GT.save(gt, "kitti")
    EST.save(est)
    return gt, est


def test_trajectories(files: tuple[Path, Path], trianflow: Callable) -> None:
    result = trianflow("eval", "pose", *files)
    assert result.code == 0
    assert "57 snippets of 5 frames" in result.out
    expected = score_snippets(GT, EST).errors
    (row,) = [line.split() for line in result.out.splitlines() if line.startswith("est ")]
    assert row == ["est", "57", *(f"{value:.3f}" for value in (expected.mean, expected.std, expected.rmse))]
    assert "Insta-DM" not in result.out, "this truth is of no KITTI sequence"


def test_folders_of_snippets_json_and_files(files: tuple[Path, Path], tmp_path: Path, trianflow: Callable) -> None:
    est = files[1]
    times = 0.1037 * np.arange(61)
    true = write_snippets(tmp_path / "true", GT, times, 3)
    found = write_snippets(tmp_path / "found", EST, times, 3)
    (found / "000007.txt").unlink()
    files_out = ("--csv", tmp_path / "a.csv", "--latex", tmp_path / "a.tex", "--plot", tmp_path / "a.png")
    words = ("--length", 3, "--median", *files_out)
    result = trianflow("eval", "pose", true, found, est, *words, "--json")
    assert result.code == 0
    table = json.loads(result.out)["table"]
    assert [row["name"] for row in table] == ["found", "est", "median of 2"]
    assert [row.get("snippets") for row in table] == [58, 59, None]
    expected = score_snippets(GT, EST, 3).errors
    assert table[1]["ate"] == pytest.approx(expected.mean, abs=1e-5)
    assert table[1]["ate_std"] == pytest.approx(expected.std, abs=1e-5)
    assert table[2]["spread"]["ate"] == pytest.approx(abs(table[0]["ate"] - table[1]["ate"]) / 2)
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert [float(rows[1][key]) for key in ("ate", "ate_std")] == [table[1]["ate"], table[1]["ate_std"]]
    assert float(rows[2]["ate_spread"]) == table[2]["spread"]["ate"]
    assert rows[1]["ate_spread"] == ""
    assert r"\toprule" in (tmp_path / "a.tex").read_text()
    assert (tmp_path / "a.png").stat().st_size > 10_000
    result = trianflow("eval", "pose", true, found, "--length", 3)
    assert "found: 58 of 59 snippets have a prediction" in result.out


def test_failures_are_one_line(files: tuple[Path, Path], tmp_path: Path, trianflow: Callable) -> None:
    gt, est = files
    empty = tmp_path / "empty"
    empty.mkdir()
    broken, nothing = tmp_path / "broken.txt", tmp_path / "nothing.kitti"
    lines = gt.read_text().splitlines()
    broken.write_text("\n".join([*lines[:6], "nan " + lines[6].partition(" ")[2], *lines[7:], ""]))
    nothing.touch()
    for words, code, text in (
        ((gt, empty), 1, "empty: no snippet in this folder"),
        ((gt, tmp_path / "nothing.txt"), 1, "nothing.txt: cannot read"),
        ((gt, est, "--median"), 2, "--median is of several PRED"),
        ((gt, est, "--csv", tmp_path / "no" / "a.csv"), 1, "cannot write the table"),
        ((gt, est, "--plot", tmp_path / "no" / "a.png"), 1, "cannot write the picture"),
        ((gt, broken), 1, "broken.txt:7: a number that is not finite"),
        ((gt, nothing), 1, "nothing.kitti: no pose in it; expected rows of 12 numbers"),
    ):
        result = trianflow("eval", "pose", *words)
        assert result.code == code
        assert len(result.errors) == 1
        assert text in result.errors[0]
    for words in ((gt,), (gt, est, "--length", 4)):
        assert trianflow("eval", "pose", *words).code == 2


@pytest.mark.data
def test_papers_stand_below(shared_data: Path, trianflow: Callable) -> None:
    folder = shared_data / "reference_trajectories"
    pair = folder / "gt" / "09.txt", folder / "kitti_odom_eval_example_1" / "09.txt"
    result = trianflow("eval", "pose", *pair)
    (row,) = [line.split() for line in result.out.splitlines() if line.startswith("GeoNet ")]
    assert row == ["GeoNet", "-", "0.012", "0.007", "-"]
    assert "GeoNet" not in trianflow("eval", "pose", *pair, "--published", "none").out
