"""`trianflow depth`: names of files that are no text, and what is told of folders."""

from __future__ import annotations

import json
import os
from pathlib import Path

from trianflow.data.prepared import FACTS, SETTINGS


def test_names_that_are_not_utf8(drive: Path, weights: Path, tmp_path: Path, trianflow) -> None:
    source = (drive / "images").rename(drive / os.fsdecode(b"\xff"))
    out = tmp_path / "out"
    result = trianflow("depth", source, "--end", 1, "--weights", weights, "--device", "cpu", "--out", out)
    assert (result.code, result.errors) == (0, [])
    assert json.loads((out / "depth.json").read_text(encoding="utf-8"))["input"] == str(source)


def test_the_folder_that_was_taken_is_a_note(drive: Path, weights: Path, tmp_path: Path, trianflow) -> None:
    (drive / "images").rename(drive / "image_2")
    words = ("depth", drive, "--end", 1, "--weights", weights, "--device", "cpu", "--out", tmp_path / "out")
    result = trianflow(*words)
    assert result.code == 0
    assert result.err.splitlines() == [f"trianflow: note: {drive}: took the images in its folder image_2"]
    assert trianflow(*words, "-q").err == ""


def test_one_sequence(drive: Path, weights: Path, tmp_path: Path, trianflow) -> None:
    (drive / "images" / FACTS).write_text("{}")
    (drive / SETTINGS).write_text("{}")
    words = ("--end", 1, "--weights", weights, "--device", "cpu", "--out", tmp_path / "out")
    assert trianflow("depth", drive, *words).out.startswith("input   1 sequence\n")
