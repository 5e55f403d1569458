"""Folders of snippet files, as the published evaluation of SfMLearner reads them."""

from __future__ import annotations

from pathlib import Path

from trianflow.errors import TrianflowError
from trianflow.trajectory import Trajectory


def load_snippets(path: str | Path) -> Trajectory | dict[int, Trajectory]:
    """Read a whole trajectory, or a folder of snippets.

    Args:
        path: a trajectory file (see `Trajectory.load`), or a folder with one text file a snippet. Such a file is named
            after the number of the snippet's first frame (`000000.txt`, `000001.txt`, ...) and holds a TUM row
            `t x y z qx qy qz qw` for each frame, camera to the frame of the first camera. Other files are left alone.

    Returns:
        The trajectory, or the snippets by the number of their first frame.

    Raises:
        TrianflowError: nothing there, or a file that cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        return Trajectory.load(path)
    files = {int(file.stem): file for file in sorted(path.glob("*.txt")) if file.stem.isascii() and file.stem.isdigit()}
    if not files:
        raise TrianflowError(f"{path}: no snippet in this folder; expected 000000.txt, 000001.txt, ... with TUM rows")
    return {number: Trajectory.load(file, "tum") for number, file in files.items()}
