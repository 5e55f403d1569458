"""Execute a notebook and keep its outputs in it, small enough for the repository.

python tools/run_notebook.py docs/quickstart.ipynb
"""

from __future__ import annotations

import argparse
import base64
import io
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

_SECONDS = 300  # for one cell
_COLORS = 256  # of a picture


def executed(path: Path) -> Any:
    """The notebook with the outputs of a run in its folder, from a fresh kernel.

    Raises:
        CellExecutionError: a cell has raised.
    """
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=_SECONDS, record_timing=False, resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    return notebook


def reduce_outputs(notebook: Any) -> None:
    """Give pictures a palette, and leave out what changes from run to run."""
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            data.pop("image/jpeg", None)  # beside the PNG
            if "image/png" in data:
                data["image/png"] = _with_palette(data["image/png"])
                data["text/plain"] = "<picture>"


def _with_palette(png: str) -> str:
    """A PNG in base64 with few colours."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    palette = picture.quantize(_COLORS)
    with io.BytesIO() as file:
        picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(file, format="png", optimize=True)
        return base64.b64encode(file.getvalue()).decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", type=Path)
    path: Path = parser.parse_args().notebook
    notebook = executed(path)
    reduce_outputs(notebook)
    nbformat.write(notebook, path)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
