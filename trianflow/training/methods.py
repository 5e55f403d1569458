"""What is compared: the methods of configuration files, and what each may spend; read without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trianflow.config import load_settings
from trianflow.errors import UsageError
from trianflow.training.config import TrainConfig


@dataclass(frozen=True)
class Budget:
    """What each method may spend in all: minutes of training, or steps; one of the two."""

    minutes: float | None
    steps: int | None


@dataclass(frozen=True)
class Method:
    """A method of a comparison: its name, its configuration, and the folder of its runs, one for each stage."""

    name: str
    config: TrainConfig
    folder: Path

    def stage_folder(self, stage: str) -> Path:
        """The folder of the run of a stage."""
        return self.folder / stage


def read_methods(files: Sequence[str | Path], out: Path, overrides: Sequence[str]) -> list[Method]:
    """The methods of configuration files, named after them.

    Raises:
        UsageError: two of one name, a wrong configuration, or one that differs in what a comparison shares.
    """
    methods: list[Method] = []
    for file in map(Path, files):
        config = load_settings(TrainConfig(), file, overrides)
        if any(method.name == file.stem for method in methods):
            raise UsageError(f"two configurations are called {file.stem}: their results would share a folder")
        methods.append(Method(file.stem, config, out / file.stem))
    first = methods[0]
    shared = _shared(first.config)
    for method in methods[1:]:
        for key, value in _shared(method.config).items():
            if value != shared[key]:
                raise UsageError(f"{first.name} and {method.name} differ in {key}: give one {key}=... for all of them")
    return methods


def _shared(config: TrainConfig) -> dict[str, Any]:
    """What must be the same in all methods, by its key; `views` is the method's own, the cache changes no pair."""
    data = {f"data.{key}": value for key, value in config.data if key not in ("views", "cache")}
    return {**data, "val_pairs": config.val_pairs, "seed": config.seed}
