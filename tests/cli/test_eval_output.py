"""What the kinds of `trianflow eval` share: names of rows, tables as files."""

import argparse
from pathlib import Path

import pytest

from trianflow.cli.eval_output import add_table_arguments, short_names, write_tables
from trianflow.errors import TrianflowError
from trianflow.evaluation.table import Column, Row, Table

TABLE = Table("method", [Column("epe", "EPE px", 2)], [Row("ours", {"epe": 1.23456}), Row("theirs", {"epe": None})])


def parsed(*words: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_table_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def test_names_tell_paths_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert short_names(["a/x.txt"]) == {"x": "a/x.txt"}
    assert short_names(["a/x.txt", "b/x.txt", "a/x.txt"]) == {"a/x": "a/x.txt", "b/x": "b/x.txt"}
    assert short_names(["a/x.txt", "a/x.tum"]) == {"a/x.txt": "a/x.txt", "a/x.tum": "a/x.tum"}
    for name in ("run_0.5", "run_0.6"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    assert short_names(["run_0.5", "run_0.6/"]) == {"run_0.5": "run_0.5", "run_0.6": "run_0.6/"}
    assert short_names(["."]) == {tmp_path.name: "."}


def test_files(tmp_path: Path) -> None:
    write_tables(TABLE, parsed())
    assert not list(tmp_path.iterdir())
    write_tables(TABLE, parsed("--csv", tmp_path / "a.csv", "--latex", tmp_path / "a.tex"))
    assert (tmp_path / "a.csv").read_text() == TABLE.csv()
    assert (tmp_path / "a.tex").read_text() == TABLE.latex()
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(TrianflowError, match="cannot write the table: No such file"):
        write_tables(TABLE, parsed("--csv", tmp_path / "no" / "a.csv"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(TrianflowError, match="folder: cannot write the table: Is a directory"):
        write_tables(TABLE, parsed("--latex", tmp_path / "folder"))
