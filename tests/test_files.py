"""Files that are written at once or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from trianflow.files import replacing


def test_a_file_is_whole_or_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as beside:
        beside.write_text("old")

    def fail() -> None:
        with replacing(path) as beside:
            beside.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]

    (tmp_path / ".file.part").write_text("of a killed process")
    with replacing(path) as beside:
        beside.write_text("new")
        assert path.read_text() == "old", "until the new one is complete"
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_was_not_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_text() == "old"
