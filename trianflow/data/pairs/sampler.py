"""Which pairs belong to which training step."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np
from torch.utils.data import Sampler


class StepSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) for a DataLoader; the batch of a step depends on the seed and the step alone.

    Every epoch is a new permutation of the pairs, without the remainder that fills no batch. With fewer pairs
    than a batch, a batch is filled from several permutations, each with its own epoch number. To resume, begin
    with another `first_step`.

    Args:
        length: number of pairs in the dataset.
        batch_size: of the global batch, over all ranks; a multiple of `world`.
        seed: of the permutations.
        first_step: the step that the first batch belongs to.
        rank, world: this process and the number of processes; rank r gets slots r, r + world, ... of the batch.
        steps: how many batches come, counted from `first_step`; None for no end.

    Raises:
        ValueError: arguments that do not go together.

    Example:
        >>> first, second = StepSampler(4, 2, seed=0, steps=2)
        >>> sorted(index for _, index in first + second)
        [0, 1, 2, 3]
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        first_step: int = 0,
        rank: int = 0,
        world: int = 1,
        steps: int | None = None,
    ) -> None:
        if length < 1 or batch_size < 1 or seed < 0 or first_step < 0 or (steps is not None and steps < 0):
            raise ValueError(f"no batches of {batch_size} from {length} pairs, step {first_step}, seed {seed}")
        if not 0 <= rank < world or batch_size % world:
            raise ValueError(f"rank {rank} of {world} cannot have an equal share of a batch of {batch_size}")
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.first_step, self.rank, self.world, self.steps = first_step, rank, world, steps

    def __len__(self) -> int:
        """The number of batches; TypeError where they have no end."""
        if self.steps is None:
            raise TypeError("the batches have no end: give steps")
        return self.steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Batches from `first_step` on."""
        batches = max(1, self.length // self.batch_size)  # an epoch
        rounds = -(-self.batch_size // self.length)  # permutations that fill one batch
        end = None if self.steps is None else self.first_step + self.steps
        known, keys = -1, []
        for step in count(self.first_step):
            if step == end:
                return
            epoch, slot = divmod(step, batches)
            if epoch != known:
                keys = [key for r in range(rounds) for key in self._permutation(epoch * rounds + r)]
                known = epoch
            yield keys[slot * self.batch_size : (slot + 1) * self.batch_size][self.rank :: self.world]

    def _permutation(self, epoch: int) -> list[tuple[int, int]]:
        order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
        return [(epoch, index) for index in order.tolist()]
