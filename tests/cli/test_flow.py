"""`trianflow flow`: what is told of folders."""

from __future__ import annotations

from pathlib import Path


def test_the_folder_that_was_taken_is_a_note(drive: Path, tmp_path: Path, trianflow) -> None:
    (drive / "images").rename(drive / "image_2")
    words = ("flow", drive, "--method", "dis", "--end", 2, "--out", tmp_path / "out")
    result = trianflow(*words)
    assert result.code == 0
    assert result.err.splitlines() == [f"trianflow: note: {drive}: took the images in its folder image_2"]
    assert trianflow(*words, "-q").err == ""
