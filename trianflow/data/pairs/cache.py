"""Arrays on disk with a note of what they were made from: whole or not there, and rebuilt when the input changes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from trianflow.errors import TrianflowError

DEFAULT_FOLDER = Path("runs/cache")
_ABANDONED = 3600.0  # seconds since a temporary file was last written, after which its process must be dead


class Cache:
    """One array `NAME.npy` and its `NAME.json`; the JSON is written last and makes the array valid.

    Two processes may build the same cache at once: each writes its own temporary file, and the last stays.

    Args:
        folder: of all caches; made where it is not there.
        name: of the source, for people.
        identity: what tells this cache from others in the folder, as JSON values.
        facts: what it is made from, as JSON values; another content makes it stale.
    """

    def __init__(self, folder: Path, name: str, identity: Sequence[Any], facts: Mapping[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(list(identity)).encode()).hexdigest()[:12]
        plain = re.sub(r"[^\w.-]+", "_", name)[-60:].strip("_.") or "source"
        self.array = folder / f"{plain}-{digest}.npy"
        self._json = folder / f"{plain}-{digest}.json"
        self._facts = json.loads(json.dumps(dict(facts)))

    def read(self) -> dict[str, Any] | None:
        """What `write` was given as `about`, or None where there is no cache, or a stale or damaged one."""
        try:
            stored = json.loads(self._json.read_text())
            valid = stored["facts"] == self._facts
            if valid and stored["items"] is not None:
                valid = len(self.open()) == stored["items"]
            return stored["about"] if valid else None
        except (OSError, EOFError, ValueError, KeyError, TypeError):
            return None

    def open(self) -> np.ndarray:
        """The array, read from disk where it is looked at.

        Raises:
            OSError, EOFError, ValueError: it is missing or damaged.
        """
        return np.load(self.array, mmap_mode="r", allow_pickle=False)

    def write(
        self, items: Iterable[np.ndarray], dtype: np.dtype, about: dict[str, Any], expected: int | None = None
    ) -> None:
        """Write the items as one array and then the JSON.

        Args:
            items: arrays of one shape.
            dtype: of the array.
            about: JSON values to keep; read after the last item, so that making the items may add to it.
            expected: number of items, where it is known, for a look at the space on the disk.

        Raises:
            TrianflowError: the folder cannot be written or is full.
        """
        try:
            self.array.parent.mkdir(parents=True, exist_ok=True)
            _sweep(self.array)
            with _in_place_of(self.array) as temporary:
                written = _write_array(temporary, items, dtype, expected)
            self._write_json(about, written)
        except OSError as error:
            raise TrianflowError(f"cannot write the cache {self.array}: {error.strerror or error}") from error

    def write_facts(self, about: dict[str, Any]) -> None:
        """Write the JSON alone, for results that need no array; OSError where the folder cannot be written."""
        self._json.parent.mkdir(parents=True, exist_ok=True)
        self._write_json(about, None)

    def _write_json(self, about: dict[str, Any], items: int | None) -> None:
        with _in_place_of(self._json) as temporary:
            temporary.write_text(json.dumps({"facts": self._facts, "items": items, "about": about}, indent=1))


def _write_array(path: Path, items: Iterable[np.ndarray], dtype: np.dtype, expected: int | None) -> int:
    """Write an `.npy` file item by item; returns how many there were."""
    written = begin = 0
    shape: tuple[int, ...] = ()
    with path.open("wb") as file:
        for item in items:
            if not written:
                shape = item.shape
                size = dtype.itemsize * item.size * (expected or 0)
                free = shutil.disk_usage(path.parent).free
                if size > free:
                    raise OSError(f"{size / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free; name another folder")
                _write_header(file, dtype, (0, *shape))
                begin = file.tell()
            elif item.shape != shape:
                raise ValueError(f"items of one shape are expected, not {shape} and {item.shape}")
            file.write(np.ascontiguousarray(item, dtype).tobytes())
            written += 1
        if not written:
            raise ValueError("an empty cache")
        file.seek(0)
        _write_header(file, dtype, (written, *shape))
        assert file.tell() == begin, "numpy leaves room for a longer first axis"
    return written


def _write_header(file: Any, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


@contextmanager
def _in_place_of(path: Path) -> Iterator[Path]:
    """A temporary name that takes the place of `path` when all went well, and is removed when not."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sweep(path: Path) -> None:
    """Remove what killed processes left behind."""
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        try:
            if time.time() - left.stat().st_mtime > _ABANDONED:
                left.unlink()
        except OSError:
            continue
