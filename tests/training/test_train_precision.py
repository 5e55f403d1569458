"""Runs in few bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.training.small_runs import assert_same_run, dataset, rows, tiny, train, weights_of
from trianflow.data.pairs.sources import RawPair
from trianflow.data.synthetic import random_pairs
from trianflow.training import engine
from trianflow.training.checkpoint import Checkpoint
from trianflow.training.config import TrainConfig
from trianflow.training.engine import make_fabric
from trianflow.training.loop import Trainer
from trianflow.training.run_folder import LAST
from trianflow.weights import load_weights

pytestmark = pytest.mark.usefixtures("small_networks")


def test_precisions(finished: Path, raw_pairs: list[RawPair], tmp_path: Path) -> None:
    reference = rows(finished / "metrics.csv")
    for precision, apart in (("bf16-mixed", 0.1), ("16-mixed", 0.05)):
        out = tmp_path / precision
        assert train(out, raw_pairs, f"precision={precision}").finished
        for row, expected in zip(rows(out / "metrics.csv"), reference, strict=True):
            if row["gradient"] != "nan":
                assert float(row["total"]) == pytest.approx(float(expected["total"]), rel=apart), row
        assert all(v.dtype in (torch.float32, torch.int64) for v in weights_of(out).values())


def test_automatic_precision_is_that_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TrainConfig().precision == "auto"
    for dtype, expected in ((torch.bfloat16, "bf16-mixed"), (torch.float32, "32-true")):
        monkeypatch.setattr(engine, "choose_precision", lambda device, dtype=dtype: dtype)
        assert make_fabric(tiny("precision=auto")).strategy.precision.precision == expected
        assert make_fabric(tiny("precision=16-mixed")).strategy.precision.precision == "16-mixed"


def test_few_bits_change_the_flow_by_little(raw_pairs: list[RawPair], tmp_path: Path) -> None:
    """Of the trained network, in the autocast of training, on a street that it can see."""
    pair = random_pairs(1, 128, 256, 7)
    network = load_weights("driving").flow
    assert network is not None
    flows = []
    for precision in ("32-true", "bf16-mixed"):
        with torch.no_grad(), make_fabric(tiny(f"precision={precision}")).autocast():
            flows.append(network(pair.image_a, pair.image_b, 1)[0].flow_ab)
    assert all(flow.dtype == torch.float32 for flow in flows)
    apart = torch.hypot(*(flows[1] - flows[0])[0])
    assert 0 < float(apart.mean()) < 0.1
    assert float(torch.hypot(*flows[0][0]).mean()) > 1


def test_float16_goes_on_with_its_scale(raw_pairs: list[RawPair], tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(whole, raw_pairs, "precision=16-mixed")
    for _ in range(10):
        data = (dataset(raw_pairs), dataset(raw_pairs[:3], None, 0))
        if Trainer(tiny("precision=16-mixed"), parts, None, 1e-9, True, data).run().finished:
            break
    assert_same_run(whole, parts)
    assert Checkpoint.load(whole / LAST).scaler == Checkpoint.load(parts / LAST).scaler
