"""Methods side by side: each is trained for the same budget on the same data, and all are scored alike."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trianflow.data.pairs.dataset import PairDataset
from trianflow.errors import TrianflowError, UsageError
from trianflow.evaluation.table import Column, Row, Table
from trianflow.files import replacing
from trianflow.training.checkpoint import Checkpoint
from trianflow.training.config import AnyStage, TrainConfig
from trianflow.training.engine import AnySystem
from trianflow.training.held_out import STRIDES, HeldOutScore, PoseScore, held_out_pairs, score_held_out
from trianflow.training.loading import open_pairs
from trianflow.training.log import VALIDATION
from trianflow.training.loop import Trainer
from trianflow.training.methods import Budget, Method
from trianflow.training.run_folder import LAST

SCORES, BUDGET = "scores.json", "budget.json"
_ENDLESS = 100_000_000  # steps of a stage that ends by time
_TO_SPARE = 1.0  # seconds that a stage may lack of its time
# what messages of a run advise: there, and here with the folder of the method
_RESTARTED = {"--restart to replace it": "remove {}", "--restart begins anew": "remove {} to begin anew"}
_BATCH = 8  # pairs, when scoring
_MEASURE = 2  # what the figures of scores mean: 1 counted the pixels of objects, not objects


@dataclass(frozen=True)
class Spent:
    """Steps and minutes that a method has trained, over all its stages."""

    steps: int
    minutes: float


@dataclass(frozen=True)
class Outcome:
    """What came of a method.

    Attributes:
        method: which.
        score: None where it failed or is not done.
        spent: None where it failed.
        problem: why it failed, in one line; empty where it did not.
        finished: its budget is spent.
    """

    method: Method
    score: HeldOutScore | None
    spent: Spent | None = None
    problem: str = ""
    finished: bool = True


class OtherRun(UsageError):
    """The folder of a stage holds a run with other settings or on other data."""


def compare(methods: Sequence[Method], budget: Budget, out: Path, quiet: bool) -> list[Outcome]:
    """Train and score all methods; one that fails leaves the others alone, one that is done is not done again.

    Args:
        methods: of `read_methods`.
        budget: of each of them.
        out: folder of the comparison; one of the same budget is gone on with.
        quiet: no progress.

    Returns:
        An `Outcome` for each method that was reached: after Ctrl-C the last one is not finished.

    Raises:
        UsageError: the folder holds a comparison with another budget or with other settings, nothing to score on.
        TrianflowError: data that cannot be read, a folder that cannot be written.
    """
    _require_budget(out, budget)
    config = methods[0].config
    pairs = held_out_pairs(config.data, config.seed)
    measure = {
        "version": _MEASURE,
        "val_pairs": config.val_pairs,
        "pairs": [dataset.digest for dataset in pairs.values()],
    }
    outcomes: list[Outcome] = []
    for method in methods:
        try:
            data = open_pairs(method.config, None)  # before the clock runs: it may fill a cache
            system = train_method(method, budget, data, quiet)
            if system is None:
                outcomes.append(Outcome(method, None, spent(method), finished=False))
                break
            score = read_score(method, measure)
            if score is None:
                score = score_held_out(system, pairs, config.val_pairs, _BATCH)
                _write_json(method.folder / SCORES, _plain(score) | {"measure": measure})
            outcomes.append(Outcome(method, score, spent(method)))
        except OtherRun:
            raise
        except Exception as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            reason = _without_restart(reason, method)
            print(f"trianflow: warning: {method.name} failed: {reason}", file=sys.stderr)
            outcomes.append(Outcome(method, None, problem=reason))
    return outcomes


def train_method(
    method: Method, budget: Budget, data: tuple[PairDataset, PairDataset | None], quiet: bool
) -> AnySystem | None:
    """Spend the budget of a method, shared by its stages as their lengths in the configuration are.

    Each stage is a run of its own that begins with the weights of the one before, and goes on where it was stopped. It
    makes a step even where there is no time for one.

    Args:
        method: what to train.
        budget: of all its stages.
        data: training and validation pairs.
        quiet: no progress.

    Returns:
        The system after the last stage; None where it was asked to stop.

    Raises:
        OtherRun: the folder of a stage holds another run.
        TrianflowError: as `Trainer`.
    """
    stages = method.config.listed_stages()
    shares = _shares([stage for _, stage in stages])
    init, system = method.config.init, None
    for (name, stage), share in zip(stages, shares):
        folder = method.stage_folder(name)
        length = _ENDLESS if budget.steps is None else max(1, round(share * budget.steps))
        config = _only_stage(method.config, name, stage.model_copy(update={"steps": length}), init)
        whole = None if budget.minutes is None else share * budget.minutes
        minutes = None if whole is None else whole - _spent(folder).minutes
        try:
            trainer = Trainer(config, folder, minutes=minutes, quiet=quiet, data=data, budget=whole)
        except UsageError as error:
            if (folder / LAST).is_file():
                raise OtherRun(_without_restart(str(error), method)) from error
            raise
        weights = folder / f"{name}.safetensors"
        if minutes is None or 60 * minutes > _TO_SPARE or not weights.is_file():
            outcome = trainer.run()
            if not (outcome.finished or outcome.out_of_time):
                return None
        system, init = trainer.system, str(weights)
    return system


def comparison_table(outcomes: Sequence[Outcome]) -> Table:
    """One row a method, with what its training took; a dash where it failed, or nothing is known."""
    columns = [Column("abs_rel", "AbsRel"), Column("rmse", "RMSE m", 2), Column("d1", "<1.25")]
    columns += [Column("object_abs_rel", "AbsRel, objects"), Column("object_epe", "motion px, objects", 2)]
    for stride in (STRIDES[0], STRIDES[-1]):
        words = f"stride {stride}"
        columns.append(Column(f"rotation_{stride}", f"rot °, {words}"))
        columns.append(Column(f"direction_{stride}", f"dir °, {words}", 2))
        columns.append(Column(f"translation_{stride}", f"trans, {words}"))
    columns += [Column("steps", "steps", 0), Column("minutes", "minutes", 1)]
    rows = []
    for o in outcomes:
        figures = {} if o.score is None else o.score.figures()
        rows.append(Row(o.method.name, figures | ({} if o.spent is None else asdict(o.spent))))
    return Table("method", columns, rows)


def spent(method: Method) -> Spent:
    """What the training of a method has taken so far.

    Raises:
        TrianflowError: a checkpoint that cannot be read.
    """
    stages = [_spent(method.stage_folder(name)) for name, _ in method.config.listed_stages()]
    return Spent(sum(stage.steps for stage in stages), sum(stage.minutes for stage in stages))


def learning_curve(method: Method, figure: str) -> list[tuple[float, float]]:
    """A figure of the validations of a method by the minutes that it had trained, over all its stages."""
    points, before = [], 0.0
    for name, _ in method.config.listed_stages():
        path = method.stage_folder(name) / VALIDATION
        if not path.is_file():
            break
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        points += [(before + float(row["seconds"]) / 60, float(row[figure])) for row in rows if row.get(figure)]
        before += _spent(method.stage_folder(name)).minutes
    return points


def read_score(method: Method, measure: dict[str, Any] | None = None) -> HeldOutScore | None:
    """The score of a method that was scored before, on the pairs of `measure` if given, else None."""
    try:
        values = json.loads((method.folder / SCORES).read_text())
        if measure is not None and values.get("measure") != measure:
            return None
        poses = {int(stride): PoseScore(**pose) for stride, pose in values["poses"].items()}
        return HeldOutScore(values["depth"], values["objects"], poses)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _shares(stages: Sequence[AnyStage]) -> list[float]:
    """Parts of the whole that stages take: by steps where all give them, else by epochs."""
    lengths = [stage.steps for stage in stages]
    parts = [float(n) for n in lengths if n is not None]
    if len(parts) < len(stages):
        parts = [stage.epochs for stage in stages]
    return [part / sum(parts) for part in parts]


def _only_stage(config: TrainConfig, name: str, stage: AnyStage, init: str | None) -> TrainConfig:
    if config.method is not None:
        return config.model_copy(update={name: stage, "init": init})
    others = dict.fromkeys(type(config.stages).model_fields)
    return config.model_copy(update={"stages": config.stages.model_copy(update=others | {name: stage}), "init": init})


def _spent(folder: Path) -> Spent:
    """What the run of a folder has taken."""
    if not (folder / LAST).is_file():
        return Spent(0, 0.0)
    state = Checkpoint.load(folder / LAST)
    return Spent(state.total_step, state.seconds / 60)


def _without_restart(message: str, method: Method) -> str:
    """A message of a run in the words of this command, which has no --restart."""
    for words, ours in _RESTARTED.items():
        message = message.replace(words, ours.format(method.folder))
    return message


def _plain(score: HeldOutScore) -> dict[str, Any]:
    poses = {str(stride): asdict(pose) for stride, pose in score.poses.items()}
    return {"depth": score.depth, "objects": score.objects, "poses": poses}


def _require_budget(out: Path, budget: Budget) -> None:
    plain = {"minutes": budget.minutes, "steps": budget.steps}
    path = out / BUDGET
    if path.is_file():
        try:
            before = json.loads(path.read_text())
        except (OSError, ValueError):
            before = None
        if before != plain:
            raise UsageError(f"{out} holds a comparison with another budget ({before}): give another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrianflowError(f"cannot write into {out}: {error.strerror or error}") from error
    _write_json(path, plain)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    try:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(values, indent=1) + "\n")
    except OSError as error:
        raise TrianflowError(f"cannot write {path}: {error.strerror or error}") from error
