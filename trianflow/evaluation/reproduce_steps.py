"""Steps of a reproduction: what each runs and how far it is on this disk; those that prepare and train."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from trianflow.config import load_settings
from trianflow.data.datasets.interface import DatasetContent
from trianflow.data.datasets.registry import open_dataset_folder
from trianflow.data.datasets.splits import take_split
from trianflow.data.prepared import SETTINGS, PrepareSettings
from trianflow.errors import TrianflowError
from trianflow.training.config import TrainConfig

_EXTRAS = {"lightning": "train", "evo": "eval"}  # of the packages


@dataclass(frozen=True)
class DataFolder:
    """A dataset on this disk.

    Attributes:
        label: for people.
        reader: its name for `trianflow prepare`.
        path: where it should lie.
        remedy: what to put into it: the official archives, and where they are.
    """

    label: str
    reader: str
    path: Path
    remedy: str

    def lacks(self) -> str:
        """Why it cannot be used; empty where the folder is there."""
        return "" if self.path.is_dir() else f"{self.label}: no folder {self.path}; {self.remedy} into it"

    @cached_property
    def content(self) -> DatasetContent:
        """What the reader finds; errors as of `open_dataset_folder`."""
        return open_dataset_folder(self.reader, self.path)


class Step(ABC):
    """Something to do by one call of the program.

    Args:
        title: what it does.
        words: of the command line, behind `trianflow`; none where there is no command yet.
        uses: steps whose results it works on.
        modules: packages that it needs beside those that are always there.

    Attributes:
        follows: it is to be done again where what it works on was made later than its own result.
    """

    follows = True

    def __init__(
        self, title: str, words: Sequence[str], uses: tuple[Step, ...] = (), modules: tuple[str, ...] = ()
    ) -> None:
        self.title, self.words, self.uses, self.modules = title, tuple(words), uses, modules

    @abstractmethod
    def made(self) -> float | None:
        """When its result was complete, seconds since 1970; None where it is not."""

    def given(self) -> float | None:
        """When a file that it works on, and no step makes, was last changed; None without such a file."""
        return None

    @abstractmethod
    def lacks(self) -> str:
        """What is not there and comes from no other step, in one line with the remedy; empty where all is there."""

    def note(self) -> str:
        """What should be known of a step that is ready or done; empty for nothing."""
        return ""


@dataclass(frozen=True)
class Status:
    """How far a step is.

    Attributes:
        state: `waiting` for another step; `missing` something that no step makes.
        text: what is missing, or should be known.
    """

    state: Literal["done", "ready", "waiting", "missing"]
    text: str = ""


def status_of(step: Step) -> Status:
    """How far a step is."""
    before = [other.made() for other in step.uses]
    made = step.made()
    changed = [time for time in (*before, step.given()) if time is not None] if step.follows else []
    if made is not None and made >= max(changed, default=made):
        return Status("done", step.note())
    absent = [module for module in step.modules if find_spec(module) is None]
    lacks = f"{absent[0]}: pip install 'trianflow[{_EXTRAS[absent[0]]}]'" if absent else step.lacks()
    if lacks:
        return Status("missing", lacks)
    waiting = [other.title for other, time in zip(step.uses, before) if time is None]
    return Status("waiting", f"for {', '.join(waiting)}") if waiting else Status("ready", step.note())


class MissingStep(Step):
    """What trianflow cannot do yet, for which there is no command.

    Args:
        title: what it would do.
        why: in one line.
    """

    def __init__(self, title: str, why: str) -> None:
        super().__init__(title, ())
        self._why = why

    def made(self) -> float | None:
        """As `Step.made`: never."""
        return None

    def lacks(self) -> str:
        """As `Step.lacks`."""
        return self._why


class PrepareStep(Step):
    """`trianflow prepare` of a split of a dataset.

    Done where every sequence that was begun is complete, none of the split is missing that the dataset has, and the
    settings are all those that its command asks for.
    """

    def __init__(
        self, title: str, data: DataFolder, out: Path, size: tuple[int, int], split: str, *options: str
    ) -> None:
        words = ["prepare", data.reader, str(data.path), str(out), "--split", split]
        words += ["--size", *map(str, size), *options]
        super().__init__(title, words)
        self._data, self._split, self.out = data, split, out
        motion = float(options[options.index("--min-motion") + 1]) if "--min-motion" in options else 0.0
        reader = {"crop": True} if "--crop" in options else {}
        settings = PrepareSettings(size, min_motion=motion, truth="--truth" in options, reader=reader, split=split)
        self._settings: dict[str, Any] = json.loads(json.dumps(asdict(settings)))  # as the file has them

    def made(self) -> float | None:
        """As `Step.made`; what the dataset itself lost since then does not count."""
        complete, begun = prepared_files(self.out)
        if not complete or begun or self._other_settings():
            return None
        names = {file.parent.relative_to(self.out).as_posix() for file in complete}
        if self._data.path.is_dir() and not self._found[1] and not self._found[0] <= names:
            return None
        return max(file.stat().st_mtime for file in complete)

    def lacks(self) -> str:
        """As `Step.lacks`; also a folder that was prepared with other settings."""
        if other := self._other_settings():
            return f"{self.out} was prepared with other settings ({other}): remove it, or name another --work"
        return self._data.lacks() or self._found[1]

    def note(self) -> str:
        """What of the split is not in the dataset."""
        lines = self._found[2] if self._data.path.is_dir() else ()
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        return f"not there: {lines[0]}{more}" if lines else ""

    def _other_settings(self) -> str:
        """Names of the settings that the folder was prepared with, and are others now."""
        before = read_json(self.out / SETTINGS)
        return ", ".join(key for key, value in self._settings.items() if before and before.get(key) != value)

    @cached_property
    def _found(self) -> tuple[set[str], str, tuple[str, ...]]:
        """Names of the sequences to prepare, why there are none, and what of the split is missing."""
        try:
            split = take_split(self._split, self._data.content)
        except TrianflowError as error:
            return set(), str(error), ()
        if not split.frames:
            first = f": {split.missing[0]}" if split.missing else ""
            return set(), f"{self._data.path}: holds nothing of the split {self._split}{first}", ()
        return {name for name, _ in split.frames}, "", split.missing


def read_json(path: Path) -> dict[str, Any]:
    """A JSON mapping, empty where there is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def prepared_files(folder: Path) -> tuple[list[Path], bool]:
    """The `prepared.json` of all sequences below a folder that are complete, and whether others were begun."""
    complete, begun = [], False
    for place, folders, files in os.walk(folder):
        if "prepared.json" in files:
            complete.append(Path(place) / "prepared.json")
        elif ".parts" in folders:
            begun = True
        if {"images", ".parts", "prepared.json"} & {*folders, *files}:
            folders.clear()  # a sequence holds no other; its pictures are many
    return sorted(complete), begun


@dataclass(frozen=True)
class _Run:
    """A training run: when its checkpoint was written, nanoseconds since 1970, and whether all stages are done."""

    time: int
    complete: bool


class TrainStep(Step):
    """`trianflow train`: done where all stages are.

    Args:
        config: YAML file.
        overrides: words `key=value`.
        out: folder of the run.
        uses: the prepared data.
        absent: what else it needs and is not there, see `Step.lacks`.
    """

    follows = False  # a run that is finished cannot go on with other data, and says so

    def __init__(
        self, config: Path, overrides: Sequence[str], out: Path, uses: tuple[Step, ...], absent: str = ""
    ) -> None:
        words = ["train", str(config), *overrides, "--out", str(out)]
        super().__init__("train the networks", words, uses, ("lightning",))
        self._settings = load_settings(TrainConfig(), config, overrides)
        self._last_name, self._last_stage = self._settings.stages.listed()[-1]
        self._out, self._absent = out, absent
        self._known: _Run | None = None

    @property
    def weights(self) -> Path:
        """The networks after the last stage."""
        return self._out / f"{self._last_name}.safetensors"

    def made(self) -> float | None:
        """As `Step.made`; weights without a checkpoint count as done, a run of other settings as none."""
        if not self.weights.is_file():
            return None
        try:
            run = self._run()
        except TrianflowError:
            return None
        if run is not None and not run.complete:
            return None
        return self.weights.stat().st_mtime

    def lacks(self) -> str:
        """As `Step.lacks`; also a folder that holds another run."""
        if self._absent:
            return self._absent
        try:
            self._run()
        except TrianflowError as error:
            other = f"; or use its weights: --weights {self.weights}" if self.weights.is_file() else ""
            return f"{error}{other}"
        return ""

    def _run(self) -> _Run | None:
        """What the checkpoint tells, read again only where it is another; None without one."""
        from trianflow.training.run_folder import LAST, RunFolder

        file = self._out / LAST
        time = file.stat().st_mtime_ns if file.is_file() else None
        if self._known is None or self._known.time != time:
            state = RunFolder(self._out).load(self._settings.model_dump(mode="json") | {"overfit": None})
            if state is None or time is None:
                return None
            length = self._last_stage.length(state.pairs, self._settings.batch_size)
            self._known = _Run(time, state.stage == self._last_name and state.step >= length)
        return self._known
