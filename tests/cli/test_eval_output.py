"""What the kinds of `trianflow eval` share: names of rows, options, what is printed and written."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trianflow.cli.eval_output import (
    add_shared_arguments,
    counted,
    first_few,
    paths_by_row,
    score_each,
    short_names,
    show,
    title_of,
)
from trianflow.errors import TrianflowError, UsageError
from trianflow.evaluation.table import Column, Row, Table

TABLE = Table("method", [Column("epe", "EPE px", 2)], [Row("ours", {"epe": 1.23456}), Row("theirs", {"epe": None})])


def parsed(*words: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_shared_arguments(parser, "truth", "predictions", "by magic")
    return parser.parse_args(["gt", *map(str, words or ["pred"])])


def test_names_tell_paths_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert short_names(["a/x.txt"]) == {"x": "a/x.txt"}
    assert short_names(["a/x.txt", "b/x.txt", "a/x.txt"]) == {"a/x": "a/x.txt", "b/x": "b/x.txt"}
    assert short_names(["a/x.txt", "a/x.tum"]) == {"a/x.txt": "a/x.txt", "a/x.tum": "a/x.tum"}
    for name in ("run_0.5", "run_0.6"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    assert short_names(["run_0.5", "run_0.6/"]) == {"run_0.5": "run_0.5", "run_0.6": "run_0.6/"}
    assert short_names(["."]) == {tmp_path.name: "."}


def test_options_that_cannot_be_right() -> None:
    assert paths_by_row(parsed("a/x.txt", "b.txt", "--median")) == {"x": "a/x.txt", "b": "b.txt"}
    assert paths_by_row(parsed("out/run_0.5", "--predict", "images", "--weights", "w")) == {"run_0.5": "out/run_0.5"}
    for words, said in (
        (["a", "--median"], "--median is of several PRED"),
        (["a", "a", "--median"], "--median is of several PRED"),
        (["a", "b", "--predict", "images"], "--predict writes one PRED, and there are 2"),
        (["a", "--weights", "w"], "--weights is for --predict IMAGES"),
    ):
        with pytest.raises(UsageError, match=said):
            paths_by_row(parsed(*words))


def test_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    show(parsed(), TABLE, "the table", [], {})
    assert capsys.readouterr().out == "the table\n"
    show(parsed("a", "b", "--median"), TABLE, "the table", ["a note"], {})
    assert capsys.readouterr().out.splitlines() == [
        "the table",
        "",
        "a note",
        "median: ± is half the range from the least to the largest",
    ]
    show(parsed("a", "--json"), TABLE, "the table", ["a note"], {"stride": 3})
    assert json.loads(capsys.readouterr().out) == {
        "ground_truth": "gt",
        "stride": 3,
        "notes": ["a note"],
        "table": TABLE.to_dict(),
    }


def test_files(tmp_path: Path) -> None:
    show(parsed(), TABLE, "", [], {})
    assert not list(tmp_path.iterdir())
    show(parsed("a", "--csv", tmp_path / "a.csv", "--latex", tmp_path / "a.tex"), TABLE, "", [], {})
    assert (tmp_path / "a.csv").read_text() == TABLE.csv()
    assert (tmp_path / "a.tex").read_text() == TABLE.latex()
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(TrianflowError, match="cannot write the table: No such file"):
        show(parsed("a", "--csv", tmp_path / "no" / "a.csv"), TABLE, "", [], {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(TrianflowError, match="folder: cannot write the table: Is a directory"):
        show(parsed("a", "--latex", tmp_path / "folder"), TABLE, "", [], {})


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """As root a device would be lost, and with it that of all programs."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    fifo, link, kept = tmp_path / "fifo", tmp_path / "link", tmp_path / "kept.tex"
    fifo.symlink_to(f"/proc/self/fd/{write}")
    link.symlink_to(kept)
    show(parsed("a", "--csv", fifo, "--latex", link), TABLE, "", [], {})
    assert os.read(read, 10_000).decode() == TABLE.csv()
    assert fifo.is_symlink()
    assert link.is_symlink()
    assert kept.read_text() == TABLE.latex()
    os.mkfifo(tmp_path / "named")
    reader = os.open(tmp_path / "named", os.O_RDONLY | os.O_NONBLOCK)
    show(parsed("a", "--csv", tmp_path / "named"), TABLE, "", [], {})
    assert os.read(reader, 10_000).decode() == TABLE.csv()
    assert (tmp_path / "named").is_fifo()
    for descriptor in (read, write, reader):
        os.close(descriptor)


def test_a_prediction_that_cannot_be_scored_costs_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    def score(name: str, path: str) -> str:
        if name == "wrong":
            raise UsageError("not so")
        if name.startswith("bad"):
            raise TrianflowError("broken")
        return path.upper()

    assert score_each({"a": "x", "bad": "y", "c": "z"}, score) == {"a": "X", "c": "Z"}
    assert capsys.readouterr().err == "trianflow: warning: y: broken; it has no row\n"
    with pytest.raises(TrianflowError, match="y: broken"):
        score_each({"bad": "y", "bad 2": "z"}, score)
    with pytest.raises(UsageError, match="not so"):
        score_each({"a": "x", "wrong": "y"}, score)


def test_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [counted(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert title_of("/data/07/poses.txt") == "07/poses.txt"
    monkeypatch.chdir(tmp_path)
    assert title_of("poses.txt") == f"{tmp_path.name}/poses.txt"


def test_long_lists_are_cut() -> None:
    assert first_few(["a", "b"]) == "a, b"
    assert first_few([str(i) for i in range(7)], 3) == "0, 1, 2 and 4 more"


def test_a_light_import() -> None:
    heavy = "torch", "cv2", "scipy", "matplotlib", "evo", "h5py"
    code = (
        "import argparse, sys; from trianflow.cli import eval\n"
        "eval.add_parser(argparse.ArgumentParser().add_subparsers())\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
