"""The training loop: stage by stage, a step on a page, and a run that can be stopped anywhere and goes on exactly."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trianflow.data.pairs.batch import PairBatch
from trianflow.data.pairs.dataset import PairDataset
from trianflow.errors import TrianflowError, UsageError
from trianflow.systems.config import LossWeights
from trianflow.systems.instance import InstaDM
from trianflow.systems.photometric import Photometric
from trianflow.systems.result import StepResult
from trianflow.training.checkpoint import Checkpoint, random_state, restore_random
from trianflow.training.config import AnyStage, InstanceStage, PhotometricStage, StageConfig, TrainConfig
from trianflow.training.engine import (
    AnySystem,
    AnyWeights,
    TrainingStep,
    choose_training_precision,
    let_learn,
    make_fabric,
    scaler_of,
    untrained_system,
)
from trianflow.training.failures import batches_of, memory_guarded
from trianflow.training.initial import initialize
from trianflow.training.loading import open_pairs, training_loader, validation_batches
from trianflow.training.log import RunLog, TrainingProgress
from trianflow.training.photometric_validation import PHOTOMETRIC_FIGURES, validate_photometric
from trianflow.training.pictures import training_picture
from trianflow.training.processes import everywhere, first_on_each_machine, leave, require_same, together
from trianflow.training.run_folder import LAST, RunFolder, weight_card
from trianflow.training.shifting import shift_second
from trianflow.training.state import RunState
from trianflow.training.stopping import Stopping
from trianflow.training.sync_norm import synchronize_norms
from trianflow.training.validation import FIGURES, validate

_UNSOLVED = 20  # steps in a row without geometry that are worth a warning
_ADVICE = "until the flow is better, what depends on it is not learned; a longer stage flow may be needed"


@dataclass(frozen=True)
class TrainingOutcome:
    """How a run ended.

    Attributes:
        finished: all stages are done; else it was stopped and can go on.
        steps: done over all stages.
        skipped: of them, those left out for want of a finite gradient.
        figures: of the last validation.
        out_of_time: it was stopped because its minutes are over, not by a signal.
    """

    finished: bool
    steps: int
    skipped: int
    figures: dict[str, float]
    out_of_time: bool = False


class Trainer:
    """A training run.

    Args:
        config: what to train on what.
        out: folder of the run. One that holds `last.ckpt` is continued.
        overfit: train on the first so many pairs only, without augmentation, and validate on them.
        minutes: stop after this time of training, as after a signal.
        quiet: no progress.
        data: training and validation pairs (or None), in place of those that the configuration names.
        budget: minutes of the whole run, with the parts before this one, over which the learning rate falls; by default
            it falls over the steps.

    Raises:
        UsageError: the folder holds another run, the batch cannot be shared by the processes, data that is not there,
            processes that see different folders or data.
        TrianflowError: data or checkpoint that cannot be read, a folder that cannot be written, out of memory.
    """

    def __init__(
        self,
        config: TrainConfig,
        out: str | Path,
        overfit: int | None = None,
        minutes: float | None = None,
        quiet: bool = False,
        data: tuple[PairDataset, PairDataset | None] | None = None,
        budget: float | None = None,
    ) -> None:
        self._budget = budget
        self.config, self.folder, self.quiet = config, RunFolder(out), quiet
        self._stopping = Stopping(minutes)
        self.fabric = make_fabric(config)
        self.fabric.launch()
        self._plain = config.model_dump(mode="json") | {"overfit": overfit}
        with together(self.fabric):
            if config.batch_size % (number := self.fabric.world_size):
                raise UsageError(f"batch_size {config.batch_size} cannot be shared by {number} processes")
            self.folder.create()
            self._checkpoint = self.folder.load(self._plain)
        self.train_pairs: PairDataset
        self.val_pairs: PairDataset | None
        self.train_pairs, self.val_pairs = data or first_on_each_machine(
            self.fabric, lambda: open_pairs(config, overfit)
        )
        self.stages = [
            (name, stage, stage.length(len(self.train_pairs), config.batch_size))
            for name, stage in config.listed_stages()
        ]
        self._names = [name for name, *_ in self.stages]
        self._require_agreement()
        with together(self.fabric), memory_guarded(config):
            self.system = self._make_system()
        self._state = RunState.of(self._checkpoint)
        self._told: set[str] = set()
        if self._checkpoint is not None:
            restore_random(self._checkpoint.random)
        with together(self.fabric):
            if self.fabric.is_global_zero:
                self.folder.write_config(config)
                if not quiet:
                    self._introduce()

    # --- the run --------------------------------------------------------------------------------------------

    def run(self) -> TrainingOutcome:
        """Train all stages that are not done yet.

        Raises:
            TrianflowError: no finite gradient for `max_skipped` steps in a row, out of memory, data that fails.
        """
        first, finished = 0, True
        if (state := self._checkpoint) is not None:
            first = self._names.index(state.stage)
            if first == len(self._names) - 1 and state.step >= self.stages[-1][-1]:
                return TrainingOutcome(True, state.total_step, state.skipped[0], {})
        self._state.start_clock()
        self._stopping.start_clock()
        log: RunLog | None = None
        with together(self.fabric), self.folder.writing():
            if self.fabric.is_global_zero:
                log = RunLog(self.folder.path, self._terms(), self._figures(), self._state.steps)
        try:
            with self._stopping.on_signals(), memory_guarded(self.config):
                for name, stage, length in self.stages[first:]:
                    finished = self._run_stage(name, stage, length, log)
                    if not finished:
                        break
        finally:
            if log is not None:
                log.close()
        out_of_time = not finished and everywhere(self.fabric, not self._stopping.asked)
        return TrainingOutcome(finished, self._state.steps, self._state.skipped, self._state.figures, out_of_time)

    def _run_stage(self, name: str, stage: AnyStage, length: int, log: RunLog | None) -> bool:
        """Train one stage to its end; False where the run is to stop before the last stage is done."""
        state, self._checkpoint = self._checkpoint, None
        done = state.step if state is not None else 0
        let_learn(self.system, stage.train)
        step = TrainingStep(self.system)
        optimizer: Any = torch.optim.Adam((p for p in self.system.parameters() if p.requires_grad), lr=stage.lr)
        if state is not None and state.optimizer:
            optimizer.load_state_dict(state.optimizer)
        if state is not None and state.scaler and scaler_of(self.fabric) is not None:
            scaler_of(self.fabric).load_state_dict(state.scaler)
        model, optimizer = self.fabric.setup(step, optimizer)
        later = sum(steps for *_, steps in self.stages[self._names.index(name) + 1 :])
        quiet = self.quiet or not self.fabric.is_global_zero
        progress = TrainingProgress(name, done, length, later, quiet, self._stopping.deadline)
        config = self.config
        loader = training_loader(self.train_pairs, config, self.fabric, done, length - done)
        unsolved = 0
        try:
            for batch in batches_of(loader):
                self._report(batch.problems, progress)
                expected = self._expected(done, length)
                rate = stage.rate(done, expected)
                if isinstance(stage, InstanceStage):
                    self.system.objects_wait = done < stage.objects_after * expected
                elif isinstance(stage, PhotometricStage):
                    self.system.mask_waits = done < stage.mask_after * expected
                elif isinstance(stage, StageConfig) and (shift := stage.shift_at(done / expected)) > 0:
                    batch = shift_second(batch, shift, self._seed())
                batch = batch.to(self.fabric.device)
                gradient = self._step(model, optimizer, batch, stage.losses, rate, progress)
                done += 1
                self._state.steps += 1
                result = step.result
                assert result is not None
                if result.geometry is not None:
                    unsolved = 0 if bool(result.geometry.usable.any()) else unsolved + 1
                    if unsolved == _UNSOLVED and self.fabric.is_global_zero:
                        progress.say(f"trianflow: warning: no geometry in any pair of {unsolved} steps: {_ADVICE}")
                last = done == length
                if done % config.log_every == 0 or last:
                    facts = {"stage": name, "stage_step": done, "lr": rate, "gradient": gradient}
                    self._log(result, facts, log)
                if done % config.val_every == 0 or last:
                    with together(self.fabric):
                        if log is not None:
                            self._validate(name, stage, log, progress)
                            with self.folder.writing():
                                log.picture(self._state.steps, training_picture(batch, result))
                stop = not last and not everywhere(self.fabric, not self._stopping.wanted)
                if stop:
                    self._leave(name)  # before the checkpoint that says so: a run killed in between does it again
                if stop or (not last and done % config.save_every == 0):
                    self._save(name, done, optimizer)
                progress.advance(f"loss {float(result.total.detach()):.4g}")
                if stop:
                    return False
        finally:
            progress.close()
        return self._finish(name, length)

    def _expected(self, done: int, length: int) -> int:
        """The length of a stage after so many steps: with a budget of time, what its pace so far comes to."""
        if self._budget is None or done == 0:
            return length
        return max(done, round(done * 60 * self._budget / self._state.seconds))

    def _seed(self) -> int:
        """Of what is drawn in the next step."""
        return self.config.seed * 1_000_003 + self._state.steps

    def _step(
        self,
        model: Any,
        optimizer: Any,
        batch: PairBatch,
        weights: AnyWeights,
        rate: float,
        progress: TrainingProgress,
    ) -> float:
        """One step of gradient descent: the norm of the gradient. One that is not finite changes nothing."""
        counts = self._state
        buffers = {name: buffer.clone() for name, buffer in self.system.named_buffers()}
        optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(model(batch, weights, self._seed()))
        norm = self.fabric.clip_gradients(model, optimizer, max_norm=self.config.clip, error_if_nonfinite=False)
        assert norm is not None
        finite = everywhere(self.fabric, bool(norm.isfinite()))
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
        path = self.folder.dump(batch, self.fabric.global_rank)
        leave()
        raise TrianflowError(
            f"no finite gradient in {self._state.skipped_in_a_row} steps in a row: look at the batch in {path},"
            f" or lower the learning rate; the last saved state, if any, is {self.folder.path / LAST}"
        )

    def _finish(self, name: str, length: int) -> bool:
        """Leave the weights of a stage, and a checkpoint from which the next one begins."""
        following = self._names[self._names.index(name) + 1 :]
        self._leave(name)
        self._save(following[0] if following else name, 0 if following else length, None)
        return not following or everywhere(self.fabric, not self._stopping.wanted)

    # --- networks and processes -----------------------------------------------------------------------------

    def _make_system(self) -> AnySystem:
        system = untrained_system(self.config)
        if self._checkpoint is not None:
            system.load_state_dict(self._checkpoint.system)
        else:
            initialize(system, self.config.init)
        if self.fabric.world_size > 1:
            synchronize_norms(system)
        # Convolutions of this layout are faster, on the CPU as well.
        return system.to(self.fabric.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _require_agreement(self) -> None:
        """Check that all processes begin at one place with the same pairs, those of the checkpoint."""
        state = self._checkpoint
        place = [-1, 0, 0] if state is None else [self._names.index(state.stage), state.step, state.total_step]
        values = [*place, len(self.train_pairs), int(self.train_pairs.digest, 16)]
        require_same(self.fabric, values, "the checkpoint or the training pairs that they see")
        if state is not None:
            self.folder.require_data(state, self.train_pairs)

    # --- what a run tells and leaves ------------------------------------------------------------------------

    def _introduce(self) -> None:
        """Say what runs on what, and where it goes on."""
        pairs, val, config = self.train_pairs, self.val_pairs, self.config
        device, precision = self.fabric.device.type, choose_training_precision(config)
        where = f"{device}, {torch.get_num_threads()} threads" if device == "cpu" else device
        watched = "none to validate with" if val is None else f"{min(config.val_pairs, len(val))} to validate with"
        processes = f", {self.fabric.world_size} processes" if self.fabric.world_size > 1 else ""
        lines = [f"training on {where}{processes}, {precision}: {len(pairs)} pairs, {watched}; into {self.folder.path}"]
        lines += [f"note: {note}" for note in dict.fromkeys([*pairs.notes, *(val.notes if val is not None else ())])]
        if config.batch_size > len(pairs):
            lines.append(f"note: batch_size {config.batch_size} is more than there are pairs: a batch repeats some")
        if (device, precision) == ("cpu", "16-mixed"):
            lines.append("note: 16-mixed is for GPUs, on a processor it is slow: precision=auto takes what is fast")
        if (state := self._checkpoint) is not None:
            lengths = {name: length for name, _, length in self.stages}
            lines.append(f"going on after step {state.step} of {lengths[state.stage]} of the stage {state.stage}")
        for line in lines:
            print(f"trianflow: {line}", file=sys.stderr)

    def _report(self, problems: Sequence[str], progress: TrainingProgress) -> None:
        """Tell each problem of the data once: every process of those that it meets itself."""
        for problem in problems:
            if problem not in self._told:
                self._told.add(problem)
                progress.say(f"trianflow: warning: {problem}; another pair takes its place")

    def _terms(self) -> list[str]:
        """Names of the loss terms of all stages."""
        method = self.config.method
        return list((LossWeights if method is None else type(method.losses)).model_fields)

    def _figures(self) -> list[str]:
        """What validation may measure."""
        return list(FIGURES if self.config.method is None else PHOTOMETRIC_FIGURES)

    def _log(self, result: StepResult, facts: dict[str, Any], log: RunLog | None) -> None:
        names, values = ["total", *result.losses], [result.total.detach(), *result.losses.values()]
        if result.geometry is not None:
            names, values = [*names, "solved"], [*values, result.geometry.usable.double().mean()]
        mean = self.fabric.all_reduce(torch.stack([value.double() for value in values]), reduce_op="mean")
        assert isinstance(mean, torch.Tensor)
        with together(self.fabric), self.folder.writing():
            if log is not None:
                facts |= {"skipped": self._state.skipped, "seconds": round(self._state.seconds, 2)}
                log.step(self._state.steps, facts, dict(zip(names, mean.tolist())))

    def _validate(self, name: str, stage: AnyStage, log: RunLog, progress: TrainingProgress) -> None:
        """Measure, and keep the best: in the process that leads alone."""
        if self.val_pairs is None:
            return
        size = max(1, self.config.batch_size // self.fabric.world_size)
        problems: list[str] = []
        with self.fabric.autocast():
            batches = validation_batches(self.val_pairs, self.config.val_pairs, size, problems)
            if isinstance(self.system, (Photometric, InstaDM)):
                figures = validate_photometric(self.system, batches, self.fabric.device)
            else:
                depth, flow = stage.losses.need_depth, "flow" in self.config.used(name)
                figures = validate(self.system, batches, depth, self.fabric.device, with_flow=flow)
        self._report(problems, progress)
        best, steps = self._state.measure(name, stage.train, figures), self._state.steps
        with self.folder.writing():
            log.validation(steps, {"stage": name, "seconds": round(self._state.seconds, 2)}, figures)
        progress.say(f"{name}, after {steps} steps: " + "  ".join(f"{key} {x:.4g}" for key, x in figures.items()))
        if best:
            self._export(f"{name}_best.safetensors", name)

    def _export(self, file: str, stage: str) -> None:
        """The networks that have learned so far, as a weight file with its card."""
        card = weight_card(self.config, stage, self._state.steps, self._state.figures, self._state.measured)
        self.folder.export(file, self.system, self.config.used(stage), card)

    def _leave(self, stage: str) -> None:
        with together(self.fabric):
            if self.fabric.is_global_zero:
                self._export(f"{stage}.safetensors", stage)

    def _save(self, stage: str, step: int, optimizer: Any | None) -> None:
        with together(self.fabric):
            if self.fabric.is_global_zero:
                self.folder.save(self._checkpoint_of(stage, step, optimizer))

    def _checkpoint_of(self, stage: str, step: int, optimizer: Any | None) -> Checkpoint:
        state, scaler = self._state, scaler_of(self.fabric)
        return Checkpoint(
            stage=stage,
            step=step,
            total_step=state.steps,
            system=self.system.state_dict(),
            optimizer={} if optimizer is None else optimizer.state_dict(),
            scaler={} if scaler is None else scaler.state_dict(),
            random=random_state(),
            best=state.best,
            skipped=(state.skipped, state.skipped_in_a_row),
            config=self._plain,
            pairs=len(self.train_pairs),
            digest=self.train_pairs.digest,
            seconds=state.seconds,
        )
