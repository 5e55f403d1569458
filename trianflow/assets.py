"""Where the files of the demo lie."""

from __future__ import annotations

from pathlib import Path

from trianflow.errors import TrianflowError


def find_asset(name: str) -> Path:
    """The path of a file of the repository's `assets` folder.

    Raises:
        TrianflowError: it is not there: an installed wheel carries the code, not the clip.
    """
    path = Path(__file__).resolve().parent.parent / "assets" / name
    if not path.is_file():
        raise TrianflowError(
            f"{path}: not found; the demo's files belong to the repository, not to the installed package:"
            " run `make demo`, or `pip install -e .`, in a clone of it"
        )
    return path
