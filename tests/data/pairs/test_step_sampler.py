"""The batch of a step is a function of the seed and the step."""

from itertools import islice

import pytest

from trianflow.data.pairs.sampler import StepSampler


def test_every_epoch_is_a_new_permutation_without_the_remainder() -> None:
    batches = list(StepSampler(11, 3, seed=2, steps=9))
    assert [len(b) for b in batches] == [3] * 9
    orders = []
    for epoch in range(3):
        keys = [key for batch in batches[3 * epoch : 3 * epoch + 3] for key in batch]
        assert {e for e, _ in keys} == {epoch}
        order = [i for _, i in keys]
        assert len(set(order)) == 9
        assert set(order) < set(range(11))
        orders.append(order)
    assert orders[0] != orders[1] != orders[2]
    assert list(StepSampler(11, 3, seed=3, steps=9)) != batches


@pytest.mark.parametrize("first", [1, 3, 4, 17])
def test_resume(first) -> None:
    whole = list(StepSampler(11, 3, seed=2, steps=20))
    assert list(StepSampler(11, 3, seed=2, first_step=first, steps=20 - first)) == whole[first:]
    sampler = StepSampler(11, 3, seed=2, first_step=first)
    assert list(islice(sampler, 5)) == list(islice(sampler, 5))


@pytest.mark.parametrize("length", [3, 24, 50])
def test_ranks_partition_the_global_batch(length) -> None:
    whole = list(StepSampler(length, 12, seed=5, first_step=4, steps=6))
    parts = [list(StepSampler(length, 12, seed=5, first_step=4, steps=6, rank=r, world=4)) for r in range(4)]
    for step, batch in enumerate(whole):
        for r in range(4):
            assert parts[r][step] == batch[r::4]
            assert len(parts[r][step]) == 3


def test_fewer_pairs_than_a_batch() -> None:
    for batch in StepSampler(3, 8, seed=0, steps=4):
        assert len(batch) == len(set(batch)) == 8  # each repetition has its own epoch
        counts = [sum(i == index for _, i in batch) for index in range(3)]
        assert min(counts) >= 2
    first, second = StepSampler(3, 8, seed=0, steps=2)
    assert not set(first) & set(second)
    assert list(StepSampler(1, 1, seed=0, steps=2)) == [[(0, 0)], [(1, 0)]]


def test_length() -> None:
    assert len(StepSampler(10, 2, 0, steps=7)) == len(list(StepSampler(10, 2, 0, steps=7))) == 7
    assert list(StepSampler(10, 2, 0, steps=0)) == []
    with pytest.raises(TypeError, match="no end"):
        len(StepSampler(10, 2, 0))


@pytest.mark.parametrize(
    "wrong", [{"length": 0}, {"batch_size": 0}, {"rank": 2, "world": 2}, {"world": 3}, {"first_step": -1}]
)
def test_wrong_arguments(wrong) -> None:
    with pytest.raises(ValueError, match="batch"):
        StepSampler(**({"length": 10, "batch_size": 4, "seed": 0} | wrong))
