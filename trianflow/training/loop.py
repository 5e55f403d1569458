"""The training loop: three stages, a step on a page, and a run that can be stopped anywhere and goes on exactly."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.utils.data import DataLoader

from trianflow.data.pairs.batch import PairBatch, collate
from trianflow.data.pairs.config import PathSource
from trianflow.data.pairs.dataset import PairDataset, open_dataset, worker_init
from trianflow.data.pairs.sampler import StepSampler
from trianflow.errors import TrianflowError, UsageError
from trianflow.systems.config import LossWeights
from trianflow.systems.trianflow import StepResult, TrianFlow
from trianflow.training.checkpoint import Checkpoint, random_state, restore_random, write_atomically
from trianflow.training.config import StageConfig, TrainConfig
from trianflow.training.engine import TrainingStep, make_fabric, scaler_of
from trianflow.training.failures import batches_of, is_out_of_memory, memory_advice
from trianflow.training.initial import load_initial
from trianflow.training.log import RunLog, TrainingProgress
from trianflow.training.pictures import training_picture
from trianflow.training.stopping import Stopping, ignore_signals
from trianflow.training.sync_norm import synchronize_norms
from trianflow.training.validation import FIGURES, WATCHED, validate
from trianflow.weights import save_weights

CONFIG, LAST, BAD_BATCH = "config.yaml", "last.ckpt", "bad_batch.pt"
# Settings that may change between two parts of a run: it stays the same run.
_FREE = {"workers", "log_every", "val_every", "val_pairs", "save_every", "max_skipped"}
_FREE |= {"accelerator", "devices", "nodes"}


@dataclass(frozen=True)
class TrainingOutcome:
    """How a run ended.

    Attributes:
        finished: all stages are done; else it was stopped and can go on.
        steps: done over all stages.
        skipped: of them, those left out for want of a finite gradient.
        figures: of the last validation.
    """

    finished: bool
    steps: int
    skipped: int
    figures: dict[str, float]


@dataclass
class _Counts:
    """Where a run is, beside its networks."""

    steps: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    best: dict[str, float] = field(default_factory=dict)


class Trainer:
    """A training run.

    Args:
        config: what to train on what.
        out: folder of the run. One that holds `last.ckpt` is continued.
        overfit: train on the first so many pairs only, without augmentation, and validate on them.
        minutes: stop after this time, as after a signal.
        quiet: no progress.
        data: training and validation pairs (or None), in place of those that the configuration names.

    Raises:
        UsageError: the folder holds another run, the batch cannot be shared by the processes, data that is not there.
        TrianflowError: data or checkpoint that cannot be read.
    """

    def __init__(
        self,
        config: TrainConfig,
        out: str | Path,
        overfit: int | None = None,
        minutes: float | None = None,
        quiet: bool = False,
        data: tuple[PairDataset, PairDataset | None] | None = None,
    ) -> None:
        self.config, self.out, self.quiet = config, Path(out).expanduser(), quiet
        self._stopping = Stopping(minutes)
        self.fabric = make_fabric(config)
        self.fabric.launch()
        if config.batch_size % self.fabric.world_size:
            raise UsageError(f"batch_size {config.batch_size} cannot be shared by {self.fabric.world_size} processes")
        self.out.mkdir(parents=True, exist_ok=True)
        self._plain = config.model_dump(mode="json") | {"overfit": overfit}
        self._checkpoint = self._open_checkpoint()
        self.train_pairs: PairDataset
        self.val_pairs: PairDataset | None
        self.train_pairs, self.val_pairs = data or self._open_data(overfit)
        if self.fabric.is_global_zero and not quiet:
            for note in dict.fromkeys([*self.train_pairs.notes, *(self.val_pairs.notes if self.val_pairs else ())]):
                print(f"trianflow: note: {note}", file=sys.stderr)
        self.stages = [
            (name, stage, stage.length(len(self.train_pairs), config.batch_size))
            for name, stage in config.stages.listed()
        ]
        self.system = self._make_system()
        self._counts = _Counts()
        self._figures: dict[str, float] = {}
        self._told: set[str] = set()
        if (state := self._checkpoint) is not None:
            self._counts = _Counts(state.total_step, *state.skipped, best=dict(state.best))
            restore_random(state.random)
        if self.fabric.is_global_zero:
            text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
            write_atomically(self.out / CONFIG, lambda path: path.write_text(text))
        self.fabric.barrier()

    # --- the run --------------------------------------------------------------------------------------------

    def run(self) -> TrainingOutcome:
        """Train all stages that are not done yet.

        Raises:
            TrianflowError: no finite gradient for `max_skipped` steps in a row, out of memory, data that fails.
        """
        names = [name for name, *_ in self.stages]
        first, finished = 0, True
        if (state := self._checkpoint) is not None:
            first = names.index(state.stage)
            if first == len(names) - 1 and state.step >= self.stages[-1][-1]:
                return TrainingOutcome(True, state.total_step, state.skipped[0], {})
        log = None
        if self.fabric.is_global_zero:
            log = RunLog(self.out, list(LossWeights.model_fields), list(FIGURES), self._counts.steps)
        try:
            with self._stopping.on_signals():
                for name, stage, length in self.stages[first:]:
                    finished = self._run_stage(name, stage, length, log)
                    if not finished:
                        break
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise TrianflowError(memory_advice(self.config)) from error
            raise
        finally:
            if log is not None:
                log.close()
        return TrainingOutcome(finished, self._counts.steps, self._counts.skipped, self._figures)

    def _run_stage(self, name: str, stage: StageConfig, length: int, log: RunLog | None) -> bool:
        """Train one stage to its end; False where the run is to stop before the last stage is done."""
        state, self._checkpoint = self._checkpoint, None
        done = state.step if state is not None else 0
        self._choose(stage)
        step = TrainingStep(self.system)
        optimizer: Any = torch.optim.Adam((p for p in self.system.parameters() if p.requires_grad), lr=stage.lr)
        if state is not None and state.optimizer:
            optimizer.load_state_dict(state.optimizer)
        if state is not None and state.scaler and scaler_of(self.fabric) is not None:
            scaler_of(self.fabric).load_state_dict(state.scaler)
        model, optimizer = self.fabric.setup(step, optimizer)
        progress = TrainingProgress(name, done, length, self.quiet or not self.fabric.is_global_zero)
        config = self.config
        try:
            for batch in batches_of(self._loader(done, length - done)):
                self._report(batch.problems, progress)
                rate = stage.rate(done, length)
                batch = batch.to(self.fabric.device)
                gradient = self._step(model, optimizer, batch, stage.losses, rate, progress)
                done += 1
                self._counts.steps += 1
                result = step.result
                assert result is not None
                last = done == length
                if done % config.log_every == 0 or last:
                    facts = {"stage": name, "stage_step": done, "lr": rate, "gradient": gradient}
                    self._log(result, facts, log)
                if done % config.val_every == 0 or last:
                    self._validate(name, stage, log, progress)
                    if log is not None:
                        log.picture(self._counts.steps, training_picture(batch, result))
                stop = not self._everywhere(not self._stopping.wanted)
                if not last and (stop or done % config.save_every == 0):
                    self._save(name, done, optimizer)
                progress.advance(f"loss {float(result.total.detach()):.4g}")
                if stop and not last:
                    self._export(f"{name}.safetensors", name)
                    return False
        finally:
            progress.close()
        return self._finish(name, length)

    def _step(
        self,
        model: Any,
        optimizer: Any,
        batch: PairBatch,
        weights: LossWeights,
        rate: float,
        progress: TrainingProgress,
    ) -> float:
        """One step of gradient descent: the norm of the gradient. One that is not finite changes nothing."""
        counts = self._counts
        buffers = {name: buffer.clone() for name, buffer in self.system.named_buffers()}
        optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(model(batch, weights, self.config.seed * 1_000_003 + counts.steps))
        norm = self.fabric.clip_gradients(model, optimizer, max_norm=self.config.clip, error_if_nonfinite=False)
        assert norm is not None
        finite = self._everywhere(bool(norm.isfinite()))
        has_scaler = scaler_of(self.fabric) is not None  # which skips by itself, and then lowers its scale
        if finite or has_scaler:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        if finite:
            counts.skipped_in_a_row = 0
            return float(norm)
        for name, buffer in self.system.named_buffers():
            buffer.copy_(buffers[name])
        counts.skipped += 1
        counts.skipped_in_a_row += 1
        which = ", ".join(map(str, batch.index.tolist()))
        progress.say(f"step {counts.steps + 1}: gradient not finite, left out ({counts.skipped} so far); pairs {which}")
        if counts.skipped_in_a_row >= self.config.max_skipped:
            self._give_up(batch)
        return float("nan")

    def _give_up(self, batch: PairBatch) -> None:
        path = self.out / f"{self.fabric.global_rank}_{BAD_BATCH}"
        names = ("image_a", "image_b", "input_a", "input_b", "K", "index")
        tensors = {name: getattr(batch, name).cpu() for name in names}
        write_atomically(path, lambda temporary: torch.save(tensors, temporary))
        raise TrianflowError(
            f"no finite gradient in {self._counts.skipped_in_a_row} steps in a row: look at the batch in {path},"
            f" or lower the learning rate; the last saved state, if any, is {self.out / LAST}"
        )

    def _finish(self, name: str, length: int) -> bool:
        """Leave the weights of a stage, and a checkpoint from which the next one begins."""
        names = [n for n, *_ in self.stages]
        following = names[names.index(name) + 1 :]
        self._export(f"{name}.safetensors", name)
        self._save(following[0] if following else name, 0 if following else length, None)
        return not following or self._everywhere(not self._stopping.wanted)

    # --- networks and data ----------------------------------------------------------------------------------

    def _make_system(self) -> TrianFlow:
        torch.manual_seed(self.config.seed)
        system = TrianFlow(self.config.system)
        if self._checkpoint is not None:
            system.load_state_dict(self._checkpoint.system)
        elif self.config.init is not None:
            load_initial(system, self.config.init)
        if self.fabric.world_size > 1:
            synchronize_norms(system)
        # Convolutions of this layout are faster, on the CPU as well.
        return system.to(self.fabric.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _choose(self, stage: StageConfig) -> None:
        """Let the networks of a stage learn, and freeze the others, their statistics too."""
        for network in ("flow", "depth"):
            learns = network in stage.train
            self.system.get_submodule(network).requires_grad_(learns).train(learns)

    def _open_data(self, overfit: int | None) -> tuple[PairDataset, PairDataset | None]:
        data, seed = self.config.data, self.config.seed
        if overfit is not None:
            pairs = open_dataset(data, "train", seed, augment=False).first(overfit)
            return pairs, pairs
        val = open_dataset(data, "val", seed, augment=False) if data.val else None
        return open_dataset(data, "train", seed, augment=True), val

    def _loader(self, first_step: int, steps: int) -> DataLoader[PairBatch]:
        size, fabric = self.config.batch_size, self.fabric
        pairs, seed = len(self.train_pairs), self.config.seed
        sampler = StepSampler(pairs, size, seed, first_step, fabric.global_rank, fabric.world_size, max(steps, 0))
        return DataLoader(
            self.train_pairs,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=self.config.workers,
            worker_init_fn=_prepare_worker,
            pin_memory=fabric.device.type == "cuda",
        )

    def _validation_batches(self, progress: TrainingProgress) -> Iterator[PairBatch]:
        if self.val_pairs is None:
            return
        count = min(self.config.val_pairs, len(self.val_pairs))
        chosen = [i * len(self.val_pairs) // count for i in range(count)]
        size = max(1, self.config.batch_size // self.fabric.world_size)
        for begin in range(0, count, size):
            batch = collate([self.val_pairs[0, i] for i in chosen[begin : begin + size]])
            self._report(batch.problems, progress)
            yield batch

    # --- what a run leaves ----------------------------------------------------------------------------------

    def _report(self, problems: Sequence[str], progress: TrainingProgress) -> None:
        for problem in problems:
            if problem not in self._told:
                self._told.add(problem)
                progress.say(f"trianflow: warning: {problem}; another pair takes its place")

    def _log(self, result: StepResult, facts: dict[str, Any], log: RunLog | None) -> None:
        values = torch.stack([result.total.detach().double(), *(x.double() for x in result.losses.values())])
        mean = self.fabric.all_reduce(values, reduce_op="mean")
        assert isinstance(mean, torch.Tensor)
        if log is not None:
            losses = dict(zip(["total", *result.losses], mean.tolist()))
            log.step(self._counts.steps, facts | {"skipped": self._counts.skipped}, losses)

    def _validate(self, name: str, stage: StageConfig, log: RunLog | None, progress: TrainingProgress) -> None:
        if log is not None and self.val_pairs is not None:
            with self.fabric.autocast():
                batches = self._validation_batches(progress)
                self._figures = validate(self.system, batches, stage.losses.need_depth, self.fabric.device)
            log.validation(self._counts.steps, name, self._figures)
            words = "  ".join(f"{key} {value:.4g}" for key, value in self._figures.items())
            progress.say(f"{name}, after {self._counts.steps} steps: {words}")
            watched = next((self._figures[key] for key in WATCHED[name] if key in self._figures), None)
            if watched is not None and watched < self._counts.best.get(name, float("inf")):
                self._counts.best[name] = watched
                self._export(f"{name}_best.safetensors", name)
        self.fabric.barrier()

    def _export(self, file: str, stage: str) -> None:
        """The networks that have learned so far, as a weight file with its card."""
        if not self.fabric.is_global_zero:
            return
        names = [name for name, *_ in self.stages]
        trained = {network for _, s, _ in self.stages[: names.index(stage) + 1] for network in s.train}
        sources = self.config.data.train
        card = {
            "description": f"TrianFlow, trained without labels up to stage {stage}",
            "data": sorted({Path(s.path).name if isinstance(s, PathSource) else "synthetic" for s in sources}),
            "licence": "that of the data it was trained on",
            "steps": self._counts.steps,
            "size": list(self.config.data.size),
            "metrics": self._figures,
        }
        depth = self.system.depth if "depth" in trained else None
        save_weights(self.out / file, self.system.flow, depth, card)

    def _save(self, stage: str, step: int, optimizer: Any | None) -> None:
        if self.fabric.is_global_zero:
            counts, scaler = self._counts, scaler_of(self.fabric)
            Checkpoint(
                stage=stage,
                step=step,
                total_step=counts.steps,
                system=self.system.state_dict(),
                optimizer={} if optimizer is None else optimizer.state_dict(),
                scaler={} if scaler is None else scaler.state_dict(),
                random=random_state(),
                best=counts.best,
                skipped=(counts.skipped, counts.skipped_in_a_row),
                config=self._plain,
            ).save(self.out / LAST)
        self.fabric.barrier()

    def _open_checkpoint(self) -> Checkpoint | None:
        path = self.out / LAST
        if not path.is_file():
            return None
        state = Checkpoint.load(path)
        changed = [key for key, value in self._plain.items() if key not in _FREE and value != state.config.get(key)]
        if changed:
            raise UsageError(
                f"{self.out} holds a run with other settings ({', '.join(changed)}):"
                " give another --out, or --restart to replace it"
            )
        return state

    def _everywhere(self, fine: bool) -> bool:
        """Whether something holds on every process."""
        if self.fabric.world_size == 1:
            return fine
        bad = self.fabric.all_reduce(torch.tensor(float(not fine), device=self.fabric.device), reduce_op="sum")
        assert isinstance(bad, torch.Tensor)
        return not bool(bad)


def _prepare_worker(worker: int) -> None:
    ignore_signals()
    worker_init(worker)
