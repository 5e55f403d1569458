"""Files that are written at once or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, to be written inside the context, that takes its place where all went well.

    Readers see the old file or the new one, after a crash too. One process at a time writes a file; what a killed one
    leaves, `.NAME.part`, is overwritten by the next. A link, a pipe or a device is written to as it stands.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        yield path
        return
    temporary = path.with_name(f".{path.name}.part")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
