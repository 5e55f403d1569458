"""The quick start: it runs, what it shows is right, and the outputs that are kept are those of the present code."""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"
LARGEST = 400_000  # bytes


@pytest.fixture(scope="module")
def tool() -> Any:
    sys.path.insert(0, str(ROOT / "tools"))
    import run_notebook

    sys.path.remove(str(ROOT / "tools"))
    return run_notebook


def outputs(notebook: Any) -> dict[str, list[Any]]:
    """By the name of the cell."""
    return {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}


def text(found: list[Any]) -> str:
    return "".join(output.text for output in found if output.output_type == "stream" and output.name == "stdout")


def picture(found: list[Any]) -> np.ndarray:
    (png,) = [output.data["image/png"] for output in found if "image/png" in output.get("data", {})]
    return cv2.imdecode(np.frombuffer(base64.b64decode(png), np.uint8), cv2.IMREAD_COLOR)


def error(notebook: Any) -> float:
    """Percent of the path."""
    return float(re.search(r"= ([\d.]+)% of 80\.6 m", text(outputs(notebook)["evaluate"])).group(1))


def check(notebook: Any) -> None:
    found = outputs(notebook)
    kinds = {output.output_type for cell in found.values() for output in cell}
    assert kinds <= {"stream", "execute_result"}, "no errors"
    assert not [output for cell in found.values() for output in cell if output.get("name") == "stderr"]
    assert "fx=395.1" in text(found["frames"])
    image, flow, plot = (picture(found[name]) for name in ("frames", "flow", "plot"))
    assert image.shape == (256, 640, 3)
    assert flow.shape == (256, 712, 3)
    assert flow[128, 200:600].astype(int).std() > 5, "not one colour"
    _, g, r = flow[200:250, 5:60].astype(int).mean((0, 1))
    assert g > r + 40, "down and to the left is green and cyan"
    assert plot.shape[0] > 600
    rows = [line.split() for line in text(found["track"]).splitlines()[1:]]
    assert [row[:2] for row in rows] == [[str(i), "ok" if i else "first"] for i in range(0, 120, 17)]
    assert float(rows[-1][-1]) > 50, "forward"
    (html,) = [output.data["text/html"] for output in found["trajectory"]]
    assert "<svg" in html
    assert "120 poses" in html
    assert error(notebook) < 1


def test_what_is_kept() -> None:
    assert NOTEBOOK.stat().st_size < LARGEST
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), "run from the top: python tools/run_notebook.py"
    assert str(ROOT) not in NOTEBOOK.read_text()
    check(notebook)


@pytest.mark.slow
def test_it_runs(tool: Any) -> None:
    pytest.importorskip("ipykernel")
    pytest.importorskip("evo")
    fresh, kept = tool.executed(NOTEBOOK), nbformat.read(NOTEBOOK, as_version=4)
    check(fresh)
    tool.reduce_outputs(fresh)
    stale = "python tools/run_notebook.py docs/quickstart.ipynb"
    for name, found in outputs(kept).items():
        now = outputs(fresh)[name]
        assert [sorted(output.get("data", {})) for output in now] == [sorted(o.get("data", {})) for o in found], stale
    assert len(nbformat.writes(fresh)) < LARGEST


def test_outputs_are_reduced(tool: Any) -> None:
    y, x = np.mgrid[:80, :120]
    smooth = np.stack([2 * x, 3 * y, 90 + 0 * x], -1).astype(np.uint8)
    png = base64.b64encode(cv2.imencode(".png", smooth)[1].tobytes()).decode()
    data = {"image/png": png, "image/jpeg": "beside", "text/plain": "<object at 0x7f00>"}
    output = nbformat.v4.new_output("execute_result", data, execution_count=1)
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("a"), nbformat.v4.new_code_cell("b", outputs=[output])],
        metadata={"language_info": {"name": "python", "version": "3.11.7"}},
    )
    tool.reduce_outputs(notebook)
    (found,) = notebook.cells[1].outputs
    assert set(found.data) == {"image/png", "text/plain"}
    assert "0x" not in found.data["text/plain"]
    assert np.abs(picture([found]).astype(int) - smooth).mean() < 8
    assert len(np.unique(picture([found]).reshape(-1, 3), axis=0)) <= 256
    assert notebook.metadata["language_info"] == {"name": "python"}
