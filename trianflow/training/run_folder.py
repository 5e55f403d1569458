"""The folder of a run: what it was asked for, the checkpoint it goes on from, the weights it leaves."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from trianflow.data.pairs.batch import PairBatch
from trianflow.data.pairs.config import frames_of
from trianflow.data.pairs.dataset import PairDataset
from trianflow.errors import TrianflowError, UsageError
from trianflow.files import replacing
from trianflow.systems.instance import InstaDM
from trianflow.systems.trianflow import TrianFlow
from trianflow.training.checkpoint import Checkpoint, save_tensors
from trianflow.training.config import Stages, TrainConfig
from trianflow.training.engine import AnySystem
from trianflow.training.log import BOARD, METRICS, VALIDATION
from trianflow.weights import save_weights

CONFIG, LAST, BAD_BATCH = "config.yaml", "last.ckpt", "bad_batch.pt"
# Settings that may change between two parts of a run: it stays the same run. Identical data may lie elsewhere.
_FREE = {"workers", "log_every", "val_every", "val_pairs", "save_every", "max_skipped"}
_FREE |= {"accelerator", "devices", "nodes", "data.root", "data.cache"}


class RunFolder:
    """The folder of a run.

    Args:
        path: of the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Where files of the folder are written.

        Raises:
            TrianflowError: the disk is full, or the folder cannot be written.
        """
        try:
            yield
        except OSError as error:
            raise TrianflowError(
                f"cannot write into {self.path}: {error.strerror or error}; make room, or give another --out"
            ) from error

    def create(self) -> None:
        """Make the folder where it is not there."""
        with self.writing():
            self.path.mkdir(parents=True, exist_ok=True)

    def forget(self) -> None:
        """Remove what a run leaves, so that the next one begins anew; other files stay."""
        names = (*Stages.model_fields, "photometric", "instance")
        stages = [f"{name}{best}" for name in names for best in ("", "_best")]
        weights = [f"{name}{suffix}" for name in stages for suffix in (".safetensors", ".json")]
        with self.writing():
            for name in (LAST, CONFIG, METRICS, VALIDATION, *weights):
                (self.path / name).unlink(missing_ok=True)
            for file in [*(self.path / BOARD).glob("events.out.tfevents.*"), *self.path.glob(f"*_{BAD_BATCH}")]:
                file.unlink()

    def write_config(self, config: TrainConfig) -> None:
        """Note what was asked for."""
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        with self.writing(), replacing(self.path / CONFIG) as path:
            path.write_text(text)

    def load(self, settings: Mapping[str, Any]) -> Checkpoint | None:
        """The checkpoint, if there is one.

        Args:
            settings: of the run that is to go on, as plain values.

        Raises:
            UsageError: it is of a run with other settings.
            TrianflowError: it cannot be read.
        """
        path = self.path / LAST
        if not path.is_file():
            return None
        state = Checkpoint.load(path)
        changed = [key for key in _differences(_completed(state.config), settings) if key not in _FREE]
        if changed:
            self._refuse(f"with other settings ({', '.join(changed)})")
        return state

    def require_data(self, state: Checkpoint, pairs: PairDataset) -> None:
        """Check that a checkpoint was trained on these pairs.

        Raises:
            UsageError: it was not.
        """
        if (state.pairs, state.digest) != (len(pairs), pairs.digest):
            self._refuse(
                f"on other data ({state.pairs} training pairs, digest {state.digest};"
                f" here are {len(pairs)}, digest {pairs.digest})"
            )

    def save(self, state: Checkpoint) -> None:
        """Write the checkpoint."""
        with self.writing():
            state.save(self.path / LAST)

    def export(self, file: str, system: AnySystem, used: Collection[str], card: Mapping[str, Any]) -> None:
        """Write the networks as a weight file with its card: those that have learned, and a flow that taught them.

        Raises:
            TrianflowError: as `save_weights`.
        """
        flow = system.flow if not isinstance(system, TrianFlow) or "flow" in used else None
        depth = system.depth if "depth" in used else None
        pose = system.pose if not isinstance(system, TrianFlow) and "pose" in used else None
        objects = system.objects if isinstance(system, InstaDM) else None
        save_weights(self.path / file, flow, depth, card, pose=pose, objects=objects)

    def dump(self, batch: PairBatch, rank: int) -> Path:
        """Write a batch that gave no finite gradient, to be looked at; the name of the file."""
        path = self.path / f"{rank}_{BAD_BATCH}"
        names = ("image_a", "image_b", "input_a", "input_b", "K", "index")
        tensors = {name: getattr(batch, name).cpu() for name in names}
        with self.writing():
            save_tensors(path, tensors)
        return path

    def _refuse(self, how: str) -> None:
        raise UsageError(f"{self.path} holds a run {how}: give another --out, or --restart to replace it")


def weight_card(
    config: TrainConfig, stage: str, steps: int, metrics: Mapping[str, float], measured: int
) -> dict[str, Any]:
    """The card of weights.

    Args:
        config: of the run.
        stage: up to which the networks have learned.
        steps: done over all stages.
        metrics: of the last validation; left out where there was none.
        measured: steps that were done then.
    """
    sources = config.data.train
    methods = {"photometric": "photometric depth and pose", "instance": "Insta-DM"}
    method = methods.get(stage, "TrianFlow")
    losses = [s.losses for _, s in config.stages.listed()] if config.method is None else []
    truths = (("flow", "truth"), ("depth", "depth_truth"))
    taught = [kind for kind, key in truths if any(getattr(x, key) > 0 for x in losses)]
    labels = f"with true {' and '.join(taught)}" if taught else "without labels"
    paths = [Path(frames_of(s) or "synthetic") for s in sources]
    card = {
        "description": f"{method}, trained {labels} up to stage {stage}",
        "data": sorted({path.parent.name if path.name == "images" else path.name for path in paths}),
        "licence": "that of the data it was trained on",
        "steps": steps,
        "size": list(config.data.size),
    }
    return card | ({"metrics": {"step": measured, **metrics}} if metrics else {})


def _completed(saved: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of a run with those that have come since, at their defaults; as they are where some have gone."""
    try:
        config = TrainConfig.model_validate({key: value for key, value in saved.items() if key != "overfit"})
    except ValidationError:
        return saved
    return config.model_dump(mode="json") | {"overfit": saved.get("overfit")}


def _differences(a: Any, b: Any, place: str = "") -> list[str]:
    """Dotted keys of what differs between two nested mappings."""
    if not isinstance(a, Mapping) or not isinstance(b, Mapping):
        return [place] if a != b else []
    found = []
    for key in dict.fromkeys([*b, *a]):
        found += _differences(a.get(key), b.get(key), f"{place}.{key}" if place else key)
    return found
